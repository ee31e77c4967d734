"""Slow reference code: a network as a graph of matrices, each backward rule written out by hand in numpy.

Nothing here calls torch's autograd or any code of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Vector = np.ndarray


@dataclass(eq=False)
class Node:
    """A vector in the graph, and how a signal arriving at it goes on to each parent."""

    value: Vector
    parents: list[tuple[Node, Callable[[Vector, str], Vector]]] = field(default_factory=list)


def linear(x: Node, weight: Vector, bias: Vector | float = 0.0) -> Node:
    return Node(weight @ x.value + bias, [(x, lambda g, _: weight.T @ g)])


def scale(x: Node, factor: Vector | float, shift: Vector | float = 0.0) -> Node:
    return Node(x.value * factor + shift, [(x, lambda g, _: g * factor)])


def add(x: Node, y: Node) -> Node:
    return Node(x.value + y.value, [(x, lambda g, _: g), (y, lambda g, _: g)])


def part(x: Node, start: int, stop: int) -> Node:
    def pull(g: Vector, _: str) -> Vector:
        out = np.zeros_like(x.value)
        out[start:stop] = g
        return out

    return Node(x.value[start:stop], [(x, pull)])


def join(x: Node, y: Node) -> Node:
    n = len(x.value)
    return Node(np.concatenate([x.value, y.value]), [(x, lambda g, _: g[:n]), (y, lambda g, _: g[n:])])


def relu(x: Node, upper: float = np.inf) -> Node:
    is_open = (x.value > 0) & (x.value < upper)

    def pull(g: Vector, rule: str) -> Vector:
        if rule == "gradient":
            return g * is_open
        if rule == "guided_backprop":
            return np.maximum(g, 0) * is_open
        if rule == "deconvnet":
            return np.maximum(g, 0)
        raise ValueError(rule)

    return Node(np.clip(x.value, 0, upper), [(x, pull)])


def max_pool(x: Node, groups: list[list[int]]) -> Node:
    winners = [group[int(np.argmax(x.value[group]))] for group in groups]

    def pull(g: Vector, _: str) -> Vector:
        out = np.zeros_like(x.value)
        np.add.at(out, winners, g)
        return out

    return Node(x.value[winners], [(x, pull)])


def pull_back(node: Node, seed: Vector, start: Node, rule: str) -> Vector:
    """The signal at `start`, for a signal `seed` at `node`: every path is followed once, in reverse order."""
    order: list[Node] = []

    def visit(n: Node) -> None:
        if n not in order:
            for parent, _ in n.parents:
                visit(parent)
            order.append(n)

    visit(node)
    signals = {n: np.zeros_like(n.value) for n in order}
    signals[node] = np.asarray(seed, dtype=float)
    for n in reversed(order):
        for parent, pull in n.parents:
            signals[parent] = signals[parent] + pull(signals[n], rule)
    return signals[start]


def matrix_of(function: Callable[[Vector], Vector], size: int) -> Vector:
    """The matrix of a linear function, column by column."""
    return np.stack([function(column) for column in np.eye(size)], axis=1)
