"""One image gets the map that it gets in a batch, whatever the memory of signals behind batch and instance norms."""

import threading
from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline as sl
from helpers import zoo
from sightline.propagation import deep_taylor, epsilon_gamma_box

DRAWN = torch.Generator().manual_seed(0)
C = 4
MEAN, WEIGHT, BIAS = (torch.randn(C, generator=DRAWN, dtype=torch.float64) for _ in range(3))
VARIANCE = torch.rand(C, generator=DRAWN, dtype=torch.float64) + 0.5
EVERY = [
    sl.Method(row.sampling, RANGED[name], row.aggregation, name=name) if name in (RANGED := {
        "lrp_epsilon_gamma_box": epsilon_gamma_box(-9.0, 9.0), "deep_taylor": deep_taylor(-9.0, 9.0)
    }) else name
    for name, row in sl.catalogue().items()
]  # fmt: skip


def by_hand(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """A norm by arithmetic alone."""
    over = (1, -1, *[1] * (x.dim() - 2))
    scaled = (x - mean.view(len(mean), -1, *over[2:])) / (variance.view(len(variance), -1, *over[2:]) + 1e-5).sqrt()
    return scaled * WEIGHT.view(over) + BIAS.view(over)


def _fixed(x: Tensor) -> Tensor:
    return by_hand(x, MEAN[None], VARIANCE[None])


def _own(x: Tensor) -> Tensor:
    axes = tuple(range(2, x.dim()))
    return by_hand(x, x.mean(axes), x.var(axes, unbiased=False))


SPELLINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "F.batch_norm": (lambda x: F.batch_norm(x, MEAN, VARIANCE, WEIGHT, BIAS), _fixed),
    "by keywords": (
        lambda x: F.batch_norm(running_mean=MEAN, running_var=VARIANCE, weight=WEIGHT, bias=BIAS, input=x), _fixed
    ),
    "torch.batch_norm": (
        lambda x: torch.batch_norm(x, WEIGHT, BIAS, MEAN, VARIANCE, False, 0.1, 1e-5, False), _fixed
    ),
    "native": (
        lambda x: torch.ops.aten.native_batch_norm(x, WEIGHT, BIAS, MEAN, VARIANCE, False, 0.1, 1e-5)[0], _fixed
    ),
    "no training": (
        lambda x: torch.ops.aten._native_batch_norm_legit_no_training(x, WEIGHT, BIAS, MEAN, VARIANCE, 0.1, 1e-5)[0],
        _fixed,
    ),
    "in another thread": (lambda x: in_a_thread(lambda: F.batch_norm(x, MEAN, VARIANCE, WEIGHT, BIAS)), _fixed),
    "F.instance_norm": (lambda x: F.instance_norm(x, weight=WEIGHT, bias=BIAS), _own),
    "with statistics": (lambda x: F.instance_norm(x, MEAN, VARIANCE, WEIGHT, BIAS, False), _fixed),
    "F.group_norm": (lambda x: F.group_norm(x, C, WEIGHT, BIAS), _own),
}  # fmt: skip


def in_a_thread(work: Callable[[], Tensor]) -> Tensor:
    found = []
    worker = threading.Thread(target=lambda: found.append(work()))
    worker.start()
    worker.join()
    return found[0]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    # what transposed tokens leave
    "tokens": lambda x: x.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).unflatten(2, x.shape[2:]),
    "with gaps": lambda x: torch.stack([x, x], -1)[..., 0],
}


@pytest.mark.parametrize("others", [[], ["grad_cam"], ["full_grad", "lrp_0"]], ids=len)
@pytest.mark.parametrize("name", SPELLINGS)
def test_the_gradient_is_right_in_every_layout(name: str, others: list[str]) -> None:
    """The input's layout decides how the norm's kernel reads the signal, and the layout behind it the signal's own."""
    norm, exact = SPELLINGS[name]
    images = torch.randn(1, C, 5, 3, generator=DRAWN, dtype=torch.float64)
    weights = torch.randn(1, C, 5, 3, generator=DRAWN, dtype=torch.float64)
    for (before, arrange), (after, back) in product(LAYOUTS.items(), LAYOUTS.items()):
        x = images.clone().requires_grad_()
        (expected,) = torch.autograd.grad((exact(x) * weights).sum(), x)
        signal = back(weights)

        def model(x: Tensor, arrange: Callable = arrange, signal: Tensor = signal) -> Tensor:
            return Weighed.apply(norm(arrange(1.0 * x)), signal)

        found = sl.explain(model, images, ["gradient", *others], lambda z: z.sum(1), on_refusal="record")
        difference = float((found["gradient"] - expected).abs().max())
        assert difference < 1e-12, f"{name}, input {before}, signal {after}: {difference:.1e}"


class Weighed(torch.autograd.Function):
    """A scalar product whose gradient is handed on in the memory that it has."""

    @staticmethod
    def forward(ctx, h, weights):
        ctx.weights = weights
        return (h * weights).flatten(1).sum(1, keepdim=True)

    @staticmethod
    def backward(ctx, signal):
        return ctx.weights, None


class Stem(nn.Module):
    """A convolution and a norm, and what follows."""

    def __init__(self, norm: nn.Module, after: Callable[["Stem", Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.after = nn.Conv2d(3, 8, 2, 2), norm, after
        self.inner, self.again = nn.Linear(8, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.layer_norm, self.qkv = nn.LayerNorm(8), nn.Linear(8, 24)
        self.bn, self.head = nn.BatchNorm2d(8), nn.Linear(8, 4)
        zoo.settle(self)
        for module in self.modules():
            if isinstance(module, nn.InstanceNorm2d) and module.track_running_stats:
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.3, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.after(self, self.norm(self.conv(x))))


def tokens(h: Tensor) -> Tensor:
    return h.flatten(2).transpose(1, 2)


def image(t: Tensor) -> Tensor:
    return t.transpose(1, 2).unflatten(2, (4, 4))


def _attention(m: Stem, h: Tensor) -> Tensor:
    query, key, value = m.qkv(tokens(h)).chunk(3, dim=-1)
    return F.scaled_dot_product_attention(query, key, value).mean(1)


AFTER: dict[str, Callable[[Stem, Tensor], Tensor]] = {
    "tokens": lambda m, h: m.inner(tokens(h)).relu().mean(1),
    "tokens, normalised": lambda m, h: m.inner(m.layer_norm(tokens(h))).relu().mean(1),
    "channels last": lambda m, h: m.inner(h.permute(0, 2, 3, 1)).relu().mean((1, 2)),
    "attention": _attention,
    "an image again": lambda m, h: m.again(m.bn(image(m.inner(tokens(h).relu()))).relu()).relu().mean((2, 3)),
    "an image, then tokens": lambda m, h: m.inner(tokens(m.bn(image(m.inner(tokens(h)))))).relu().mean(1),
}
NORMS = {
    "batch norm": lambda: nn.BatchNorm2d(8),
    "instance norm": lambda: nn.InstanceNorm2d(8, affine=True),
    "instance norm with statistics": lambda: nn.InstanceNorm2d(8, track_running_stats=True),
    "group norm": lambda: nn.GroupNorm(2, 8),
}
NETWORKS = {f"{norm}, {after}": (norm, after) for norm, after in product(NORMS, AFTER)}


# Beside a rule for batch norms, torch's own has no part in the gradient either.
UNRULED = [name for name, row in sl.catalogue().items() if not any(factor.propagation.rules for factor in row.factors)]


def assert_one_image_is_as_in_a_batch(model: nn.Module, images: Tensor, target: object) -> None:
    for methods in (EVERY, UNRULED):
        both = sl.explain(model, images, methods, target, references=images.flip(0), on_refusal="record")
        one = sl.explain(model, images[:1], methods, target, references=images.flip(0), on_refusal="record")
        assert set(one.maps) == set(both.maps)
        for name, found in one.maps.items():
            expected = both[name][:1]
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()), msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_every_method_gives_one_image_the_map_it_has_in_a_batch(name: str) -> None:
    norm, after = NETWORKS[name]
    model = Stem(NORMS[norm](), AFTER[after]).double().eval()
    assert_one_image_is_as_in_a_batch(model, torch.randn(2, 3, 8, 8, generator=DRAWN, dtype=torch.float64), 1)


PERMUTED = ("permute", "channels last", "tokens", "attention", "vision transformer", "BN", "norm", "shuffle", "stack")


@pytest.mark.slow
@pytest.mark.parametrize(
    "trap", [trap for trap in zoo.TRAPS if any(word in trap.name for word in PERMUTED)], ids=lambda trap: trap.name
)
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_the_zoo_gives_one_image_the_map_it_has_in_a_batch(trap: zoo.Trap) -> None:
    images = torch.randn(2, *trap.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).clamp(-3, 3)
    assert_one_image_is_as_in_a_batch(trap.network(), images, trap.target or 0)
