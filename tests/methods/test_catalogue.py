"""The catalogue says when two methods give the same numbers: true where its condition holds, false elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.propagation import lrp_epsilon
from sightline.sampling import Expected, Noise, Path

pytestmark = pytest.mark.usefixtures("one_thread")

TARGET = [0, 3, 1]
SIGNED = torch.randn(3, 3, 8, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
POSITIVE = SIGNED.abs()
Sides = tuple[Tensor, Tensor]


class Claim(NamedTuple):
    """What the catalogue says of two methods.

    Attributes:
        holds: the two sides of the claim, computed where its condition holds.
        fails: the two sides computed where the condition does not hold, or, where it has none, without the change that
            the claim names.
        tolerance: of the largest value of the second side.
    """

    holds: Callable[[], Sides]
    fails: tuple[Callable[[], Sides], ...] = ()
    tolerance: float = 1e-9


class Residual(nn.Module):
    """Two convolutions, the second with a batch norm, beside the identity."""

    def __init__(self, channels: int, *, bias: bool, activation: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.bn = nn.BatchNorm2d(channels) if bias else nn.Identity()
        self.act1, self.act2 = activation(), activation()
        if bias:
            self.bn.running_mean.normal_()
            self.bn.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.act2(self.bn(self.conv2(self.act1(self.conv1(x)))) + x)


def network(*, bias: bool = True, activation: type[nn.Module] = nn.ReLU, last: type[nn.Module] = nn.ReLU) -> nn.Module:
    """Weighted layers, batch norm, rectifiers, max-pooling, an add, and a dense head of one layer."""
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=bias), activation()),
            Residual(6, bias=bias, activation=activation),
            nn.MaxPool2d(2),
            nn.Sequential(nn.Conv2d(6, 5, 3, padding=1, bias=bias), last()),
            nn.Flatten(),
            nn.Linear(5 * 20, 4, bias=bias),
        )
        .double()
        .eval()
    )


def pooled(**choices: object) -> nn.Module:
    """The same with global average pooling before its head."""
    model = network(**choices)
    return nn.Sequential(*list(model)[:4], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)).double().eval()


def not_negative(model: nn.Module) -> nn.Module:
    """The same with a head of no negative weight, so that no gradient at the last feature map is negative."""
    with torch.no_grad():
        model[-1].weight.abs_()
    return model


def narrow() -> nn.Module:
    """Two live rectifiers of 200: the 98th percentile of what passes them is 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(240, 200), nn.ReLU(), nn.Linear(200, 4)).double().eval()
    with torch.no_grad():
        model[1].bias.fill_(-100.0)
        model[1].bias[:2] = 100.0
    return model


def maps(model: nn.Module, *methods: str | sl.Method, images: Tensor = SIGNED, seed: int = 0) -> list[Tensor]:
    return list(sl.explain(model, images, list(methods), TARGET, seed=seed).maps.values())


def pair(
    model: nn.Module, first: str | sl.Method, second: str | sl.Method, images: Tensor = SIGNED
) -> Callable[[], Sides]:
    """Both maps as they are."""
    return lambda: tuple(maps(model, first, second, images=images))


def changed(name: str, **choices: object) -> sl.Method:
    """A row of the catalogue with other choices."""
    return replace(sl.catalogue()[name], name=f"another {name}", **choices)


def absolute() -> Sides:
    saliency, gradient = maps(network(), "saliency", "gradient")
    return saliency, gradient.abs()


def squares(seed: int = 0) -> Sides:
    mean_square, mean = maps(network(), "smooth_grad_squared", "smooth_grad")
    (variance,) = maps(network(), "var_grad", seed=seed)
    return mean_square, variance + mean**2


def from_black(model: nn.Module) -> Callable[[], Sides]:
    return pair(model, "integrated_gradients", "input_x_gradient")


def expected_from(reference: float) -> Sides:
    """z = x^3 on 60 images of one pixel, whose draws are independent; both maps as shares of x^3.

    A draw on the way from 0 has mean 1 and deviation sqrt(4 / 5), so the mean of 60 x 50 draws has 0.016, and a
    tolerance of 0.08 is five of these. From -1 to about 1 the mean is near 2.
    """
    images = torch.linspace(0.99, 1.01, 60, dtype=torch.float64).view(60, 1, 1, 1)
    expected = changed("expected_gradients", sampling=Expected(50, references=images.new_full((1, 1, 1, 1), reference)))
    explanation = sl.explain(lambda x: (x**3).flatten(1), images, [expected, "integrated_gradients"], 0)
    one, other = (found / images**3 for found in explanation.maps.values())
    return one.mean(), other.mean()


def times_input(name: str, model: nn.Module) -> Callable[[], Sides]:
    def sides() -> Sides:
        whole, bare = maps(model, "rect_grad", name)
        return whole, SIGNED * bare

    return sides


def times_value(*, divided: bool) -> Sides:
    explanation = sl.explain(network(), POSITIVE, ["lrp_z_plus", "excitation_backprop"], TARGET)
    value = explanation.values.view(-1, 1, 1, 1)
    relevance, probability = explanation["lrp_z_plus"], explanation["excitation_backprop"]
    return (probability, relevance / value) if divided else (relevance, probability * value)


def cut(model: nn.Module, name: str) -> Callable[[], Sides]:
    """HiResCAM cut at zero, and another map."""

    def sides() -> Sides:
        high, other = maps(model, "hi_res_cam", name)
        return high.clamp(min=0), other

    return sides


def swapped(sides: Callable[[], Sides]) -> Callable[[], Sides]:
    return lambda: sides()[::-1]


def over_channels(model: nn.Module) -> Callable[[], Sides]:
    def sides() -> Sides:
        signed, product = maps(model, "full_grad_signed", "input_x_gradient")
        return signed, product.sum(1, keepdim=True)

    return sides


class Loud(nn.Module):
    """Feature maps near 1e8, beside whose sums the 1e-7 of XGrad-CAM is nothing."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(1e8 * x)


REAL = "in networks of weighted layers, batch norms, ReLU, max-pooling and adds"
NO_BIAS = "where there are no biases"
AVERAGE = "where global average pooling follows the layer"
NO_NEGATIVE = "where no gradient at the layer is negative"
NO_NEGATIVE_AT_ALL = "where no gradient at the layer is negative and A >= 0"

# A tanh adds a constant as FullGrad counts it, tanh(h) - h tanh'(h), although it has no bias.
CONSTANTS = (network(bias=True), network(bias=False, activation=nn.Tanh))

CLAIMS = {
    ("saliency", "gradient", "its absolute value"): Claim(absolute, (pair(network(), "saliency", "gradient"),)),
    ("input_x_gradient", "lrp_0", REAL): Claim(
        pair(network(), "input_x_gradient", "lrp_0"), (pair(network(activation=nn.GELU), "input_x_gradient", "lrp_0"),)
    ),
    ("lrp_0", "input_x_gradient", REAL): Claim(
        pair(network(), "lrp_0", "input_x_gradient"), (pair(network(activation=nn.GELU), "lrp_0", "input_x_gradient"),)
    ),
    ("smooth_grad", "gradient", "where sd = 0"): Claim(
        pair(network(), changed("smooth_grad", sampling=Noise(25, 0.0)), "gradient"),
        (pair(network(), "smooth_grad", "gradient"),),
    ),
    ("smooth_grad_squared", "var_grad", "plus the square of smooth_grad, for the same noise"): Claim(
        squares, (lambda: squares(seed=1),)
    ),
    (
        "integrated_gradients",
        "input_x_gradient",
        "where the baseline is zero and all is homogeneous: weighted layers without biases, ReLU, pooling",
    ): Claim(
        from_black(network(bias=False)),
        (
            *map(from_black, CONSTANTS),
            pair(network(bias=False), changed("integrated_gradients", sampling=Path(50, 0.5)), "input_x_gradient"),
        ),
    ),
    (
        "expected_gradients",
        "integrated_gradients",
        "in expectation, where the only reference is its baseline",
    ): Claim(lambda: expected_from(0.0), (lambda: expected_from(-1.0),), tolerance=0.08),
    ("rect_grad", "rect_grad_no_input", "times the input"): Claim(
        times_input("rect_grad_no_input", network()), (pair(network(), "rect_grad", "rect_grad_no_input"),)
    ),
    ("rect_grad", "guided_backprop", "times the input, where only what is positive passes"): Claim(
        times_input("guided_backprop", narrow()), (times_input("guided_backprop", network()),)
    ),
    ("lrp_epsilon", "lrp_0", "as epsilon goes to zero"): Claim(
        pair(network(), changed("lrp_epsilon", propagation=lrp_epsilon(1e-14)), "lrp_0"),
        (pair(network(), changed("lrp_epsilon", propagation=lrp_epsilon(0.1)), "lrp_0"),),
    ),
    ("lrp_alpha1_beta0", "lrp_z_plus", NO_BIAS): Claim(
        pair(network(bias=False), "lrp_alpha1_beta0", "lrp_z_plus"),
        (pair(network(), "lrp_alpha1_beta0", "lrp_z_plus"),),
    ),
    ("lrp_z_plus", "lrp_alpha1_beta0", NO_BIAS): Claim(
        pair(network(bias=False), "lrp_z_plus", "lrp_alpha1_beta0"),
        (pair(network(), "lrp_z_plus", "lrp_alpha1_beta0"),),
    ),
    ("lrp_z_plus", "excitation_backprop", "times the explained value"): Claim(
        lambda: times_value(divided=False), (pair(network(), "lrp_z_plus", "excitation_backprop", POSITIVE),)
    ),
    ("excitation_backprop", "lrp_z_plus", "divided by the explained value"): Claim(
        lambda: times_value(divided=True), (pair(network(), "excitation_backprop", "lrp_z_plus", POSITIVE),)
    ),
    ("grad_cam", "hi_res_cam", f"cut at zero, {AVERAGE}"): Claim(
        swapped(cut(pooled(), "grad_cam")), (swapped(cut(network(), "grad_cam")),)
    ),
    ("hi_res_cam", "grad_cam", f"up to the final max(., 0), {AVERAGE}"): Claim(
        cut(pooled(), "grad_cam"), (cut(network(), "grad_cam"), pair(pooled(), "hi_res_cam", "grad_cam"))
    ),
    ("grad_cam", "x_grad_cam", AVERAGE): Claim(
        pair(Loud(pooled()), "grad_cam", "x_grad_cam"), (pair(Loud(network()), "grad_cam", "x_grad_cam"),)
    ),
    ("x_grad_cam", "grad_cam", AVERAGE): Claim(
        pair(Loud(pooled()), "x_grad_cam", "grad_cam"), (pair(Loud(network()), "x_grad_cam", "grad_cam"),)
    ),
    ("grad_cam", "grad_cam_positive", NO_NEGATIVE): Claim(
        pair(not_negative(network()), "grad_cam", "grad_cam_positive"),
        (pair(network(), "grad_cam", "grad_cam_positive"),),
    ),
    ("grad_cam_positive", "grad_cam", NO_NEGATIVE): Claim(
        pair(not_negative(network()), "grad_cam_positive", "grad_cam"),
        (pair(network(), "grad_cam_positive", "grad_cam"),),
    ),
    ("grad_cam_plus_plus_author", "grad_cam_positive", AVERAGE): Claim(
        pair(not_negative(pooled()), "grad_cam_plus_plus_author", "grad_cam_positive"),
        (pair(network(), "grad_cam_plus_plus_author", "grad_cam_positive"),),
    ),
    ("hi_res_cam", "layer_cam", NO_NEGATIVE_AT_ALL): Claim(
        pair(not_negative(network()), "hi_res_cam", "layer_cam"),
        (
            pair(network(), "hi_res_cam", "layer_cam"),
            pair(not_negative(network(last=nn.Identity)), "hi_res_cam", "layer_cam"),
        ),
    ),
    ("layer_cam", "hi_res_cam", NO_NEGATIVE_AT_ALL): Claim(
        pair(not_negative(network()), "layer_cam", "hi_res_cam"),
        (
            pair(network(), "layer_cam", "hi_res_cam"),
            pair(not_negative(network(last=nn.Identity)), "layer_cam", "hi_res_cam"),
        ),
    ),
    (
        "full_grad_signed",
        "input_x_gradient",
        "summed over channels, where no operation adds a constant",
    ): Claim(over_channels(network(bias=False)), tuple(map(over_channels, CONSTANTS))),
}
IDS = [f"{name}-{other}" for name, other, _ in CLAIMS]


def furthest(sides: Sides) -> float:
    """The largest difference, as a share of the second side's largest value."""
    first, second = sides
    assert second.any()
    return float((first - second).abs().max() / second.abs().max())


def test_every_claim_of_the_catalogue_is_tested_here_in_its_own_words() -> None:
    claims = [(row.name, other, words) for row in sl.catalogue().values() for other, words in row.coincides]
    assert sorted(claims) == sorted(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=IDS)
def test_a_claim_holds_where_its_condition_does(claim: Claim) -> None:
    assert furthest(claim.holds()) < claim.tolerance


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=IDS)
def test_a_claim_says_something_for_elsewhere_it_is_false(claim: Claim) -> None:
    assert claim.fails
    for elsewhere in claim.fails:
        assert furthest(elsewhere()) > max(0.01, 2 * claim.tolerance)


def test_the_authors_grad_cam_plus_plus_is_grad_cam_of_positive_gradients_where_average_pooling_follows() -> None:
    """Shares of one value at each of N positions are 1 / N each, which is the mean; negative gradients add nothing."""
    assert furthest(pair(pooled(), "grad_cam_plus_plus_author", "grad_cam_positive")()) < 1e-12
    assert furthest(pair(not_negative(pooled()), "grad_cam_plus_plus_author", "grad_cam_positive")()) < 1e-12


@pytest.mark.parametrize("epsilon", [1e-3, 1e-4, 1e-5])
def test_lrp_epsilon_nears_lrp_0_in_step_with_epsilon(epsilon: float) -> None:
    """A tenth of a small epsilon leaves about a tenth of the difference."""
    wide, close = (
        furthest(pair(network(), changed("lrp_epsilon", propagation=lrp_epsilon(each)), "lrp_0")())
        for each in (epsilon, epsilon / 10)
    )
    assert 5 < wide / close < 15


# For x < 0 the catalogue's formula of excitation_backprop is not what is computed: x_i w_ij^+ would give x w^+ =
# (1, -2, 0) over their sum -1. Nor then do its two claims need their condition. The paper has x >= 0 throughout.
def test_with_negative_inputs_excitation_backprop_takes_positive_contributions_as_lrp_z_plus_does() -> None:
    """x = (1, -1, 1, -1) and w = (1, 2, -3, -3): the positive products are 1 and 3."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 2.0, -3.0, -3.0]]))
    image = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(1, 1, 1, 4)
    explanation = sl.explain(model, image, ["excitation_backprop", "lrp_z_plus"], 0)
    shares = torch.tensor([0.25, 0.0, 0.0, 0.75], dtype=torch.float64).view(1, 1, 1, 4)
    torch.testing.assert_close(explanation["excitation_backprop"], shares, rtol=1e-6, atol=0)
    torch.testing.assert_close(explanation["lrp_z_plus"], -shares, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lime", "changed images.*from_callable"),
        ("KernelShap", "changed images.*from_callable"),
        ("occlusion", "changed images.*from_callable"),
        ("score_cam", "changed images.*from_callable"),
        ("deep_lift", "not part of Sightline.*from_callable"),
        ("gradient_shap", "expected_gradients"),
        ("gradcam", "Did you mean grad_cam"),
        ("integrated", "Did you mean integrated_gradients"),
        ("grad_cam_plus", "grad_cam_plus_plus"),
        ("xyzzy", "There are: "),
    ],
)
def test_other_names_get_the_answer_that_helps(name: str, message: str) -> None:
    with pytest.raises(sl.InputError, match=message) as caught:
        sl.explain(nn.Flatten(), torch.zeros(1, 1, 1, 1), name)
    if "Did you mean" not in message and "plus" not in message:
        assert "Did you mean" not in str(caught.value)
