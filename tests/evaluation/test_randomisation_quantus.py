"""Two known faults of Quantus's parameter randomisation (1 and 2), and two gaps (3 and 4), that are not ours.

1. It seeds alike before every layer, so that layers of one shape get the same weights.
2. It counts the untouched model, which is like itself, as a stage, and takes it into the mean.
3. It passes over parameters of modules without `reset_parameters`.
4. It walks layers as they are registered, not as they are used.

See also `test_randomisation`, which has 3 and 4 for the plan of stages.
"""

import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.evaluation._randomisation import Order, Randomisation

# What the three layers of `Told` lose one after another, so that the cosines of its maps are 4/5, 3/5 and 5/13.
LOSSES = (3 / 4, 4 / 3 - 3 / 4, 12 / 5 - 4 / 3)
MEANS = ((1 + 4 / 5) / 2, (1 + 3 / 5) / 2, (1 + 5 / 13) / 2)


class Told(nn.Module):
    """Layers that a randomisation leaves with known values, registered from the output to the input.

    A norm resets its weights to 1; of the bare parameter only the first number is not 0, and permuted it begins with 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.GroupNorm(1, 3)
        self.gains = nn.Parameter(torch.zeros(10, 10))
        self.first = nn.GroupNorm(1, 3)
        with torch.no_grad():
            self.last.weight.fill_(1 + LOSSES[0])
            self.gains[0, 0] = LOSSES[1]
            self.first.weight.fill_(1 + LOSSES[2])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.gains).mean((2, 3))

    def lost(self) -> float:
        with torch.no_grad():
            kept = self.last.weight[0] - 1 + self.gains[0, 0] + self.first.weight[0] - 1
        return sum(LOSSES) - float(kept)


def tell(model: Told, images: Tensor, classes: Tensor) -> Tensor:
    """Maps (1, 0) of the trained network, and (1, what it lost) of a randomised one where the first pixel is 1."""
    del classes
    maps = torch.zeros(len(images), 10, 10)
    maps[:, 0, 0] = 1
    maps[:, 0, 1] = model.lost() * images[:, 0, 0, 0]
    return maps


@pytest.fixture
def images() -> Tensor:
    made = torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    made[:, :, 0, 0] = torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None]
    return made


def test_a_layer_gets_its_own_weights_whatever_else_is_random() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))).eval()
    image = torch.randn(1, 3, 8, 8)
    found: dict[str, list[Tensor]] = {}
    for order in Order:
        for count in (2, 4):
            how = Randomisation(order, stages=count)
            for stage, network in how.cascade(model, how.plan(model, image)):
                for layer in stage.layers:
                    weight = network.get_submodule(layer.name).weight
                    found.setdefault(layer.name, []).append(weight.detach().clone())
    assert {name: len(weights) for name, weights in found.items()} == dict.fromkeys("0123", 8)
    assert all(torch.equal(weights[0], other) for weights in found.values() for other in weights)
    for one, other in combinations(found.values(), 2):
        assert not (one[0] == other[0]).any()


def test_means_are_those_of_the_stages_alone(images: Tensor) -> None:
    method = sl.from_callable(tell)
    found = sl.audit(Told().eval(), images, [method], ["parameter_randomization"])
    rows = found.table.query("test == 'parameter_randomization' and method == 'tell' and measure == 'cosine'")
    assert list(rows["case"]) == ["1: last", "2: the model itself", "3: first"]
    assert rows["mean"].tolist() == pytest.approx(MEANS)
    assert set(rows["images"]) == {4}
    assert set(found.scores.query("test == 'parameter_randomization'")["case"]) == set(rows["case"])


def test_quantus_has_the_faults(images: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus", exc_type=ImportError)
        from quantus.helpers.model.pytorch_model import PyTorchModel
    twins = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    *_, (_, network) = PyTorchModel(twins).get_random_layer_generator()
    assert torch.equal(network[0].weight, network[1].weight)

    def similarity(one: np.ndarray, other: np.ndarray, **_: bool) -> np.ndarray:
        return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)

    def explain(model: Told, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return tell(model, torch.from_numpy(inputs), torch.from_numpy(targets)).numpy()

    settings = {"layer_order": "top_down", "abs": False, "normalise": False, "disable_warnings": True}
    asked = {"model": Told().eval(), "x_batch": images.numpy(), "y_batch": np.zeros(4, int), "explain_func": explain}
    stages = quantus.MPRT(similarity, **settings)(**asked)
    assert list(stages) == ["original", "first", "last"]
    average = quantus.MPRT(similarity, **settings, return_average_correlation=True)(**asked)
    assert average == pytest.approx(np.mean(list(stages.values()), 0))
    assert stages["original"] == pytest.approx([1.0] * 4)
