"""At which inputs the network is asked, and how its answers become one map."""

import inspect
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path as File

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sightline as sl
from sightline._common.seeds import image_key, seed_of
from sightline.aggregation import CAM, Aggregation, FullGrad, InputSignal, InputTimesSignal, LayerSignal, Sign
from sightline.explaining import as_target
from sightline.explaining._network import Network
from sightline.explaining._planner import Job
from sightline.explaining._totals import Total
from sightline.propagation import (
    GRADIENT,
    GUIDED_BACKPROP,
    Propagation,
    deep_taylor,
    epsilon_gamma_box,
    lrp_epsilon,
    rect_grad,
)
from sightline.sampling import AdaptivePath, Context, Expected, Noise, Path, Reduction, Sampling
from sightline.sampling._base import Answer, Points, Row

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = [0, 2, 1, 2]

# The tests check annotations at run time; users do not, and must get a sentence all the same.
unchecked = inspect.unwrap(sl.explain)
Array = np.ndarray


class Guided(torch.autograd.Function):
    """Guided Backprop's rectifier, written for these tests."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, signal: Tensor) -> Tensor:
        return signal.clamp(min=0) * (ctx.saved_tensors[0] > 0)


class GuidedReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Guided.apply(x)


def _network(rectifier: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Always the same weights."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 4, 3, padding=1), rectifier(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1), rectifier()]
    network = nn.Sequential(*body, nn.Flatten(), nn.Linear(45, 3)).double()
    with torch.no_grad():
        for layer in network[:4:3]:
            layer.weight.mul_(3)
    return network


@pytest.fixture
def model() -> nn.Sequential:
    return _network()


@pytest.fixture
def smooth() -> nn.Sequential:
    return _network(nn.Tanh)


@pytest.fixture
def images() -> Tensor:
    """Four images, each of a range of its own."""
    plain = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return plain * torch.tensor([1.0, 2.0, 0.5, 1.5], dtype=torch.float64).view(4, 1, 1, 1) - 0.25


@pytest.fixture
def references() -> Tensor:
    return torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.5


class Recording:
    """A model that remembers what it was asked."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        self._model = model
        self.inputs: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach().clone())
        return self._model(x)


class Quadratic(nn.Module):
    """z = sum x^2 / 2 on the second of two outputs: its gradient at a point is the point itself."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        value = (x * x).flatten(1).sum(1, keepdim=True) * self.factor
        return torch.cat([0 * value, value], 1)


def _asked_at(sampling: Sampling, images: Tensor, references: Tensor | None = None, seed: int = 0) -> list[Points]:
    """The points of each sample, for all images: what a job asks at."""
    sampling = sampling.bind(Context(references=references))
    keys = [seed_of(seed, image_key(image)) for image in images]
    return [sampling.points(images, keys, [sample] * len(images)) for sample in range(len(sampling.weights))]


def _gradients(model: nn.Module, inputs: Tensor, classes: Sequence[int]) -> Tensor:
    inputs = inputs.detach().clone().requires_grad_()
    (gradients,) = torch.autograd.grad(model(inputs)[range(len(inputs)), classes].sum(), inputs)
    return gradients


def _logits(model: Callable[[Tensor], Tensor], inputs: Tensor, classes: Sequence[int]) -> Tensor:
    with torch.no_grad():
        return model(inputs)[range(len(inputs)), classes]


def _integrated(sampling: Sampling, name: str = "ig") -> sl.Method:
    return sl.Method(sampling, aggregation=InputTimesSignal(), name=name)


def _close(found: Tensor | Array, expected: Tensor | Array, tolerance: float = 1e-10) -> None:
    """To a tolerance relative to the largest expected value."""
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


# Noise


@pytest.mark.parametrize(
    ("name", "reduced"),
    [
        ("smooth_grad", lambda g: g.mean(0)),
        ("smooth_grad_squared", lambda g: (g**2).mean(0)),
        ("var_grad", lambda g: ((g - g.mean(0)) ** 2).mean(0)),
    ],
)
def test_smooth_grad_and_its_relatives_reduce_the_gradients_under_the_very_same_noise(
    model: nn.Module, images: Tensor, name: str, reduced: Callable[[Array], Array]
) -> None:
    asked = _asked_at(Noise(25, 0.15), images, seed=4)
    gradients = np.stack([_gradients(model, points.inputs, CLASSES).numpy() for points in asked])
    explanation = sl.explain(model, images, name, CLASSES, seed=4)
    assert sum(explanation.checks.settings["rows_per_pass"]["noise"]) == 25 * 4
    _close(explanation[name], reduced(gradients))


def test_the_noise_is_a_share_of_each_images_own_range() -> None:
    """Where the gradient is the point itself, VarGrad is the noise's variance: 24/25 of sigma^2 in expectation."""
    images = torch.rand(4, 3, 40, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for image, (low, high) in zip(images, [(0, 1), (-5, 5), (0, 1e-3), (1000, 1255)], strict=True):
        image.mul_(high - low).add_(low)
    found = sl.explain(Quadratic().double(), images, "var_grad", 1)["var_grad"].flatten(1)
    for image, variances in zip(images, found, strict=True):
        sigma = 0.15 * float(image.max() - image.min())
        error = sigma**2 * math.sqrt(2 * 24 / 25**2 / variances.numel())
        assert abs(float(variances.mean()) - sigma**2 * 24 / 25) < 5 * error


def test_the_noise_is_normal_and_each_sample_and_image_has_its_own() -> None:
    images = torch.rand(3, 3, 50, 50, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    noise = torch.cat([points.inputs - images for points in _asked_at(Noise(4, 0.15), images)]).flatten(1)
    ranges = (images.flatten(1).amax(1) - images.flatten(1).amin(1)).repeat(4)[:, None]
    noise = noise / (0.15 * ranges)
    count = noise.shape[1]
    moments = torch.stack([noise.mean(1), (noise**2).mean(1), (noise**3).mean(1), (noise**4).mean(1)])
    expected = torch.tensor([0.0, 1, 0, 3]).view(4, 1)
    errors = torch.tensor([1.0, 2, 15, 96]).sqrt().view(4, 1) / math.sqrt(count)
    assert ((moments - expected).abs() < 5 * errors).all()
    together = (noise @ noise.T / count).fill_diagonal_(0)
    assert together.abs().max() < 5 / math.sqrt(count)


def _noisy(images: Tensor, dtype: torch.dtype = torch.float64, **settings: int) -> Tensor:
    """The only noisy copy of each image, as the gradient of a quadratic model shows it."""
    method = sl.Method(Noise(1, 0.15), name="noisy")
    return sl.explain(Quadratic().to(dtype), images, method, 1, **settings)["noisy"]


def test_the_noise_of_an_image_does_not_depend_on_its_batch_the_order_the_chunk_or_the_dtype(images: Tensor) -> None:
    images = images.float().double()
    noisy = _noisy(images)
    _close(noisy, _asked_at(Noise(1, 0.15), images)[0].inputs, 1e-15)
    assert (noisy - images).abs().mean() > 0.05
    _close(_noisy(images.flip(0)).flip(0), noisy, 1e-15)
    _close(_noisy(images, chunk=3), noisy, 1e-15)
    for index in range(4):
        _close(_noisy(images[index : index + 1])[0], noisy[index], 1e-15)
    _close(_noisy(images.float(), torch.float32).double(), noisy, 1e-6)
    # Eight bits of each pixel are left, and the range is rounded too.
    _close(_noisy(images.float(), torch.bfloat16).double(), noisy, 2**-7)
    assert (_noisy(images, seed=1) - noisy).abs().mean() > 0.05


def test_no_noise_at_all_is_the_plain_method(model: nn.Module, images: Tensor) -> None:
    explanation = sl.explain(model, images, [sl.Method(Noise(3, 0.0), name="still"), "gradient"], CLASSES)
    _close(explanation["still"], explanation["gradient"], 1e-15)


def test_the_variance_does_not_cancel_in_single_precision() -> None:
    """z = sum (x + x^2 / 2): gradients 1 + x + e, e a ten-thousandth; their squares in float32 have lost e^2."""

    def value(x: Tensor) -> Tensor:
        return (x + x * x / 2).flatten(1).sum(1, keepdim=True)

    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    noise = Noise(25, 1e-4, Reduction.VARIANCE)
    found = sl.explain(value, images, sl.Method(noise, name="variance"), 0)["variance"].double().numpy()
    exact = np.stack([1 + points.inputs.numpy() for points in _asked_at(noise, images.double())]).var(0)
    single = np.stack([1 + points.inputs.numpy() for points in _asked_at(noise, images)])
    assert single.dtype == np.float32
    naive = np.mean(single**2, 0, dtype=np.float32) - np.mean(single, 0, dtype=np.float32) ** 2
    assert np.median(np.abs(naive / exact - 1)) > 1
    assert np.abs(found / exact - 1).max() < 1e-3


def test_the_mean_square_of_guided_backprop_under_noise(model: nn.Module, images: Tensor) -> None:
    method = sl.Method(Noise(6, 0.1, Reduction.MEAN_SQUARE), GUIDED_BACKPROP, InputSignal(), name="squared")
    by_hand = _network(GuidedReLU)
    signals = [_gradients(by_hand, points.inputs, CLASSES) for points in _asked_at(Noise(6, 0.1), images)]
    assert (signals[0] - _gradients(model, images, CLASSES)).abs().max() > 0.01
    _close(sl.explain(model, images, method, CLASSES)["squared"], torch.stack(signals).square().mean(0))


def _grad_cam(model: nn.Sequential, images: Tensor, classes: Sequence[int]) -> Tensor:
    features = model[:5](images).detach().requires_grad_()
    (signal,) = torch.autograd.grad(model[5:](features)[range(len(images)), classes].sum(), features)
    return (signal.mean((2, 3), keepdim=True) * features.detach()).sum(1, keepdim=True).clamp(min=0)


def test_grad_cam_under_noise_is_reduced_over_finished_maps(model: nn.Sequential, images: Tensor) -> None:
    maps = torch.stack([_grad_cam(model, points.inputs, CLASSES) for points in _asked_at(Noise(6, 0.3), images)])
    reductions = {"mean": maps.mean(0), "mean square": maps.square().mean(0), "variance": maps.var(0, correction=0)}
    methods = [sl.Method(Noise(6, 0.3, Reduction(name)), aggregation=CAM(), name=name) for name in reductions]
    explanation = sl.explain(model, images, methods, CLASSES)
    for name, expected in reductions.items():
        _close(explanation[name], expected)


def test_absolute_values_are_averaged_and_not_taken_of_the_average(smooth: nn.Module, images: Tensor) -> None:
    method = sl.Method(Noise(5, 0.5), aggregation=InputSignal(Sign.ABSOLUTE), name="absolute")
    gradients = [_gradients(smooth, points.inputs, CLASSES) for points in _asked_at(Noise(5, 0.5), images)]
    expected = torch.stack(gradients).abs().mean(0)
    assert (expected - torch.stack(gradients).mean(0).abs()).max() > 0.01
    _close(sl.explain(smooth, images, method, CLASSES)["absolute"], expected)


def test_a_product_with_the_input_under_noise_takes_the_noisy_input(model: nn.Module, images: Tensor) -> None:
    method = sl.Method(Noise(5, 0.2), aggregation=InputTimesSignal(), name="product")
    asked = _asked_at(Noise(5, 0.2), images)
    products = [points.inputs * _gradients(model, points.inputs, CLASSES) for points in asked]
    _close(sl.explain(model, images, method, CLASSES)["product"], torch.stack(products).mean(0))


def test_methods_that_reduce_the_same_noise_share_its_passes_and_no_others(model: nn.Module, images: Tensor) -> None:
    kinds = {
        "mean": Noise(3, 0.2),
        "variance": Noise(3, 0.2, Reduction.VARIANCE),
        "more": Noise(4, 0.2),
        "louder": Noise(3, 0.3),
    }
    methods = [sl.Method(noise, name=name) for name, noise in kinds.items()]
    recording = Recording(model)
    together = sl.explain(recording, images, methods, CLASSES, chunk=100)
    assert [len(rows) for rows in recording.inputs][-4:] == [4, 3 * 4, 4 * 4, 3 * 4]
    for method in methods:
        _close(together[method.name], sl.explain(model, images, method, CLASSES)[method.name])


class Alternating(Noise):
    """Noise of a kind of one's own: up by sd, down by sd."""

    def points(self, images: Tensor, keys: Sequence[int], samples: Sequence[int | float]) -> Points:
        signs = torch.tensor([self.sd * (-1) ** int(sample) for sample in samples], dtype=images.dtype)
        moved = images + signs.view(-1, 1, 1, 1)
        return Points(moved, moved)


def test_noise_of_a_kind_of_ones_own_is_the_noise_that_is_asked_with(images: Tensor) -> None:
    """The gradient of z = sum x^2 / 2 is the point: x + sd and x - sd, of variance sd^2."""
    method = sl.Method(Alternating(2, 0.5, Reduction.VARIANCE), name="own")
    _close(sl.explain(Quadratic().double(), images, method, 1)["own"], torch.full_like(images, 0.25))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 4),
    samples=st.integers(2, 7),
    chunk=st.integers(1, 9),
    offset=st.sampled_from([0.0, 1e3]),
)
def test_totals_are_numpys_moments_in_any_chunks_and_order(
    seed: int, count: int, samples: int, chunk: int, offset: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(count, samples, 2, generator=generator, dtype=torch.float64) + offset
    rows = torch.randperm(count * samples, generator=generator)
    exact = parts.numpy()
    for reduction, expected in {
        Reduction.MEAN: exact.mean(1),
        Reduction.MEAN_SQUARE: (exact**2).mean(1),
        Reduction.VARIANCE: exact.var(1),
    }.items():
        total = Total(count, reduction)
        for chosen in rows.split(chunk):
            weights = torch.full((len(chosen),), 1 / samples, dtype=torch.float64)
            total.add(parts.flatten(0, 1)[chosen], chosen // samples, weights)
        np.testing.assert_allclose(total.value().numpy(), expected, rtol=1e-11, atol=1e-12)


# Paths


def _integral(model: nn.Module, images: Tensor, start: Tensor | float, steps: int) -> Tensor:
    """Integrated gradients by numpy's Gauss-Legendre nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    offsets = images - start
    parts = [
        weight / 2 * _gradients(model, start + (node + 1) / 2 * offsets, CLASSES)
        for node, weight in zip(nodes, weights, strict=True)
    ]
    return offsets * torch.stack(parts).sum(0)


def test_several_baselines_average_the_maps_and_the_values_of_each(smooth: nn.Module, images: Tensor) -> None:
    generator = torch.Generator().manual_seed(7)
    colour, picture = (torch.rand(shape, generator=generator, dtype=torch.float64) for shape in ((3, 1, 1), (3, 6, 6)))
    starts = (0.0, 0.7, colour, picture)
    explanation = sl.explain(smooth, images, _integrated(Path(3, starts)), CLASSES)
    _close(explanation["ig"], torch.stack([_integral(smooth, images, start, 3) for start in starts]).mean(0))
    values = [_logits(smooth, torch.zeros_like(images) + start, CLASSES) for start in starts]
    difference = _logits(smooth, images, CLASSES) - torch.stack(values).mean(0)
    residual = explanation["ig"].flatten(1).sum(1) - difference
    assert residual.abs().min() > 1e-6
    torch.testing.assert_close(explanation.checks.completeness["ig"], residual, rtol=0, atol=1e-12)
    assert sum(explanation.checks.settings["rows_per_pass"]["path"]) == 4 * 3 * len(starts)


def test_several_baselines_agree_with_captum_one_by_one(smooth: nn.Module, images: Tensor) -> None:
    """Captum rounds its quadrature weights to single precision, which bounds the agreement."""
    picture = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    ours = sl.explain(smooth, images, _integrated(Path(20, (0.3, picture))), CLASSES)["ig"]
    peer = pytest.importorskip("captum.attr").IntegratedGradients(smooth)
    theirs = [
        peer.attribute(images, baseline, torch.tensor(CLASSES), n_steps=20)
        for baseline in (0.3, picture.expand_as(images))
    ]
    _close(ours, torch.stack(theirs).mean(0), 1e-7)


def _encoded(**settings) -> nn.Module:
    """A model whose pixels run, by channel, from -2 to 2, from -0.5 to 1.5 and from -1 to 7."""
    stated = {"size": 6, "mean": (0.5, 0.25, 0.125), "std": (0.25, 0.5, 0.125)} | settings
    return sl.load_model(_network(nn.Tanh), **stated)


BLACK = torch.tensor([-2.0, -0.5, -1.0], dtype=torch.float64).view(3, 1, 1)
WHITE = torch.tensor([2.0, 1.5, 7.0], dtype=torch.float64).view(3, 1, 1)


@pytest.mark.parametrize("kind", [lambda start: Path(4, start), lambda start: AdaptivePath(start=start)])
def test_black_and_white_are_what_these_pixels_are_encoded_as(images: Tensor, kind: Callable) -> None:
    model = _encoded()
    starts = {"black": BLACK, "white": WHITE}
    methods = [_integrated(kind(start), start) for start in starts]
    explanation = sl.explain(model, images, methods, CLASSES)
    assert not torch.allclose(explanation["black"], explanation["white"])
    for name, start in starts.items():
        by_hand = sl.explain(model, images, _integrated(kind(start)), CLASSES)
        _close(explanation[name], by_hand["ig"], 1e-6)
        residual = by_hand["ig"].flatten(1).sum(1) - (
            _logits(model, images, CLASSES) - _logits(model, start.expand_as(images), CLASSES)
        )
        torch.testing.assert_close(explanation.checks.completeness[name], residual, rtol=0, atol=1e-6)


def test_a_name_among_other_baselines_is_put_in_numbers_too(images: Tensor) -> None:
    model, picture = _encoded(), torch.full((3, 6, 6), 0.3, dtype=torch.float64)
    found = sl.explain(model, images, _integrated(Path(4, ("white", 0.1, picture, "black"))), CLASSES)["ig"]
    expected = torch.stack([_integral(model, images, start, 4) for start in (WHITE, 0.1, picture, BLACK)]).mean(0)
    _close(found, expected, 1e-6)


def test_black_is_black_where_a_model_sees_negatives(images: Tensor) -> None:
    """A pixel of 0 becomes 1 and one of 255 becomes 0."""
    model = _encoded(mean=0.0, std=1.0, value_range=(1.0, 0.0))
    assert sl.model_info(model).preprocessing.encode(np.zeros((1, 1, 3))).eq(1).all()
    found = sl.explain(model, images, _integrated(Path(4, "black")), CLASSES)["ig"]
    _close(found, _integral(model, images, 1.0, 4), 1e-6)


def _pictures(tensor: Tensor, encoding: sl.Preprocessing) -> sl.ImageBatch:
    count = len(tensor)
    return sl.ImageBatch(
        tensor=tensor.float(),
        names=[f"{index}.png" for index in range(count)],
        paths=[File(f"{index}.png") for index in range(count)],
        labels=[None] * count,
        sizes=[(6, 6)] * count,
        boxes=[(0.0, 0.0, 6.0, 6.0)] * count,
        notes=[[] for _ in range(count)],
        preprocessing=encoding,
    )


def test_loaded_images_say_what_black_is_even_if_the_model_does_not(images: Tensor) -> None:
    encoding = sl.Preprocessing(size=(6, 6), mean=(0.5, 0.25, 0.125), std=(0.25, 0.5, 0.125))
    found = sl.explain(_network(nn.Tanh), _pictures(images, encoding), _integrated(Path(4, "black")), CLASSES)["ig"]
    _close(found.double(), _integral(_network(nn.Tanh), images.float().double(), BLACK, 4), 1e-6)


@pytest.mark.parametrize("sampling", [Path(4, "black"), Path(4, (0.0, "white")), AdaptivePath(start="white")])
def test_a_named_baseline_is_refused_where_nobody_says_how_images_are_encoded(
    model: nn.Module, images: Tensor, sampling: Sampling
) -> None:
    with pytest.raises(sl.RefusalError, match=r"images are encoded.*Path\(start="):
        sl.explain(model, images, _integrated(sampling), CLASSES)
    found = sl.explain(model, images, [_integrated(sampling), "gradient"], CLASSES, on_refusal="record")
    assert list(found.refused) == ["ig"]
    _close(found["gradient"], _gradients(model, images, CLASSES))


def test_paths_are_the_same_if_they_start_at_the_same_baselines() -> None:
    one, other = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 0.1)
    for same, again in [
        (Path(5), Path(5, 0.0)),
        (Path(5, "black"), Path(5, "black")),
        (Path(5, one), Path(5, one.clone())),
        (Path(5, (0.5, one, "white")), Path(5, (0.5, one, "white"))),
        (AdaptivePath(0.1, 9, one), AdaptivePath(0.1, 9, one)),
    ]:
        assert same == again
        assert hash(same) == hash(again)
    different = [Path(5), Path(6), Path(5, 0.5), Path(5, "black"), Path(5, one), Path(5, other), Path(5, (0.5, one))]
    assert len(set(different)) == len(different)
    assert Path(5, (one, 0.5)) != Path(5, (0.5, one))
    assert AdaptivePath(0.1) != AdaptivePath(0.2)
    assert AdaptivePath(start=one) != AdaptivePath(start=other)
    assert Expected(5, references=one[None]) != Expected(5)


def test_methods_on_one_path_share_its_passes_and_those_on_two_do_not(model: nn.Module, images: Tensor) -> None:
    zero, again = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 1e-30)
    signal = sl.Method(Path(4, zero), name="mean gradient")
    shared = sl.explain(model, images, [_integrated(Path(4, zero)), signal], CLASSES)
    assert shared.checks.settings["rows_per_pass"] == {"image": [4], "path": [4 * 4]}
    apart = sl.explain(model, images, [_integrated(Path(4, again)), signal], CLASSES)
    assert apart.checks.settings["rows_per_pass"] == {"image": [4], "path": [4 * 4], "path 2": [4 * 4]}
    _close(shared["ig"], images * shared["mean gradient"])
    _close(apart["ig"], shared["ig"], 1e-15)


@pytest.mark.parametrize("sampling", [Path(1, 0.25), Path(7, 0.25), AdaptivePath(1e-9, start=0.25)])
def test_integrated_gradients_of_a_quadratic_form_are_known(sampling: Sampling) -> None:
    """z = x^T Q x from x0: the map is (x - x0) * (Q + Q^T) (x + x0) / 2, and one point is exact."""
    generator = torch.Generator().manual_seed(8)
    form = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    images = torch.randn(3, 3, 2, 2, generator=generator, dtype=torch.float64)

    def value(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return ((flat @ form) * flat).sum(1, keepdim=True)

    explanation = sl.explain(value, images, _integrated(sampling), 0)
    flat, symmetric = images.flatten(1), form + form.T
    expected = (flat - 0.25) * ((flat + 0.25) @ symmetric) / 2
    _close(explanation["ig"].flatten(1), expected, 1e-13)
    assert explanation.checks.completeness["ig"].abs().max() < 1e-12
    if isinstance(sampling, AdaptivePath):
        assert explanation.checks.evaluations["ig"].tolist() == [5, 5, 5]


# Adaptive paths


def _driven(sampling: AdaptivePath, *functions: Callable[[float], tuple]) -> tuple[list[Row], list[float]]:
    """Drive the rounds by hand: for each image a function from the share to (value, slope), or to several of each."""
    rounds = sampling.rounds(len(functions))
    rows, asked = next(rounds), []
    while True:
        asked += rows
        said = [np.reshape(functions[row.image](row.sample), (2, -1)).tolist() for row in rows]
        try:
            rows = rounds.send([Answer(tuple(values), tuple(slopes)) for values, slopes in said])
        except StopIteration as stop:
            return asked, stop.value


def _shares(sampling: AdaptivePath, function: Callable[[float], tuple]) -> list[float]:
    return [row.sample for row in _driven(sampling, function)[0]]


FIRST = [0.0, 0.25, 0.5, 0.75, 1.0]


def _trapezoid(shares: Array) -> Array:
    """The weights of the trapezoid rule at sorted shares."""
    steps = np.diff(shares)
    return (np.append(steps, 0) + np.append(0, steps)) / 2


def _cubic(a: float) -> tuple[float, float]:
    return a**3, 3 * a**2


def test_the_steps_of_a_cubic_are_halved_as_algebra_says() -> None:
    """A step of h misses h^3 / 2: four of 1/128. Three are halved, down to 6/1024 + 8/1024; then the last one."""
    asked, weights = _driven(AdaptivePath(0.01), _cubic)
    assert [row.sample for row in asked] == [*FIRST, 0.125, 0.375, 0.625, 0.875]
    assert weights == [1 / 16, 1 / 8, 1 / 8, 1 / 8, 1 / 16, 1 / 8, 1 / 8, 1 / 8, 1 / 8]
    assert _shares(AdaptivePath(4 / 128), _cubic) == FIRST


def test_a_kink_is_closed_in_on_and_nothing_else_is_asked() -> None:
    """z = 10 max(a - 0.9, 0) is missed by the step around 0.9 alone, by 5 h - 10 (b - 0.9)."""
    asked, weights = _driven(AdaptivePath(0.01), lambda a: (10 * max(a - 0.9, 0), 10.0 * (a > 0.9)))
    low, high, expected = 0.75, 1.0, list(FIRST)
    while abs(5 * (high - low) - 10 * (high - 0.9)) > 0.01:
        middle = (low + high) / 2
        expected.append(middle)
        low, high = (low, middle) if middle > 0.9 else (middle, high)
    assert [row.sample for row in asked] == expected
    assert len(expected) > 9
    order = np.argsort(expected)
    np.testing.assert_allclose(np.array(weights)[order], _trapezoid(np.array(expected)[order]), rtol=1e-15)


@pytest.mark.parametrize(
    "function",
    [
        lambda a: (3.0, 0.0),
        lambda a: (7 * a, 7.0),
        lambda a: (a * (1 - a), 1 - 2 * a),
        lambda a: (-(a**2), -2 * a),
        lambda a: (a**2 * (1 - a) ** 2, 2 * a * (1 - a) * (1 - 2 * a)),
        lambda a: (math.nan, 1.0),
        lambda a: (a, math.inf if a == 0 else 1.0),
        lambda a: (a, math.nan if a == 0.5 else 1.0),
    ],
    ids=["constant", "line", "parabola without difference", "parabola", "errors cancel", "nan", "inf", "nan inside"],
)
def test_what_the_trapezoid_rule_has_right_or_nothing_can_help_is_asked_five_times(function: Callable) -> None:
    assert _shares(AdaptivePath(1e-6), function) == FIRST


def test_a_difference_of_zero_that_no_step_meets_ends_at_the_limit() -> None:
    """z = a^2 (1 - a) is back at zero at the end, so any residual is too much; a step of h misses -h^3 / 2."""
    asked, weights = _driven(AdaptivePath(0.5, most=33), lambda a: (a**2 * (1 - a), 2 * a - 3 * a**2))
    shares = sorted(row.sample for row in asked)
    assert len(shares) == len(set(shares)) == 33
    assert sum(weights) == 1
    np.testing.assert_array_equal(shares, np.linspace(0, 1, 33))


def test_a_jump_is_given_up_when_there_is_no_number_left_within_its_step() -> None:
    """z jumps at 0.7 and its slope never says so: the step around it misses all of it, however small it gets."""
    shares = sorted(_shares(AdaptivePath(0.01, most=10_000), lambda a: (float(a > 0.7), 0.0)))
    assert len(set(shares)) == len(shares) < 100
    last = max(share for share in shares if share <= 0.7)
    assert shares[shares.index(last) + 1] == np.nextafter(last, 1)


def test_each_image_stops_by_itself() -> None:
    functions = [_cubic, lambda a: (1.0, 0.0), lambda a: (10 * max(a - 0.9, 0), 10.0 * (a > 0.9)), _cubic]
    asked, weights = _driven(AdaptivePath(0.01), *functions)
    for image, function in enumerate(functions):
        alone, alone_weights = _driven(AdaptivePath(0.01), function)
        mine = [(row.sample, weight) for row, weight in zip(asked, weights, strict=True) if row.image == image]
        assert mine == [(row.sample, weight) for row, weight in zip(alone, alone_weights, strict=True)]


def test_at_its_limit_a_path_halves_the_worst_steps_first() -> None:
    """z = a^4: steps miss more the further they lie from the baseline, so one more point belongs into the last."""
    assert _shares(AdaptivePath(1e-4, most=6), lambda a: (a**4, 4 * a**3)) == [*FIRST, 0.875]


@settings(max_examples=60, deadline=None)
@given(
    slopes=st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=1, max_size=3),
    kink=st.floats(0.01, 0.99),
    tolerance=st.sampled_from([0.5, 0.05, 0.005]),
    most=st.integers(5, 80),
)
def test_every_target_meets_the_tolerance_or_the_limit_is_reached(
    slopes: list[list[float]], kink: float, tolerance: float, most: int
) -> None:
    """Random cubics with a kink, one for each target; the weights are the trapezoid rule's at the points asked."""

    def function(a: float) -> tuple[list[float], list[float]]:
        after = max(a - kink, 0)
        values = [p * a + q * a**2 + r * a**3 + s * after for p, q, r, s in slopes]
        return values, [p + 2 * q * a + 3 * r * a**2 + s * (a > kink) for p, q, r, s in slopes]

    asked, weights = _driven(AdaptivePath(tolerance, most), function)
    shares = np.array([row.sample for row in asked])
    assert len(set(shares)) == len(shares) <= most
    order = np.argsort(shares)
    np.testing.assert_allclose(np.array(weights)[order], _trapezoid(shares[order]), rtol=1e-14)
    differences = np.subtract(function(1.0)[0], function(0.0)[0])
    integrals = np.array(weights) @ np.array([function(share)[1] for share in shares])
    met = np.abs(integrals - differences) <= tolerance * np.abs(differences) + 1e-12
    assert met.all() or len(shares) == most


def _residual(model: nn.Module, images: Tensor, found: Tensor, start: float, classes: Sequence[int]) -> Tensor:
    difference = _difference(model, images, start, classes)
    return found.flatten(1).sum(1) - difference


def _difference(model: nn.Module, images: Tensor, start: float, classes: Sequence[int]) -> Tensor:
    return _logits(model, images, classes) - _logits(model, torch.full_like(images, start), classes)


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 1e-3, 1e-4])
@pytest.mark.parametrize("rectifier", [nn.ReLU, nn.Tanh])
def test_the_residual_of_an_adaptive_path_is_told_and_within_its_tolerance(
    images: Tensor, rectifier: type[nn.Module], tolerance: float
) -> None:
    model = _network(rectifier)
    explanation = sl.explain(model, images, _integrated(AdaptivePath(tolerance, 2000, 0.1)), CLASSES, output="values")
    residual = _residual(model, images, explanation["ig"], 0.1, CLASSES)
    torch.testing.assert_close(explanation.checks.completeness["ig"], residual, rtol=0, atol=1e-13)
    assert (explanation.checks.evaluations["ig"] < 2000).all()
    assert (residual.abs() <= tolerance * _difference(model, images, 0.1, CLASSES).abs() + 1e-12).all()
    assert not explanation.checks.notes


def test_an_adaptive_map_is_the_trapezoid_rule_at_the_points_that_the_model_saw(
    model: nn.Module, images: Tensor
) -> None:
    for image, label in zip(images.split(1), CLASSES, strict=True):
        recording = Recording(model)
        explanation = sl.explain(recording, image, _integrated(AdaptivePath(1e-3, start=0.1)), label)
        # The first pass is on the image itself and the last on its baseline.
        asked = int(explanation.checks.evaluations["ig"])
        points = torch.cat(recording.inputs[:-1])[-asked:]
        assert len(points) == asked > 9
        largest = (image - 0.1).abs().flatten().argmax()
        shares = ((points - 0.1) / (image - 0.1)).flatten(1)[:, largest].numpy()
        exact = np.round(shares * 2**30) / 2**30
        np.testing.assert_allclose(shares, exact, atol=1e-13)
        order = np.argsort(exact)
        gradients = _gradients(model, points, [label] * len(points)).numpy()[order]
        integral = np.tensordot(_trapezoid(exact[order]), gradients, 1)
        _close(explanation["ig"][0], (image[0] - 0.1).numpy() * integral, 1e-12)


def test_an_adaptive_path_does_not_depend_on_the_batch_around_it(model: nn.Module, images: Tensor) -> None:
    method = _integrated(AdaptivePath(1e-3, start=0.1))
    together = sl.explain(model, images, method, CLASSES)
    counts = together.checks.evaluations["ig"].tolist()
    assert len(set(counts)) > 2
    assert sum(together.checks.settings["rows_per_pass"]["adaptivepath"]) == sum(counts)
    turned = sl.explain(model, images.flip(0), method, CLASSES[::-1])
    assert turned.checks.evaluations["ig"].tolist() == counts[::-1]
    _close(turned["ig"].flip(0), together["ig"], 1e-12)
    for chunk in (1, 3, 7):
        cut = sl.explain(model, images, method, CLASSES, chunk=chunk)
        assert cut.checks.evaluations["ig"].tolist() == counts
        _close(cut["ig"], together["ig"], 1e-12)
    for index in range(4):
        alone = sl.explain(model, images[index : index + 1], method, CLASSES[index])
        assert alone.checks.evaluations["ig"].tolist() == [counts[index]]
        _close(alone["ig"][0], together["ig"][index], 1e-12)


def test_the_most_points_are_kept_to_and_said(model: nn.Module, images: Tensor) -> None:
    for most in (5, 6, 9, 30):
        explanation = sl.explain(model, images, _integrated(AdaptivePath(1e-12, most, 0.1)), CLASSES)
        assert explanation.checks.evaluations["ig"].tolist() == [most] * 4
        assert any(re.match(rf"ig .*limit of {most}\b.*residual", note) for note in explanation.checks.notes)
        residual = _residual(model, images, explanation["ig"], 0.1, CLASSES)
        torch.testing.assert_close(explanation.checks.completeness["ig"], residual, rtol=0, atol=1e-13)


def test_a_path_that_met_its_tolerance_with_its_last_point_is_not_said_to_have_stopped_short(images: Tensor) -> None:
    """The trapezoid rule is exact for a quadratic, so the five first points suffice."""
    explanation = sl.explain(Quadratic().double(), images, _integrated(AdaptivePath(0.01, most=5)), 1, output="values")
    assert explanation.checks.completeness["ig"].abs().max() < 1e-12
    assert explanation.checks.notes == ()


def test_every_target_of_an_adaptive_path_meets_the_tolerance(model: nn.Module, images: Tensor) -> None:
    method = _integrated(AdaptivePath(1e-3, start=0.1))
    targets = [0, 1, 2, sl.Pair(2, 0)]
    explanations = sl.explain(model, images, method, targets=targets)
    alone = [sl.explain(model, images, method, target).checks.evaluations["ig"] for target in targets]
    for target, explanation in zip(targets[:3], explanations, strict=False):
        residual = _residual(model, images, explanation["ig"], 0.1, [target] * 4)
        torch.testing.assert_close(explanation.checks.completeness["ig"], residual, rtol=0, atol=1e-13)
        assert (residual.abs() <= 1e-3 * _difference(model, images, 0.1, [target] * 4).abs() + 1e-12).all()
    for explanation in explanations:
        assert torch.equal(explanation.checks.evaluations["ig"], explanations[0].checks.evaluations["ig"])
        assert (explanation.checks.evaluations["ig"] >= torch.stack(alone).amax(0)).all()
    _close(explanations[3]["ig"], explanations[2]["ig"] - explanations[0]["ig"], 1e-12)


def test_a_target_without_a_map_does_not_make_the_others_ask_more(smooth: nn.Module, images: Tensor) -> None:
    """One target's value is cut from the graph and its methods refused; the other is content with a few points."""

    def whole(output: Tensor, rows: Tensor) -> Tensor:
        return output[:, 0]

    def cut(output: Tensor, rows: Tensor) -> Tensor:
        return output[:, 0].detach()

    def evaluations(*targets: Callable) -> list[int]:
        network = Network(smooth, images, [as_target(target, 4) for target in targets])
        job = Job(network, [_integrated(AdaptivePath(0.05))])
        return job.run()[0].evaluations["ig"].tolist()

    assert evaluations(whole, cut) == evaluations(whole)


@pytest.mark.parametrize(
    ("value", "image", "evaluations", "finite"),
    [
        (lambda x: 0 * x + 3, 1.0, 5, True),
        (lambda x: x**3, 0.0, 5, True),
        (lambda x: x**2 * (1 - x), 1.0, 40, True),
        (lambda x: x.log(), 1.0, 5, False),
        (lambda x: (x - 0.5).sqrt(), 1.0, 5, False),
        (lambda x: (x - 0.5).abs().sqrt(), 1.0, 5, False),
    ],
    ids=["constant", "image is baseline", "no difference", "infinite baseline", "nan baseline", "infinite inside"],
)
def test_values_that_cannot_converge_do_not_ask_for_ever(
    value: Callable, image: float, evaluations: int, finite: bool
) -> None:
    images = torch.full((2, 1, 1, 1), image, dtype=torch.float64)
    checks = sl.explain(lambda x: value(x).flatten(1), images, _integrated(AdaptivePath(0.01, 40)), 0).checks
    assert checks.evaluations["ig"].tolist() == [evaluations] * 2
    assert checks.nan["ig"] == (0 if finite else 2)
    assert any("not finite" in note for note in checks.notes) != finite


def test_a_function_of_the_whole_batch_cannot_steer_a_path(model: nn.Module, images: Tensor) -> None:
    method = _integrated(AdaptivePath(1e-3, start=0.1))
    with pytest.raises(sl.RefusalError, match=r"all images at once.*\(output, images\).*Path"):
        sl.explain(model, images, method, lambda output: output[range(4), CLASSES])
    found = sl.explain(
        model, images, [method, "gradient"], lambda output: output[range(4), CLASSES], on_refusal="record"
    )
    assert list(found.refused) == ["ig"]
    _close(found["gradient"], _gradients(model, images, CLASSES))
    classes = torch.tensor(CLASSES)
    by_rows = sl.explain(model, images, method, lambda output, rows: output.gather(1, classes[rows, None])[:, 0])
    by_class = sl.explain(model, images, method, CLASSES)
    assert torch.equal(by_rows["ig"], by_class["ig"])
    assert torch.equal(by_rows.checks.evaluations["ig"], by_class.checks.evaluations["ig"])


def test_a_looser_tolerance_asks_less_and_a_tighter_one_comes_closer(model: nn.Module, images: Tensor) -> None:
    exact = torch.stack(
        [_along(model, image, 0.1, label, 4000).mean(0) for image, label in zip(images, CLASSES, strict=True)]
    )
    counts, distances = [], []
    for tolerance in (0.1, 0.01, 1e-3, 1e-4):
        explanation = sl.explain(model, images, _integrated(AdaptivePath(tolerance, 4000, 0.1)), CLASSES)
        counts.append(int(explanation.checks.evaluations["ig"].sum()))
        distances.append(float((explanation["ig"] - exact).abs().sum()))
    assert counts == sorted(set(counts))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.01 * float(exact.abs().sum())


# Expected gradients


def test_a_draw_takes_a_reference_and_a_share_of_the_way(images: Tensor, references: Tensor) -> None:
    """Every reference equally often, every share equally likely, and neither tells the other: within 5 errors."""
    count = 4000
    asked = _asked_at(Expected(count // 4), images, references)
    starts = torch.stack([images - points.offsets for points in asked])
    misses = (starts[:, :, None] - references).abs().flatten(3).amax(3)
    which = misses.argmin(2)
    assert misses.amin(2).max() < 1e-15
    shares = torch.stack([((points.inputs - images) / points.offsets + 1).flatten(1) for points in asked])
    assert (shares.amax(2) - shares.amin(2)).max() < 1e-9
    share = shares[..., 0].flatten()
    assert share.min() >= -1e-9
    assert share.max() <= 1 + 1e-9
    for power in (1, 2, 3):
        spread = math.sqrt(1 / (2 * power + 1) - 1 / (power + 1) ** 2)
        assert abs(float((share**power).mean()) - 1 / (power + 1)) < 5 * spread / math.sqrt(count)
    for index in range(3):
        chosen = (which.flatten() == index).double()
        assert abs(float(chosen.mean()) - 1 / 3) < 5 * math.sqrt(2 / 9 / count)
        assert abs(float((chosen * (share - 0.5)).mean())) < 5 * math.sqrt(1 / 36 / count)


def test_expected_gradients_average_the_products_at_the_very_same_draws(
    model: nn.Module, images: Tensor, references: Tensor
) -> None:
    asked = _asked_at(Expected(50), images, references, seed=3)
    products = [points.offsets * _gradients(model, points.inputs, CLASSES) for points in asked]
    explanation = sl.explain(model, images, "expected_gradients", CLASSES, references=references, seed=3)
    _close(explanation["expected_gradients"], torch.stack(products).mean(0))
    assert sum(explanation.checks.settings["rows_per_pass"]["expected"]) == 50 * 4
    assert "expected_gradients" not in explanation.checks.completeness


def test_references_of_the_job_of_the_sampling_and_loaded_ones_are_the_same(
    model: nn.Module, images: Tensor, references: Tensor
) -> None:
    references = references.float().double()
    method = _integrated(Expected(6), "expected")
    given = sl.explain(model, images, method, CLASSES, references=references)["expected"]
    own = _integrated(Expected(6, references=references), "expected")
    assert torch.equal(sl.explain(model, images, own, CLASSES)["expected"], given)
    assert torch.equal(sl.explain(model, images, own, CLASSES, references=references + 1)["expected"], given)
    loaded = _pictures(references, sl.Preprocessing(size=(6, 6)))
    assert torch.equal(sl.explain(model, images, method, CLASSES, references=loaded)["expected"], given)


def _along(model: nn.Module, image: Tensor, start: Tensor | float, label: int, steps: int) -> Tensor:
    """What an image's map would be at evenly spaced shares of the way from a baseline."""
    shares = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps).view(-1, 1, 1, 1)
    return (image - start) * _gradients(model, start + shares * (image - start), [label] * steps)


def _spread(model: nn.Module, images: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and standard deviation of one draw of expected gradients, by a fine grid of shares."""
    draws = [
        torch.cat([_along(model, image, reference, label, 500) for reference in references])
        for image, label in zip(images, CLASSES, strict=True)
    ]
    return torch.stack([each.mean(0) for each in draws]), torch.stack([each.std(0) for each in draws])


def test_with_one_reference_expected_gradients_are_integrated_gradients_in_expectation(
    smooth: nn.Module, images: Tensor, references: Tensor
) -> None:
    count = 500
    found = sl.explain(smooth, images, _integrated(Expected(count)), CLASSES, references=references[:1], chunk=200)
    exact, spread = _integral(smooth, images, references[0], 60), _spread(smooth, images, references[:1])[1]
    assert ((found["ig"] - exact).abs() < 5 * spread / math.sqrt(count)).all()


def test_expected_gradients_sum_to_what_the_value_gains_over_the_references(
    smooth: nn.Module, images: Tensor, references: Tensor
) -> None:
    count = 500
    asked = _asked_at(Expected(count), images, references)
    sums = [(points.offsets * _gradients(smooth, points.inputs, CLASSES)).flatten(1).sum(1) for points in asked]
    error = torch.stack(sums).std(0) / math.sqrt(count)
    found = sl.explain(smooth, images, _integrated(Expected(count)), CLASSES, references=references, chunk=200)["ig"]
    baselines = torch.stack([_logits(smooth, one.expand_as(images), CLASSES) for one in references]).mean(0)
    gained = _logits(smooth, images, CLASSES) - baselines
    assert (gained.abs() > 5 * error).any()
    assert ((found.flatten(1).sum(1) - gained).abs() < 5 * error).all()


def _gradient_shap(
    model: nn.Module, images: Tensor, references: Tensor, classes: Sequence[int], count: int, sd: float
) -> Tensor:
    np.random.seed(0)  # noqa: NPY002 - Captum draws from it
    torch.manual_seed(0)
    peer = pytest.importorskip("captum.attr").GradientShap(model)
    return peer.attribute(images, references, n_samples=count, stdevs=sd, target=torch.tensor(classes)).detach()


def test_expected_gradients_agree_with_captums_gradient_shap(
    smooth: nn.Module, images: Tensor, references: Tensor
) -> None:
    """Two means of as many independent draws, within 5 combined standard errors at every pixel."""
    count = 500
    ours = sl.explain(smooth, images, _integrated(Expected(count)), CLASSES, references=references, chunk=200)["ig"]
    theirs = _gradient_shap(smooth, images, references, CLASSES, count, 0.0)
    mean, spread = _spread(smooth, images, references)
    error = spread / math.sqrt(count)
    assert (mean.abs() > 5 * error).any()
    assert ((ours - theirs).abs() < 5 * math.sqrt(2) * error).all()
    assert ((ours - mean).abs() < 5 * error).all()


def test_noise_moves_the_end_of_an_expected_path_and_nothing_else_of_it(images: Tensor, references: Tensor) -> None:
    """x0 + a (x + e - x0), with the x0 and a of the same path without noise, and the e of `Noise`."""
    plain, noisy = (_asked_at(Expected(7, sd), images, references, seed=2) for sd in (0.0, 0.3))
    ends = _asked_at(Noise(7, 0.3), images, seed=2)
    for still, moved, end in zip(plain, noisy, ends, strict=True):
        share = ((still.inputs - images) / still.offsets + 1).flatten(1)[:, :1].view(-1, 1, 1, 1)
        _close(moved.inputs, still.inputs + share * (end.inputs - images), 1e-9)
        assert (moved.inputs - still.inputs).abs().max() > 0.05


def test_expected_gradients_under_noise_agree_with_captums_gradient_shap(references: Tensor) -> None:
    """z = sum x^2 / 2 from references x0 to x + e: (x + e - x0) (x0 + a (x + e - x0)), x and sd the same everywhere."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(1, 3, 6, 6, generator=generator, dtype=torch.float64)
    model, count, share = Quadratic().double(), 4000, 0.8
    sd = share * float(images.max() - images.min())
    ways = images + sd * torch.randn(count, 3, 6, 6, generator=generator, dtype=torch.float64)
    ways = ways - references[torch.arange(count) % 3]
    shares = torch.rand(count, 1, 1, 1, generator=generator, dtype=torch.float64)
    draws = ways * (references[torch.arange(count) % 3] + shares * ways)
    error = float(draws.flatten(1).sum(1).std()) / math.sqrt(count)
    expected = float((images.square() + sd**2 - references.square().mean(0)).sum()) / 2
    theirs = _gradient_shap(model, images, references, [1], count, sd)
    assert abs(float(theirs.sum()) - expected) < 5 * error
    method = _integrated(Expected(count, share))
    found = sl.explain(model, images, method, 1, references=references, chunk=1000)["ig"]
    assert abs(float(found.sum()) - expected) < 5 * error


def test_draws_do_not_depend_on_the_batch_its_order_or_the_chunk(
    model: nn.Module, images: Tensor, references: Tensor
) -> None:
    method = _integrated(Expected(6, 0.1))
    together = sl.explain(model, images, method, CLASSES, references=references)["ig"]
    turned = sl.explain(model, images.flip(0), method, CLASSES[::-1], references=references, chunk=3)["ig"]
    _close(turned.flip(0), together)
    alone = sl.explain(model, images[2:3], method, CLASSES[2], references=references)["ig"]
    _close(alone[0], together[2])
    other = sl.explain(model, images, method, CLASSES, references=references, seed=1)["ig"]
    assert (other - together).abs().max() > 0.1 * together.abs().max()


def test_expected_gradients_without_references_are_refused_by_name(model: nn.Module, images: Tensor) -> None:
    remedy = r"references=images.*--references FOLDER.*Expected\(references="
    with pytest.raises(sl.RefusalError, match=remedy):
        sl.explain(model, images, "expected_gradients", CLASSES)
    found = sl.explain(model, images, ["expected_gradients", "gradient"], CLASSES, on_refusal="record")
    assert list(found.refused) == ["expected_gradients"]
    assert set(found.checks.settings["rows_per_pass"]) == {"image"}
    _close(found["gradient"], _gradients(model, images, CLASSES))
    with pytest.raises(sl.RefusalError, match=remedy):
        found["expected_gradients"]


def test_references_that_do_not_fit_are_refused_in_a_sentence(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(sl.InputError, match=r"References.*\(3, 5, 6\).*\(3, 6, 6\).*same model"):
        unchecked(model, images, "expected_gradients", CLASSES, references=torch.zeros(2, 3, 5, 6))
    for wrong in (torch.zeros(3, 6, 6), torch.zeros(0, 3, 6, 6)):
        with pytest.raises(sl.InputError, match=r"References.*batch, channel, height, width"):
            _unchecked(Expected, references=wrong)
        with pytest.raises(sl.InputError, match="batch, channel, height, width"):
            unchecked(model, images, "expected_gradients", CLASSES, references=wrong)
    with pytest.raises(sl.InputError, match="not finite"):
        sl.explain(model, images, "expected_gradients", CLASSES, references=torch.full((1, 3, 6, 6), math.nan))
    for wrong, said in [
        (torch.zeros(1, 3, 6, 6, dtype=torch.uint8), "floating point"),
        (torch.full((1, 3, 6, 6), math.nan), "not finite"),
        (np.zeros((1, 3, 6, 6)), "got ndarray"),
    ]:
        with pytest.raises(sl.InputError, match=said):
            _unchecked(Expected, references=wrong)


def test_the_manifest_tells_the_references(model: nn.Module, images: Tensor, tmp_path: File) -> None:
    contents = []
    for shift in (0.0, 0.0, 0.1):
        references = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(1)) + shift
        sl.explain(model, images, "expected_gradients", CLASSES, references=references).save(tmp_path)
        known = json.loads((tmp_path / "manifest.json").read_text())["settings"]["references"]
        assert known["shape"] == [3, 3, 6, 6]
        contents.append(known["content"])
    assert contents[0] == contents[1] != contents[2]


# Blocks and chunks

SAMPLED = [
    sl.Method(name="image"),
    sl.Method(Noise(4, 0.2), name="mean"),
    sl.Method(Noise(4, 0.2, Reduction.MEAN_SQUARE), name="mean square"),
    sl.Method(Noise(4, 0.2, Reduction.VARIANCE), name="variance"),
    sl.Method(Noise(4, 0.2, before=True), aggregation=FullGrad(join_input=True), name="mean of terms"),
    sl.Method(Noise(3, 0.2, Reduction.VARIANCE), GUIDED_BACKPROP, name="guided variance"),
    _integrated(Path(3, (0.0, 0.4)), "path"),
    _integrated(AdaptivePath(0.01), "adaptivepath"),
    _integrated(Expected(5, 0.1), "expected"),
]
# Rows of each image; all that reduce the same noise share its passes.
ROWS = {"image": 1, "noise": 4, "noise 2": 3, "path": 6, "expected": 5}
FIVE = [*CLASSES, 1]


@pytest.fixture
def five(images: Tensor) -> Tensor:
    return torch.cat([images, images[:1].flip(3) * 3])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_no_sampling_depends_on_the_chunk_and_every_row_is_recorded(
    model: nn.Module, five: Tensor, references: Tensor, count: int
) -> None:
    whole = sl.explain(model, five[:count], SAMPLED, FIVE[:count], references=references, chunk=1000)
    for chunk in (1, 2, 3, 16, None):
        cut = sl.explain(model, five[:count], SAMPLED, FIVE[:count], references=references, chunk=chunk)
        asked = {name: sum(rows) for name, rows in cut.checks.settings["rows_per_pass"].items()}
        adaptive = int(whole.checks.evaluations["adaptivepath"].sum())
        assert asked == {name: count * rows for name, rows in ROWS.items()} | {"adaptivepath": adaptive}
        assert all(max(rows) <= (chunk or 16) for rows in cut.checks.settings["rows_per_pass"].values())
        for method in SAMPLED:
            _close(cut[method.name], whole[method.name])


def test_the_same_job_gives_the_same_bits_however_full_the_memory(
    model: nn.Module, five: Tensor, references: Tensor
) -> None:
    model, five = model.float(), five.float()
    jobs = []
    for _ in range(2):
        jobs.append(sl.explain(model, five, SAMPLED, FIVE, references=references))
        held = torch.ones(32 << 20)
    assert held.all()
    assert jobs[0].checks.settings["rows_per_pass"] == jobs[1].checks.settings["rows_per_pass"]
    assert all(torch.equal(jobs[0][method.name], jobs[1][method.name]) for method in SAMPLED)


def test_each_of_several_targets_has_totals_of_its_own(model: nn.Module, images: Tensor, references: Tensor) -> None:
    methods = [method for method in SAMPLED if method.name != "adaptivepath"]
    together = sl.explain(model, images, methods, targets=[0, 1, 2], references=references, chunk=3)
    for label, explanation in enumerate(together):
        alone = sl.explain(model, images, methods, label, references=references)
        for method in methods:
            _close(explanation[method.name], alone[method.name])


@pytest.mark.parametrize(
    "sampling", [Noise(5, 1e-9), Path(5, (0.0, 1e-9)), Expected(5, references=torch.zeros(1, 1, 1, 2))]
)
def test_a_function_of_the_whole_batch_sees_all_images_in_order(sampling: Sampling) -> None:
    """The model hands on its input: two numbers, whose ratio names the image wherever on the path it is."""
    images = torch.tensor([[1.0, 1], [1, 2], [1, 3]], dtype=torch.float64).view(3, 1, 1, 2)
    seen = []

    def value(output: Tensor) -> Tensor:
        seen.append((output[:, 1] / output[:, 0]).tolist())
        return output.sum(1) * torch.arange(1, 4)

    found = sl.explain(lambda x: x.flatten(1), images, sl.Method(sampling, name="map"), value)["map"]
    # Besides its passes it is asked whether chance or other images have a part in its values.
    assert [1, 2, 3] in seen
    seen = seen[-len(sampling.weights) :]
    np.testing.assert_allclose(seen, [[1, 2, 3]] * len(seen), atol=1e-6)
    torch.testing.assert_close(found.flatten(1), torch.tensor([[1.0, 1], [2, 2], [3, 3]], dtype=torch.float64))


def test_a_block_of_images_is_done_with_before_the_next_begins() -> None:
    """So that what is added up belongs to one block at a time: chunks of two cut four images into two blocks."""
    images = torch.arange(1, 5, dtype=torch.float64).view(4, 1, 1, 1) * torch.tensor([1.0, 2.0], dtype=torch.float64)
    recording = Recording(lambda x: x.flatten(1).sum(1, keepdim=True))
    sl.explain(recording, images, sl.Method(Noise(3, 1e-9), name="noise"), 0, chunk=2)
    seen = [rows[:, 0, 0, 0].round().int().tolist() for rows in recording.inputs]
    assert seen[-8:] == [[1, 2], [3, 4], *[[1, 2]] * 3, *[[3, 4]] * 3]
    recording.inputs.clear()
    sl.explain(recording, images[:3], sl.Method(Noise(3, 1e-9), name="noise"), 0, chunk=2)
    seen = [rows[:, 0, 0, 0].round().int().tolist() for rows in recording.inputs]
    assert seen[-7:] == [[1, 2], [3], *[[1, 2]] * 3, [3, 3], [3]]


# Combinations


@pytest.mark.parametrize("name", [n for n, m in sl.catalogue().items() if m.sampling == sl.Method().sampling])
def test_every_method_under_noise_is_its_mean_over_noisy_images(name: str, model: nn.Module, images: Tensor) -> None:
    # Pixels lie within these bounds, which nothing says; and of signals so small more than two in a hundred must pass.
    ranged = {
        "lrp_epsilon_gamma_box": epsilon_gamma_box(-9.0, 9.0),
        "deep_taylor": deep_taylor(-9.0, 9.0),
        "rect_grad_prr": rect_grad(20.0, padding_trick=True, proportional_pooling=True),
    }
    row = sl.catalogue()[name]
    row = replace(row, propagation=ranged.get(name, row.propagation))
    times = None if row.times is None else replace(row.times, sampling=Noise(2, 0.2))
    noisy = replace(row, sampling=Noise(2, 0.2), times=times)
    found = sl.explain(model, images, noisy, CLASSES)
    asked = [points.inputs for points in _asked_at(Noise(2, 0.2), images)]
    if row.times is not None:
        # Each factor is averaged, and the means are multiplied.
        factors = [sl.explain(model, torch.cat(asked), factor, CLASSES * 2) for factor in row.factors]
        guided, cam = (
            explanation[factor.name].view(2, 4, -1, *explanation[factor.name].shape[2:]).mean(0)
            for factor, explanation in zip(row.factors, factors, strict=True)
        )
        up = nn.functional.interpolate(cam, size=(6, 6), mode="bilinear", align_corners=False)
        _close(found[name], guided * up)
        return
    each = torch.stack([sl.explain(model, inputs, row, CLASSES)[name] for inputs in asked])
    assert (each[0] - each[1]).abs().max() > 0
    _close(found[name], each.mean(0))
    assert found.checks.operations[name] == sl.explain(model, images, row, CLASSES).checks.operations[name]


def test_a_product_leaves_nothing_of_its_factors_behind(model: nn.Module, images: Tensor) -> None:
    """Integrated gradients times Grad-CAM is no longer complete, and its factors are no methods of the job."""
    product = replace(_integrated(AdaptivePath()), times=sl.catalogue()["grad_cam"], name="product")
    checks = sl.explain(model, images, product, CLASSES).checks
    assert set(checks.operations) == {"product"}
    assert set(checks.completeness) | set(checks.evaluations) <= {"product"}


@pytest.mark.parametrize(
    ("sampling", "propagation", "aggregation", "message"),
    [
        (Path(), lrp_epsilon(), InputSignal(), "lrp_epsilon.*relevance.*along a path"),
        (Expected(), lrp_epsilon(), InputSignal(), "lrp_epsilon.*relevance.*along a path"),
        (Noise(), lrp_epsilon(), InputTimesSignal(), "lrp_epsilon.*relevance.*factor"),
        (Path(), GRADIENT, CAM(), "path.*CAM.*other layers"),
        (Path(), GRADIENT, FullGrad(), "path.*FullGrad.*other layers"),
        (Path(), GRADIENT, LayerSignal("0"), "path.*LayerSignal.*other layers"),
        (Expected(), GRADIENT, CAM(), "path.*CAM.*other layers"),
        (AdaptivePath(), GRADIENT, CAM(), "path.*CAM.*other layers"),
        (AdaptivePath(), GRADIENT, InputSignal(), "adaptive path.*completeness.*Use Path"),
        (AdaptivePath(), GUIDED_BACKPROP, InputTimesSignal(), "adaptive path.*completeness.*Use Path"),
        (AdaptivePath(), lrp_epsilon(), InputSignal(), "lrp_epsilon.*relevance.*along a path"),
        (Noise(before=True), GRADIENT, InputSignal(), "InputSignal.*no terms.*`before`"),
        (Noise(before=True), GRADIENT, CAM(), "CAM.*no terms.*`before`"),
        (Noise(), GUIDED_BACKPROP, FullGrad(), "FullGrad.*derivatives.*guided_backprop"),
    ],
)
def test_combinations_without_a_meaning_are_refused_when_they_are_made(
    sampling: Sampling, propagation: Propagation, aggregation: Aggregation, message: str
) -> None:
    with pytest.raises(sl.InputError, match=message):
        sl.Method(sampling, propagation, aggregation)


def _unchecked(kind: type[Sampling], **given: object) -> Sampling:
    """Made as a user makes it, without the check of annotations."""
    made = object.__new__(kind)
    inspect.unwrap(kind.__init__)(made, **given)
    return made


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        *[(Noise, {"samples": samples}, r"samples.*at least 1\b") for samples in (0, -3, 2.5)],
        *[(Noise, {"sd": sd}, "Noise.*sd >= 0.*sd=") for sd in (-1, math.nan, math.inf)],
        (Noise, {"reduction": "median"}, "mean, mean square, variance.*'median'"),
        (Noise, {"before": True, "reduction": "variance"}, "before.*variance.*maps"),
        (Noise, {"before": True, "reduction": Reduction.MEAN_SQUARE}, "before.*mean square.*maps"),
        *[(Path, {"steps": steps}, r"steps.*at least 1\b") for steps in (0, -1, 2.5, True)],
        (Path, {"start": ()}, "at least one baseline.*empty"),
        (Path, {"start": (0.0, math.inf)}, "one finite number"),
        (Path, {"start": torch.full((3, 1, 1), math.nan)}, r"finite.*broadcast.*\(3, 1, 1\)"),
        *[(Path, {"start": start}, 'number.*"black" or "white"') for start in ([0.0, 1.0], np.zeros((3, 1, 1)))],
        (Path, {"start": torch.zeros(1, 3, 6, 6)}, r"\(1, 3, 6, 6\).*one by one"),
        *[
            (AdaptivePath, {"tolerance": tolerance}, "tolerance > 0.*tolerance=")
            for tolerance in (0, -0.1, math.nan, math.inf)
        ],
        *[(AdaptivePath, {"most": most}, r"most.*at least 5\b") for most in (3, 4, 0, 7.5)],
        (AdaptivePath, {"start": (0.0, 1.0)}, "one baseline.*use Path"),
        (AdaptivePath, {"start": math.inf}, "one finite number"),
        *[(Expected, {"samples": samples}, r"samples.*at least 1\b") for samples in (0, -3, 2.5)],
        *[(Expected, {"sd": sd}, "Expected.*sd >= 0.*sd=") for sd in (-1, math.nan, math.inf)],
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(kind: type[Sampling], given: dict, message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        _unchecked(kind, **given)


@pytest.mark.slow
def test_a_baseline_by_another_name_is_refused_in_a_sentence() -> None:
    """In a process of its own, since the check of annotations comes first here, even within the sampling."""
    program = """
from sightline.sampling import AdaptivePath, Path
for kind, start in [(Path, "grey"), (Path, (0.0, "grey")), (AdaptivePath, "grey")]:
    try:
        kind(start=start)
    except ValueError as error:
        print(type(error).__name__, error)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert len(printed.splitlines()) == 3
    for line in printed.splitlines():
        assert re.match(r"InputError .*\"black\" or \"white\".*'grey'", line)


@pytest.mark.parametrize("kind", [lambda start: Path(2, start), lambda start: AdaptivePath(start=start)])
def test_a_baseline_that_does_not_fit_the_images_is_refused_in_a_sentence(
    model: nn.Module, images: Tensor, kind: Callable
) -> None:
    with pytest.raises(sl.InputError, match=r"\(4, 1, 1\).*not broadcast.*3, 6, 6\)"):
        sl.explain(model, images, _integrated(kind(torch.zeros(4, 1, 1))), CLASSES)


def test_the_manifest_tells_every_baseline(images: Tensor, tmp_path: File) -> None:
    start = (0.5, torch.zeros(3, 1, 1))
    method = sl.Method(Path(3, start), aggregation=InputTimesSignal(), name="ig")
    folder = sl.explain(Quadratic().double(), images, method, 1).save(tmp_path / "maps")
    manifest = json.loads((folder / "manifest.json").read_text())
    tensor = {"shape": [3, 1, 1], "content": image_key(torch.zeros(3, 1, 1))}
    assert manifest["methods"]["ig"]["sampling"] == {"name": "Path", "steps": 3, "start": [0.5, tensor]}
