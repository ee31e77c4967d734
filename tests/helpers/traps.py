"""Ordinary ways of writing a network that libraries of the field get wrong, each with its reference.

A trap is a torch module on images of shape (batch, 1, 2, 3) and the same network as a graph of matrices.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import erf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from helpers import reference as ref

SIZE = 6
CLASSES = 3
METHODS = ref.methods(q=50.0, low=-3.0, high=3.0)


class Base(nn.Module):
    """Two hidden layers of six units and a head; a trap says what happens in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(SIZE, SIZE)
        self.second = nn.Linear(SIZE, SIZE)
        self.head = nn.Linear(SIZE, CLASSES)
        # So that the highest score is positive and the lowest is not, whatever the body.
        self.head.bias.data.copy_(torch.tensor([1.0, 0.0, -1.0]))
        self.relu = nn.ReLU()
        self.inplace = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.flatten(1)))

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Trap:
    name: str
    body: Callable[[Base, Tensor], Tensor]
    reference: Callable[[Layers, ref.Node], ref.Node]
    classes: ClassVar[int] = CLASSES
    shape: ClassVar[tuple[int, ...]] = (1, 2, 3)
    target: ClassVar[None] = None

    def network(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        body = self.body

        class Network(Base):
            def body(self, x: Tensor) -> Tensor:
                return body(self, x)

        return Network().double().eval()

    def graph(self, network: nn.Module, image: Tensor) -> tuple[ref.Node, ref.Node]:
        """The scores and the image they are computed from."""
        layer, start = Layers(network), ref.image(image)
        return layer("head", self.reference(layer, ref.flatten(start))), start


class Layers:
    """The trap's layers as functions on reference nodes."""

    def __init__(self, network: nn.Module) -> None:
        self._weights = {k: v.detach().numpy().astype(float) for k, v in network.state_dict().items()}

    def __call__(self, name: str, x: ref.Node) -> ref.Node:
        return ref.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])


def _skip_inplace(m: Base, x: Tensor) -> Tensor:
    h = m.first(x)
    out = m.second(m.relu(h))
    out += h
    return F.relu(out, inplace=True)


def _dropped_return(m: Base, x: Tensor) -> Tensor:
    h = m.first(x)
    h.relu_()
    out = m.second(h)
    torch.relu_(out)
    return out


def _half_in_place(m: Base, x: Tensor) -> Tensor:
    h = m.first(x)
    h[:, :3].relu_()
    return m.relu(m.second(h))


def _view_made_before(m: Base, x: Tensor) -> Tensor:
    h = m.first(x)
    view = h.view(-1, 2, 3)
    F.relu_(h)
    return m.relu(m.second(view.flatten(1)))


def _dense(m: Base, x: Tensor) -> Tensor:
    h = m.first(x)
    return m.relu(m.second(h)) + m.second(m.relu(h))


def _pool(m: Base, x: Tensor) -> Tensor:
    h = F.relu(m.first(x)).view(-1, 1, 2, 3)
    pooled = F.max_pool2d(h, (2, 1)).flatten(1)
    return m.relu(m.second(torch.cat([pooled, pooled], dim=1)))


def _pool_reference(layer: Layers, x: ref.Node) -> ref.Node:
    pooled = ref.MaxPool(ref.relu(layer("first", x)), [[0, 3], [1, 4], [2, 5]])
    return ref.relu(layer("second", ref.join(pooled, pooled)))


def _plain(layer: Layers, x: ref.Node) -> ref.Node:
    return ref.relu(layer("second", ref.relu(layer("first", x))))


def _skip_reference(layer: Layers, x: ref.Node) -> ref.Node:
    h = layer("first", x)
    return ref.relu(ref.add(layer("second", ref.relu(h)), h))


def _twice_reference(layer: Layers, x: ref.Node) -> ref.Node:
    return ref.relu(layer("first", ref.relu(layer("first", x))))


def _dense_reference(layer: Layers, x: ref.Node) -> ref.Node:
    h = layer("first", x)
    return ref.add(ref.relu(layer("second", h)), layer("second", ref.relu(h)))


def _half_reference(layer: Layers, x: ref.Node) -> ref.Node:
    h = layer("first", x)
    return ref.relu(layer("second", ref.join(ref.relu(ref.part(h, 0, 3)), ref.part(h, 3, 6))))


def _six(layer: Layers, x: ref.Node) -> ref.Node:
    return ref.relu(layer("second", ref.relu(ref.scale(layer("first", x), 9.0), 6.0)))


def _tensor_zero(h: Tensor) -> Tensor:
    return torch.maximum(h, torch.zeros_like(h))


TRAPS = [
    Trap("module ReLU used twice", lambda m, x: m.relu(m.second(m.relu(m.first(x)))), _plain),
    Trap("functional ReLU", lambda m, x: F.relu(m.second(torch.relu(m.first(x)))), _plain),
    Trap("method ReLU", lambda m, x: m.second(m.first(x).relu()).relu(), _plain),
    Trap("aten ReLU", lambda m, x: torch.ops.aten.relu(m.second(torch.ops.aten.relu(m.first(x)))), _plain),
    Trap("in-place module", lambda m, x: m.inplace(m.second(m.inplace(m.first(x)))), _plain),
    Trap("in-place, return value dropped", _dropped_return, _plain),
    Trap("in-place on a view", _half_in_place, _half_reference),
    Trap("in-place after a view was made", _view_made_before, _plain),
    Trap("clamp(min=0)", lambda m, x: m.second(m.first(x).clamp(min=0)).clamp_min(0), _plain),
    Trap("in-place clamp", lambda m, x: m.second(m.first(x).clamp_(min=0)).clamp_min_(0), _plain),
    Trap("maximum with zero", lambda m, x: _tensor_zero(m.second(_tensor_zero(m.first(x)))), _plain),
    Trap("max with other=", lambda m, x: m.second(torch.max(m.first(x), other=torch.zeros(()))).relu(), _plain),
    Trap("threshold", lambda m, x: F.threshold(m.second(F.threshold(m.first(x), 0, 0)), 0, 0, True), _plain),
    Trap("weighted layer twice", lambda m, x: m.relu(m.first(m.relu(m.first(x)))), _twice_reference),
    Trap("ReLU and skip share a tensor", lambda m, x: m.relu(m.second(m.relu(h := m.first(x))) + h), _skip_reference),
    Trap("in-place add and ReLU", _skip_inplace, _skip_reference),
    Trap("two layers share a tensor", _dense, _dense_reference),
    Trap("max pool and concat", _pool, _pool_reference),
    Trap("ReLU6", lambda m, x: m.relu(m.second(F.relu6(9 * m.first(x)))), _six),
    Trap("in-place ReLU6", lambda m, x: m.relu(m.second(F.relu6(9 * m.first(x), inplace=True))), _six),
    Trap("hardtanh from 0", lambda m, x: m.relu(m.second(F.hardtanh(9 * m.first(x), 0.0, 6.0))), _six),
    Trap(
        "compiled function", lambda m, x: torch.compile(F.relu)(m.second(torch.compile(torch.relu)(m.first(x)))), _plain
    ),
    Trap("dropout in eval mode", lambda m, x: m.relu(m.second(F.dropout(m.relu(m.first(x)), 0.5, m.training))), _plain),
]


class Rectified(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


def _in_a_thread(m: Base, x: Tensor) -> Tensor:
    found = []
    worker = threading.Thread(target=lambda: found.append(torch.relu(m.first(x))))
    worker.start()
    worker.join()
    return m.relu(m.second(found[0]))


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


def _instead(
    function: Callable[..., np.ndarray], word: str, gradient: str = ""
) -> Callable[[Layers, ref.Node], ref.Node]:
    """The plain network with another function for the first ReLU, one that every rule refuses with this word."""
    return lambda layer, x: ref.relu(
        layer("second", ref.refused(function, layer("first", x), name=word, gradient=gradient))
    )


def _instead_activation(function: Callable[..., np.ndarray], word: str) -> Callable[[Layers, ref.Node], ref.Node]:
    return lambda layer, x: ref.relu(layer("second", ref.activation(layer("first", x), function, word)))


def _rectified(h: np.ndarray) -> np.ndarray:
    return np.where(h.real > 0, h, 0)


def _unseen(h: np.ndarray) -> np.ndarray:
    """The value is rectified where autograd does not look."""
    return np.where(h.real > 0, h.real, 0) + 1j * h.imag


def _negative(h: np.ndarray) -> np.ndarray:
    return np.where(h.real < 0, h, 0)


def _leaky(h: np.ndarray) -> np.ndarray:
    return np.where(h.real > 0, h, 0.01 * h)


def _gelu(h: np.ndarray) -> np.ndarray:
    return h * (1 + erf(h / np.sqrt(2))) / 2


ESCAPES = [
    Trap(
        "scripted sub-module",
        lambda m, x: m.relu(m.second(_scripted(m.first(x)))),
        _instead(lambda h: 2 * _rectified(h), "scripted"),
    ),
    Trap(
        "autograd.Function of its own",
        lambda m, x: m.relu(m.second(Rectified.apply(m.first(x)))),
        _instead(_rectified, "Rectified"),
    ),
    Trap("another thread", _in_a_thread, _instead(_rectified, "Relu")),
    Trap(
        "reentrant checkpoint",
        lambda m, x: m.relu(m.second(checkpoint(lambda t: m.relu(m.first(t)), x, use_reentrant=True))),
        _instead(_rectified, "checkpoint"),
    ),
    Trap(
        "checkpoint",
        lambda m, x: m.relu(m.second(checkpoint(lambda t: m.relu(m.first(t)), x, use_reentrant=False))),
        _instead(_rectified, "checkpoint"),
    ),
]
IN_DISGUISE = [
    Trap("x * (x > 0)", lambda m, x: m.relu(m.second((h := m.first(x)) * (h > 0))), _instead(_rectified, "mul")),
    Trap(
        "x * mask.float()",
        lambda m, x: m.relu(m.second((h := m.first(x)) * (h > 0).double())),
        _instead(_rectified, "mul"),
    ),
    Trap(
        "where",
        lambda m, x: m.relu(m.second(torch.where((h := m.first(x)) > 0, h, torch.zeros_like(h)))),
        _instead(_rectified, "where"),
    ),
    Trap("masked assignment", lambda m, x: m.relu(m.second(_assigned(m.first(x)))), _instead(_rectified, "setitem")),
    Trap(
        "mask written into zeros",
        lambda m, x: m.relu(m.second((h := m.first(x)) * _written(h))),
        _instead(_rectified, "mul"),
    ),
    Trap(
        "mask written through a view",
        lambda m, x: m.relu(m.second((h := m.first(x)) * _through_view(h))),
        _instead(_rectified, "mul"),
    ),
    Trap(
        "new_tensor of a mask",
        lambda m, x: m.relu(m.second((h := m.first(x)) * h.new_tensor(h > 0))),
        _instead(_rectified, "mul"),
    ),
    Trap(
        "max over a stack",
        lambda m, x: m.relu(m.second(_stacked(m.first(x)).max(0).values)),
        _instead(_rectified, "max"),
    ),
    Trap(
        "amax over a stack", lambda m, x: m.relu(m.second(_stacked(m.first(x)).amax(0))), _instead(_rectified, "amax")
    ),
    Trap(
        "amin over a stack",
        lambda m, x: m.relu(m.second(-_stacked(-m.first(x)).amin(0))),
        _instead(_rectified, "amin"),
    ),
    Trap(
        "the first of two by rank",
        lambda m, x: m.relu(m.second(_stacked(m.first(x)).topk(1, 0).values[0])),
        _instead(_rectified, "topk"),
    ),
    Trap(
        "min with other=",
        lambda m, x: m.relu(m.second(-torch.min(-m.first(x), other=torch.zeros(())))),
        lambda layer, x: ref.relu(
            layer("second", ref.scale(ref.activation(ref.scale(layer("first", x), -1.0), _negative, "minimum"), -1.0))
        ),
    ),
    Trap(
        "picked by an index",
        lambda m, x: m.relu(m.second(_stacked(h := m.first(x)).gather(0, (h <= 0).long()[None])[0])),
        _instead(_rectified, "gather"),
    ),
    Trap(
        "a mask of indices",
        lambda m, x: m.relu(m.second((h := m.first(x)) * (_stacked(h).max(0).indices == 0))),
        _instead(_rectified, "mul"),
    ),
    Trap(
        "an operation of the user's",
        lambda m, x: m.relu(m.second(my_linear(m.first(x)))),
        _instead(_rectified, "linear"),
    ),
    Trap(
        "LeakyReLU", lambda m, x: m.relu(m.second(F.leaky_relu(m.first(x)))), _instead_activation(_leaky, "leaky_relu")
    ),
    Trap("GELU", lambda m, x: m.relu(m.second(F.gelu(m.first(x)))), _instead_activation(_gelu, "gelu")),
    Trap(
        "unknown operation", lambda m, x: m.relu(m.second(torch.cumsum(m.first(x), 1))), _instead(np.cumsum, "cumsum")
    ),
]
OUTSIDE = [
    Trap(
        "numpy",
        lambda m, x: m.relu(m.second((h := m.first(x)) * torch.from_numpy((h.detach().numpy() > 0).astype(float)))),
        _instead(_rectified, "numpy"),
    ),
    Trap(
        "a list",
        lambda m, x: m.relu(m.second((h := m.first(x)) * torch.tensor((h > 0).double().tolist()))),
        _instead(_rectified, "tolist"),
    ),
    Trap(
        "in place on .data",
        lambda m, x: m.relu(m.second(_data_clamped(m.first(x)))),
        _instead(_unseen, "outside the graph"),
    ),
    Trap(
        "in place on a detached view",
        lambda m, x: m.relu(m.second(_detached_relu(m.first(x)))),
        _instead(_unseen, "outside the graph"),
    ),
    Trap(
        "in place under no_grad",
        lambda m, x: m.relu(m.second(_no_grad_relu(m.first(x)))),
        _instead(_unseen, "outside the graph"),
    ),
]


def reference_map(trap: Trap, network: nn.Module, image: Tensor, label: int, rule: str) -> np.ndarray:
    """The map of one image by the reference code, flat."""
    scores, start = trap.graph(network, image)
    return ref.explain(ref.pick(scores, label), start, METHODS[rule])
