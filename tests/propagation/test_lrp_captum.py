"""Agreement with Captum's LRP, on a network of distinct modules without branches, where Captum is right."""

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.propagation import lrp_epsilon

pytest.importorskip("captum")

import captum.attr as captum
from captum.attr._utils.lrp_rules import EpsilonRule

TARGET = [0, 3, 4]


class Network(nn.Module):
    """Flattened by a function, since Captum would want a rule for an `nn.Flatten`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, padding=1),
        )
        self.head = nn.Sequential(nn.Linear(12 * 9, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    network = Network().double().eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.3)
    return network


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def captums_lrp(model: nn.Module, images: Tensor, epsilon: float, pooling: float) -> Tensor:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.rule = EpsilonRule(epsilon)
        elif isinstance(module, nn.MaxPool2d):
            module.rule = EpsilonRule(pooling)
    return captum.LRP(model).attribute(images.clone().requires_grad_(), torch.tensor(TARGET)).detach()


# Captum stabilises max-pooling too, where nothing needs it: its input is its output, so every value shrinks by
# x / (x + epsilon). This epsilon is lost beside any value but 0, whose relevance is 0.
NONE = 1e-300


@pytest.mark.parametrize("epsilon", [1e-9, 1e-6, 1e-3, 0.1])
def test_epsilon_agrees_with_captum(epsilon: float, model: nn.Module, images: Tensor) -> None:
    method = sl.Method(propagation=lrp_epsilon(epsilon), name="lrp")
    ours = sl.explain(model, images, method, TARGET)["lrp"]
    assert difference(ours, captums_lrp(model, images, epsilon, NONE)) < 1e-10


def test_the_catalogues_epsilon_agrees_with_captum(model: nn.Module, images: Tensor) -> None:
    ours = sl.explain(model, images, "lrp_epsilon", TARGET)["lrp_epsilon"]
    assert difference(ours, captums_lrp(model, images, 1e-3, NONE)) < 1e-10


def test_captums_max_pooling_is_what_differs(model: nn.Module, images: Tensor) -> None:
    method = sl.Method(propagation=lrp_epsilon(1e-2), name="lrp")
    ours = sl.explain(model, images, method, TARGET)["lrp"]
    assert difference(ours, captums_lrp(model, images, 1e-2, 1e-2)) > 1e-2


def test_lrp_0_is_input_times_gradient(model: nn.Module, images: Tensor) -> None:
    ours = sl.explain(model, images, "lrp_0", TARGET)["lrp_0"]
    theirs = captum.InputXGradient(model).attribute(images.clone().requires_grad_(), torch.tensor(TARGET)).detach()
    assert difference(ours, theirs) < 1e-10
