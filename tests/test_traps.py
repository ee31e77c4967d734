"""Ordinary ways of writing a network: every method right against slow reference code, or refused by name."""

import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import sightline as sl
import traps

RULES = ["gradient", "guided_backprop", "deconvnet"]


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("trap", traps.TRAPS, ids=lambda trap: trap.name)
def test_every_spelling_is_right(trap: traps.Trap, images: Tensor) -> None:
    network = trap.network()
    target = [0, 1, 2, 0]
    explanation = sl.explain(network, images, RULES, target)
    for rule in RULES:
        for image, label, found in zip(images, target, explanation[rule], strict=True):
            expected = traps.reference_map(trap, network, image, label, rule)
            np.testing.assert_allclose(found.flatten().numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("trap", traps.TRAPS, ids=lambda trap: trap.name)
def test_the_traps_bite(trap: traps.Trap, images: Tensor) -> None:
    """Were the rules not applied, the maps would differ: otherwise the test above could not fail."""
    network = trap.network()
    maps = {rule: [traps.reference_map(trap, network, image, 1, rule) for image in images] for rule in RULES}
    assert not np.allclose(maps["gradient"], maps["guided_backprop"])
    assert not np.allclose(maps["guided_backprop"], maps["deconvnet"])


class Squarer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


def _in_a_thread(m: traps.Base, x: Tensor) -> Tensor:
    found = []
    worker = threading.Thread(target=lambda: found.append(torch.relu(m.first(x))))
    worker.start()
    worker.join()
    return m.relu(m.second(found[0]))


ESCAPES = {
    "scripted sub-module": lambda m, x: m.relu(m.second(_scripted(m.first(x)))),
    "autograd.Function of its own": lambda m, x: m.relu(m.second(Squarer.apply(m.first(x)))),
    "another thread": _in_a_thread,
    "reentrant checkpoint": lambda m, x: m.relu(
        m.second(checkpoint(lambda t: m.relu(m.first(t)), x, use_reentrant=True))
    ),
    "checkpoint": lambda m, x: m.relu(m.second(checkpoint(lambda t: m.relu(m.first(t)), x, use_reentrant=False))),
}
IN_DISGUISE = {
    "x * (x > 0)": (lambda m, x: m.relu(m.second((h := m.first(x)) * (h > 0))), "mul"),
    "x * mask.float()": (lambda m, x: m.relu(m.second((h := m.first(x)) * (h > 0).double())), "mul"),
    "where": (lambda m, x: m.relu(m.second(torch.where((h := m.first(x)) > 0, h, torch.zeros_like(h)))), "where"),
    "masked assignment": (lambda m, x: m.relu(m.second(_assigned(m.first(x)))), "setitem"),
    "mask written into zeros": (lambda m, x: m.relu(m.second((h := m.first(x)) * _written(h))), "mul"),
    "mask written through a view": (lambda m, x: m.relu(m.second((h := m.first(x)) * _through_view(h))), "mul"),
    "new_tensor of a mask": (lambda m, x: m.relu(m.second((h := m.first(x)) * h.new_tensor(h > 0))), "mul"),
    "max over a stack": (lambda m, x: m.relu(m.second(_stacked(m.first(x)).max(0).values)), "max"),
    "amax over a stack": (lambda m, x: m.relu(m.second(_stacked(m.first(x)).amax(0))), "amax"),
    "an operation of the user's": (lambda m, x: m.relu(m.second(my_linear(m.first(x)))), "linear"),
    "LeakyReLU": (lambda m, x: m.relu(m.second(F.leaky_relu(m.first(x)))), "leaky_relu"),
    "GELU": (lambda m, x: m.relu(m.second(F.gelu(m.first(x)))), "gelu"),
    "unknown operation": (lambda m, x: m.relu(m.second(torch.cumsum(m.first(x), 1))), "cumsum"),
}


OUTSIDE = {
    "numpy": lambda m, x: m.relu(
        m.second((h := m.first(x)) * torch.from_numpy((h.detach().numpy() > 0).astype(float)))
    ),
    "a list": lambda m, x: m.relu(m.second((h := m.first(x)) * torch.tensor((h > 0).double().tolist()))),
    "in place on .data": lambda m, x: m.relu(m.second(_data_clamped(m.first(x)))),
    "in place on a detached view": lambda m, x: m.relu(m.second(_detached_relu(m.first(x)))),
    "in place under no_grad": lambda m, x: m.relu(m.second(_no_grad_relu(m.first(x)))),
}


@torch.library.custom_op("sightline_tests::linear", mutates_args=())
def my_linear(x: Tensor) -> Tensor:
    return x.clamp(min=0)


my_linear.register_autograd(
    lambda ctx, grad: grad * (ctx.saved_tensors[0] > 0),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


def _written(h: Tensor) -> Tensor:
    mask = torch.zeros_like(h)
    mask[h > 0] = 1
    return mask


def _through_view(h: Tensor) -> Tensor:
    mask = torch.ones_like(h)
    mask.view(-1).copy_((h > 0).view(-1))
    return mask


def _stacked(h: Tensor) -> Tensor:
    return torch.stack([h, torch.zeros_like(h)])


def _data_clamped(h: Tensor) -> Tensor:
    h.data.clamp_(0)
    return h


def _detached_relu(h: Tensor) -> Tensor:
    h.detach().relu_()
    return h


def _no_grad_relu(h: Tensor) -> Tensor:
    with torch.no_grad():
        h.relu_()
    return h


def _assigned(h: Tensor) -> Tensor:
    h = h.clone()
    h[h < 0] = 0
    return h


def _scripted(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(_doubled)(x)


def _doubled(x: Tensor) -> Tensor:
    return torch.relu(x * 2)


def _network(body) -> nn.Module:
    return traps.Trap("", body, lambda layer, x: x).network()


@pytest.mark.parametrize("name", ESCAPES)
def test_what_escapes_the_interception_is_refused(name: str, images: Tensor) -> None:
    network = _network(ESCAPES[name])
    with pytest.raises(sl.RefusalError, match=r"cannot be (computed|pulled back)"):
        sl.explain(network, images, "guided_backprop", 0)


@pytest.mark.parametrize("name", [name for name in ESCAPES if "checkpoint" not in name])
def test_the_gradient_of_what_escapes_is_still_right(name: str, images: Tensor) -> None:
    network = _network(ESCAPES[name])
    x = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(network(x)[:, 0].sum(), x)
    torch.testing.assert_close(sl.explain(network, images, "gradient", 0)["gradient"], expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["reentrant checkpoint", "checkpoint"])
def test_a_checkpoint_is_refused_even_for_the_gradient(name: str, images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match="checkpoint"):
        sl.explain(_network(ESCAPES[name]), images, "gradient", 0)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
@pytest.mark.parametrize("name", IN_DISGUISE)
def test_a_rectifier_in_disguise_or_an_undefined_operation_is_named(name: str, images: Tensor) -> None:
    body, operation = IN_DISGUISE[name]
    with pytest.raises(sl.RefusalError, match=f"{operation}.* in the model's own forward"):
        sl.explain(_network(body), images, ["guided_backprop"], 0)


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_happens_outside_the_graph_is_refused(name: str, images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match=r"taken out of torch|outside the graph"):
        sl.explain(_network(OUTSIDE[name]), images, "guided_backprop", 0)


def test_a_network_without_rectifiers_is_refused(images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match="would equal the plain gradient"):
        sl.explain(_network(lambda m, x: torch.sigmoid(m.first(x))), images, "guided_backprop", 0)


def test_the_other_methods_go_on_when_one_is_refused(images: Tensor) -> None:
    network = _network(IN_DISGUISE["GELU"][0])
    explanation = sl.explain(network, images, ["gradient", "deconvnet"], 0, on_refusal="record")
    assert set(explanation.maps) == {"gradient"}
    with pytest.raises(sl.RefusalError, match="gelu"):
        explanation["deconvnet"]
