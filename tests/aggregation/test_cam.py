"""Class activation maps against slow code written from the papers, pytorch-grad-cam, and what algebra says."""

import inspect
from collections import OrderedDict
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import CAM, FullGrad, InputSignal, InputTimesSignal, LayerSignal, Pooling, Sign, Stage
from sightline.aggregation._cam import curvature
from sightline.propagation import DECONVNET, GUIDED_BACKPROP, lrp_0, lrp_epsilon, rect_grad
from sightline.sampling import AdaptivePath, Expected, Noise, Path

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = (
    "grad_cam",
    "grad_cam_positive",
    "grad_cam_plus_plus",
    "grad_cam_plus_plus_author",
    "x_grad_cam",
    "hi_res_cam",
    "layer_cam",
)
TARGET = [0, 3, 1]
LAST, INNER = "features.relu2", "features.relu1"


def network(head: str, *, activations: float = 1.0, gradients: float = 1.0, seed: int = 0) -> nn.Sequential:
    """A VGG with a "dense" head, or one with an "average" over positions, with loud or quiet inner values."""
    torch.manual_seed(seed)
    features = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 5, 3, padding=1),
            relu1=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            conv2=nn.Conv2d(5, 6, 3, padding=1),
            relu2=nn.ReLU(),
        )
    )
    if head == "dense":
        top = [nn.Flatten(), nn.Linear(6 * 4 * 5, 7), nn.ReLU(), nn.Linear(7, 4)]
    else:
        top = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)]
    model = nn.Sequential(OrderedDict(features=features, head=nn.Sequential(*top))).double().eval()
    with torch.no_grad():
        for parameter in model.features.conv1.parameters():
            parameter.mul_(activations)
        model.head[-1].weight.mul_(gradients / activations)
    return model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 8, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def close(found: Tensor, expected: Tensor | np.ndarray, rtol: float = 1e-12) -> None:
    expected = torch.as_tensor(expected)
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol / 10 * float(expected.abs().max()))


def differ(found: Tensor, other: Tensor) -> bool:
    """By more than one part in a hundred of the largest value."""
    return float((found - other).abs().max()) > 0.01 * float(other.abs().max())


def seen_at(model: nn.Module, images: Tensor, layer: str, target: list[int] | int = TARGET) -> tuple[Tensor, Tensor]:
    """A layer's result and the gradient of the explained scores there, by torch alone."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    scores = model(images.clone().requires_grad_())
    handle.remove()
    classes = [target] * len(images) if isinstance(target, int) else target
    (gradient,) = torch.autograd.grad(scores[range(len(images)), classes].sum(), kept)
    return kept[0].detach(), gradient


# The papers' weights of one feature map a with gradients g, position by position.


def positions(a: np.ndarray) -> list[tuple[int, ...]]:
    return list(np.ndindex(a.shape))


def mean_gradient(_a: np.ndarray, g: np.ndarray) -> float:
    return sum(g[p] for p in positions(g)) / len(positions(g))


def mean_positive_gradient(_a: np.ndarray, g: np.ndarray) -> float:
    return sum(max(g[p], 0.0) for p in positions(g)) / len(positions(g))


def alphas(a: np.ndarray, g: np.ndarray) -> dict[tuple[int, ...], float]:
    """Equation 19 of Grad-CAM++ as printed, where its numerator is not zero."""
    total = sum(a[p] for p in positions(a))
    return {p: g[p] ** 2 / (2 * g[p] ** 2 + total * g[p] ** 3) for p in positions(g) if g[p] != 0}


def plus_plus(a: np.ndarray, g: np.ndarray) -> float:
    return sum(alpha * max(g[p], 0.0) for p, alpha in alphas(a, g).items())


def plus_plus_by_its_authors(a: np.ndarray, g: np.ndarray) -> float:
    normal = sum(alpha for p, alpha in alphas(a, g).items() if g[p] > 0)
    return plus_plus(a, g) / normal if normal else 0.0


def x_gradient(a: np.ndarray, g: np.ndarray) -> float:
    total = sum(a[p] for p in positions(a))
    return sum(g[p] * a[p] for p in positions(a)) / total if total else 0.0


WEIGHTS: dict[str, Callable[[np.ndarray, np.ndarray], float | np.ndarray]] = {
    "grad_cam": mean_gradient,
    "grad_cam_positive": mean_positive_gradient,
    "grad_cam_plus_plus": plus_plus,
    "grad_cam_plus_plus_author": plus_plus_by_its_authors,
    "x_grad_cam": x_gradient,
    "hi_res_cam": lambda _a, g: g,
    "layer_cam": lambda _a, g: np.maximum(g, 0),
}


def slow_map(name: str, a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The map of one image, shape (height, width), from (channel, height, width)."""
    found = np.zeros(a.shape[1:])
    for k in range(len(a)):
        weights = np.broadcast_to(WEIGHTS[name](a[k], g[k]), found.shape)
        for p in positions(found):
            found[p] += weights[p] * a[k][p]
    if name != "hi_res_cam":
        for p in positions(found):
            found[p] = max(found[p], 0.0)
    return found


def slow_maps(name: str, a: Tensor, g: Tensor) -> np.ndarray:
    return np.stack([slow_map(name, *pair)[None] for pair in zip(a.numpy(), g.numpy(), strict=True)])


def test_every_class_activation_map_of_the_catalogue_is_tested_here() -> None:
    assert {name for name, row in sl.catalogue().items() if isinstance(row.aggregation, CAM)} == set(NAMES)


@pytest.mark.parametrize("layer", [LAST, INNER])
@pytest.mark.parametrize("head", ["dense", "average"])
@pytest.mark.parametrize("name", NAMES)
def test_each_map_is_what_loops_over_channels_and_positions_make_of_its_paper(
    name: str, head: str, layer: str, images: Tensor
) -> None:
    """Feature maps near 1e7 and gradients near 1e-7, so that 1e-7 beside a sum of feature maps is no matter here."""
    model = network(head, activations=1e7)
    asked = name if layer == LAST else f"{name}@{layer}"
    explanation = sl.explain(model, images, asked, TARGET)
    assert explanation.layers[asked] == layer
    close(explanation[asked], slow_maps(name, *seen_at(model, images, layer)))


def test_the_seven_maps_are_seven_different_ones_where_gradients_vary(images: Tensor) -> None:
    found = sl.explain(network("dense"), images, NAMES, TARGET)
    assert all(differ(found[a] / found[a].max(), found[b] / found[b].max()) for a, b in product(NAMES, NAMES) if a < b)


# A small number beside the sum of A would shrink the map where feature maps are small.
def test_x_grad_cam_does_not_depend_on_the_unit_of_the_feature_maps() -> None:
    a, g = np.array([[[1.0, 3.0], [0.0, 2.0]]]), np.array([[[0.5, -0.25], [1.0, 1.5]]])
    weight = (0.5 * 1 - 0.25 * 3 + 1.5 * 2) / 6
    for unit in (1.0, 1e-7, -1e-7 / 6):
        found = CAM(Pooling.ACTIVATION, relu=False, layer="l")(
            {"l": torch.tensor(a[None] * unit)}, {"l": torch.tensor(g[None])}
        )
        close(found / unit, weight * a[None], 1e-6)


# pytorch-grad-cam

PEERS = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "x_grad_cam": "XGradCAM",
    "hi_res_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
}


def peers_map(name: str, model: nn.Module, images: Tensor, layer: str) -> np.ndarray:
    """The map of pytorch-grad-cam before it is cut at zero, brought to 0..1 and resized in single precision."""
    peers = pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam belongs to the extra 'bench'")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with getattr(peers, PEERS[name])(model, [model.get_submodule(layer)]) as cam:
        cam(images, [ClassifierOutputTarget(label) for label in TARGET])
        seen = cam.activations_and_grads
        features, gradients = seen.activations[0].numpy(), seen.gradients[0].numpy()
        return cam.get_cam_image(images, cam.target_layers[0], TARGET, features, gradients, False)[:, None]


@pytest.mark.parametrize("layer", [LAST, INNER])
@pytest.mark.parametrize("head", ["dense", "average"])
@pytest.mark.parametrize("name", PEERS)
def test_agrees_with_pytorch_grad_cam_on_loud_networks(name: str, head: str, layer: str, images: Tensor) -> None:
    """Loud, so that what pytorch-grad-cam adds to its denominators is nothing: 1e-6 to 2 g^2 + g^3 sum A in
    Grad-CAM++ and 1e-7 to sum A in XGrad-CAM, of which neither paper knows.

    HiResCAM's paper does not cut at zero (equation 4), nor do we; theirs does so after what is compared here.
    """
    model = network(head, activations=1e7, gradients=1e12)
    expected = peers_map(name, model, images, layer)
    expected = expected if name == "hi_res_cam" else np.maximum(expected, 0)
    close(sl.explain(model, images, f"{name}@{layer}", TARGET)[f"{name}@{layer}"], expected)


def test_grad_cam_plus_plus_keeps_quiet_gradients_as_its_paper_has_it_and_pytorch_grad_cam_loses_them(
    images: Tensor,
) -> None:
    """As g goes to zero, 1 / (2 + g sum A) goes to 1 / 2: half of the sum of positive gradients.

    1e-6 beside 2 g^2, as pytorch-grad-cam has it, leaves nothing of gradients far below 1e-3, and 1e-3 is what global
    average pooling over 7 x 7 positions makes of a weight of 0.05.
    """
    model = network("dense", gradients=1e-6)
    features, gradients = seen_at(model, images, LAST)
    limit = (features * gradients.clamp(min=0).sum((2, 3), keepdim=True) / 2).sum(1, keepdim=True)
    close(sl.explain(model, images, "grad_cam_plus_plus", TARGET)["grad_cam_plus_plus"], limit, 1e-4)
    assert peers_map("grad_cam_plus_plus", model, images, LAST).max() < 1e-3 * float(limit.max())


# Grad-CAM++ in closed form


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


SOME = numbers(-10, 10)
NOT_ZERO = numbers(0.01, 10) | numbers(-10, -0.01)


@settings(deadline=None)
@given(
    features=arrays.arrays(float, (2, 2, 2, 3), elements=SOME),
    gradients=arrays.arrays(float, (2, 2, 2, 3), elements=NOT_ZERO),
)
def test_the_curvature_of_grad_cam_plus_plus_is_equation_19(features: np.ndarray, gradients: np.ndarray) -> None:
    total = features.sum((2, 3), keepdims=True)
    below = 2 * gradients**2 + gradients**3 * total
    assume(bool((np.abs(2 + gradients * total) > 1e-3).all()))
    found = curvature(torch.from_numpy(features), torch.from_numpy(gradients))
    np.testing.assert_allclose(found.numpy(), gradients**2 / below, rtol=1e-9)


def test_the_curvature_is_zero_where_equation_19_is_zero_by_zero() -> None:
    features = torch.tensor([[[[1.0, 3.0]], [[1.0, 1.0]]]])
    gradients = torch.tensor([[[[0.0, -0.5]], [[1.0, -1.0]]]])
    expected = torch.tensor([[[[0.0, 0.0]], [[1 / 4, 0.0]]]])
    torch.testing.assert_close(curvature(features, gradients), expected, rtol=0, atol=0)


def derivatives(model: nn.Module, features: Tensor, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """First, second and third derivative of exp(z) by each value of a feature map, by taking them one after another."""
    features = features.clone().requires_grad_()
    first = torch.autograd.grad(model.head(features)[0, target].exp(), features, create_graph=True)[0]
    second, third = torch.zeros_like(first), torch.zeros_like(first)
    for p in positions(features):
        once = torch.autograd.grad(first[p], features, create_graph=True)[0][p]
        second[p] = once.detach()
        third[p] = torch.autograd.grad(once, features, retain_graph=True)[0][p]
    return first.detach(), second, third


@pytest.mark.parametrize("head", ["dense", "average"])
def test_grad_cam_plus_plus_is_the_map_of_an_exponential_by_its_three_derivatives(head: str, images: Tensor) -> None:
    """Equations 10 and 19 with the true derivatives of exp(z); exp(z) stays as a factor of the whole map."""
    model, target = network(head), 2
    explanation = sl.explain(model, images[:1], "grad_cam_plus_plus", target)
    features = model.features(images[:1]).detach()
    first, second, third = derivatives(model, features, target)
    below = 2 * second + third * features.sum((2, 3), keepdim=True)
    alpha = torch.where(second == 0, 0, second / torch.where(second == 0, 1, below))
    weights = (alpha * first.clamp(min=0)).sum((2, 3), keepdim=True)
    expected = (weights * features).sum(1, keepdim=True).clamp(min=0)
    close(explanation["grad_cam_plus_plus"] * explanation.values.exp().view(-1, 1, 1, 1), expected)


def test_the_authors_grad_cam_plus_plus_has_the_exponential_as_a_factor_too(images: Tensor) -> None:
    """Their code multiplies each derivative by exp(z), which cancels in their weights but for the first."""
    model, layer = network("dense"), LAST
    explanation = sl.explain(model, images, "grad_cam_plus_plus_author", TARGET)
    features, gradients = (found.numpy() for found in seen_at(model, images, layer))
    for image, value in enumerate(explanation.values.tolist()):
        a, g, factor = features[image], gradients[image], np.exp(value)
        below = factor * g**2 * 2 + factor * g**3 * a.sum((1, 2), keepdims=True)
        alpha = factor * g**2 / np.where(below != 0, below, 1)
        weights = np.maximum(factor * g, 0)
        normal = np.where(weights, alpha, 0).sum((1, 2), keepdims=True)
        deep = (weights * alpha / np.where(normal != 0, normal, 1)).sum((1, 2))
        expected = np.maximum(np.tensordot(deep, a, 1), 0)
        close(explanation["grad_cam_plus_plus_author"][image, 0] * factor, expected)


# The sign axis

SIGNS = {
    Sign.SIGNED: lambda v: v,
    Sign.POSITIVE: lambda v: np.maximum(v, 0),
    Sign.ABSOLUTE: np.abs,
    Sign.NEGATIVE: lambda v: np.minimum(v, 0),
}
ACCEPTED = [
    (pooling, sign, stage, relu)
    for pooling, sign, stage, relu in product(Pooling, Sign, Stage, [True, False])
    if not (pooling is Pooling.NONE and stage is Stage.WEIGHTS)
]


def divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A quotient that is 0 where it is divided by 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below != 0)


def direct_weights(pooling: Pooling, a: np.ndarray, g: np.ndarray, kept: np.ndarray) -> np.ndarray:
    total = a.sum((2, 3), keepdims=True)
    alpha = divided((g != 0).astype(float), 2 + g * total)
    if pooling is Pooling.CURVATURE_SHARES:
        normal = (alpha * (g > 0)).sum((2, 3), keepdims=True)
        alpha = np.where(normal == 0, alpha, divided(alpha, normal))
    return {
        Pooling.NONE: lambda: kept,
        Pooling.MEAN: lambda: kept.mean((2, 3), keepdims=True),
        Pooling.ACTIVATION: lambda: divided((kept * a).sum((2, 3), keepdims=True), total),
        Pooling.CURVATURE: lambda: (alpha * kept).sum((2, 3), keepdims=True),
        Pooling.CURVATURE_SHARES: lambda: (alpha * kept).sum((2, 3), keepdims=True),
    }[pooling]()


def direct(
    pooling: Pooling, sign: Sign, stage: Stage, relu: bool, a: np.ndarray, g: np.ndarray
) -> tuple[np.ndarray, float]:
    """The map, and the size of what was added up for it."""
    handled = {each: SIGNS[sign] if each is stage else SIGNS[Sign.SIGNED] for each in Stage}
    weights = handled[Stage.WEIGHTS](direct_weights(pooling, a, g, handled[Stage.GRADIENTS](g)))
    contributions = handled[Stage.CONTRIBUTIONS](weights * a)
    found = contributions.sum(1, keepdims=True)
    return (np.maximum(found, 0) if relu else found), float(np.abs(contributions).max())


def integers(low: int, high: int) -> st.SearchStrategy[np.ndarray]:
    """Small whole numbers, among which zeros and exact cancellations are common."""
    return arrays.arrays(float, (2, 3, 2, 3), elements=st.integers(low, high).map(float))


@pytest.mark.parametrize("pooling", Pooling)
@settings(max_examples=40, deadline=None)
@given(features=integers(-3, 3), gradients=integers(-3, 3))
def test_every_pooling_sign_stage_and_cut_is_its_formula(
    pooling: Pooling, features: np.ndarray, gradients: np.ndarray
) -> None:
    if pooling is Pooling.ACTIVATION:
        # Undefined where a feature map that is not zero adds up to zero.
        features = np.where(features.sum((2, 3), keepdims=True) == 0, 0, features)
    if pooling is Pooling.CURVATURE_SHARES:
        # Of feature maps that may be negative the shares may add up to zero.
        features = np.abs(features)
    # A power of two changes no digit, and makes 1e-7 beside a sum of feature maps no matter.
    features, gradients = features * 2.0**30, gradients * 2.0**-30
    results, signals = {"l": torch.from_numpy(features)}, {"l": torch.from_numpy(gradients)}
    for accepted in ACCEPTED:
        if accepted[0] is pooling:
            expected, size = direct(*accepted, features, gradients)
            found = CAM(*accepted, layer="l")(results, signals).numpy()
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * size)


def unchecked(**choices: object) -> CAM:
    """As a user calls it: the tests check annotations at run time, and a user must get a sentence all the same."""
    made = object.__new__(CAM)
    inspect.unwrap(CAM.__init__)(made, **choices)
    return made


def test_choices_may_be_named_by_their_words() -> None:
    named = unchecked(pooling="curvature shares", sign="absolute", stage="contributions")
    assert named == CAM(Pooling.CURVATURE_SHARES, Sign.ABSOLUTE, Stage.CONTRIBUTIONS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pooling": "median"}, "pooling.*mean, activation, curvature, curvature shares, none.*'median'"),
        ({"sign": "both"}, "sign.*signed, positive, absolute, negative.*'both'"),
        ({"stage": "maps"}, "stage.*gradients, weights, contributions.*'maps'"),
        ({"sign": None}, "sign.*None"),
        ({"pooling": "none", "stage": "weights"}, "Without pooling.*weights.*gradients"),
    ],
)
def test_what_is_no_choice_is_refused_in_a_sentence(wrong: dict[str, str | None], message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        unchecked(**wrong)


def test_a_layer_without_height_and_width_is_refused(images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match=r"\bhead\.1\b.*\(3, 7\).*no places"):
        sl.explain(network("dense"), images, "grad_cam@head.1", TARGET)


# Depths


class Stages(nn.Module):
    """Five stages, each with its convolution, rectifier and pooling, and a dense head; the first keeps the size."""

    def __init__(self, extra: str = "") -> None:
        super().__init__()
        for number in range(1, 6):
            conv = nn.Conv2d(3 if number == 1 else 4, 4, 3, padding=1)
            pool = nn.MaxPool2d(2) if number < 5 else nn.Identity()
            stage = nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True), pool=pool))
            self.add_module(f"stage{number}", stage)
        self.head, self.extra = nn.Linear(4 * 4 * 4, 3), extra
        if extra:
            self.add_module(extra, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, 6):
            x = getattr(self, f"stage{number}")(x)
            if self.extra and number == 4:
                x = getattr(self, self.extra)(x)
        return self.head(x.flatten(1))


class Bottleneck(nn.Module):
    """1x1, then 3x3 with the stride, then 1x1, beside a projection: the branch's first result keeps the old size."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inside, 2, 1), nn.Conv2d(2, 2, 3, stride, 1)
        self.conv3, self.project = nn.Conv2d(2, outside, 1), nn.Conv2d(inside, outside, 1, stride)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.relu3(self.conv3(inner) + self.project(x))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
        for number, (inside, outside) in enumerate([(4, 4), (4, 6), (6, 8), (8, 8)], 1):
            blocks = [Bottleneck(inside, outside, 2), Bottleneck(outside, outside, 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


class Dense(nn.Module):
    """Concatenations: each layer sees all before it; 1x1 convolutions and average pooling in between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        for number in range(1, 5):
            self.add_module(f"first{number}", nn.Conv2d(4, 2, 3, padding=1))
            self.add_module(f"second{number}", nn.Conv2d(6, 2, 3, padding=1))
            self.add_module(f"joined{number}", nn.Identity())
            self.add_module(f"transition{number}", nn.Conv2d(8, 4, 1))
        self.pool, self.fc = nn.AvgPool2d(2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number in range(1, 5):
            first = getattr(self, f"first{number}")(x).relu()
            second = getattr(self, f"second{number}")(torch.cat([x, first], 1)).relu()
            x = getattr(self, f"joined{number}")(torch.cat([x, first, second], 1))
            if number < 4:
                x = self.pool(getattr(self, f"transition{number}")(x))
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def built(model: nn.Module) -> nn.Module:
    """With weights loud enough that no stage is dead."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.1, 0.4)
    return model.double().eval()


# Five resolutions, 64 to 4 pixels a side in Stages and 32 to 2 in Residual: the second is a quarter of the way and the
# third half of it. Dense has four, 64 to 8: a quarter is the first, and half the second.
@pytest.mark.parametrize(
    ("kind", "depth", "layer", "where", "size"),
    [
        (Stages, "early", "stage2.relu", "stage2.relu", 32),
        (Stages, "middle", "stage3.relu", "stage3.relu", 16),
        (Stages, "late", "stage5.relu", "stage5.relu", 4),
        (Residual, "early", "layer1", "layer1.1.relu3", 16),
        (Residual, "middle", "layer2", "layer2.1.relu3", 8),
        (Residual, "late", "layer4", "layer4.1.relu3", 2),
        (Dense, "early", "transition1", "transition1", 64),
        (Dense, "middle", "transition2", "transition2", 32),
        (Dense, "late", "joined4", "cat in the model's own forward", 8),
    ],
)
def test_a_depth_is_the_layer_that_a_person_would_name(
    kind: type[nn.Module], depth: str, layer: str, where: str, size: int, pictures: Tensor
) -> None:
    model = built(kind())
    by_depth, by_name = f"hi_res_cam@{depth}", f"hi_res_cam@{layer}"
    explanation = sl.explain(model, pictures, [by_depth, by_name], [0, 2])
    assert explanation.layers == {by_depth: where, by_name: layer}
    assert explanation[by_depth].shape == (2, 1, size, size)
    features, gradients = seen_at(model, pictures, layer, [0, 2])
    close(explanation[by_depth], (features * gradients).sum(1, keepdim=True))
    assert torch.equal(explanation[by_depth], explanation[by_name])


def test_inside_a_bottleneck_there_is_a_larger_map_of_the_size_before_which_is_not_chosen(pictures: Tensor) -> None:
    """It would be the last of its resolution, but the projection beside it passes it by."""
    model = built(Residual())
    explanation = sl.explain(model, pictures, ["grad_cam@early", "grad_cam@layer2.0.relu1"], 0)
    assert explanation["grad_cam@early"].shape == explanation["grad_cam@layer2.0.relu1"].shape
    assert explanation.layers["grad_cam@early"] == "layer1.1.relu3"


def test_all_depths_and_the_default_are_read_in_one_pass_as_by_themselves(pictures: Tensor) -> None:
    model, names = built(Stages()), ["grad_cam@early", "grad_cam@middle", "grad_cam@late", "grad_cam"]
    together = sl.explain(model, pictures, names, 1)
    for name in names:
        assert torch.equal(together[name], sl.explain(model, pictures, name, 1)[name])
    assert torch.equal(together["grad_cam"], together["grad_cam@late"])


@pytest.mark.parametrize("depth", ["early", "middle", "late"])
def test_a_module_of_that_name_is_what_a_name_means(depth: str, pictures: Tensor) -> None:
    model, name = built(Stages(extra=depth)), f"hi_res_cam@{depth}"
    explanation = sl.explain(model, pictures, [name, "hi_res_cam@stage4.pool"], 1)
    assert explanation.layers[name] == depth
    assert explanation[name].any()
    assert torch.equal(explanation[name], explanation["hi_res_cam@stage4.pool"])


def test_depths_are_those_of_the_way_to_what_is_explained(pictures: Tensor) -> None:
    """A unit of stage 3 lies behind 64, 32 and 16 pixels a side: the first is a quarter, the second half of the way."""
    target = sl.Unit("stage3.conv", 1)
    explanation = sl.explain(built(Stages()), pictures, ["grad_cam@early", "grad_cam@middle"], target)
    assert explanation.layers == {"grad_cam@early": "stage1.relu", "grad_cam@middle": "stage2.relu"}


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_depth_does_not_depend_on_the_other_targets(order: list[int], pictures: Tensor) -> None:
    model, targets = built(Stages()), [0, sl.Unit("stage3.conv", 1)]
    alone = [sl.explain(model, pictures, "grad_cam@early", targets[number]) for number in order]
    together = sl.explain(model, pictures, "grad_cam@early", targets=[targets[number] for number in order])
    assert [each.layers for each in together] == [each.layers for each in alone]


def test_the_last_feature_map_is_not_refused_for_a_class_because_of_another_target(pictures: Tensor) -> None:
    model = built(Stages())
    of_class, of_unit = sl.explain(
        model, pictures, ["gradient", "grad_cam"], targets=[0, sl.Unit("stage3.conv", 1)], on_refusal="record"
    )
    # The later stages have no part in the unit, so the last feature map on the way to it is another.
    assert of_unit.layers["grad_cam"] == "stage2.pool"
    assert of_class.layers["grad_cam"] == "stage5.relu"
    assert torch.equal(of_class["grad_cam"], sl.explain(model, pictures, "grad_cam", 0)["grad_cam"])


class WithAuxiliaryHead(nn.Module):
    """FCN and DeepLab compute an auxiliary head that has no part in what is explained."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.stem, self.deep = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.hidden, self.scores = nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 2, 1)
        self.beside, self.aside = nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 2, 1)

    def main(self, x: Tensor) -> Tensor:
        kept = torch.relu(self.hidden(x))
        return torch.nn.functional.interpolate(self.scores(kept), size=(16, 16), mode="bilinear")

    def aux(self, x: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(self.aside(torch.relu(self.beside(x))), size=(16, 16), mode="bilinear")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        early = torch.relu(self.stem(x))
        late = torch.relu(self.deep(early))
        if self.order == "before":
            return {"aux": self.aux(early), "out": self.main(late)}
        return {"out": self.main(late), "aux": self.aux(early)}


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_auxiliary_head_is_not_the_way_to_the_value(order: str) -> None:
    model, pictures = built(WithAuxiliaryHead(order)), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    found = sl.explain(model, pictures, "grad_cam", lambda out, _: out["out"][:, 1].mean((1, 2)))["grad_cam"]
    early = torch.relu(model.stem(pictures))
    kept = torch.relu(model.hidden(torch.relu(model.deep(early)))).detach().requires_grad_()
    logits = torch.nn.functional.interpolate(model.scores(kept), size=(16, 16), mode="bilinear")
    (gradient,) = torch.autograd.grad(logits[:, 1].mean((1, 2)).sum(), kept)
    expected = (gradient.mean((2, 3), keepdim=True) * kept).sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(found, expected.detach())


def one_size(strides: tuple[int, ...] = (1, 1)) -> nn.Module:
    body = [layer for stride in strides for layer in (nn.Conv2d(3, 3, 3, stride, 1), nn.ReLU())]
    return built(nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)))


@pytest.mark.parametrize("depth", ["early", "middle"])
def test_a_network_of_one_resolution_has_a_late_feature_map_only(depth: str, pictures: Tensor) -> None:
    reason = f"no {depth} .*1 resolution.*grad_cam@LAYER"
    with pytest.raises(sl.RefusalError, match=reason):
        sl.explain(one_size(), pictures, f"grad_cam@{depth}", 0)
    assert sl.explain(one_size(), pictures, "grad_cam@late", 0).layers == {"grad_cam@late": "3"}


def test_a_network_of_two_resolutions_has_no_middle(pictures: Tensor) -> None:
    found = sl.explain(one_size((1, 2)), pictures, ["grad_cam@early", "grad_cam@middle"], 0, on_refusal="record")
    assert found.layers == {"grad_cam@early": "1"}
    assert "no middle" in found.refused["grad_cam@middle"]
    assert "2 resolution" in found.refused["grad_cam@middle"]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_behind_a_scripted_stem_only_the_last_feature_map_is_known(pictures: Tensor) -> None:
    model = one_size((2, 2, 2))
    whole = sl.explain(model, pictures, "grad_cam", 0)["grad_cam"]
    model[0] = torch.jit.script(model[0])
    for depth in ("early", "middle"):
        with pytest.raises(sl.RefusalError, match=f"{depth} .*cannot be seen.*grad_cam@LAYER"):
            sl.explain(model, pictures, f"grad_cam@{depth}", 0)
    assert whole.any()
    assert torch.equal(sl.explain(model, pictures, "grad_cam@late", 0)["grad_cam@late"], whole)


def test_depths_need_a_feature_map_before_a_weighted_layer() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    for depth in ("early", "middle", "late"):
        with pytest.raises(sl.RefusalError, match=r"more than one place.*grad_cam@LAYER"):
            sl.explain(model, torch.rand(1, 3, 2, 2), f"grad_cam@{depth}", 0)


# Where a choice cannot matter

SAME = "same at every position"
NO_NEGATIVE = "no gradient is negative"
NO_POSITIVE = "no gradient is positive"
NO_CUT = "cuts nothing"


def notes(explanation: sl.Explanation) -> set[str]:
    """Which of the four notes came."""
    return {words for words in (SAME, NO_NEGATIVE, NO_POSITIVE, NO_CUT) if words in " ".join(explanation.checks.notes)}


def with_head(head: str, sign: Callable[[Tensor], Tensor], seed: int = 0) -> nn.Sequential:
    """The network with the given signs of all weights above its features."""
    model = network(head, seed=seed)
    with torch.no_grad():
        for layer in model.head:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(sign(layer.weight))
    return model


def cams(**choices: object) -> list[sl.Method]:
    """The class activation maps of the given choices, each of its values if it is a list; named by them."""
    wanted = {name: value if isinstance(value, list) else [value] for name, value in choices.items()}
    return [
        sl.Method(aggregation=CAM(**dict(zip(wanted, chosen, strict=True))), name=" ".join(map(str, chosen)))
        for chosen in product(*wanted.values())
    ]


def test_where_average_pooling_follows_it_is_said_that_pooling_changes_nothing_and_it_changes_nothing(
    images: Tensor,
) -> None:
    model = network("average", activations=1e7)
    pooled = cams(pooling=[Pooling.MEAN, Pooling.ACTIVATION, Pooling.NONE], relu=False)
    explanation = sl.explain(model, images, pooled, TARGET)
    facts = (LAST, ", ".join(explanation.maps), SAME)
    assert any(all(fact in note for fact in facts) for note in explanation.checks.notes)
    first, *others = explanation.maps.values()
    for other in others:
        close(other, first)


def test_where_average_pooling_follows_it_does_not_matter_whether_signs_are_handled_before_or_after_pooling(
    images: Tensor,
) -> None:
    for pooling, sign in product((Pooling.MEAN, Pooling.ACTIVATION), Sign):
        both = cams(pooling=pooling, sign=sign, stage=[Stage.GRADIENTS, Stage.WEIGHTS], relu=False)
        before, after = sl.explain(network("average"), images, both, TARGET).maps.values()
        close(before, after)


# The poolings of Grad-CAM++ are another matter: their a = 1 / (2 + g sum A) is
# negative where g sum A < -2. By hand: g = -4 everywhere, sum A = 1, so a = -1/2: before pooling max(-4, 0) leaves
# nothing, after it max(4 * -1/2 * -4, 0) = 8 is the weight.
def test_the_note_on_signs_before_or_after_pooling_is_true_of_every_map_it_comes_with() -> None:
    model = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1)).double()
    nn.init.constant_(model[3].weight, -16.0)
    image = torch.tensor([[[[0.5, 0.0], [0.25, 0.25]]]], dtype=torch.float64)
    choices = {"pooling": Pooling.CURVATURE, "sign": Sign.POSITIVE, "stage": [Stage.GRADIENTS, Stage.WEIGHTS]}
    explanation = sl.explain(model, image, cams(**choices, layer="0"), 0)
    before, after = explanation.maps.values()
    assert not before.any()
    close(after, 8 * image)
    assert "before or after pooling" not in " ".join(explanation.checks.notes)


def test_notes_on_gradients_name_no_map_of_relevance(images: Tensor) -> None:
    relevance_cam = sl.Method(propagation=lrp_epsilon(), aggregation=CAM(), name="relevance_cam")
    explanation = sl.explain(network("average"), images, ["grad_cam", relevance_cam], TARGET)
    (note,) = [note for note in explanation.checks.notes if SAME in note]
    assert "relevance_cam" not in note


@pytest.mark.parametrize("layer", [LAST, INNER])
def test_with_a_dense_head_or_at_an_inner_layer_no_such_note_comes(layer: str, images: Tensor) -> None:
    assert notes(sl.explain(network("dense"), images, f"grad_cam@{layer}", TARGET)) == set()
    assert SAME not in notes(sl.explain(network("average"), images, f"grad_cam@{INNER}", TARGET))


@pytest.mark.parametrize("head", ["dense", "average"])
def test_where_no_gradient_is_negative_it_is_said_that_signs_do_not_matter_and_they_do_not(
    head: str, images: Tensor
) -> None:
    """Weights of the head that are not negative. Feature maps behind a rectifier are not either: nothing is cut."""
    model = with_head(head, torch.abs)
    for pooling in Pooling:
        kept = cams(sign=[Sign.SIGNED, Sign.POSITIVE, Sign.ABSOLUTE], relu=[True, False], pooling=pooling)
        explanation = sl.explain(model, images, kept, TARGET)
        assert notes(explanation) == {NO_NEGATIVE, NO_CUT} | ({SAME} if head == "average" else set())
        first, *others = explanation.maps.values()
        assert first.any()
        assert all(torch.equal(other, first) for other in others)


def test_at_a_layer_of_class_maps_no_gradient_is_negative_and_the_map_is_the_class_map() -> None:
    """1 / (height * width) at the class asked for and 0 at all others; class maps may be negative and are cut."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model, images = model.double().eval(), torch.randn(3, 3, 8, 10, dtype=torch.float64)
    names = ["grad_cam@2", "grad_cam_positive@2"]
    explanation = sl.explain(model, images, names, TARGET)
    assert notes(explanation) == {SAME, NO_NEGATIVE}
    class_maps = model[:3](images).detach()[range(3), TARGET].unsqueeze(1)
    assert (class_maps < 0).any()
    for name in names:
        close(explanation[name], class_maps.clamp(min=0) / 48)


def test_where_no_gradient_is_positive_it_is_said_that_positive_gradients_leave_nothing(images: Tensor) -> None:
    model = with_head("average", lambda weight: -weight.abs())
    explanation = sl.explain(model, images, ["grad_cam_positive", "hi_res_cam"], TARGET)
    assert notes(explanation) == {SAME, NO_POSITIVE}
    assert not explanation["grad_cam_positive"].any()
    assert explanation["hi_res_cam"].any()


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_note_comes_only_where_it_holds_of_every_image(chunk: int | None, images: Tensor) -> None:
    """The weights of class 0 are not negative, those of class 1 have both signs."""
    model = network("average")
    with torch.no_grad():
        model.head[-1].weight[0].abs_()
    expected = {(0, 0, 0): {SAME, NO_NEGATIVE, NO_CUT}, (0, 1, 0): {SAME}, (1, 0, 0): {SAME}, (0, 0, 1): {SAME}}
    for target, said in expected.items():
        assert notes(sl.explain(model, images, "grad_cam", list(target), chunk=chunk)) == said


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    head=st.sampled_from(["dense", "average"]),
    sign=st.sampled_from([torch.clone, torch.abs, lambda weight: -weight.abs()]),
    layer=st.sampled_from([LAST, INNER, "features.conv2"]),
)
def test_the_notes_are_what_the_gradients_say(
    seed: int, head: str, sign: Callable[[Tensor], Tensor], layer: str
) -> None:
    model = with_head(head, sign, seed)
    pictures = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    features, gradients = seen_at(model, pictures, layer, 1)
    expected = set()
    if torch.allclose(gradients, gradients[:, :, :1, :1], rtol=0, atol=1e-12):
        expected.add(SAME)
    if (gradients >= 0).all():
        expected.add(NO_NEGATIVE)
    elif (gradients <= 0).all():
        expected.add(NO_POSITIVE)
    if (gradients >= 0).all() and (features >= 0).all():
        expected.add(NO_CUT)
    assert notes(sl.explain(model, pictures, f"grad_cam@{layer}", 1)) == expected


# Guided Grad-CAM


def bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Between the centres of pixels, and constant beyond the outermost ones."""

    def matrix(few: int, many: int) -> np.ndarray:
        rows = np.zeros((many, few))
        for row in range(many):
            place = min(max((row + 0.5) * few / many - 0.5, 0.0), few - 1.0)
            low = min(int(place), few - 1)
            rows[row, low] += 1 - (place - low)
            rows[row, min(low + 1, few - 1)] += place - low
        return rows

    return matrix(values.shape[-2], size[0]) @ values @ matrix(values.shape[-1], size[1]).T


@pytest.mark.parametrize(("suffix", "layer", "size"), [("", LAST, (4, 5)), (f"@{INNER}", INNER, (8, 10))])
@pytest.mark.parametrize("head", ["dense", "average"])
def test_guided_grad_cam_is_guided_backprop_times_the_resized_grad_cam_of_its_layer(
    head: str, suffix: str, layer: str, size: tuple[int, int], images: Tensor
) -> None:
    model, name = network(head), f"guided_grad_cam{suffix}"
    explanation = sl.explain(model, images, name, TARGET)
    cam = slow_maps("grad_cam", *seen_at(model, images, layer))
    assert cam.shape[2:] == size
    guided = sl.explain(model, images, "guided_backprop", TARGET)["guided_backprop"]
    close(explanation[name], guided * torch.from_numpy(bilinear(cam, (8, 10))))
    assert explanation.layers == {name: layer}
    assert list(explanation.maps) == [name]


def test_guided_grad_cam_beside_its_factors_is_the_same(images: Tensor) -> None:
    model, names = network("dense"), ["grad_cam", "guided_grad_cam", "guided_backprop"]
    together = sl.explain(model, images, names, TARGET)
    assert set(together.maps) == set(names)
    for name in names:
        assert torch.equal(together[name], sl.explain(model, images, name, TARGET)[name])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([nn.Conv2d(3, 4, 3), nn.GELU()], "guided_backprop.*gelu in 1"),
        ([nn.Conv2d(3, 4, 3), nn.Identity()], "guided_backprop.*plain gradient.*no rectifier"),
    ],
)
def test_guided_grad_cam_without_rectifiers_is_refused_for_what_guided_backprop_lacks(
    body: list[nn.Module], message: str, images: Tensor
) -> None:
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)).double()
    with pytest.raises(sl.RefusalError, match=message):
        sl.explain(model, images, "guided_grad_cam", TARGET)
    recorded = sl.explain(model, images, ["guided_grad_cam", "grad_cam"], TARGET, on_refusal="record")
    assert list(recorded.refused) == ["guided_grad_cam"]
    assert list(recorded.maps) == ["grad_cam"]


def test_guided_grad_cam_without_a_feature_map_is_refused_for_what_grad_cam_lacks() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(sl.RefusalError, match=r"more than one place.*grad_cam@LAYER"):
        sl.explain(model, torch.rand(1, 3, 2, 2), "guided_grad_cam", 0)


# Combinations

TIMES = InputTimesSignal()
HIRES, X_GRAD = CAM(Pooling.NONE), CAM(Pooling.ACTIVATION)
PLUS_PLUS, AUTHORS = CAM(Pooling.CURVATURE, Sign.POSITIVE), CAM(Pooling.CURVATURE_SHARES, Sign.POSITIVE)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"sampling": Path(5), "aggregation": CAM()}, "path.*CAM.*other layers"),
        ({"sampling": Path(5), "aggregation": HIRES}, "path.*CAM.*other layers"),
        ({"sampling": AdaptivePath(), "aggregation": CAM()}, "path.*CAM.*other layers"),
        ({"sampling": Expected(5), "aggregation": CAM()}, "path.*CAM.*other layers"),
        ({"sampling": Path(5), "aggregation": LayerSignal("0")}, "path.*LayerSignal.*other layers"),
        ({"sampling": Path(5), "aggregation": FullGrad()}, "path.*FullGrad.*other layers"),
        ({"propagation": lrp_0(), "aggregation": HIRES}, "lrp_0.*relevance.*factor"),
        ({"propagation": lrp_0(), "aggregation": X_GRAD}, "lrp_0.*relevance.*factor"),
        ({"propagation": lrp_0(), "aggregation": TIMES}, "lrp_0.*relevance.*factor"),
        ({"propagation": lrp_0(), "sampling": Path(5)}, "lrp_0.*relevance.*along a path"),
        ({"propagation": lrp_0(), "aggregation": PLUS_PLUS}, "CAM.*derivatives.*lrp_0"),
        ({"propagation": GUIDED_BACKPROP, "aggregation": PLUS_PLUS}, "CAM.*derivatives.*guided_backprop"),
        ({"propagation": DECONVNET, "aggregation": AUTHORS}, "CAM.*derivatives.*deconvnet"),
        ({"propagation": rect_grad(), "aggregation": FullGrad()}, "FullGrad.*derivatives.*rect_grad"),
        ({"sampling": Noise(3, before=True), "aggregation": CAM()}, "CAM.*no terms.*`before`"),
        ({"sampling": Noise(3, before=True)}, "InputSignal.*no terms.*`before`"),
        ({"sampling": AdaptivePath(), "propagation": GUIDED_BACKPROP, "aggregation": TIMES}, "adaptive.*completeness"),
        ({"sampling": AdaptivePath(), "aggregation": InputSignal()}, "adaptive path.*completeness.*InputTimesSignal"),
        ({"aggregation": CAM}, "aggregation.*Aggregation.*called"),
        ({"propagation": lrp_0}, "propagation.*Propagation.*called"),
        ({"times": sl.catalogue()["guided_grad_cam"]}, "multiplied.*no product"),
        ({"times": "grad_cam"}, "multiplied.*other Method"),
    ],
)
def test_a_combination_without_a_meaning_is_refused_when_it_is_made(choices: dict[str, object], message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        sl.Method(**choices)


def by_hand(model: nn.Sequential, images: Tensor) -> tuple[np.ndarray, ...]:
    """Of the dense head: feature maps, weights W1 and W2 (of the classes asked for), and z before and after them."""
    hidden, last = model.head[1], model.head[3]
    features = model.features(images).detach().numpy()
    w1, w2 = hidden.weight.detach().numpy(), last.weight.detach().numpy()[TARGET]
    z1 = features.reshape(3, -1) @ w1.T + hidden.bias.detach().numpy()
    z2 = (w2 * np.maximum(z1, 0)).sum(1) + last.bias.detach().numpy()[TARGET]
    return features, w1, w2, z1, z2


def pooled_by_the_mean(features: np.ndarray, signal: np.ndarray) -> np.ndarray:
    weights = signal.reshape(features.shape).mean((2, 3), keepdims=True)
    return np.maximum((weights * features).sum(1, keepdims=True), 0)


@pytest.mark.parametrize("epsilon", [0.0, 0.25])
def test_relevance_pooled_by_the_mean_is_relevance_cam(epsilon: float, images: Tensor) -> None:
    """Lee et al. 2021: the relevance of each channel in place of its gradient; here through two dense layers."""
    propagation = lrp_epsilon(epsilon) if epsilon else lrp_0()
    method = sl.Method(propagation=propagation, aggregation=CAM(), name="relevance_cam")
    model = network("dense")
    features, w1, w2, z1, z2 = by_hand(model, images)
    hidden = np.maximum(z1, 0) * w2 * (z2 / (z2 + np.copysign(epsilon, z2)))[:, None]
    below = features.reshape(3, -1) * ((hidden / (z1 + np.copysign(epsilon, z1))) @ w1)
    close(sl.explain(model, images, method, TARGET)["relevance_cam"], pooled_by_the_mean(features, below))


def test_guided_backprop_may_take_the_place_of_the_gradient_in_grad_cam_and_hi_res_cam(images: Tensor) -> None:
    methods = [
        sl.Method(propagation=GUIDED_BACKPROP, aggregation=CAM(), name="pooled"),
        sl.Method(propagation=GUIDED_BACKPROP, aggregation=CAM(Pooling.NONE, relu=False), name="elementwise"),
    ]
    model = network("dense")
    features, w1, w2, z1, _ = by_hand(model, images)
    signal = (np.maximum(w2, 0) * (z1 > 0)) @ w1
    explanation = sl.explain(model, images, methods, TARGET)
    close(explanation["pooled"], pooled_by_the_mean(features, signal))
    close(explanation["elementwise"], (signal.reshape(features.shape) * features).sum(1, keepdims=True))


def test_noise_averages_the_finished_maps_of_the_noisy_images(images: Tensor) -> None:
    """The noisy images are caught as the model gets them."""
    model, caught = network("dense"), []

    def catching(x: Tensor) -> Tensor:
        caught.append(x.detach().clone())
        return model(x)

    noisy = sl.Method(Noise(4, 0.3), aggregation=CAM(), name="noisy")
    found = sl.explain(catching, images[:1], noisy, 2, chunk=1)["noisy"]
    # Before its passes a model is asked whether chance or other images have a part in what it says.
    asked = caught[-4:]
    maps = sl.explain(model, torch.cat(asked), "grad_cam", 2)["grad_cam"]
    assert len(maps) == 4
    assert differ(maps[0], maps[1])
    close(found, maps.mean(0, keepdim=True))


def test_a_method_moves_to_a_layer_where_it_reads_one() -> None:
    rows = sl.catalogue()
    assert rows["layer_cam"].at("x").aggregation == CAM(Pooling.NONE, Sign.POSITIVE, layer="x")
    assert rows["guided_grad_cam"].at("x").factors[1].aggregation == CAM(layer="x")
    assert rows["lrp_0"].at("x").aggregation == LayerSignal("x")
    for name in ("gradient", "integrated_gradients", "full_grad"):
        with pytest.raises(sl.InputError, match=f"{name}.*no layer"):
            rows[name].at("x")


def test_half_precision_loses_no_map_to_sums_over_positions() -> None:
    """Of 12,544 positions of about 100 the sum leaves float16's range; the gradients, 1e-4 each, leave it downwards."""
    torch.manual_seed(0)
    half = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(784, 3))
    half = half.eval().half()
    images = (torch.rand(1, 3, 112, 112) * 255).half()
    names = ["grad_cam", "grad_cam_plus_plus", "grad_cam_plus_plus_author", "x_grad_cam", "layer_cam"]
    found = sl.explain(half, images, [f"{name}@1" for name in names], 0)
    features, gradients = seen_at(half, images, "1", 0)
    for name in names:
        expected = slow_maps(name, features.double(), gradients.double())
        close(found[f"{name}@1"].double(), torch.from_numpy(expected).view(1, 1, 112, 112), 1e-3)


def test_x_grad_cam_is_said_to_agree_only_where_it_has_weights() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[3].weight.fill_(1.0)
    for images, agree in ((torch.tensor([[[[1.0, -1.0], [2.0, -2.0]]]]), False), (torch.rand(1, 1, 2, 2), True)):
        found = sl.explain(model, images, ["grad_cam@0", "x_grad_cam@0"], 0)
        assert torch.allclose(found["grad_cam@0"], found["x_grad_cam@0"]) is agree
        said = next(note for note in found.checks.notes if SAME in note)
        assert ("XGrad-CAM" in said) is agree
        assert "HiResCAM" in said
