"""Methods against what algebra says they must be."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import CAM, InputSignal, InputTimesSignal
from sightline.sampling import Noise, Path


class Linear(nn.Module):
    """z = W x + b on flattened images."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


@pytest.fixture
def linear() -> Linear:
    generator = torch.Generator().manual_seed(0)
    return Linear(
        torch.randn(3, 12, generator=generator, dtype=torch.float64),
        torch.randn(3, generator=generator, dtype=torch.float64),
    )


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_every_method_on_a_linear_model(linear: Linear, images: Tensor) -> None:
    target = [0, 2, 1, 0]
    start = 0.3
    path = sl.Method(Path(7, start), aggregation=InputTimesSignal(), name="path")
    explanation = sl.explain(
        linear,
        images,
        ["gradient", "saliency", "input_x_gradient", "smooth_grad", "integrated_gradients", path],
        target,
    )
    weight = linear.weight.detach()[target].view(4, 3, 2, 2)
    for name, expected in {
        "gradient": weight,
        "saliency": weight.abs(),
        "input_x_gradient": images * weight,
        "smooth_grad": weight,
        "integrated_gradients": images * weight,
        "path": (images - start) * weight,
    }.items():
        torch.testing.assert_close(explanation[name], expected, rtol=1e-12, atol=1e-14)
    logits = images.flatten(1) @ linear.weight.detach().T + linear.bias.detach()
    torch.testing.assert_close(explanation.values, logits[range(4), target], rtol=1e-14, atol=0)
    assert explanation.checks.completeness["path"].abs().max() < 1e-13


def test_rectified_methods_are_refused_on_a_linear_model(linear: Linear, images: Tensor) -> None:
    for method in ("guided_backprop", "deconvnet"):
        with pytest.raises(sl.RefusalError, match=f"{method}.*plain gradient"):
            sl.explain(linear, images, method)


def test_grad_cam_with_average_pooling_is_the_class_activation_map() -> None:
    """With global average pooling and one dense layer, w_k = W_ck / (h w), so the map is CAM / (h w), cut at zero."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
    model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)).double()
    images = torch.randn(2, 3, 8, 7, dtype=torch.float64)
    explanation = sl.explain(model, images, "grad_cam", [1, 3])
    with torch.no_grad():
        maps = features(images)
        weights = model[3].weight[[1, 3]] / (6 * 5)
        expected = torch.einsum("bk,bkij->bij", weights, maps).clamp(min=0).unsqueeze(1)
    assert expected.any()
    torch.testing.assert_close(explanation["grad_cam"], expected, rtol=1e-12, atol=1e-15)
    assert explanation.layers["grad_cam"] == "0.1"


def test_integrated_gradients_of_a_polynomial_is_exact() -> None:
    """z = sum x^4 along x0 + a (x - x0): the integral is known, and five Gauss points are exact up to degree nine."""
    images = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    method = sl.Method(Path(5, 0.25), aggregation=InputTimesSignal(), name="ig")
    found = sl.explain(lambda x: (x**4).flatten(1), images, method, 2)["ig"].flatten(1)
    expected = torch.zeros_like(found)
    expected[:, 2] = images.flatten(1)[:, 2] ** 4 - 0.25**4
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_smooth_grad_is_the_mean_gradient_over_noise_of_the_stated_size() -> None:
    """For z = sum x^2 / 2 the gradient is x, so SmoothGrad minus x is the mean noise: N(0, (sd * range)^2 / n)."""
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    found = sl.explain(lambda x: (x**2).flatten(1).sum(1, keepdim=True) / 2, images, "smooth_grad")["smooth_grad"]
    noise = (found - images).flatten().numpy()
    spread = 0.15 * float(images.max() - images.min()) / math.sqrt(25)
    count = noise.size
    assert abs(noise.mean()) < 4 * spread / math.sqrt(count)
    assert abs(noise.std() / spread - 1) < 4 / math.sqrt(2 * count)


def test_a_hidden_unit_a_direction_and_a_pair(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(4, 3)).double()
    conv, head = model[0].weight.detach(), model[2].weight.detach()
    unit = sl.explain(model, images, "gradient", sl.Unit("0", 2))["gradient"]
    torch.testing.assert_close(unit, conv[2].expand(4, 3, 2, 2), rtol=1e-12, atol=0)
    vector = torch.tensor([1.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    direction = sl.explain(model, images, "gradient", sl.Direction("0", vector))["gradient"]
    torch.testing.assert_close(direction[0], torch.einsum("k,kchw->chw", vector, conv), rtol=1e-12, atol=1e-15)
    pair = sl.explain(model, images, "gradient", sl.Pair(2, 0))["gradient"]
    torch.testing.assert_close(pair[0], torch.einsum("k,kchw->chw", head[2] - head[0], conv), rtol=1e-12, atol=1e-15)
    each = sl.explain(model, images[:1].expand(2, -1, -1, -1), "gradient", sl.Pair([2, 1], [0, 2]))["gradient"]
    for i, way in enumerate((head[2] - head[0], head[1] - head[2])):
        torch.testing.assert_close(each[i], torch.einsum("k,kchw->chw", way, conv), rtol=1e-12, atol=1e-15)
    function = sl.explain(model, images, "gradient", lambda output: 2 * output[:, 1])["gradient"]
    torch.testing.assert_close(function[0], torch.einsum("k,kchw->chw", 2 * head[1], conv), rtol=1e-12, atol=1e-15)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.integers(1, 3), width=st.integers(2, 7), steps=st.integers(40, 60))
def test_integrated_gradients_sums_to_the_difference(seed: int, depth: int, width: int, steps: int) -> None:
    """Completeness on random smooth networks, where Gauss-Legendre converges: the residual is rounding alone."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        layers += [nn.Linear(4 if len(layers) == 1 else width, width), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(width, 2)).double()
    images = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    method = sl.Method(Path(steps), aggregation=InputTimesSignal(), name="ig")
    explanation = sl.explain(model, images, method, 1)
    with torch.no_grad():
        difference = (model(images) - model(torch.zeros_like(images)))[:, 1]
    torch.testing.assert_close(explanation["ig"].flatten(1).sum(1), difference, rtol=1e-9, atol=1e-11)
    assert np.allclose(explanation.checks.completeness["ig"], 0, atol=1e-11)


def test_combinations_without_a_meaning_are_refused() -> None:
    with pytest.raises(sl.InputError, match=r"path.*CAM.*other layers"):
        sl.Method(Path(10), aggregation=CAM())
    assert sl.Method(Noise(4), aggregation=InputSignal()).name == "Noise x gradient x InputSignal"
