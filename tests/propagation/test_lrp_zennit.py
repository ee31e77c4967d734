"""Agreement with Zennit, on networks where Zennit sees every operation, once its handling of `bn.eps` is set right."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline import propagation
from sightline.propagation import epsilon_gamma_box, epsilon_plus, lrp_alpha_beta, lrp_epsilon, lrp_gamma

pytest.importorskip("zennit")
pytest.importorskip("torchvision")

from torchvision.models import resnet
from zennit import composites as z
from zennit import rules
from zennit.attribution import Gradient
from zennit.canonizers import Canonizer, CompositeCanonizer, SequentialMergeBatchNorm
from zennit.layer import Sum
from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer, ResNetCanonizer, VGGCanonizer
from zennit.types import AvgPool, Linear

CLASSES = 10
TARGET = [8, 7]  # logits of both signs
LOW, HIGH = -2.5, 3.0


class MergeBatchNorm(SequentialMergeBatchNorm):
    """Zennit turns a merged BatchNorm into the identity but for its eps, which shrinks every channel once more."""

    def register(self, linears: list[nn.Module], batch_norm: nn.Module) -> None:
        self.eps = batch_norm.eps
        super().register(linears, batch_norm)
        batch_norm.eps = 0.0

    def remove(self) -> None:
        super().remove()
        self.batch_norm.eps = self.eps


def vgg() -> nn.Module:
    layers, channels = [], 3
    for width in (16, "pool", 32, "pool", 32, 64, "pool", 64, "pool"):
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
    head = [nn.Linear(64 * 9, 64), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(64, CLASSES)]
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Sequential(*head))


class Network(NamedTuple):
    """A network, and Zennit's canonizers for it: with eps set right, and as they are."""

    build: Callable[[], nn.Module]
    right: Callable[[], list[Canonizer]]
    stock: Callable[[], list[Canonizer]]


NETWORKS = {
    "vgg": Network(vgg, lambda: [MergeBatchNorm()], lambda: [VGGCanonizer()]),
    "resnet-basic": Network(
        lambda: resnet.ResNet(resnet.BasicBlock, [2, 2, 1, 1], num_classes=CLASSES),
        lambda: [CompositeCanonizer((MergeBatchNorm(), ResNetBasicBlockCanonizer()))],
        lambda: [ResNetCanonizer()],
    ),
    "resnet-bottleneck": Network(
        lambda: resnet.ResNet(resnet.Bottleneck, [1, 2, 1, 1], num_classes=CLASSES, width_per_group=16),
        lambda: [CompositeCanonizer((MergeBatchNorm(), ResNetBottleneckCanonizer()))],
        lambda: [ResNetCanonizer()],
    ),
}


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name == "resnet-bottleneck")) for name in NETWORKS]
)
def network(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(network: str) -> nn.Module:
    torch.manual_seed(0)
    model = NETWORKS[network].build().double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Statistics as after a training: without them a BatchNorm is nearly the identity and merging it no test.
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model


@pytest.fixture
def images() -> Tensor:
    # Not centred, so that the box of the first layer is not symmetric about the input either.
    noise = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return LOW + (HIGH - LOW) * noise


def difference(ours: Tensor, peer: Tensor) -> float:
    return float((ours - peer).abs().max() / peer.abs().max())


def uniform(rule: rules.Hook, canonizers: list[Canonizer], stabilizer: float = 1e-6) -> z.Composite:
    """One rule for every layer with weights; all else as in Zennit's named composites."""
    return z.LayerMapComposite([*z.layer_map_base(stabilizer), (Linear, rule)], canonizers=canonizers)


def without_values(rule: rules.Hook, canonizers: list[Canonizer]) -> z.Composite:
    """A rule that shares without regard to values, where sums and averages do so too.

    By value they would multiply, without bound, what comes to sums of nearly nothing.
    """
    evenly = rules.Flat(stabilizer=0.0)
    return z.LayerMapComposite([(Sum, evenly), (AvgPool, evenly), *z.layer_map_base(), (Linear, rule)], canonizers)


def deep_taylor(canonizers: list[Canonizer]) -> z.Composite:
    layers = [*z.layer_map_base(), (Linear, rules.ZPlus(zero_params="bias"))]
    return z.SpecialFirstLayerMapComposite(layers, [(Linear, rules.ZBox(**BOX))], canonizers)


BOX = {"low": torch.full((1, 3, 1, 1), LOW).double(), "high": torch.full((1, 3, 1, 1), HIGH).double()}
COMPOSITES = {
    "guided_backprop": (None, lambda c: z.GuidedBackprop(canonizers=c)),
    "deconvnet": (None, lambda c: z.DeconvNet(canonizers=c)),
    "lrp_epsilon_plus": (None, lambda c: z.EpsilonPlus(canonizers=c)),
    "lrp_epsilon_plus 1e-3": (epsilon_plus(1e-3), lambda c: z.EpsilonPlus(epsilon=1e-3, canonizers=c)),
    "lrp_epsilon_alpha2_beta1": (None, lambda c: z.EpsilonAlpha2Beta1(canonizers=c)),
    "lrp_epsilon_plus_flat": (None, lambda c: z.EpsilonPlusFlat(canonizers=c)),
    "lrp_epsilon_alpha2_beta1_flat": (None, lambda c: z.EpsilonAlpha2Beta1Flat(canonizers=c)),
    "lrp_epsilon_gamma_box": (epsilon_gamma_box(LOW, HIGH), lambda c: z.EpsilonGammaBox(**BOX, canonizers=c)),
    "deep_taylor": (propagation.deep_taylor(LOW, HIGH), deep_taylor),
    "excitation_backprop": (None, lambda c: z.ExcitationBackprop(zero_params="bias", canonizers=c)),
    "lrp_epsilon": (None, lambda c: uniform(rules.Epsilon(1e-3), c, 1e-3)),
    "lrp_epsilon 1e-6": (lrp_epsilon(1e-6), lambda c: uniform(rules.Epsilon(1e-6), c)),
    "lrp_z_plus": (None, lambda c: uniform(rules.ZPlus(zero_params="bias"), c)),
    "lrp_alpha1_beta0": (None, lambda c: uniform(rules.AlphaBeta(1, 0), c)),
    "lrp_alpha2_beta1": (None, lambda c: uniform(rules.AlphaBeta(2, 1), c)),
    "lrp_alpha3_beta2": (lrp_alpha_beta(3, 2), lambda c: uniform(rules.AlphaBeta(3, 2), c)),
    "lrp_gamma": (None, lambda c: uniform(rules.Gamma(0.25), c)),
    "lrp_gamma 0.5": (lrp_gamma(0.5), lambda c: uniform(rules.Gamma(0.5), c)),
    "lrp_w_squared": (None, lambda c: without_values(rules.WSquare(zero_params="bias"), c)),
    "lrp_flat": (None, lambda c: without_values(rules.Flat(), c)),
}
# Zennit, too, starts these from 1 and not from the logit.
FROM_ONE = {"guided_backprop", "deconvnet", "excitation_backprop"}


def explained(name: str, model: nn.Module, images: Tensor) -> Tensor:
    of_its_own, _ = COMPOSITES[name]
    method = sl.Method(propagation=of_its_own, name=name) if of_its_own else name
    return sl.explain(model, images, method, TARGET)[name]


def theirs(name: str, model: nn.Module, images: Tensor, canonizers: list[Canonizer]) -> tuple[Tensor, Tensor]:
    """The scores of the network as Zennit rewrote it, and its map."""

    def start(scores: Tensor) -> Tensor:
        chosen = torch.eye(CLASSES, dtype=scores.dtype)[TARGET]
        if name in FROM_ONE:
            return chosen
        return chosen * (scores.clamp(min=0) if name == "deep_taylor" else scores)

    _, composite = COMPOSITES[name]
    scores, relevance = Gradient(model, composite(canonizers), start)(images.clone())
    return scores.detach(), relevance.detach()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSITES)
def test_agrees_with_zennit(name: str, network: str, model: nn.Module, images: Tensor) -> None:
    _, peer = theirs(name, model, images, NETWORKS[network].right())
    assert difference(explained(name, model, images), peer) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet-basic"], indirect=True)
@pytest.mark.parametrize("name", ["lrp_epsilon_alpha2_beta1", "lrp_z_plus", "lrp_epsilon"])
def test_stock_zennit_explains_a_slightly_different_network(
    name: str, network: str, model: nn.Module, images: Tensor
) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3  # as Inception, MobileNetV3 and EfficientNet have it
    with torch.no_grad():
        scores = model(images)
    ours = explained(name, model, images)
    stock_scores, stock = theirs(name, model, images, NETWORKS[network].stock())
    right_scores, right = theirs(name, model, images, NETWORKS[network].right())
    assert difference(stock_scores, scores) > 1e-4
    assert 1e-4 < difference(ours, stock) < 1e-1
    assert difference(right_scores, scores) < 1e-12
    assert difference(ours, right) < 1e-10
