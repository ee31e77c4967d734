"""What a method says of its factor of the input, against what its map does where only the encoding changes."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import FullGrad, InputSignal, InputTimesSignal, Sign
from sightline.evaluation._encoding import reencoded, shifted
from sightline.models import ModelInfo, Preprocessing
from sightline.propagation import GUIDED_BACKPROP, deep_taylor, lrp_0, lrp_epsilon
from sightline.sampling import AdaptivePath, Expected, Image, Noise, Path

KNOWN = sl.catalogue()
TIMES_INPUT = KNOWN["input_x_gradient"]
OWN = [
    sl.Method(Path(5, start="black"), aggregation=InputTimesSignal(), name="from black"),
    sl.Method(Path(5, start=("black", "white")), name="gradients from black and white"),
    sl.Method(Path(5, start=("black", 0.0)), aggregation=InputTimesSignal(), name="from black and a number"),
    sl.Method(Path(5), name="gradients from a number"),
    sl.Method(AdaptivePath(start="black"), aggregation=InputTimesSignal(), name="adaptive from black"),
    sl.Method(AdaptivePath(), aggregation=InputTimesSignal(), name="adaptive from a number"),
    sl.Method(propagation=lrp_epsilon(first="flat"), name="flat first"),
    sl.Method(propagation=lrp_0(), aggregation=InputSignal(Sign.ABSOLUTE), name="absolute relevance"),
    sl.Method(propagation=deep_taylor(first="w_squared"), name="unbounded"),
    KNOWN["lrp_z_plus"].at("2"),
    sl.Method(aggregation=InputTimesSignal(), times=KNOWN["grad_cam"], name="times a map without it"),
    sl.Method(propagation=GUIDED_BACKPROP, times=KNOWN["lrp_0"], name="times relevance"),
    sl.Method(times=KNOWN["full_grad"], name="times FullGrad"),
    sl.Method(aggregation=FullGrad(rescale=False), name="FullGrad of its own"),
]


def at_the_image(method: sl.Method) -> sl.Method:
    """The same without noise, which is drawn anew for other values; it multiplies by nothing."""
    times = None if method.times is None else at_the_image(method.times)
    sampling = Image() if isinstance(method.sampling, Noise) else method.sampling
    return replace(method, sampling=sampling, times=times)


ROWS = [at_the_image(one) for one in (*KNOWN.values(), *OWN)]
BARE = [bare for row in ROWS if (bare := row.without_input) is not None]


@pytest.fixture(scope="module")
def asked() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    # Without padding at the first layer: `shifted` has to pad beforehand, and flat rules share with what is padded.
    body = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(6 * 9, 3)).double().eval()
    with torch.no_grad():
        # Deep Taylor explains what is positive.
        model[-1].bias += 2
    encoding = Preprocessing(size=(8, 8), mean=(0.4, 0.5, 0.6), std=(0.25,) * 3)
    model.sightline_info = ModelInfo(spec="test", preprocessing=encoding, weights="")
    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return model, (pixels - torch.tensor(encoding.mean).double().view(3, 1, 1)) / 0.25


@pytest.mark.parametrize("method", [*ROWS, *BARE], ids=lambda method: method.name)
def test_a_map_moves_with_the_encoding_where_its_method_says_so_and_only_there(
    asked: tuple[nn.Module, Tensor], method: sl.Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is drawn is drawn by the image's content, which is other numbers in another encoding.
    monkeypatch.setattr(import_module("sightline.explaining._explain"), "image_key", lambda image: "the same")
    model, images = asked
    network, moved = shifted(model, images, 0.7)
    references = images.flip(3)
    drawn = replace(method, sampling=Expected(8)) if isinstance(method.sampling, Expected) else method
    before = sl.explain(model, images, drawn, 1, references=references)[method.name]
    after = sl.explain(network, moved, drawn, 1, references=reencoded(references, references + 0.7, 0.7))[method.name]
    assert bool(before.any())
    change = float((after - before).abs().max() / before.abs().max())
    # An adaptive path stops where its residual is small enough, which rounding decides.
    stays = 5e-3 if method.sampling.steered else 1e-5
    assert change > 0.02 if method.encoding_enters else change < stays


def test_what_has_no_form_without_the_input_says_why_or_has_no_such_factor() -> None:
    none = {row.name for row in ROWS if row.without_input is None and row.input_factor}
    decomposed = {"full_grad", "full_grad_positive", "full_grad_signed", "smooth_full_grad", "FullGrad of its own"}
    adaptive = {"adaptive from black", "adaptive from a number"}
    assert none == decomposed | adaptive | {"times FullGrad"}
    assert all(KNOWN[name].without_input is None for name in ("lrp_flat", "lrp_w_squared", "deep_taylor", "gradient"))
    assert all("first layer" in KNOWN[name].encoding_enters for name in KNOWN if name in decomposed)


def test_simple_full_grad_without_the_input_has_the_gradient_in_its_place(asked: tuple[nn.Module, Tensor]) -> None:
    """p(dz/dx) takes the place of p(x dz/dx), with p(t) the sum over channels of |t| less its least over its range."""
    model, images = asked
    bare = KNOWN["simple_full_grad"].without_input
    assert bare is not None
    found = sl.explain(model, images, ["simple_full_grad", bare, "gradient"], 1)

    def term(values: Tensor) -> Tensor:
        low, high = values.abs().flatten(1).aminmax(dim=1)
        low, high = low.view(-1, 1, 1, 1), high.view(-1, 1, 1, 1)
        return ((values.abs() - low) / (high - low + 1e-6)).sum(1, keepdim=True)

    gradient = found["gradient"]
    expected = found["simple_full_grad"] - term(images * gradient) + term(gradient)
    torch.testing.assert_close(found[bare.name], expected)


def test_both_factors_of_a_product_lose_the_input(asked: tuple[nn.Module, Tensor]) -> None:
    model, images = asked
    bare = sl.Method(aggregation=InputTimesSignal(), times=KNOWN["lrp_0"], name="product").without_input
    assert bare is not None
    found = sl.explain(model, images, [bare, "gradient"], 1)
    # LRP-0 without the input is the gradient in a network of rectifiers.
    torch.testing.assert_close(found[bare.name], found["gradient"] ** 2)
    assert TIMES_INPUT.without_input is not None


def test_full_grad_s_decomposition_keeps_the_input_term() -> None:
    with pytest.raises(sl.InputError, match="decomposition"):
        FullGrad(times_input=False)
