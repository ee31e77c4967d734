"""Randomised networks: which layer is random at which stage, how, and that nothing else changes."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sightline as sl
from sightline.evaluation._layers import layers_of
from sightline.evaluation._randomisation import Order, Randomisation

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))


class Backwards(nn.Module):
    """Layers registered from the output to the input, one of them twice in use, with a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.tied = nn.Linear(4, 3)
        self.tied.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.norm(self.twice(self.twice(x)))) * self.scale
        pooled = x.mean((2, 3))
        return self.head(pooled) + self.tied(pooled)


@pytest.fixture
def model() -> nn.Module:
    made = Backwards().eval()
    with torch.no_grad():
        made.norm.weight.uniform_(0.5, 2)
        made.norm.bias.uniform_(0.5, 2)
        made.norm.running_mean.uniform_(-1, 1)
    return made


def network_of(model: nn.Module) -> nn.Module:
    """The same with a batch norm as it is made."""
    made = copy.deepcopy(model)
    made.norm.reset_parameters()
    return made


def differing(first: nn.Module, second: nn.Module) -> set[str]:
    other = dict(second.named_parameters())
    return {name for name, p in first.named_parameters() if not torch.equal(p, other[name])}


def test_layers_come_in_the_order_of_their_use(model: nn.Module) -> None:
    layers = layers_of(model, IMAGE)
    # The unused one stands where it is registered: before all others here, and after "head" were it behind it.
    used = [layer.name for layer in layers if layer.used]
    assert used == ["stem", "twice", "norm", "", "head", "tied"]
    assert [layer.name for layer in layers if not layer.used] == ["unused"]
    covered = [name for layer in layers for name in layer.parameters]
    assert sorted(covered) == sorted(dict(model.named_parameters()))
    assert next(layer for layer in layers if layer.name == "tied").parameters == ("tied.bias",)


@pytest.mark.parametrize("order", list(Order))
def test_stages_of_each_order(model: nn.Module, order: Order) -> None:
    how = Randomisation(order, stages=4)
    stages = how.plan(model, IMAGE)
    before = copy.deepcopy(model)
    names = [{name for layer in stage.layers for name in layer.parameters} for stage in stages]
    everything = set(dict(model.named_parameters()))
    assert set().union(*names) == everything
    expected: set[str] = set()
    for (stage, network), own in zip(how.cascade(model, stages), names, strict=True):
        expected = own if order is Order.ALONE else expected | own
        assert differing(model, network) == expected, stage.name
        for buffer, other in zip(model.buffers(), network.buffers(), strict=True):
            assert torch.equal(buffer, other)
    assert not differing(model, before)
    assert len(stages) == (1 if order is Order.WHOLE else 4)
    if order is Order.OUTPUT:
        assert [layer.name for layer in stages[0].layers] == ["tied"]
    if order is Order.INPUT:
        assert {layer.name for layer in stages[0].layers} <= {"unused", "stem"}


def test_a_layer_is_reset_by_its_own_class_from_a_generator_of_its_own(model: nn.Module) -> None:
    how = Randomisation(stages=100, seed=5)
    state = torch.get_rng_state()
    networks = {stage.name: copy.deepcopy(n) for stage, n in how.cascade(model, how.plan(model, IMAGE))}
    assert torch.equal(state, torch.get_rng_state())
    last = networks["stem" if "stem" in networks else list(networks)[-1]]
    # Whatever else is random, and in whatever order: the same layer gets the same weights.
    whole = next(
        n for _, n in Randomisation(Order.WHOLE, seed=5).cascade(model, Randomisation("whole").plan(model, IMAGE))
    )
    complete = list(networks.values())[-1]
    assert not differing(whole, complete)
    other = next(n for _, n in Randomisation("whole", seed=6).cascade(model, Randomisation("whole").plan(model, IMAGE)))
    assert "stem.weight" in differing(whole, other)
    # A batch norm's own initialisation is 1 and 0; its statistics stay.
    assert torch.equal(last.norm.weight, torch.ones(4))
    assert torch.equal(last.norm.running_mean, model.norm.running_mean)
    # torch's own bound for convolutions: 1 / sqrt(27), reached within a tenth by one of 108 draws.
    assert 0.9 / 27**0.5 < float(last.stem.weight.detach().abs().max()) <= 1 / 27**0.5
    emptied = Randomisation("whole", reset_buffers=True)
    _, reset = next(emptied.cascade(model, emptied.plan(model, IMAGE)))
    assert torch.equal(reset.norm.running_mean, torch.zeros(4))


def test_layers_of_one_shape_get_different_weights() -> None:
    """Quantus seeds alike before every layer, so that layers of one shape get the same weights."""
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)).eval()
    how = Randomisation("whole")
    _, network = next(how.cascade(model, how.plan(model, IMAGE)))
    first, second, third = (layer.weight for layer in network)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_what_has_no_initialisation_is_permuted(model: nn.Module) -> None:
    how = Randomisation("whole")
    table = how.table(model, how.plan(model, IMAGE)).set_index("parameter")
    assert table.loc["scale", "how"] == "permuted"
    assert table.loc["stem.weight", "how"] == "reset"
    assert table.loc["norm.bias", "how"] == "reset"
    untrained = how.table(network_of(model), how.plan(model, IMAGE)).set_index("parameter")
    assert untrained.loc["norm.bias", "how"] == "the same"
    _, network = next(how.cascade(model, how.plan(model, IMAGE)))
    assert torch.equal(network.scale.flatten().sort().values, model.scale.flatten().sort().values)
    parametrised = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Flatten(), nn.Linear(144, 2)
    )
    table = how.table(parametrised, how.plan(parametrised, IMAGE)).set_index("parameter")
    assert table.loc["0.parametrizations.weight.original1", "how"] == "permuted"
    _, network = next(how.cascade(parametrised, how.plan(parametrised, IMAGE)))
    assert not torch.equal(network[0].weight, parametrised[0].weight)


def test_what_cannot_be_randomised_is_said() -> None:
    with pytest.raises(sl.InputError, match="no parameters"):
        Randomisation().plan(nn.Flatten(), IMAGE)
    with pytest.raises(sl.InputError, match="output, input, alone, whole"):
        Randomisation("sideways")
    with pytest.raises(sl.InputError, match="at least 1"):
        Randomisation(stages=0)
    model = nn.Linear(3, 3)
    model.table = model.weight * 2
    with pytest.raises(sl.InputError, match="cannot be copied"):
        next(Randomisation().cascade(model, Randomisation().plan(model, torch.zeros(1, 3))))


def test_one_layer_is_one_stage() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    for order in Order:
        stages = Randomisation(order).plan(model, IMAGE)
        assert [stage.name for stage in stages] == ["1"]
