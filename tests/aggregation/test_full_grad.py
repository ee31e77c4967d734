"""FullGrad: the decomposition is exact and the maps are what their formulas say, or a refusal names what is in the way.

What is expected comes from autograd hooks and numpy here, from closed forms, or from the reference graphs of the trap
zoo; nothing of it from the package, but for the names of noise.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

import sightline as sl
from helpers import outcomes, traps, zoo
from helpers import reference as ref
from sightline._common.seeds import image_key, seed_of
from sightline.aggregation import FullGrad, Sign
from sightline.aggregation._resize import resized, spread
from sightline.propagation import GUIDED_BACKPROP
from sightline.sampling import Noise
from sightline.sampling import Path as Way

MAPS = ["full_grad", "full_grad_positive", "full_grad_signed", "simple_full_grad", "smooth_full_grad"]
DECOMPOSING = MAPS[:3]
Array = np.ndarray
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:To copy construct from a tensor"),
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.filterwarnings("ignore:An output with one or more elements was resized"),
    pytest.mark.filterwarnings("ignore:Using a non-full backward hook"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad"),
]


def assert_complete(explanation: sl.Explanation, values: Tensor, bound: float, *, least: float = 1.0) -> None:
    """The parts sum to the values, and so does the signed map with what it leaves out."""
    parts = explanation.checks.decomposition["full_grad_signed"]
    allowed = bound * values.double().abs().clamp(min=least)
    drawn = explanation["full_grad_signed"].double().flatten(1).sum(1) + parts.remainder
    for total in (parts.amounts.sum(0), parts.values, parts.residual + parts.values, drawn):
        assert bool(((total - values.double()).abs() <= allowed).all()), (total - values).tolist()
    assert torch.equal(explanation.checks.completeness["full_grad_signed"], parts.residual)


def random_images(count: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomise(model: nn.Module) -> nn.Module:
    """Biases and statistics as a trained network could have them, so that no layer is without an intercept."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.3, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


# 1. Completeness on the networks of the field.


def _torchvision(name: str, **settings: int) -> nn.Module:
    return getattr(pytest.importorskip("torchvision.models"), name)(**settings)


def _vgg(name: str) -> nn.Module:
    """With a small head, since the original's takes a gigabyte."""
    with torch.device("meta"):
        model = _torchvision(name)
        model.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))
    return model.to_empty(device="cpu")


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg16": partial(_vgg, "vgg16"),
    "vgg11_bn": partial(_vgg, "vgg11_bn"),
    "resnet18": partial(_torchvision, "resnet18", num_classes=10),
    "mobilenet_v2": partial(_torchvision, "mobilenet_v2", num_classes=10),
    "squeezenet1_1": partial(_torchvision, "squeezenet1_1", num_classes=10),
}


@cache
def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomise(NETWORKS[name]())


def _layers_with_an_intercept(model: nn.Module, images: Tensor) -> list[str]:
    """As the modules tell: weighted layers with a bias, BatchNorms, and each ReLU6 that saturates."""
    found: list[str] = []

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        match module:
            case nn.Conv2d(bias=Tensor()):
                found.append(f"conv2d in {name}")
            case nn.Linear():
                found.append(f"linear in {name}")
            case nn.BatchNorm2d():
                found.append(f"batch_norm in {name}")
            case nn.ReLU6() if bool((output == 6).any()):
                found.append(f"hardtanh in {name}")  # what nn.ReLU6 calls

    handles = [
        module.register_forward_hook(lambda m, _, output, name=name: note(name, m, output))
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-4)], ids=["double", "single"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_sum_to_the_logit_on_the_networks_of_the_field(name: str, dtype: torch.dtype, bound: float) -> None:
    """1e-4 of the logit in single precision is the bound of the authors' own check."""
    model = _network(name).to(dtype)
    images = random_images(2, 3, 64, 64).to(dtype) if name != "vgg16" else random_images(2, 3, 32, 32).to(dtype)
    with torch.no_grad():
        values = model(images).amax(1)
    explanation = sl.explain(model, images, DECOMPOSING)
    assert_complete(explanation, values, bound, least=0.0)
    layers = ("the input", *_layers_with_an_intercept(model, images))
    assert (name == "mobilenet_v2") == any("hardtanh" in layer for layer in layers)
    for method in DECOMPOSING:
        assert explanation.checks.decomposition[method].parts == layers
        assert explanation[method].shape == (2, 1, *images.shape[2:])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    activations=st.lists(
        st.sampled_from([nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.ELU, nn.Softplus, nn.Hardtanh, nn.Sigmoid, nn.Tanh]),
        min_size=1,
        max_size=4,
    ),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    normed=st.booleans(),
)
def test_the_decomposition_of_any_such_network_is_exact(
    seed: int, activations: list[type[nn.Module]], size: tuple[int, int], normed: bool
) -> None:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for index, activation in enumerate(activations):
        layers += [nn.Conv2d(2 if index == 0 else 3, 3, 3, padding=1), activation()]
        layers += [nn.BatchNorm2d(3)] if normed else []
    pixels = math.ceil(size[0] / 2) * math.ceil(size[1] / 2)
    layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(3 * pixels, 2)]
    model = randomise(nn.Sequential(*layers)).double()
    images = 5 * random_images(2, 2, *size, seed=seed)
    with torch.no_grad():
        values = model(images)[:, 1]
    assert_complete(sl.explain(model, images, "full_grad_signed", 1), values, 1e-12)


# 2. All maps against code of our own: forward hooks, numpy, and a bilinear interpolation written out.


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.n0 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv, self.n1 = nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.short, self.n2 = nn.Conv2d(4, 4, 1, stride=2, bias=False), nn.BatchNorm2d(4)
        self.last, self.fc = nn.Conv2d(4, 3, 3), nn.Linear(3 * 3 * 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.n0(self.stem(x)).relu()
        h = (self.n1(self.conv(h)) + self.n2(self.short(h))).relu()
        return self.fc(self.last(h).relu().flatten(1))


def _plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 2 * 2, 3),
    )


SMALL = {"plain": _plain, "residual": Residual}
TARGET = [2, 0, 1]


def _small(name: str) -> nn.Module:
    torch.manual_seed(4)
    return randomise(SMALL[name]()).double()


def _batch() -> Tensor:
    return random_images(3, 2, 9, 8) + 0.3


def _bias(module: nn.Module) -> Array | None:
    """What a layer adds; the implicit one of a BatchNorm."""
    if isinstance(module, nn.BatchNorm2d):
        scale = module.weight / (module.running_var + module.eps).sqrt()
        return (module.bias - module.running_mean * scale).detach().numpy()
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        return module.bias.detach().numpy()
    return None


@dataclass
class Terms:
    """x and dz/dx; and for each layer with height and width, b and dz/dh, by hooks of autograd."""

    x: Array
    gradient: Array
    biases: list[Array]
    gradients: list[Array]
    values: Array

    @property
    def input(self) -> Array:
        return self.x * self.gradient

    @property
    def layers(self) -> list[Array]:
        return [b[None, :, None, None] * g for b, g in zip(self.biases, self.gradients, strict=True)]


def _terms(model: nn.Module, images: Tensor, target: list[int]) -> Terms:
    kept: list[tuple[Array, Tensor]] = []

    def keep(module: nn.Module, _: object, output: Tensor) -> None:
        bias = _bias(module)
        if bias is not None:
            output.retain_grad()
            kept.append((bias, output))

    handles = [module.register_forward_hook(keep) for module in model.modules()]
    x = images.clone().requires_grad_()
    values = model(x)[range(len(x)), target]
    values.sum().backward()
    for handle in handles:
        handle.remove()
    model.zero_grad()
    return Terms(
        x.detach().numpy(),
        x.grad.numpy(),
        [bias for bias, _ in kept],
        [output.grad.numpy() for _, output in kept],
        values.detach().numpy(),
    )


def _rows(small: int, large: int) -> Array:
    """The matrix of linear interpolation from `small` to `large` values, corners not aligned; means of bins if less."""
    matrix = np.zeros((large, small))
    for i in range(large):
        if large < small:
            start, stop = i * small // large, -(-(i + 1) * small // large)
            matrix[i, start:stop] = 1 / (stop - start)
            continue
        at = max((i + 0.5) * small / large - 0.5, 0.0)
        low = min(int(at), small - 1)
        high = min(low + 1, small - 1)
        matrix[i, low] += 1 - (at - low)
        matrix[i, high] += at - low
    return matrix


def _up(values: Array, size: tuple[int, int]) -> Array:
    return _rows(values.shape[-2], size[0]) @ values @ _rows(values.shape[-1], size[1]).T


def _up_keeping_sums(values: Array, size: tuple[int, int]) -> Array:
    high, wide = (_rows(small, large).sum(0) for small, large in zip(values.shape[-2:], size, strict=True))
    return _up(values / (high[:, None] * wide), size)


def _psi(values: Array) -> Array:
    """Brought to 0..1 over all channels and positions of each image."""
    values = values - values.min((1, 2, 3), keepdims=True)
    return values / (values.max((1, 2, 3), keepdims=True) + 1e-6)


def _joined(terms: list[Array], sign: Callable[[Array], Array], size: tuple[int, int]) -> Array:
    return sum(_up(_psi(sign(term)), size).sum(1, keepdims=True) for term in terms)


def _noisy_copies(images: Tensor, seed: int) -> Iterator[Tensor]:
    keys = [seed_of(seed, image_key(image)) for image in images]
    for sample in range(25):
        yield Noise(25, 0.15).points(images, keys, [sample] * len(images)).inputs


def _smooth(model: nn.Module, images: Tensor, seed: int) -> Array:
    found = [_terms(model, noisy, TARGET) for noisy in _noisy_copies(images, seed)]
    mean_input = np.mean([terms.input.sum(1, keepdims=True) for terms in found], 0)
    mean_layers = [np.mean(layer, 0) for layer in zip(*(terms.layers for terms in found), strict=True)]
    return _joined([mean_input, *mean_layers], np.abs, (9, 8))


def _expected(model: nn.Module, images: Tensor, seed: int) -> dict[str, Array]:
    terms, size = _terms(model, images, TARGET), (9, 8)
    signed = [_up_keeping_sums(term.sum(1, keepdims=True), size) for term in (terms.input, *terms.layers)]
    return {
        "full_grad": _joined([terms.input, *terms.layers], np.abs, size),
        "full_grad_positive": _joined([terms.input, *terms.layers], lambda t: np.maximum(t, 0), size),
        "full_grad_signed": sum(signed),
        "simple_full_grad": _joined([terms.input, *terms.gradients], np.abs, size),
        "smooth_full_grad": _smooth(model, images, seed),
    }


@pytest.mark.parametrize("name", SMALL)
def test_every_map_is_what_its_formula_gives_by_hooks_and_by_hand(name: str) -> None:
    model, images, seed = _small(name), _batch(), 3
    expected = _expected(model, images, seed)
    explanation = sl.explain(model, images, MAPS, TARGET, seed=seed)
    assert set(expected) == set(MAPS)
    for method, by_hand in expected.items():
        np.testing.assert_allclose(explanation[method].numpy(), by_hand, rtol=1e-10, atol=1e-12, err_msg=method)


@pytest.mark.parametrize("name", SMALL)
def test_the_maps_differ_so_that_agreement_says_something(name: str) -> None:
    expected = list(_expected(_small(name), _batch(), 3).values())
    for i, one in enumerate(expected):
        assert all(np.abs(one - other).max() > 1e-2 * np.abs(one).max() for other in expected[:i])


@pytest.mark.parametrize("name", SMALL)
def test_each_part_of_the_decomposition_is_its_term_summed(name: str) -> None:
    model, images = _small(name), _batch()
    terms = _terms(model, images, TARGET)
    parts = sl.explain(model, images, "full_grad", TARGET).checks.decomposition["full_grad"]
    expected = np.stack([term.sum((1, 2, 3)) for term in (terms.input, *terms.layers)])
    np.testing.assert_allclose(parts.amounts[:-1].numpy(), expected, rtol=1e-12, atol=1e-14)
    dense = (model.fc if name == "residual" else model[-1]).bias.detach()[TARGET]
    torch.testing.assert_close(parts.amounts[-1], dense, rtol=1e-14, atol=0)
    torch.testing.assert_close(parts.remainder, dense, rtol=1e-14, atol=0)
    assert parts.in_map == (True,) * len(expected) + (False,)
    assert parts.table["in map"].tolist() == list(parts.in_map)
    np.testing.assert_allclose(parts.table["amount"], parts.amounts.mean(1), rtol=1e-14)


def test_without_constants_the_signed_map_is_the_input_times_the_gradient() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, bias=False), nn.LeakyReLU(), nn.AvgPool2d(2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(4 * 3 * 3, 3, bias=False)).double()
    explanation = sl.explain(model, _batch(), ["full_grad_signed", "input_x_gradient"], 1)
    expected = explanation["input_x_gradient"].sum(1, keepdim=True)
    torch.testing.assert_close(explanation["full_grad_signed"], expected, rtol=1e-13, atol=0)
    assert explanation.checks.decomposition["full_grad_signed"].parts == ("the input",)


def _positive() -> nn.Module:
    """No term is zero anywhere: all derivatives are positive, and all biases negative."""
    model = _plain().double().eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 0.5)
    for layer in (model[0], model[1], model[4]):
        nn.init.uniform_(layer.bias, -0.5, -0.1)
    return model


@pytest.mark.parametrize("build", [partial(_small, "plain"), _positive])
def test_the_negative_map_is_the_positive_one_of_the_negated_value_negated(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    negative = sl.Method(aggregation=FullGrad(Sign.NEGATIVE), name="negative")
    model, images = build(), _batch().abs() + 3
    found = sl.explain(model, images, negative, 1)["negative"]
    expected = -sl.explain(model, images, "full_grad_positive", lambda output: -output[:, 1])["full_grad_positive"]
    assert bool((expected < 0).any())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_maps_of_noisy_copies_are_averaged_where_the_terms_are_not() -> None:
    """In one job with methods of the same noise that reduce it in other ways."""
    after = sl.Method(Noise(25, 0.15), aggregation=FullGrad(), name="after")
    model, images, seed = _small("residual"), _batch(), 3
    explanation = sl.explain(model, images, ["smooth_grad", "smooth_full_grad", after, "var_grad"], TARGET, seed=seed)
    copies = [_terms(model, noisy, TARGET) for noisy in _noisy_copies(images, seed)]
    expected = np.mean([_joined([terms.input, *terms.layers], np.abs, (9, 8)) for terms in copies], 0)
    np.testing.assert_allclose(explanation["after"], expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(explanation["smooth_full_grad"], _smooth(model, images, seed), rtol=1e-10, atol=1e-12)
    gradients = [terms.gradient for terms in copies]
    np.testing.assert_allclose(explanation["smooth_grad"], np.mean(gradients, 0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(explanation["var_grad"], np.var(gradients, 0), rtol=1e-8, atol=1e-12)
    assert not explanation.checks.decomposition


def test_without_noise_the_smooth_map_is_the_map_with_the_input_joined_first() -> None:
    smooth = sl.Method(Noise(4, 0.0, before=True), aggregation=FullGrad(join_input=True), name="smooth")
    joined = sl.Method(aggregation=FullGrad(join_input=True), name="joined")
    explanation = sl.explain(_small("residual"), _batch(), [smooth, joined], TARGET)
    torch.testing.assert_close(explanation["smooth"], explanation["joined"], rtol=1e-12, atol=1e-14)


# 3. Each kind of intercept: complete, or refused by name.


class Net(nn.Module):
    """Layers for a body to use, and a dense head on whatever comes out of it."""

    def __init__(self, body: Callable[["Net", Tensor], Tensor]) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.bare, self.grouped = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.Conv2d(3, 6, 3, groups=3)
        self.up, self.point = nn.ConvTranspose2d(3, 2, 2, stride=2), nn.Linear(3, 3)
        self.n0, self.n1 = nn.BatchNorm2d(2), nn.BatchNorm2d(3)
        self.register_buffer("table", torch.linspace(-2, 2, 60).sin().view(3, 5, 4))
        self.bias, self.body = nn.Parameter(torch.tensor([0.5, -0.3, 0.2])), body

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(self, x).flatten(1)
        weight = torch.arange(3 * features.shape[1], dtype=features.dtype).sin().view(3, -1)
        return F.linear(features, weight, self.bias)


Body = Callable[[Net, Tensor], Tensor]


def net(body: Body) -> Net:
    torch.manual_seed(0)
    return randomise(Net(body)).double()


def _on_a_view(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    h[:, :1].add_(1)
    return m.c2(h)


def _view_taken_before(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    view = h.view(len(x), -1)
    h.add_(1)
    return view


def _pixels_overwritten(m: Net, x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :1] = 2.0
    return m.c1(x)


def _channel_overwritten(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    h[:, :1] = m.table[:1]
    return m.c2(h)


def _written_into_ones(m: Net, x: Tensor) -> Tensor:
    h = torch.ones(len(x), 3, 5, 4, dtype=x.dtype)
    h[:, 1:] = m.c1(x)[:, 1:]
    return m.c2(h)


def _copied_into_ones(m: Net, x: Tensor) -> Tensor:
    h = torch.ones(len(x), 3, 5, 4, dtype=x.dtype)
    h[:, 1:].copy_(m.c1(x)[:, 1:])
    return m.c2(h)


def _multiplied_into_ones(m: Net, x: Tensor) -> Tensor:
    h = torch.ones(len(x), 3, 5, 4, dtype=x.dtype)
    h[:, 1:].mul_(m.c1(x)[:, 1:])
    return m.c2(h)


def _constant_copied_over(m: Net, x: Tensor) -> Tensor:
    h = m.c2(m.c1(x))
    return torch.cat([m.c1(x), h.copy_(m.table.expand(len(x), -1, -1, -1))], 1)


def _added_in_place_to_ones(m: Net, x: Tensor) -> Tensor:
    h = torch.ones(len(x), 3, 5, 4, dtype=x.dtype)
    h += m.c1(x)
    return m.c2(h)


def _in_place_all_along(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    F.relu6(h.mul_(9).add_(1), inplace=True)
    return m.c2(h).sub_(m.table).relu_()


def _no_grad_add(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    with torch.no_grad():
        h.add_(1)
    return m.c2(h)


def _texture(m: Net, x: Tensor) -> Tensor:
    """A fixed picture looked up where the image says."""
    grid = torch.tanh(m.c1(x)[:, :2].permute(0, 2, 3, 1))
    return F.grid_sample(m.table.expand(len(x), -1, -1, -1), grid, align_corners=False)


def _added_across(m: Net, x: Tensor) -> Tensor:
    """The first axis holds channels for a while, here as many as there are images."""
    return (m.c1(x).transpose(0, 1) + m.table[:, 0, 0].view(3, 1, 1, 1)).transpose(0, 1)


@dataclass(frozen=True)
class Case:
    """A body; which operations add something, in order, or else the operation that the refusal names."""

    body: Body
    adds: str = ""
    refusal: str = ""


INTERCEPTS = {
    "ReLU": Case(lambda m, x: m.c2(m.c1(x).relu()), "conv2d conv2d"),
    "functional ReLU, in place": Case(lambda m, x: m.c2(F.relu(m.c1(x), inplace=True)), "conv2d conv2d"),
    "LeakyReLU": Case(lambda m, x: m.c2(F.leaky_relu(m.c1(x), 0.2)), "conv2d conv2d"),
    "absolute value": Case(lambda m, x: m.c2(m.c1(x).abs()), "conv2d conv2d"),
    "ReLU6": Case(lambda m, x: m.c2(F.relu6(9 * m.c1(x))), "conv2d relu6 conv2d"),
    "ReLU6 far from six": Case(lambda m, x: m.c2(F.relu6(0.1 * m.c1(x))), "conv2d conv2d"),
    "SiLU": Case(lambda m, x: m.c2(F.silu(m.c1(x))), "conv2d silu conv2d"),
    "SiLU, in place": Case(lambda m, x: m.c2(F.silu(m.c1(x), inplace=True)), "conv2d silu conv2d"),
    "GELU": Case(lambda m, x: m.c2(F.gelu(m.c1(x), approximate="tanh")), "conv2d gelu conv2d"),
    "ELU": Case(lambda m, x: m.c2(F.elu(m.c1(x))), "conv2d elu conv2d"),
    "softplus": Case(lambda m, x: m.c2(F.softplus(m.c1(x), beta=2, threshold=1)), "conv2d softplus conv2d"),
    "sigmoid in place": Case(lambda m, x: m.c2(m.c1(x).sigmoid_()), "conv2d sigmoid conv2d"),
    "hardtanh": Case(lambda m, x: m.c2(F.hardtanh(m.c1(x), -0.2, 0.3)), "conv2d hardtanh conv2d"),
    "clamp to two bounds": Case(lambda m, x: m.c2(m.c1(x).clamp(-0.1, 0.2)), "conv2d clamp conv2d"),
    "clamp to a table": Case(lambda m, x: m.c2(m.c1(x).clamp(max=m.table)), "conv2d clamp conv2d"),
    "clamp to another signal": Case(lambda m, x: (h := m.c1(x)).clamp(min=m.c2(h)), "conv2d conv2d"),
    "maximum with a table": Case(lambda m, x: m.c2(torch.maximum(m.c1(x), m.table)), "conv2d maximum conv2d"),
    "maximum of two signals": Case(lambda m, x: torch.maximum(h := m.c1(x), m.c2(h)), "conv2d conv2d"),
    "threshold to a value": Case(lambda m, x: m.c2(F.threshold(m.c1(x), 0.1, 5.0)), "conv2d threshold conv2d"),
    "square": Case(lambda m, x: m.c2(m.c1(x) ** 2), "conv2d pow conv2d"),
    "a quotient": Case(lambda m, x: 1 / (m.c1(x) ** 2 + 3), "conv2d pow add rdiv"),
    "where": Case(lambda m, x: m.c2(torch.where(m.table > 0, m.c1(x), 2.0)), "conv2d where conv2d"),
    "masked fill": Case(lambda m, x: m.c2(m.c1(x).masked_fill_(m.table > 0, 2.0)), "conv2d masked_fill conv2d"),
    "plus a number": Case(lambda m, x: m.c2(m.c1(x) + 0.7), "conv2d add conv2d"),
    "a number less it": Case(lambda m, x: m.c2(1 - m.c1(x)), "conv2d rsub conv2d"),
    "less a scaled table": Case(lambda m, x: torch.sub(m.c1(x), m.table, alpha=3.0), "conv2d sub"),
    "plus a buffer in place": Case(lambda m, x: m.c2(m.c1(x).add_(m.table)), "conv2d add conv2d"),
    "added to ones": Case(_added_in_place_to_ones, "conv2d add conv2d"),
    "normalised in the model": Case(lambda m, x: m.c1((x - 0.4) / 0.7), "sub conv2d"),
    "constant channels joined": Case(
        lambda m, x: torch.cat([m.c1(x), m.table.expand(len(x), -1, -1, -1)], 1).relu(), "conv2d cat"
    ),
    "a stack with constants": Case(
        lambda m, x: torch.stack([m.c1(x), m.table.expand(len(x), -1, -1, -1)], 1), "conv2d stack"
    ),
    "padded with a value": Case(lambda m, x: m.c1(F.pad(x, (1, 0, 2, 0), value=0.5)), "pad conv2d"),
    "padded with zeros": Case(lambda m, x: m.c1(F.pad(x, (1, 0, 2, 0))), "conv2d"),
    "pixels overwritten": Case(_pixels_overwritten, "setitem conv2d"),
    "a channel overwritten": Case(_channel_overwritten, "conv2d setitem conv2d"),
    "written into ones": Case(_written_into_ones, "conv2d setitem conv2d"),
    "a view taken before": Case(_view_taken_before, "conv2d add"),
    "in place all along": Case(_in_place_all_along, "conv2d add relu6 conv2d sub"),
    "convolution without bias, then BN": Case(lambda m, x: m.n1(m.bare(x)).relu(), "batch_norm"),
    "BN first": Case(lambda m, x: m.c1(m.n0(x)), "batch_norm conv2d"),
    "torch.batch_norm": Case(
        lambda m, x: torch.batch_norm(
            m.c1(x), m.n1.weight, m.n1.bias, m.n1.running_mean, m.n1.running_var, False, 0.1, 1e-5, False
        ),
        "conv2d batch_norm",
    ),
    "addmm": Case(
        lambda m, x: torch.addmm(m.table[0, 0], m.c1(x).flatten(1), m.table.view(-1, 60).t().expand(60, 4)).relu(),
        "conv2d addmm",
    ),
    "a matrix on the right": Case(lambda m, x: m.c1(x).flatten(1) @ m.table.view(60, 1) + 0.1, "conv2d add"),
    "transposed convolution": Case(lambda m, x: m.up(m.c1(x)).relu(), "conv2d conv_transpose2d"),
    "grouped convolution": Case(lambda m, x: m.grouped(m.c1(x)).relu(), "conv2d conv2d"),
    "a layer called twice": Case(lambda m, x: m.c2(m.c2(m.c1(x)).relu()), "conv2d conv2d conv2d"),
    "pooling": Case(lambda m, x: F.max_pool2d(F.avg_pool2d(m.c1(x), 2, 1), 2).relu(), "conv2d"),
    "one less its mean": Case(lambda m, x: (h := m.c1(x)) - h.mean((2, 3), keepdim=True), "conv2d"),
    "written through a view": Case(_on_a_view, refusal=r"\badd in .*forward"),
    "ReLU6 over a view": Case(
        lambda m, x: F.relu6(m.c1(9 * x).flatten(1), inplace=True), refusal=r"\brelu6 in .*forward"
    ),
    "glu": Case(lambda m, x: F.glu(m.up(m.c1(x)), 1), refusal=r"\bmul in .*forward"),
    "product": Case(lambda m, x: (h := m.c1(x)) * m.c2(h), refusal=r"\bmul in .*forward"),
    "softmax": Case(lambda m, x: m.c1(x).softmax(1), refusal=r"\bsoftmax in .*forward"),
    "addmm with beta": Case(
        lambda m, x: torch.addmm(m.table[0, 0], m.c1(x).flatten(1), m.table.view(60, 1).expand(60, 4), beta=2),
        refusal=r"\baddmm in .*forward",
    ),
    "a matrix on the left": Case(
        lambda m, x: (m.table.view(1, 60) @ m.c1(x).flatten(1).t()).t(), refusal=r"\bmatmul in .*forward"
    ),
    "lerp": Case(lambda m, x: torch.lerp(m.c1(x), m.table, 0.3), refusal=r"\blerp in .*forward"),
    "fill": Case(lambda m, x: m.c1(x).index_fill(1, torch.tensor([0]), 2.0), refusal="index_fill"),
    "a signal without its gradient": Case(lambda m, x: (h := m.c1(x)) - h.detach() + 1, refusal=r"\bsub .*factor cut"),
    "rows that are no images": Case(
        lambda m, x: (m.c1(x).flatten(0, 1) + 1).view(len(x), -1), refusal=r"\badd in .*one per image"
    ),
}


def _assert_complete_or_named(case: Case) -> None:
    model, images = net(case.body), random_images(3, 2, 5, 4)
    if case.refusal:
        with pytest.raises(sl.RefusalError, match=case.refusal):
            sl.explain(model, images, "full_grad_signed", 1)
        return
    explanation = sl.explain(model, images, "full_grad_signed", 1)
    with torch.no_grad():
        assert_complete(explanation, model(images)[:, 1], 1e-12)
    parts = explanation.checks.decomposition["full_grad_signed"].parts
    assert [part.split(" ")[0] for part in parts] == ["the", *case.adds.split(), "linear"]


@pytest.mark.parametrize("name", INTERCEPTS)
def test_each_kind_of_intercept_is_counted_or_named_in_the_refusal(name: str) -> None:
    _assert_complete_or_named(INTERCEPTS[name])


# All of these FAIL as this is written: a map that does not sum to the value, without a word. To count what is added and
# to refuse by name would both be right.
MISSED = {
    # `_at_zero` takes only floating constants, and a number only in the first two positional arguments.
    "plus integers": Case(lambda m, x: m.c1(x) + torch.arange(4), refusal=r"\badd in "),
    "less an integer of no axes": Case(lambda m, x: m.c1(x) - torch.tensor(3), refusal=r"\bsub in "),
    "plus truth values": Case(lambda m, x: m.c1(x) + (m.table > 0), refusal=r"\badd in "),
    "integer channels joined": Case(
        lambda m, x: torch.cat([m.c1(x), torch.ones(len(x), 1, 5, 4, dtype=torch.long)], 1), refusal=r"\bcat in "
    ),
    "plus other=": Case(lambda m, x: torch.add(m.c1(x), other=1.0), refusal=r"\badd in "),
    "rsub by keywords": Case(lambda m, x: torch.rsub(input=m.c1(x), other=1.0), refusal=r"\brsub in "),
    # copy_ is an "identity" and mul_ a "scaling", but what they leave of the memory they write into is a constant.
    "copied into ones through a view": Case(_copied_into_ones, refusal=r"\bcopy in "),
    "multiplied into ones through a view": Case(_multiplied_into_ones, refusal=r"\bmul in "),
    "a constant copied over a signal": Case(_constant_copied_over, refusal=r"\bcopy in "),
    # A write that autograd does not see is noted only where some other method of the job has rules.
    "added under no_grad": Case(_no_grad_add, refusal="add outside the graph"),
    # Resampling is homogeneous in the picture, not in the grid.
    "a fixed picture looked up": Case(_texture, refusal=r"\bgrid_sample in "),
    # That rows are images is told from their number alone.
    "channels first, as many as images": Case(_added_across, refusal="do not add up"),
}


@pytest.mark.parametrize("name", MISSED)
def test_what_is_added_is_never_missed_in_silence(name: str) -> None:
    case = MISSED[name]
    model, images = net(case.body), random_images(3, 2, 5, 4)
    explanation = sl.explain(model, images, ["gradient", "full_grad_signed"], 1, on_refusal="record")
    if "full_grad_signed" in explanation.refused:
        assert re.search(case.refusal, explanation.refused["full_grad_signed"])
        return
    with torch.no_grad():
        assert_complete(explanation, model(images)[:, 1], 1e-12)


def _edge(h: Tensor) -> Tensor:
    """True in the last column."""
    return torch.arange(h.shape[-1]) == h.shape[-1] - 1


def _edge_overwritten(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    h[..., -1] = -torch.inf
    return F.max_pool2d(h, 2)


INFINITE: dict[str, Body] = {
    "padded before max-pooling": lambda m, x: F.max_pool2d(F.pad(m.c1(x), (0, 1, 0, 1), value=-torch.inf), 3, 2),
    "padded by its native name": lambda m, x: torch.constant_pad_nd(m.c1(x), (1, 1), -torch.inf).amax(3),
    "masked": lambda m, x: m.c1(x).masked_fill(_edge(x), -torch.inf).amax(3),
    "masked in place": lambda m, x: m.c1(x).masked_fill_(_edge(x), -torch.inf).max(3).values,
    "where": lambda m, x: F.max_pool2d(torch.where(_edge(x), -torch.inf, m.c1(x)), 2),
    "joined": lambda m, x: torch.cat([m.c1(x), x.new_full((len(x), 3, 5, 1), -torch.inf)], 3).amax(3),
    "an additive mask": lambda m, x: (m.c1(x) + torch.where(_edge(x), -torch.inf, 0.0)).amax(3),
    "a mask subtracted": lambda m, x: (m.c1(x) - torch.where(_edge(x), torch.inf, 0.0)).amax(3),
    "overwritten": _edge_overwritten,
    "rectified": lambda m, x: m.c1(x).masked_fill(_edge(x), -torch.inf).relu(),
    "infinity as the least": lambda m, x: -(-m.c1(x).masked_fill(_edge(x), torch.inf)).amax(3),
}
SMOOTH: dict[str, Body] = {
    name: lambda m, x, f=function: m.c2(f(m.c1(x).masked_fill(_edge(x), -torch.inf)))
    for name, function in {
        "sigmoid": torch.sigmoid, "exp": torch.exp, "elu": F.elu, "clamp": lambda h: h.clamp(-1, 1), "relu6": F.relu6,
        "softplus": F.softplus, "maximum": lambda h: torch.maximum(h, torch.tensor(-0.5)), "tanh": torch.tanh,
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("name", INFINITE)
def test_an_infinite_constant_is_no_bias(name: str) -> None:
    """No signal comes back to it, so that biases, gradients and the input are all there is."""
    model, images = net(INFINITE[name]), random_images(3, 2, 5, 4)
    explanation = sl.explain(model, images, MAPS, 1)
    terms = _terms(model, images, [1, 1, 1])
    signed = sum(_up_keeping_sums(term.sum(1, keepdims=True), (5, 4)) for term in (terms.input, *terms.layers))
    np.testing.assert_allclose(explanation["full_grad_signed"].numpy(), signed, rtol=1e-10, atol=1e-12)
    simple = _joined([terms.input, *terms.gradients], np.abs, (5, 4))
    np.testing.assert_allclose(explanation["simple_full_grad"].numpy(), simple, rtol=1e-10, atol=1e-12)
    assert all(found.isfinite().all() for found in explanation.maps.values())
    assert_complete(explanation, explanation.values, 1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_function_of_an_infinite_constant_is_a_constant(name: str) -> None:
    explanation = sl.explain(net(SMOOTH[name]), random_images(3, 2, 5, 4), "full_grad_signed", 1)
    assert bool(explanation["full_grad_signed"].isfinite().all())
    assert_complete(explanation, explanation.values, 1e-12)


def test_a_class_masked_by_an_infinite_bias_adds_nothing_to_the_others() -> None:
    model, images = net(lambda m, x: m.c1(x).relu()), random_images(3, 2, 5, 4)
    expected = sl.explain(model, images, "full_grad_signed", 1)["full_grad_signed"]
    model.bias.data[2] = -torch.inf
    explanation = sl.explain(model, images, "full_grad_signed", 1)
    torch.testing.assert_close(explanation["full_grad_signed"], expected)
    assert_complete(explanation, explanation.values, 1e-12)


NORMS: dict[str, nn.Module] = {
    "group norm": nn.GroupNorm(2, 4),
    "instance norm": nn.InstanceNorm2d(4, affine=True),
    "without weights": nn.GroupNorm(2, 4, affine=False),
    "without a bias": nn.LayerNorm((4, 5, 6), bias=False),
}


class Normed(nn.Module):
    """A norm between two convolutions, and something whose intercept nobody knows."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(2, 4, 3, padding=1), norm, nn.Conv2d(4, 3, 3, bias=False)
        self.head = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.first(x)))
        return self.head((self.second(x * x.mean(1, keepdim=True).sigmoid())).softmax(1).flatten(1))


@pytest.mark.parametrize("name", NORMS)
def test_simple_full_grad_takes_the_gradient_at_every_layer_with_a_bias(name: str) -> None:
    """It has no terms that would have to add up, so what normalisations, gates and softmax add does not matter."""
    torch.manual_seed(0)
    model, images = Normed(NORMS[name]).double().eval(), random_images(3, 2, 5, 6)
    kept = []
    handles = [
        module.register_forward_hook(lambda _m, _i, output: (output.retain_grad(), kept.append(output))[0])
        for module in (model.first, model.norm)
        if getattr(module, "bias", None) is not None
    ]
    x = images.clone().requires_grad_()
    model(x)[:, 1].sum().backward()
    for handle in handles:
        handle.remove()
    terms = [(x * x.grad).detach().numpy(), *(output.grad.numpy() for output in kept)]
    assert len(terms) == (2 if name.startswith("without") else 3)
    explanation = sl.explain(model, images, MAPS, 1, on_refusal="record")
    assert set(explanation.maps) == {"simple_full_grad"}
    expected = _joined(terms, np.abs, (5, 6))
    np.testing.assert_allclose(explanation["simple_full_grad"].numpy(), expected, rtol=1e-10, atol=1e-12)


def test_simple_full_grad_takes_a_layer_norm_over_channels_last() -> None:
    torch.manual_seed(0)
    norm, conv, head = nn.LayerNorm(4).double(), nn.Conv2d(2, 4, 3).double(), nn.Linear(48, 3).double()
    images = random_images(3, 2, 5, 6)

    def model(x: Tensor) -> Tensor:
        return head(norm(conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).relu().flatten(1))

    x = images.clone().requires_grad_()
    first = conv(x)
    second = norm(first.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    value = head(second.relu().flatten(1))[:, 1].sum()
    gradients = torch.autograd.grad(value, [x, first, second])
    terms = [(x * gradients[0]).detach().numpy(), *(gradient.numpy() for gradient in gradients[1:])]
    found = sl.explain(model, images, "simple_full_grad", 1)["simple_full_grad"].numpy()
    np.testing.assert_allclose(found, _joined(terms, np.abs, (5, 6)), rtol=1e-10, atol=1e-12)


def test_simple_full_grad_does_not_mind_rows_that_are_no_images_beside_its_layers() -> None:
    """Windows of tokens pass a dense layer, whose results are no feature maps."""
    torch.manual_seed(0)
    conv, dense, head = nn.Conv2d(2, 4, 2, 2).double(), nn.Linear(4, 4).double(), nn.Linear(24, 3).double()
    images = random_images(3, 2, 4, 6)

    def model(x: Tensor) -> Tensor:
        windows = conv(x).permute(0, 2, 3, 1).reshape(len(x) * 2, 3, 4)
        return head(dense(windows).relu().reshape(len(x), 24))

    explanation = sl.explain(model, images, MAPS, 1, on_refusal="record")
    x = images.clone().requires_grad_()
    first = conv(x)
    value = head(dense(first.permute(0, 2, 3, 1).reshape(6, 3, 4)).relu().reshape(3, 24))[:, 1].sum()
    gradients = torch.autograd.grad(value, [x, first])
    expected = _joined([(x * gradients[0]).detach().numpy(), gradients[1].numpy()], np.abs, (4, 6))
    np.testing.assert_allclose(explanation["simple_full_grad"].numpy(), expected, rtol=1e-10, atol=1e-12)
    assert set(explanation.maps) == {"simple_full_grad"}


def _set_constant(m: Net, h: Tensor, g: Tensor) -> Tensor:
    h[:, 1:2] = 2.0
    return h


def _set_signal(m: Net, h: Tensor, g: Tensor) -> Tensor:
    h[:, :1] = g[:, 1:2].clone()
    return h


def _half_rectified(m: Net, h: Tensor, g: Tensor) -> Tensor:
    h[:, 1:].relu_()
    return h


def _half_shifted(m: Net, h: Tensor, g: Tensor) -> Tensor:
    h[:, 1:].add_(1)
    return h


def _half_copied(m: Net, h: Tensor, g: Tensor) -> Tensor:
    h[:, 1:].copy_(g[:, :2].clone())
    return h


Step = Callable[[Net, Tensor, Tensor], Tensor]
READS: dict[str, Step] = {
    "convolution": lambda m, h, g: m.c2(h),
    "batch norm": lambda m, h, g: m.n1(h),
    "silu": lambda m, h, g: F.silu(h),
    "relu6": lambda m, h, g: F.relu6(5 * h),
    "sum": lambda m, h, g: h + g,
    "shift": lambda m, h, g: h + m.table,
    "difference": lambda m, h, g: m.table - h,
    "maximum": lambda m, h, g: torch.maximum(h, g),
    "where": lambda m, h, g: torch.where(m.table > 0, h, g),
    "join": lambda m, h, g: torch.cat([h[:, 1:], m.table[:1].expand(len(h), -1, -1, -1)], 1),
    "pad": lambda m, h, g: F.pad(h, (1, 0), value=0.3)[..., :-1],
    "view": lambda m, h, g: h.flatten(1).unflatten(1, (3, 5, 4)),
    "alias": lambda m, h, g: h[:],
}
WRITES: dict[str, Step] = {
    "relu_": lambda m, h, g: h.relu_(),
    "hardtanh_": lambda m, h, g: F.hardtanh(h, -0.3, 0.4, inplace=True),
    "sum_": lambda m, h, g: h.add_(g.clone()),
    "shift_": lambda m, h, g: h.sub_(0.3),
    "scale_": lambda m, h, g: h.mul_(m.table),
    "set a constant": _set_constant,
    "set a signal": _set_signal,
    "half rectified": _half_rectified,
    "half shifted": _half_shifted,
    "half copied": _half_copied,
}


STEPS = READS | WRITES


def _program(steps: list[tuple[str, int, int]]) -> Body:
    def body(m: Net, x: Tensor) -> Tensor:
        made = [m.c1(x)]
        for name, one, other in steps:
            made.append(STEPS[name](m, made[one % len(made)], made[other % len(made)]))
        return made[-1] + made[len(made) // 2]

    return body


def _gradient_by_torch(model: nn.Module, images: Tensor) -> Tensor | None:
    """None where the model writes over what its own backward needs."""
    x = images.clone().requires_grad_()
    try:
        model(x)[:, 1].sum().backward()
    except RuntimeError as error:
        assert re.search("in-?place", str(error))  # noqa: PT017
        return None
    return x.grad


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 9), st.integers(0, 9)), max_size=8),
    seed=st.integers(0, 1000),
)
def test_programs_of_views_and_writes_are_complete_or_refused_for_a_write(
    steps: list[tuple[str, int, int]], seed: int
) -> None:
    model, images = net(_program(steps)), random_images(2, 2, 5, 4, seed=seed)
    gradient = _gradient_by_torch(model, images)
    assume(gradient is not None)
    explanation = sl.explain(model, images, ["gradient", "full_grad_signed"], 1, on_refusal="record")
    torch.testing.assert_close(explanation["gradient"], gradient, rtol=1e-12, atol=1e-14)
    if explanation.refused:
        written = r"\b(add|sub|mul|copy|relu|hardtanh|setitem) in "
        assert re.search(written, explanation.refused["full_grad_signed"])
        assert any(name in WRITES for name, _, _ in steps)
        return
    with torch.no_grad():
        assert_complete(explanation, model(images)[:, 1], 1e-10)


# h(u) - h'(u) u, in closed form.
CLOSED: dict[str, tuple[nn.Module, Callable[[Array], Array]]] = {
    "relu6": (nn.ReLU6(), lambda u: 6.0 * (u >= 6)),
    "silu": (nn.SiLU(), lambda u: -(u**2) * expit(u) * expit(-u)),
    "gelu": (nn.GELU(), lambda u: -(u**2) * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)),
    "elu": (nn.ELU(), lambda u: np.where(u > 0, 0, np.exp(np.minimum(u, 0)) * (1 - u) - 1)),
    "softplus": (nn.Softplus(threshold=1000), lambda u: np.logaddexp(0, u) - u * expit(u)),
    "sigmoid": (nn.Sigmoid(), lambda u: expit(u) * (1 - u * expit(-u))),
    "tanh": (nn.Tanh(), lambda u: np.tanh(u) - u / np.cosh(u) ** 2),
    "hardtanh": (nn.Hardtanh(), lambda u: np.sign(u) * (np.abs(u) >= 1)),
    "hardswish": (nn.Hardswish(), lambda u: np.where(np.abs(u) < 3, -(u**2) / 6, 0)),
}


def _around(module: nn.Module) -> nn.Sequential:
    torch.manual_seed(2)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), module, nn.Conv2d(4, 3, 2), nn.Flatten(), nn.Linear(3 * 6 * 5, 3)]
    return randomise(nn.Sequential(*layers)).double()


def _between(model: nn.Sequential, images: Tensor) -> tuple[Array, Array]:
    """What goes into the activation, and dz/dh behind it."""
    before = model[:2](images).detach()
    behind = model[2](before).detach().requires_grad_()
    (signal,) = torch.autograd.grad(model[3:](behind)[:, 1].sum(), behind)
    return before.numpy(), signal.numpy()


@pytest.mark.parametrize("name", CLOSED)
def test_the_amount_of_an_activation_is_its_closed_form_times_the_gradient(name: str) -> None:
    module, intercept = CLOSED[name]
    model, images = _around(module), 4 * _batch()
    before, signal = _between(model, images)
    expected = (intercept(before) * signal).sum((1, 2, 3))
    assert np.abs(expected).min() > 1e-3
    parts = sl.explain(model, images, "full_grad", 1).checks.decomposition["full_grad"]
    operation = "hardtanh" if name == "relu6" else name  # what nn.ReLU6 calls
    found = parts.amounts[parts.parts.index(f"{operation} in 2")].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(number=st.floats(-3, 3).filter(lambda c: abs(c) > 1e-3), factor=st.floats(-2, 2), seed=st.integers(0, 1000))
def test_a_constant_adds_itself_times_the_gradient(number: float, factor: float, seed: int) -> None:
    """z = w . (a x + c) + b with the constant before or behind the factor."""
    images = random_images(2, 1, 3, 2, seed=seed)
    weight = random_images(1, 1, 3, 2, seed=seed + 1)
    behind = sl.explain(lambda x: ((factor * x + number) * weight).flatten(1).sum(1, keepdim=True), images, "full_grad")
    before = sl.explain(lambda x: ((x + number) * factor * weight).flatten(1).sum(1, keepdim=True), images, "full_grad")
    for explanation, slope in ((behind, 1.0), (before, factor)):
        amounts = explanation.checks.decomposition["full_grad"].amounts
        expected = torch.full((2,), float(number * slope * weight.sum()), dtype=torch.float64)
        if len(amounts) == 1:
            assert slope == 0 or factor == 0
            continue
        torch.testing.assert_close(amounts[1], expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(amounts[0], factor * (images * weight).flatten(1).sum(1), rtol=1e-12, atol=1e-14)


def test_a_dense_layer_on_channels_last_is_complete_where_rows_are_as_many_as_channels() -> None:
    model, images = net(lambda m, x: m.point(m.c1(x).permute(0, 2, 3, 1))), random_images(2, 2, 3, 3)
    with torch.no_grad():
        assert_complete(sl.explain(model, images, "full_grad_signed", 1), model(images)[:, 1], 1e-12)


def test_what_is_added_to_channels_last_is_drawn_where_it_stands_or_not_at_all() -> None:
    def channels_last(m: Net, x: Tensor) -> Tensor:
        return (m.c1(x).permute(0, 2, 3, 1) + m.table.permute(1, 2, 0)).permute(0, 3, 1, 2)

    model, images = net(channels_last), random_images(2, 2, 5, 4)
    explanation = sl.explain(model, images, ["gradient", "full_grad_signed"], 1, on_refusal="record")
    if "full_grad_signed" in explanation.refused:
        assert re.search(r"\badd in .*forward", explanation.refused["full_grad_signed"])
        return
    parts = explanation.checks.decomposition["full_grad_signed"]
    (drawn,) = (drawn for part, drawn in zip(parts.parts, parts.in_map, strict=True) if part.startswith("add in "))
    head = torch.arange(180, dtype=torch.float64).sin().view(3, 3, 5, 4)[1]
    constants = model.c1.bias.detach().view(3, 1, 1) + drawn * model.table
    expected = (images * explanation["gradient"]).sum(1, keepdim=True) + (constants * head).sum(0)
    torch.testing.assert_close(explanation["full_grad_signed"], expected, rtol=1e-11, atol=1e-13)


# 4. The trap zoo.

# In these traps a part is out of sight or a factor is cut from the graph, so mathematics alone does not tell. The
# largest over values and constants is in sight: rules refuse it, but it adds nothing.
HIDDEN = {trap.name for trap in (*traps.IN_DISGUISE, *traps.ESCAPES, *traps.OUTSIDE)}
HIDDEN -= {"max over a stack", "amax over a stack", "amin over a stack", "the first of two by rank"}
# The reference's word for what no mode of torch sees; what stands in the graph there, before and after torch optimises.
IN_THE_GRAPH = {"scripted": "CppFunction|Relu"}
ZOO = pytest.mark.parametrize("trap", zoo.ALL, ids=lambda trap: trap.name)


def _in_the_way(node: ref.Node, *, hidden: bool) -> str:
    """The operation that a refusal has to name, where a node of the reference has an intercept nobody knows."""
    if isinstance(node, ref.Gate):
        return "mul"
    if not isinstance(node, ref.Other):
        return ""
    word = node.words["relevance"]
    known = not word if hidden else not node.words["gradient"] and (_by_itself(node) or _homogeneous(node))
    return "" if known else IN_THE_GRAPH.get(word, word)


def _by_itself(node: ref.Other) -> bool:
    """A function of each value by itself: its Jacobian has nothing beside the diagonal."""
    jacobian = node.jacobians[0]
    square = len(node.parents) == 1 and jacobian.shape[0] == jacobian.shape[1]
    return square and not (jacobian - np.diag(np.diag(jacobian))).any()


def _homogeneous(node: ref.Other) -> bool:
    """h = J u, so that nothing is added."""
    total = sum(jacobian @ parent.value for jacobian, parent in zip(node.jacobians, node.parents, strict=True))
    return np.allclose(total, node.value, rtol=1e-6)


@cache
def _words(trap: zoo.AnyTrap) -> tuple[str, ...]:
    """What is in FullGrad's way in a trap, from its reference alone; nothing where it must be complete."""
    scores, _ = trap.graph(trap.network(), outcomes.images(trap)[0])
    nodes = ref.ancestry(ref.pick(scores, 0))
    found = [_in_the_way(node, hidden=trap.name in HIDDEN) for node in nodes]
    return tuple(dict.fromkeys(filter(None, found)))


def _trainable(trap: zoo.AnyTrap) -> bool:
    """Whether torch itself can pull a gradient back."""
    output = trap.network()(outcomes.images(trap).requires_grad_())
    scores = output if isinstance(output, Tensor) else tree_leaves(output)[0]
    try:
        scores.sum().backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017
        return False
    return True


def _asked(trap: zoo.AnyTrap, *methods: str) -> tuple[sl.Explanation | None, Mapping[str, str]]:
    """The explanation and its refusals, also where all is refused."""
    try:
        explanation = sl.explain(
            trap.network(), outcomes.images(trap), list(methods), trap.target or 0, on_refusal="record"
        )
    except sl.RefusalError as refusal:
        return None, dict.fromkeys(methods, str(refusal))
    return explanation, explanation.refused


@ZOO
def test_every_network_of_the_zoo_is_decomposed_exactly_or_refused_by_name(trap: zoo.AnyTrap) -> None:
    explanation, refused = _asked(trap, "gradient", "full_grad_signed")
    words = _words(trap)
    if words:
        assert re.search(rf"\b(?:{'|'.join(words)})", refused.get("full_grad_signed", "no refusal"))
        return
    if "cannot be trained" in refused.get("full_grad_signed", ""):
        assert not _trainable(trap)
        return
    assert explanation is not None, refused
    assert not refused
    network, batch = trap.network(), outcomes.images(trap)
    graphs = [trap.graph(network, image) for image in batch]
    values = [ref.pick(scores, 0) for scores, _ in graphs]
    assert_complete(explanation, torch.from_numpy(np.stack([value.value[0] for value in values])), 1e-10)
    starts = [start for _, start in graphs]
    by_input = [ref.explain(value, x, ref.GRADIENT) @ x.value for value, x in zip(values, starts, strict=True)]
    parts = explanation.checks.decomposition["full_grad_signed"]
    np.testing.assert_allclose(parts.amounts[0], by_input, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@ZOO
def test_the_gradient_beside_full_grad_is_the_gradient_alone_to_the_bit(trap: zoo.AnyTrap) -> None:
    alone, refused = _asked(trap, "gradient")
    beside, refused_beside = _asked(trap, "gradient", "full_grad_signed")
    if alone is None:
        assert "gradient" in refused
        assert "gradient" in refused_beside
        return
    assert beside is not None, refused_beside
    if trap.name.startswith("GLU"):  # written out where it is watched, and rounded otherwise by that
        torch.testing.assert_close(beside["gradient"], alone["gradient"], rtol=1e-12, atol=1e-14)
        return
    assert torch.equal(beside["gradient"], alone["gradient"])


@pytest.mark.slow
@ZOO
def test_what_full_grad_says_does_not_depend_on_what_else_is_asked(trap: zoo.AnyTrap) -> None:
    """Beside rules, nodes of the package's own stand in the graph."""
    alone, refused = _asked(trap, "full_grad_signed")
    if "cannot be trained" in refused.get("full_grad_signed", ""):
        return  # torch's own backward needs what the network writes over; that of the rules need not
    beside, refused_beside = _asked(trap, "gradient", "full_grad_signed", "guided_backprop", "lrp_0")
    assert ("full_grad_signed" in refused) == ("full_grad_signed" in refused_beside), (refused, refused_beside)
    if alone is not None and beside is not None:
        torch.testing.assert_close(beside["full_grad_signed"], alone["full_grad_signed"], rtol=1e-10, atol=1e-13)
        ours, others = (e.checks.decomposition["full_grad_signed"] for e in (beside, alone))
        assert ours.parts == others.parts
        torch.testing.assert_close(ours.amounts, others.amounts, rtol=1e-10, atol=1e-13)


def test_the_zoo_holds_both_kinds() -> None:
    """A new trap changes these numbers, and should be looked at."""
    verdicts = Counter(("hidden" if trap.name in HIDDEN else "in sight", bool(_words(trap))) for trap in zoo.ALL)
    assert verdicts == {
        ("in sight", False): 165,
        ("in sight", True): 31,  # products of signals, softmax, normalisations by the image, attention, a cut graph
        ("hidden", False): 3,  # LeakyReLU, GELU and the smaller of a value and zero
        ("hidden", True): 21,
    }


# 5. Bringing to the image's size.

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
LARGE = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=150, deadline=None)
@given(small=SIZES, size=LARGE, seed=st.integers(0, 1000))
def test_spreading_keeps_every_sum_and_is_interpolation_by_hand(
    small: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    values = random_images(2, 3, *small, seed=seed)
    found = spread(values, size)
    assert found.shape == (2, 3, *size)
    torch.testing.assert_close(found.sum((2, 3)), values.sum((2, 3)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found, _up_keeping_sums(values.numpy(), size), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(resized(values, size), _up(values.numpy(), size), rtol=1e-11, atol=1e-13)


@settings(max_examples=50, deadline=None)
@given(small=SIZES, factors=SIZES, shrinks=st.tuples(st.booleans(), st.booleans()))
def test_at_whole_ratios_spreading_divides_by_the_ratio_of_areas(
    small: tuple[int, int], factors: tuple[int, int], shrinks: tuple[bool, bool]
) -> None:
    large = (small[0] * factors[0], small[1] * factors[1])
    start, stop = zip(*((b, a) if s else (a, b) for a, b, s in zip(small, large, shrinks, strict=True)), strict=True)
    values = random_images(1, 1, *start)
    expected = resized(values, stop) * (start[0] * start[1]) / (stop[0] * stop[1])
    torch.testing.assert_close(spread(values, stop), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("at", "ratio"), [(0, 0.356), (3, 1.349)], ids=["in the corner", "in the middle"])
def test_aligned_corners_as_in_the_authors_code_would_not_keep_sums(at: int, ratio: float) -> None:
    """From 7 to 224, the ratio of areas is 1024; aligned, a value counts by where it stands."""
    values = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    values[..., at, at] = 1
    aligned = F.interpolate(values, (224, 224), mode="bilinear", align_corners=True).sum()
    by_hand = sum(max(0.0, 1 - abs(6 * k / 223 - at)) for k in range(224)) ** 2
    assert float(aligned) == pytest.approx(by_hand, rel=1e-12)
    assert float(aligned) / 1024 == pytest.approx(ratio, abs=5e-4)
    assert float(spread(values, (224, 224)).sum()) == pytest.approx(1, rel=1e-12)


# 6. Explaining.


def _saturating() -> nn.Module:
    """A ReLU6 that saturates for large images alone, whose intercept some images have and others not."""
    torch.manual_seed(5)
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU6(), nn.Conv2d(4, 3, 3), nn.SiLU(), nn.Flatten(), nn.Linear(3 * 5 * 4, 4)]
    return randomise(nn.Sequential(*layers)).double()


def _mixed() -> Tensor:
    """The first of five saturates the ReLU6."""
    images = random_images(5, 2, 9, 8)
    images[0] *= 6
    images[1:] /= 6
    return images


@pytest.mark.parametrize("method", MAPS)
def test_an_image_has_the_same_map_and_parts_in_any_chunk(method: str) -> None:
    model, images, target = _saturating(), _mixed(), [3, 1, 0, 2, 1]
    with torch.no_grad():
        saturated = (model[:2](images) == 6).flatten(1).any(1)
    assert saturated.tolist() == [True, False, False, False, False]
    whole = sl.explain(model, images, method, target)
    for chunk in (1, 2, 3):
        cut = sl.explain(model, images, method, target, chunk=chunk)
        torch.testing.assert_close(cut[method], whole[method], rtol=1e-12, atol=1e-12)
        assert set(cut.checks.decomposition) == set(whole.checks.decomposition)
        for name, parts in cut.checks.decomposition.items():
            expected = whole.checks.decomposition[name]
            assert parts.parts == expected.parts
            torch.testing.assert_close(parts.amounts, expected.amounts, rtol=1e-12, atol=1e-12)


def test_an_image_alone_has_the_map_it_has_among_others() -> None:
    model, images = _small("residual"), _batch()
    together = sl.explain(model, images, MAPS, TARGET)
    for index, label in enumerate(TARGET):
        alone = sl.explain(model, images[index : index + 1], MAPS, label)
        for name in MAPS:
            torch.testing.assert_close(alone[name][0], together[name][index], rtol=1e-12, atol=1e-12)


def test_several_targets_share_a_pass_and_get_what_each_gets_alone() -> None:
    model, images = _saturating(), _mixed()
    targets = [0, [3, 1, 0, 2, 1], sl.Pair(0, 2), sl.Unit("2", 1), None]
    for found, target in zip(sl.explain(model, images, MAPS, targets=targets), targets, strict=True):
        alone = sl.explain(model, images, MAPS, target)
        for name in MAPS:
            torch.testing.assert_close(found[name], alone[name], rtol=1e-12, atol=1e-12)
        for name in DECOMPOSING:
            ours, theirs = found.checks.decomposition[name], alone.checks.decomposition[name]
            assert ours.parts == theirs.parts
            torch.testing.assert_close(ours.amounts, theirs.amounts, rtol=1e-12, atol=1e-14)
        assert_complete(found, alone.values, 1e-12)


def test_one_target_may_be_refused_and_another_explained() -> None:
    def share(output: Tensor, images: Tensor) -> Tensor:
        return output.softmax(1)[:, 0]

    refused, explained = sl.explain(
        _small("plain"), _batch(), ["gradient", "full_grad"], targets=[share, 0], on_refusal="record"
    )
    assert re.search(r"\bsoftmax in .*forward", refused.refused["full_grad"])
    assert set(refused.maps) == {"gradient"}
    assert set(explained.maps) == {"gradient", "full_grad"}
    assert explained.checks.decomposition["full_grad"].residual.abs().max() < 1e-13


def test_a_pair_is_decomposed_into_the_difference_of_the_decompositions() -> None:
    model, images = _small("plain"), _batch()
    pair, first, second = sl.explain(model, images, "full_grad_signed", targets=[sl.Pair(2, 0), 2, 0])
    assert_complete(pair, first.values - second.values, 1e-12)
    parts = [explanation.checks.decomposition["full_grad_signed"] for explanation in (pair, first, second)]
    torch.testing.assert_close(parts[0].amounts, parts[1].amounts - parts[2].amounts, rtol=1e-11, atol=1e-13)
    difference = first["full_grad_signed"] - second["full_grad_signed"]
    torch.testing.assert_close(pair["full_grad_signed"], difference, rtol=1e-11, atol=1e-13)


def test_a_hidden_unit_is_decomposed_into_the_layers_up_to_it() -> None:
    model, images = _small("plain"), _batch()
    explanation = sl.explain(model, images, "full_grad_signed", sl.Unit("4", 3, (1, 0)))
    with torch.no_grad():
        values = model[:5](images)[:, 3, 1, 0]
    assert_complete(explanation, values, 1e-12)
    parts = explanation.checks.decomposition["full_grad_signed"]
    assert parts.parts == ("the input", "conv2d in 0", "batch_norm in 1", "conv2d in 4")
    assert not parts.remainder.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_low_precision_the_maps_are_single_and_off_by_rounding(dtype: torch.dtype) -> None:
    """By a few units of rounding; averages over noise more, where rounding turns a rectifier over."""
    model, images, unit = _small("residual").to(dtype), _batch().to(dtype), torch.finfo(dtype).eps
    explanation = sl.explain(model, images, MAPS, TARGET)
    exact = sl.explain(model.double(), images.double(), MAPS, TARGET)
    for name in MAPS:
        assert explanation[name].dtype is torch.float32
        error = (explanation[name] - exact[name]).flatten(1).norm(dim=1) / exact[name].flatten(1).norm(dim=1)
        assert float(error.max()) < (8 if name == "smooth_full_grad" else 4) * unit, name
    for name in DECOMPOSING:
        parts = explanation.checks.decomposition[name]
        assert bool((parts.residual.abs() <= 4 * unit * parts.amounts.abs().sum(0)).all())


def test_the_model_is_left_as_it_was() -> None:
    model = _small("residual")
    model.stem.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    first = sl.explain(model, _batch(), MAPS, TARGET)
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    for module in model.modules():
        assert not module.training
        assert not [*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks]
    again = sl.explain(model, _batch(), MAPS, TARGET)
    assert all(torch.equal(first[name], again[name]) for name in MAPS)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("method", MAPS)
def test_gradient_checkpointing_is_refused(method: str, reentrant: bool) -> None:
    model = net(lambda m, x: m.c2(checkpoint(lambda t: m.c1(t).relu(), x, use_reentrant=reentrant)))
    with pytest.raises(sl.RefusalError, match=r"(?i)checkpoint"):
        sl.explain(model, random_images(2, 2, 5, 4), method, 1)


def _doubled(module: nn.Module, inside: tuple[Tensor, ...], outside: object) -> tuple[Tensor | None, ...]:
    return tuple(None if signal is None else 2 * signal for signal in inside)


HOOKS: dict[str, Callable[[Net], object]] = {
    "on a tensor": lambda m: m.c2.register_forward_hook(
        lambda _m, _i, output: output.register_hook(lambda signal: 2 * signal) and None
    ),
    "on a module": lambda m: m.c2.register_full_backward_hook(_doubled),
    "on a module, the old kind": lambda m: m.c2.register_backward_hook(_doubled),
    "before a module": lambda m: m.c2.register_full_backward_pre_hook(lambda _, outside: (2 * outside[0],)),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_that_change_the_gradient_are_refused(hook: str) -> None:
    model = net(lambda m, x: m.c2(m.c1(x).relu()).relu())
    HOOKS[hook](model)
    with pytest.raises(sl.RefusalError, match="gradient hook"):
        sl.explain(model, random_images(2, 2, 5, 4), "full_grad_signed", 1)


def test_forward_hooks_are_part_of_the_network() -> None:
    model = net(lambda m, x: m.c2(m.c1(x).relu()).relu())
    model.c1.register_forward_hook(lambda _m, _i, output: output + 0.5)
    images = random_images(2, 2, 5, 4)
    with torch.no_grad():
        assert_complete(sl.explain(model, images, "full_grad_signed", 1), model(images)[:, 1], 1e-12)


def test_choices_without_a_meaning_are_refused() -> None:
    with pytest.raises(sl.InputError, match="hide their sign"):
        FullGrad(Sign.SIGNED)
    with pytest.raises(sl.InputError, match=r"FullGrad.*derivatives.*guided_backprop"):
        sl.Method(propagation=GUIDED_BACKPROP, aggregation=FullGrad())
    with pytest.raises(sl.InputError, match=r"path.*FullGrad.*other layers"):
        sl.Method(Way(10), aggregation=FullGrad())
    with pytest.raises(sl.InputError, match=r"InputSignal.*no terms.*`before`"):
        sl.Method(Noise(4, before=True))
    with pytest.raises(sl.InputError, match="reads no layer"):
        sl.catalogue()["full_grad"].at("layer1")


# 7. What is written.


def test_the_manifest_holds_the_decomposition_of_the_methods_that_have_one(tmp_path: Path) -> None:
    model, images = _small("plain"), _batch()
    explanation = sl.explain(model, images, ["gradient", "grad_cam", *MAPS], TARGET)
    explanation.save(tmp_path)
    methods = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["methods"]
    assert {name for name, entry in methods.items() if "decomposition" in entry} == set(DECOMPOSING)
    assert {name for name, entry in methods.items() if "completeness_residual" in entry} == set(DECOMPOSING)
    terms = _terms(model, images, TARGET)
    amounts = [float(term.sum((1, 2, 3)).mean()) for term in (terms.input, *terms.layers)]
    dense = model[-1].bias.detach()[TARGET]
    for name in DECOMPOSING:
        written = methods[name]["decomposition"]
        parts = ["the input", "conv2d in 0", "batch_norm in 1", "conv2d in 4", "linear in 7"]
        assert [row["part"] for row in written["parts"]] == parts
        assert [row["in map"] for row in written["parts"]] == [True, True, True, True, False]
        found = [row["amount"] for row in written["parts"]]
        np.testing.assert_allclose(found, [*amounts, float(dense.mean())], rtol=1e-12)
        np.testing.assert_allclose(written["remainder"], dense, rtol=1e-12)
        assert max(map(abs, methods[name]["completeness_residual"])) < 1e-13
        assert len(methods[name]["completeness_residual"]) == 3


def test_checks_are_kept_only_under_names_of_methods() -> None:
    product = sl.Method(aggregation=FullGrad(), times=sl.catalogue()["grad_cam"], name="product")
    explanation = sl.explain(_small("plain"), _batch(), product, TARGET)
    assert set(explanation.checks.decomposition) <= {"product"}
    assert set(explanation.checks.completeness) <= {"product"}


@pytest.mark.parametrize("choose", [lambda z: z[:, 0] + 1, lambda z: z[:, 0] ** 2, lambda z: z[:, 0].sigmoid()])
def test_operations_on_one_value_for_each_row_are_heard(choose: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    model, images = model.double(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    found = sl.explain(model, images, ["gradient", "full_grad"], target=lambda output: choose(output))
    parts = found.checks.decomposition["full_grad"]
    with torch.no_grad():
        torch.testing.assert_close(parts.amounts.sum(0), choose(model(images)), rtol=1e-12, atol=0)


def test_layers_can_be_resized_as_the_authors_code_does() -> None:
    """Corner centres on corner centres: pixel p reads position p (n - 1) / (N - 1) of n cells, linear in between."""
    torch.manual_seed(0)
    stem, head = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Linear(3 * 16, 2)
    model = nn.Sequential(stem, nn.ReLU(), nn.Flatten(), head).double().eval()
    image = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    method = sl.Method(aggregation=FullGrad(align_corners=True), name="authors")
    found = sl.explain(model, image, [method, "full_grad"], 1)

    hidden = (head.weight[1].reshape(3, 4, 4) * (stem(image)[0] > 0)).detach().numpy()
    leaf = image.clone().requires_grad_()
    gradient = torch.autograd.grad(model(leaf)[0, 1], leaf)[0][0].numpy()

    def brought(term: Array) -> Array:
        size = np.abs(term)
        return ((size - size.min()) / (size.max() - size.min() + 1e-6)).sum(0)

    matrix = np.zeros((8, 4))
    for pixel in range(8):
        place = pixel * 3 / 7
        cell = min(int(place), 2)
        matrix[pixel, cell], matrix[pixel, cell + 1] = cell + 1 - place, place - cell
    at_layer = brought(stem.bias.detach().numpy()[:, None, None] * hidden)
    expected = brought(image[0].numpy() * gradient) + matrix @ at_layer @ matrix.T
    np.testing.assert_allclose(found["authors"][0, 0].numpy(), expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found["full_grad"], found["authors"], rtol=0.01)
    with pytest.raises(sl.InputError, match="sums"):
        FullGrad(Sign.SIGNED, rescale=False, align_corners=True)
