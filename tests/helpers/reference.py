"""Slow reference code: a network as a graph of matrices, each backward rule written out by hand in numpy.

Nothing here calls torch's autograd or any code of the package. Torch only computes forward, on the columns of the
identity, to tell the matrix of a linear operation. z is the explained value, x an operation's input, y its result, R a
relevance, g any other signal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Vector = np.ndarray
Shape = tuple[int, ...]
STEP = 1e-30  # far below every number it is added to, so that the derivative has no error of its own


@dataclass(frozen=True)
class Signal:
    """A method that changes the gradient at rectifiers (and, for RectGrad, at convolutions and pooling)."""

    rectifier: Literal["gradient", "guided_backprop", "deconvnet", "rect_grad"] = "gradient"
    q: float = 98.0
    padding_trick: bool = False
    proportional_pooling: bool = False
    times_input: bool = False

    def start(self, z: Vector) -> Vector:
        return np.ones_like(z)


GRADIENT = Signal()
Rule = Callable[["Weighted", Vector, "Relevance"], Vector]


@dataclass(frozen=True)
class Relevance:
    """A method that redistributes the explained value.

    Args:
        batch_norm: what happens to one that stands alone.
        evenly: sums and averages are shared as if all they add were equal, by their weights alone.
    """

    conv: Rule
    dense: Rule
    first: Rule | None = None
    epsilon: float = 1e-6
    start: Callable[[Vector], Vector] = lambda z: z
    batch_norm: Literal["pass", "diagonal"] = "pass"
    contrastive: bool = False
    evenly: bool = False
    low: float = np.nan
    high: float = np.nan

    def rule(self, layer: Weighted) -> Rule:
        if self.first is not None and not any(
            isinstance(n, Weighted) for p in layer.parents for n in ancestry(p, self)
        ):
            return self.first
        return self.conv if layer.kind == "conv" else self.dense

    def share(self, contributions: Vector, totals: Vector, r: Vector) -> Vector:
        """R_i = sum_j c_ji / stab(t_j) R_j, where what is divided by zero is nothing."""
        stable = totals + self.epsilon * np.where(totals < 0, -1.0, 1.0)
        quotients = np.divide(r, stable, out=np.zeros_like(r), where=stable != 0)
        return contributions.T @ quotients


Method = Signal | Relevance


class Node:
    """A tensor of one image, flat; `shape` is what torch sees. A subclass says what its operation does to signals."""

    def __init__(self, value: Vector, parents: Sequence[Node] = (), shape: Shape | None = None) -> None:
        value = np.asarray(value, dtype=float)
        self.shape = value.shape if shape is None else tuple(shape)
        self.value = value.ravel()
        self.parents = list(parents)

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        """What each parent receives of a signal."""
        raise NotImplementedError

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        """What each parent receives of a relevance: as of a gradient, unless the operation has a rule."""
        return self.signals(r, GRADIENT)

    def objection(self, method: Method) -> str | None:
        """What the method's refusal must name, where it is not defined for this operation."""
        return None

    def carriers(self, method: Method) -> list[Node]:
        """The parents that take part in the method."""
        return self.parents

    def limits(self, low: float, high: float) -> tuple[Vector, Vector]:
        """What the operations up to here make of the darkest and the brightest picture."""
        if self.parents:
            raise NotImplementedError
        return np.full_like(self.value, low), np.full_like(self.value, high)


class Weighted(Node):
    """y = W x + b: a convolution or a dense layer, with its BatchNorm folded in."""

    def __init__(
        self, x: Node, weight: Vector, bias: Vector, connected: Vector, kind: str, shape: Shape, frame: Vector | None
    ) -> None:
        super().__init__(weight @ x.value + bias, [x], shape)
        self.x, self.weight, self.bias, self.connected = x.value, weight, bias, connected
        self.kind, self.frame = kind, frame

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        if method.padding_trick and self.frame is not None:
            g = np.where(self.frame, 0.0, g)
        return [self.weight.T @ g]

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        rule = method.rule(self)
        if method.contrastive and self in last:
            opposite = copy.copy(self)
            opposite.weight = -self.weight
            return [rule(self, r, method) - rule(opposite, r, method)]
        return [rule(self, r, method)]


class BatchNorm(Node):
    """y = s x + t, where no weighted layer comes directly before."""

    def __init__(self, x: Node, factor: Vector, shift: Vector) -> None:
        super().__init__(factor * x.value + shift, [x], x.shape)
        self.factor, self.shift = factor, shift

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        return [self.factor * g]

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        if method.batch_norm == "diagonal":
            return [method.share(np.diag(self.factor * self.parents[0].value), self.value, r)]
        return [r]

    def limits(self, low: float, high: float) -> tuple[Vector, Vector]:
        return _ordered(*(self.factor * at + self.shift for at in self.parents[0].limits(low, high)))


class Average(Node):
    """y = P x without parameters: average pooling, mean, sum, bilinear interpolation."""

    def __init__(self, x: Node, weight: Vector, shape: Shape) -> None:
        super().__init__(weight @ x.value, [x], shape)
        self.weight = weight

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        return [self.weight.T @ g]

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        if method.evenly:
            return [self.weight.T @ (r / self.weight.sum(1))]
        return [method.share(self.weight * self.parents[0].value, self.value, r)]


class Move(Node):
    """Every entry of the result is one entry of one parent, or a constant."""

    def __init__(self, parents: Sequence[Node], places: Sequence[Vector], constant: Vector, shape: Shape) -> None:
        super().__init__(sum(m @ p.value for m, p in zip(places, parents, strict=True)) + constant, parents, shape)
        self.places, self.constant = places, constant

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        return [m.T @ g for m in self.places]

    def limits(self, low: float, high: float) -> tuple[Vector, Vector]:
        at = [p.limits(low, high) for p in self.parents]
        return tuple(
            sum(m @ pair[end] for m, pair in zip(self.places, at, strict=True)) + self.constant for end in (0, 1)
        )


class MaxPool(Node):
    """The largest of each group.

    Args:
        size: entries of a whole window, its padding included, for the 1e-10 that RectGrad adds to a window's mean.
        shared: entries that tie share the signal, as in `amax`; else the first takes it.
        refusal: what RectGrad's proportional pooling is refused for.
    """

    def __init__(
        self,
        x: Node,
        groups: Sequence[Sequence[int]],
        shape: Shape | None = None,
        size: int | None = None,
        shared: bool = False,
        refusal: str = "",
    ) -> None:
        values = np.array([x.value[list(group)].max() for group in groups])
        super().__init__(values, [x], shape)
        self.groups, self.size, self.shared, self.refusal = groups, size, shared, refusal

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        x = self.parents[0].value
        out = np.zeros_like(x)
        for group, largest, signal in zip(self.groups, self.value, g, strict=True):
            winners = [i for i in group if x[i] == largest]
            if method.proportional_pooling:
                total = sum(x[i] for i in group) + 1e-10 * (self.size or len(group))
                for i in group:
                    out[i] += signal * x[i] / total
            elif self.shared:
                out[winners] += signal / len(winners)
            else:
                out[winners[0]] += signal
        return [out]

    def objection(self, method: Method) -> str | None:
        return self.refusal if isinstance(method, Signal) and method.proportional_pooling else None


class Rectifier(Node):
    def __init__(self, x: Node, upper: float) -> None:
        super().__init__(np.clip(x.value, 0, upper), [x], x.shape)
        self.is_open = (x.value > 0) & (x.value < upper)

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        if method.rectifier == "gradient":
            return [g * self.is_open]
        if method.rectifier == "guided_backprop":
            return [np.maximum(g, 0) * self.is_open]
        if method.rectifier == "deconvnet":
            return [np.maximum(g, 0)]
        products = self.value * g
        threshold = np.sort(products)[round(method.q / 100 * (len(products) - 1))]
        return [g * (products > threshold)]

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        return [r]


class Scale(Node):
    """y = c x."""

    def __init__(self, x: Node, factor: Vector | float) -> None:
        super().__init__(x.value * factor, [x], x.shape)
        self.factor = np.broadcast_to(factor, x.value.shape)

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        return [g * self.factor]

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        return [np.where(self.factor != 0, r, 0.0)]

    def limits(self, low: float, high: float) -> tuple[Vector, Vector]:
        return _ordered(*(at * self.factor for at in self.parents[0].limits(low, high)))


class Sum(Node):
    """The sum of the parents and a constant."""

    def __init__(self, parents: Sequence[Node], constant: Vector | float = 0.0) -> None:
        super().__init__(sum(p.value for p in parents) + constant, parents, parents[0].shape)
        self.constant = constant

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        return [g for _ in self.parents]

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        if method.evenly:
            return [r / len(self.parents) for _ in self.parents]
        return [method.share(np.diag(p.value), self.value, r) for p in self.parents]

    def limits(self, low: float, high: float) -> tuple[Vector, Vector]:
        (x,) = self.parents
        return tuple(at + self.constant for at in x.limits(low, high))


class Gate(Node):
    """y = x g, where g only says how much of x passes."""

    def __init__(self, x: Node, gate: Node) -> None:
        super().__init__(x.value * gate.value, [x, gate], x.shape)

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        x, gate = self.parents
        return [g * gate.value, g * x.value]

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        gate = self.parents[1].value
        return [np.where(gate != 0, r, 0.0), np.zeros_like(gate)]

    def carriers(self, method: Method) -> list[Node]:
        return self.parents[:1] if isinstance(method, Relevance) else self.parents


class Other(Node):
    """Any differentiable operation, by its formula on complex arrays: f(x + ih) = f(x) + ih f'(x).

    `signal` and `relevance` say whether it passes those (the relevance unchanged, so shape must be kept), or with which
    word in the refusal it does not.
    """

    def __init__(
        self, function: Callable[..., Vector], parents: Sequence[Node], signal: str, relevance: str, gradient: str
    ) -> None:
        values = [p.value.reshape(p.shape) for p in parents]
        result = function(*values)
        super().__init__(np.real(result), parents, result.shape)
        self.jacobians = []
        for k, value in enumerate(values):
            columns = []
            for i in range(value.size):
                moved = value.astype(complex)
                moved.flat[i] += STEP * 1j
                columns.append(function(*values[:k], moved, *values[k + 1 :]).imag.ravel() / STEP)
            self.jacobians.append(np.stack(columns, axis=1))
        self.words = {"signal": signal, "relevance": relevance, "gradient": gradient}

    def signals(self, g: Vector, method: Signal) -> list[Vector]:
        return [jacobian.T @ g for jacobian in self.jacobians]

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        (x,) = self.parents
        assert x.shape == self.shape
        return [r]

    def objection(self, method: Method) -> str | None:
        kind = "relevance" if isinstance(method, Relevance) else "gradient" if method == GRADIENT else "signal"
        return self.words[kind] or None


class ResponseNorm(Other):
    """y_k = x_k / d_k^beta, d_k = k0 + alpha / size * (sum of x_i^2 over the window of channel k), (channel, ...)."""

    def __init__(self, x: Node, size: int, alpha: float, beta: float, k: float) -> None:
        self.size, self.weight, self.beta, self.k = size, alpha / size, beta, k
        super().__init__(self._formula, [x], signal="", relevance="", gradient="")

    def _window(self, channel: int, channels: int) -> range:
        first = channel - self.size // 2
        return range(max(first, 0), min(first + self.size, channels))

    def _formula(self, x: Vector) -> Vector:
        windows = [self._window(channel, len(x)) for channel in range(len(x))]
        d = np.stack([self.k + self.weight * sum(x[i] ** 2 for i in window) for window in windows])
        return x / d**self.beta

    def relevances(self, r: Vector, method: Relevance, last: set[Node]) -> list[Vector]:
        """Binder et al. 2016: each message by itself; where no rule looks at the values, each keeps its own."""
        if method.evenly:
            return [r]
        (parent,) = self.parents
        x, r = parent.value.reshape(self.shape), r.reshape(self.shape)
        channels, received = len(x), np.zeros_like(x)
        for place in np.ndindex(x.shape[1:]):
            at = (slice(None), *place)
            values = x[at]
            for k in range(channels):
                window = self._window(k, channels)
                d = self.k + self.weight * sum(values[i] ** 2 for i in window)
                shares = {
                    j: -2 * self.weight * self.beta * values[k] * values[j] ** 2 / d ** (self.beta + 1)
                    for j in window
                    if j != k
                }
                shares[k] = values[k] / (self.k + self.weight * values[k] ** 2) ** self.beta
                total = sum(shares.values())
                stable = total + method.epsilon * (-1.0 if total < 0 else 1.0)
                for j, share in shares.items():
                    received[(j, *place)] += 0.0 if stable == 0 else share / stable * r[(k, *place)]
        return [received.ravel()]


def image(values: Tensor | Vector) -> Node:
    return Node(np.asarray(values, dtype=float))


def matrix_of(function: Callable[[Tensor], Tensor], shape: Shape) -> tuple[Vector, Shape]:
    """The matrix of a linear torch function of a batch, column by column, and the shape of its result."""
    size = int(np.prod(shape))
    with torch.no_grad():
        columns = function(torch.eye(size, dtype=torch.float64).reshape(size, *shape))
    return columns.reshape(size, -1).numpy().T, tuple(columns.shape[1:])


def layer(x: Node, module: nn.Module) -> Weighted:
    """A convolution, transposed convolution or dense layer."""
    weight, module = module.weight.detach().clone(), copy.deepcopy(module)
    if parametrize.is_parametrized(module):
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        module.weight = nn.Parameter(weight)
    zeros = torch.zeros(1, *x.shape, dtype=torch.float64)
    with torch.no_grad():
        bias = module(zeros).numpy().ravel()
        if module.bias is not None:
            module.bias.zero_()
        matrix, shape = matrix_of(module, x.shape)
        module.weight.fill_(1.0)
        connected, _ = matrix_of(module, x.shape)
    kind = "dense" if isinstance(module, nn.Linear) else "conv"
    return Weighted(x, matrix, bias, connected != 0, kind, shape, _frame(module, shape))


def _frame(module: nn.Module, shape: Shape) -> Vector | None:
    """Where RectGrad's padding trick zeroes the signal: the outermost pixels after a convolution that keeps size."""
    if not isinstance(module, nn.Conv2d) or min(shape[1:]) < 3:
        return None
    if module.padding != "same" and any(
        2 * p != d * (k - 1) for p, d, k in zip(module.padding, module.dilation, module.kernel_size, strict=True)
    ):
        return None
    frame = np.ones(shape, dtype=bool)
    frame[:, 1:-1, 1:-1] = False
    return frame.ravel()


def linear(x: Node, weight: Vector, bias: Vector | float = 0.0) -> Weighted:
    bias = np.broadcast_to(bias, len(weight))
    return Weighted(x, weight, bias, np.ones_like(weight, dtype=bool), "dense", bias.shape, None)


def batch_norm(x: Node, module: nn.Module) -> Node:
    """In eval mode: one layer with the weighted layer directly before it, where there is one."""
    rest = (len(x.value) // x.shape[0],)
    weight, bias = (module.weight, module.bias) if module.affine else (torch.ones(x.shape[0]), torch.zeros(x.shape[0]))
    mean, variance, weight, bias = (
        np.repeat(t.detach().double().numpy(), rest) for t in (module.running_mean, module.running_var, weight, bias)
    )
    factor = weight / np.sqrt(variance + module.eps)
    shift = bias - mean * factor
    if isinstance(x, Weighted):
        (before,) = x.parents
        return Weighted(
            before, factor[:, None] * x.weight, factor * x.bias + shift, x.connected, x.kind, x.shape, x.frame
        )
    return BatchNorm(x, factor, shift)


def average(x: Node, function: Callable[[Tensor], Tensor]) -> Node:
    return Average(x, *matrix_of(function, x.shape))


def move(x: Node, function: Callable[[Tensor], Tensor]) -> Node:
    """View, permute, slice, pad, repeat ..., from the torch function of a batch that does it."""
    zeros = function(torch.zeros(1, *x.shape, dtype=torch.float64))
    matrix, shape = matrix_of(lambda t: function(t) - zeros, x.shape)
    return Move([x], [matrix], zeros.numpy().ravel(), shape)


def join(*parents: Node) -> Node:
    """Along the first axis."""
    count = sum(len(p.value) for p in parents)
    places = np.split(np.eye(count), np.cumsum([len(p.value) for p in parents])[:-1], axis=1)
    shape = (sum(p.shape[0] for p in parents), *parents[0].shape[1:])
    return Move(parents, places, np.zeros(count), shape)


def part(x: Node, start: int, stop: int) -> Node:
    """A slice of the first axis."""
    return move(x, lambda t: t[:, start:stop])


def flatten(x: Node) -> Node:
    return move(x, lambda t: t.flatten(1))


def relu(x: Node, upper: float = np.inf) -> Node:
    return Rectifier(x, upper)


def scale(x: Node, factor: Vector | float) -> Node:
    return Scale(x, factor)


def shift(x: Node, constant: Vector | float) -> Node:
    return Sum([x], constant)


def add(x: Node, y: Node) -> Node:
    return Sum([x, y])


def gate(x: Node, by: Node) -> Node:
    return Gate(x, by)


def max_pool(x: Node, function: Callable[[Tensor], Tensor], **options: int | bool | str | None) -> Node:
    """From the torch function that pools: an entry alone in the light shows in the groups it belongs to."""
    member, shape = matrix_of(function, x.shape)
    return MaxPool(x, [np.flatnonzero(row).tolist() for row in member], shape, **options)


def larger(x: Node, y: Node) -> Node:
    """Value by value."""
    count = len(x.value)
    joined = join(flatten(x), flatten(y))
    return MaxPool(joined, [[i, count + i] for i in range(count)], x.shape, shared=True, refusal="maximum|minimum")


def activation(x: Node, function: Callable[[Vector], Vector], name: str) -> Node:
    """A function of each entry that keeps zero: relevance passes, a rectifier's rule is not defined for it."""
    return Other(function, [x], signal=name, relevance="", gradient="")


def smooth(function: Callable[..., Vector], *parents: Node, name: str) -> Node:
    """An operation whose gradient every rectifier method passes on, and which no relevance rule covers."""
    return Other(function, parents, signal="", relevance=name, gradient="")


def refused(function: Callable[..., Vector], *parents: Node, name: str, gradient: str = "") -> Node:
    """What every rule refuses."""
    return Other(function, parents, signal=name, relevance=name, gradient=gradient)


def pick(x: Node, index: int) -> Node:
    return part(flatten(x), index, index + 1)


def ancestry(value: Node, method: Method = GRADIENT) -> list[Node]:
    """All nodes that the value depends on and the method reaches, each after those it depends on."""
    order: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in order:
            for parent in node.carriers(method):
                visit(parent)
            order[node] = None

    visit(value)
    return list(order)


def objections(value: Node, method: Method) -> list[str]:
    """The words of which a refusal must hold one; empty where the method is defined."""
    nodes = ancestry(value, method)
    found = [word for node in nodes if (word := node.objection(method))]
    if (
        not found
        and isinstance(method, Signal)
        and method != GRADIENT
        and not any(isinstance(n, Rectifier) for n in nodes)
    ):
        return ["would equal the plain gradient"]
    return found


def _last(node: Node, method: Method) -> Iterator[Node]:
    """The weighted layers from which some way leads to the value past no other."""
    if isinstance(node, Weighted):
        yield node
    else:
        for parent in node.carriers(method):
            yield from _last(parent, method)


def explain(value: Node, start: Node, method: Method) -> Vector:
    """The map at `start`, flat: every path is followed once, in reverse order."""
    last = set(_last(value, method))
    order = ancestry(value, method)
    arriving = {node: np.zeros_like(node.value) for node in order}
    arriving[value] = method.start(value.value)
    for node in reversed(order):
        if isinstance(method, Signal):
            sent = node.signals(arriving[node], method) if node.parents else []
        else:
            sent = node.relevances(arriving[node], method, last) if node.parents else []
        for parent, signal in zip(node.parents, sent, strict=True):
            if parent in arriving:
                arriving[parent] = arriving[parent] + signal
    found = arriving[start]
    return found * start.value if isinstance(method, Signal) and method.times_input else found


def _ordered(one: Vector, other: Vector) -> tuple[Vector, Vector]:
    return np.minimum(one, other), np.maximum(one, other)


def epsilon_rule(layer: Weighted, r: Vector, method: Relevance) -> Vector:
    return method.share(layer.weight * layer.x, layer.value, r)


def gradient_rule(layer: Weighted, r: Vector, method: Relevance) -> Vector:
    return method.share(layer.weight, layer.value, r)


def alpha_beta(alpha: float, beta: float, bias: bool = True) -> Rule:
    def rule(layer: Weighted, r: Vector, method: Relevance) -> Vector:
        contributions = layer.weight * layer.x
        positive, negative = np.maximum(contributions, 0), np.minimum(contributions, 0)
        constant = layer.bias if bias else np.zeros_like(layer.bias)
        for_it = method.share(positive, positive.sum(1) + np.maximum(constant, 0), r)
        against = method.share(negative, negative.sum(1) + np.minimum(constant, 0), r)
        return alpha * for_it - beta * against

    return rule


def gamma_rule(gamma: float) -> Rule:
    def rule(layer: Weighted, r: Vector, method: Relevance) -> Vector:
        received = np.zeros_like(layer.x)
        for row, constant, y, relevance in zip(layer.weight, layer.bias, layer.value, r, strict=True):
            if y == 0:
                continue
            favoured, other = (row > 0, row < 0) if y > 0 else (row < 0, row > 0)
            positive, negative = np.maximum(layer.x, 0), np.minimum(layer.x, 0)
            parts = positive * (row + gamma * row * favoured) + negative * (row + gamma * row * other)
            kept = constant + gamma * constant * (constant * y > 0)
            received += method.share(parts[None], np.array([parts.sum() + kept]), np.array([relevance]))
        return received

    return rule


def w_squared(layer: Weighted, r: Vector, method: Relevance) -> Vector:
    squares = layer.weight**2
    return method.share(squares, squares.sum(1), r)


def flat(layer: Weighted, r: Vector, method: Relevance) -> Vector:
    ones = layer.connected.astype(float)
    return method.share(ones, ones.sum(1), r)


def box(layer: Weighted, r: Vector, method: Relevance) -> Vector:
    low, high = layer.parents[0].limits(method.low, method.high)
    weight = layer.weight
    parts = weight * layer.x - np.maximum(weight, 0) * low - np.minimum(weight, 0) * high
    return method.share(parts, parts.sum(1), r)


def lrp(rule: Rule, first: Rule | None = None, **options: float | str | bool) -> Relevance:
    """One rule for all weighted layers."""
    return Relevance(rule, rule, first, **options)


def lrp_epsilon(epsilon: float, first: Rule | None = None) -> Relevance:
    return lrp(epsilon_rule, first, epsilon=epsilon, batch_norm="diagonal")


def methods(q: float, low: float, high: float) -> dict[str, Method]:
    """Every propagation of the catalogue under its name; the catalogue's own q leaves nothing of a tiny layer."""
    rect_grad = Signal("rect_grad", q, times_input=True)
    z_plus = alpha_beta(1, 0, bias=False)
    epsilon_plus = Relevance(alpha_beta(1, 0), epsilon_rule)
    epsilon_alpha2_beta1 = Relevance(alpha_beta(2, 1), epsilon_rule)
    excitation = lrp(z_plus, start=np.ones_like)
    return {
        "gradient": GRADIENT,
        "guided_backprop": Signal("guided_backprop"),
        "deconvnet": Signal("deconvnet"),
        "rect_grad": rect_grad,
        "rect_grad_prr": replace(rect_grad, padding_trick=True, proportional_pooling=True),
        "rect_grad_no_input": replace(rect_grad, times_input=False),
        "lrp_0": lrp_epsilon(0.0),
        "lrp_epsilon": lrp_epsilon(1e-3),
        "lrp_gamma": lrp(gamma_rule(0.25)),
        "lrp_alpha1_beta0": lrp(alpha_beta(1, 0)),
        "lrp_alpha2_beta1": lrp(alpha_beta(2, 1)),
        "lrp_z_plus": lrp(z_plus),
        "lrp_w_squared": lrp(w_squared, evenly=True),
        "lrp_flat": lrp(flat, evenly=True),
        "lrp_epsilon_plus": epsilon_plus,
        "lrp_epsilon_plus_flat": replace(epsilon_plus, first=flat),
        "lrp_epsilon_alpha2_beta1": epsilon_alpha2_beta1,
        "lrp_epsilon_alpha2_beta1_flat": replace(epsilon_alpha2_beta1, first=flat),
        "lrp_epsilon_gamma_box": Relevance(gamma_rule(0.25), epsilon_rule, box, low=low, high=high),
        "deep_taylor": lrp(z_plus, box, start=lambda z: np.maximum(z, 0), low=low, high=high),
        "deep_taylor_w_squared": lrp(z_plus, w_squared, start=lambda z: np.maximum(z, 0)),
        "excitation_backprop": excitation,
        "contrastive_excitation_backprop": replace(excitation, contrastive=True),
    }
