"""A layer may be given as the module itself, wherever one is named."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import CAM, LayerSignal, Pooling
from sightline.propagation import GUIDED_BACKPROP, lrp_epsilon
from sightline.sampling import Noise


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.block, self.twice = nn.Conv2d(3, 6, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3)), nn.ReLU()
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.twice(self.twice(self.block(self.stem(x))) + 1).mean((2, 3)))


@pytest.fixture
def model() -> Net:
    return Net().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(1))


Made = Callable[[object], sl.Method]
METHODS: dict[str, Made] = {
    "CAM": lambda layer: sl.Method(aggregation=CAM(layer=layer), name="m"),
    "HiResCAM over noise": lambda layer: sl.Method(Noise(2), aggregation=CAM(Pooling.NONE, layer=layer), name="m"),
    "relevance at a layer": lambda layer: sl.Method(
        propagation=lrp_epsilon(), aggregation=LayerSignal(layer), name="m"
    ),
    "a product": lambda layer: sl.Method(
        propagation=GUIDED_BACKPROP, times=sl.Method(aggregation=CAM(layer=layer)), name="m"
    ),
    "at": lambda layer: sl.catalogue()["grad_cam"].at(layer),
    "a product, at": lambda layer: sl.catalogue()["guided_grad_cam"].at(layer),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("layer", ["stem", "block", "block.1"])
def test_a_module_is_its_name(name: str, layer: str, model: Net, images: Tensor) -> None:
    by_name = sl.explain(model, images, METHODS[name](layer), 1)
    by_module = sl.explain(model, images, METHODS[name](model.get_submodule(layer)), 1)
    (first,), (second,) = by_name.maps.values(), by_module.maps.values()
    assert torch.equal(first, second)
    assert list(by_name.layers.values()) == list(by_module.layers.values()) == [layer]


def test_targets_in_a_layer(model: Net, images: Tensor) -> None:
    vector = torch.arange(6.0)
    for by_name, by_module in (
        (sl.Unit("stem", 2, (1, 1)), sl.Unit(model.stem, 2, (1, 1))),
        (sl.Direction("block.1", vector), sl.Direction(model.block[1], vector)),
    ):
        one, other = (sl.explain(model, images, "gradient", target) for target in (by_name, by_module))
        assert torch.equal(one["gradient"], other["gradient"])
        assert one.targets == other.targets


def test_gad_and_audit_know_the_module_in_their_copies(model: Net, images: Tensor) -> None:
    labels = torch.arange(4) % 2
    gad = sl.GAD(model, (0, 1), (1,), steps=1).fit((images, labels), controls=False)
    cams = [sl.Method(aggregation=CAM(layer=layer), name="m") for layer in ("block", model.block)]
    one, other = (gad.explain(images, cam) for cam in cams)
    assert torch.equal(one["m"], other["m"])
    tests = ["class_sensitivity", "parameter_randomization"]
    scores = [sl.audit(model, images, cam, tests).scores for cam in cams]
    assert scores[0].equals(scores[1])


@pytest.mark.parametrize("name", METHODS)
def test_a_module_of_another_model_is_refused_in_a_sentence(name: str, model: Net, images: Tensor) -> None:
    with pytest.raises(sl.InputError, match=r"Conv2d.*no module of the model"):
        sl.explain(model, images, METHODS[name](Net().stem), 1)
    with pytest.raises(sl.InputError, match=r"Net.*the model itself"):
        sl.explain(model, images, METHODS[name](model), 1)
    with pytest.raises(sl.InputError, match=r"Conv2d.*no module of the model"):
        sl.explain(lambda x: model(x), images, METHODS[name](model.stem), 1)
    with pytest.raises(sl.InputError, match=r"Conv2d.*no module of the model"):
        sl.explain(model, images, "gradient", sl.Unit(Net().stem, 1))


def test_a_module_that_runs_twice_asks_for_its_call(model: Net, images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match=r"twice.*2 times.*twice#1"):
        sl.explain(model, images, sl.Method(aggregation=CAM(layer=model.twice)), 1)
