"""Ordinary ways of writing a network that libraries of the field get wrong, each with its reference.

A trap is a torch module on images of shape (batch, 1, 2, 3) and the same network as a graph of matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import reference as ref

SIZE = 6
CLASSES = 3


class Base(nn.Module):
    """Two hidden layers of six units and a head; a trap says what happens in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(SIZE, SIZE)
        self.second = nn.Linear(SIZE, SIZE)
        self.head = nn.Linear(SIZE, CLASSES)
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

    def network(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        body = self.body

        class Network(Base):
            def body(self, x: Tensor) -> Tensor:
                return body(self, x)

        return Network().double().eval()


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
    pooled = ref.max_pool(ref.relu(layer("first", x)), [[0, 3], [1, 4], [2, 5]])
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


def reference_map(trap: Trap, network: nn.Module, image: Tensor, label: int, rule: str) -> np.ndarray:
    """The map of one image by the reference code, flat."""
    layer = Layers(network)
    start = ref.Node(image.flatten().numpy().astype(float))
    return ref.pull_back(layer("head", trap.reference(layer, start)), np.eye(CLASSES)[label], start, rule)
