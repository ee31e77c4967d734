"""Intercepts: what an operation gives when no signal comes in, which FullGrad counts beside the input.

An operation with result h and inputs u is h = J u + b, with J its derivative at u. For a weighted layer and a batch
norm b is the bias, for a constant summand that constant, and for a function of each value by itself h - h'(u) u; for
what is homogeneous (rectifiers, pooling, moving pixels) it is nothing. With all of them z = x . dz/dx + sum b . dz/dh
exactly. An infinite constant (padding before max-pooling, masks) adds nothing: where the value is finite, no signal
comes back to it.

A layer may also have a bias without its whole intercept being known: group norm depends on the image in other ways too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sightline._common.torch_private import is_view, root_of
from sightline.operations._forms import batch_norm_of, form_of, response_norm_of
from sightline.operations._kept import wide
from sightline.operations._performer import Intercepted
from sightline.operations._reading import argument
from sightline.operations._vocabulary import SPELLINGS, Kind, Operation
from sightline.operations.layout import Grid, Unreadable

_HOMOGENEOUS = frozenset(
    {Kind.MAX_POOLING, Kind.MAXIMUM, Kind.AVERAGE_POOLING, Kind.REDUCTION, Kind.RESAMPLING, Kind.SCALING, Kind.IDENTITY}
)
_BY_ITSELF = frozenset({Kind.RECTIFIER, Kind.ACTIVATION, Kind.POINTWISE, Kind.GATE})
# The largest of values and joined constants is no pooling to a rule; the constants are counted where they are joined.
_HOMOGENEOUS_NAMES = frozenset(
    {"leaky_relu", "prelu", "abs", *SPELLINGS[Kind.MAX_POOLING].split(), *SPELLINGS[Kind.MAXIMUM].split()}
)


@dataclass(frozen=True, eq=False)
class Intercept:
    """An operation's intercept.

    Attributes:
        operation: the operation.
        value: shape (channel,), or the result's own.
        axis: the result's axis that (channel,) runs along; None where `value` has the result's shape.
        node: the autograd node that made the result.
        output: which of the node's outputs that is.
        grid: how places are read from the result, or why they cannot be.
        is_bias: whether it is a layer's bias (of weighted layers, batch norms, other normalisations).
    """

    operation: Operation
    value: Tensor
    axis: int | None
    node: Any
    output: int
    grid: Grid | Unreadable
    is_bias: bool = False

    @property
    def per_channel(self) -> bool:
        """Whether it is one value for each channel."""
        return self.axis is not None

    def times(self, signal: Tensor) -> Tensor:
        """The intercept times a signal at the result, element by element."""
        return self._broadcast(signal) * signal

    def total(self, signal: Tensor) -> Tensor:
        """The sum of that for each row, shape (row,), in double precision."""
        if self.axis is None:
            return (self.value.double() * signal.double()).reshape(len(signal), -1).sum(1)
        by_channel = signal.movedim(self.axis, 1).flatten(2).sum(2) if signal.dim() > 2 else signal
        return by_channel.double() @ self.value.double()

    def on_grid(self, values: Tensor) -> Tensor:
        """Values at the result, as (batch, channel, *space)."""
        assert isinstance(self.grid, Grid)  # noqa: S101 - the caller has looked
        return self.grid.read(values)

    def _broadcast(self, signal: Tensor) -> Tensor:
        value = self.value.to(signal.dtype)
        return value if self.axis in {None, -1} else value.view(-1, *[1] * (signal.dim() - 2))


class Intercepts:
    """The intercepts of a pass, noted while it runs.

    Attributes:
        found: those that are not zero, in the order of execution; of `unread` operations, the bias alone.
        unread: operations that lie on the way and whose intercept cannot be told.
        obscure: those among them of which it cannot be told whether they have a bias for each channel of a feature map.
    """

    def __init__(self) -> None:
        self.found: list[Intercept] = []
        self.unread: set[int] = set()
        self.obscure: set[int] = set()

    def before(self, call: Intercepted) -> Callable[..., None]:
        """Read a call that is about to run, while its arguments are as they were; the rest once it has."""
        found = _read(call)
        bias = _bias(call) if found is None else None
        obscure = found is None and _may_hide_bias(call)
        first = call.tensors[0]
        writes = call.in_place or call.name == "setitem"
        # The rest of a constant joins the graph with the part that is written to.
        joins = writes and is_view(first) and not root_of(first).requires_grad

        def after(operation: Operation, made: Tensor, *, grid: Grid | Unreadable) -> None:
            # A write through a view has no node of its own that all later readers share.
            known = found
            if found is None or joins or (found[0] is not None and writes and is_view(made)):
                self.unread.add(operation.order)
                if obscure and made.dim() == 4:
                    self.obscure.add(operation.order)
                known = bias
            value, axis = _NONE if known is None else known
            if value is None:
                return
            value = value.masked_fill(value.isinf(), 0.0)
            # A bias is one though it be zero; what depends on the image counts where it is something.
            is_bias = axis is not None or bias is not None
            if is_bias or bool(value.any()):
                self.found.append(Intercept(operation, value, axis, made.grad_fn, made.output_nr, grid, is_bias))

        return after


_NONE: tuple[Tensor | None, int | None] = None, None


def _read(call: Intercepted) -> tuple[Tensor | None, int | None] | None:
    """The intercept and its axis; None where it cannot be told."""
    if call.name == "copy":
        return _at_zero(call)
    if call.kind is Kind.RESAMPLING and not getattr(
        argument(call.args, call.kwargs, 0, "input"), "requires_grad", False
    ):
        return None
    if call.kind in _HOMOGENEOUS:
        return _NONE
    if call.kind is Kind.LINEAR:
        form = form_of(call.name, call.args, call.kwargs)
        return None if form is None else (None if form.bias is None else wide(form.bias).clone(), form.axis)
    if call.kind is Kind.BATCH_NORM:
        norm = batch_norm_of(call.func, call.args, call.kwargs)
        return None if norm is None else (norm.shift, 1)
    if call.kind is Kind.RESPONSE_NORM:
        return _of_response_norm(call)
    if call.kind in {Kind.ADD, Kind.RESHAPE}:
        return _at_zero(call)
    if call.kind in _BY_ITSELF:
        if call.settings is not None and call.settings.upper == math.inf:
            return _NONE
        return _NONE if call.name in _HOMOGENEOUS_NAMES else _remainder(call)
    return None


def _bias(call: Intercepted) -> tuple[Tensor, int] | None:
    """A layer's bias and the axis that it runs along, whatever else the layer adds; None where it has none.

    Nor where it has one for each position too, since it does not tell which axis is the channels'.
    """
    if call.kind is Kind.UNKNOWN:
        return None
    if call.name.startswith("conv") or call.name == "linear":
        place = 2
    elif call.name in {"batch_norm", "instance_norm"}:
        place = 4 if call.func in {functional.batch_norm, functional.instance_norm} else 2
    elif call.name in {"group_norm", "layer_norm", "bilinear"}:
        place = 3
    else:
        return None
    bias = argument(call.args, call.kwargs, place, "bias")
    if bias is None:
        return None
    if bias.dim() > 1:
        return None
    return wide(bias.detach()).clone(), -1 if call.name in {"linear", "layer_norm", "bilinear"} else 1


def _of_response_norm(call: Intercepted) -> tuple[Tensor, None]:
    """2 beta y (d - k0) / d, for y = x / d^beta: what is left of y when its derivative along x is taken off."""
    norm, x = response_norm_of(call.args, call.kwargs), wide(argument(call.args, call.kwargs, 0, "input").detach())
    d = norm.denominators(x)
    return 2 * norm.beta * x * d.pow(-norm.beta - 1) * (d - norm.k), None


def _may_hide_bias(call: Intercepted) -> bool:
    """Whether a call may have a bias that `_bias` does not find."""
    if call.kind is Kind.UNKNOWN:
        return any(t.dim() > 0 and t.is_floating_point() and not t.requires_grad for t in call.tensors)
    bias: object = argument(call.args, call.kwargs, 3, "bias") if call.name == "layer_norm" else None
    return isinstance(bias, Tensor) and bias.dim() > 1


def _at_zero(call: Intercepted) -> tuple[Tensor | None, int | None] | None:
    """What an affine operation gives where its signals are zero."""
    constants = [tensor for tensor in call.tensors if not tensor.requires_grad]
    numbers = call.kind is Kind.ADD and sum(tensor.requires_grad for tensor in call.tensors) < 2
    fills = call.name == "setitem" or (
        call.name in {"pad", "constant_pad_nd"} and argument(call.args, call.kwargs, 3, "value") not in {None, 0}
    )
    fills = fills or (call.name == "constant_pad_nd" and argument(call.args, call.kwargs, 2, "value") not in {None, 0})
    if not (constants or numbers or fills):
        return _NONE

    def zero(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.zeros_like(value) if value.requires_grad else value.clone()
        if isinstance(value, list | tuple):
            return type(value)(map(zero, value))
        return value

    args = tuple(map(zero, call.args))
    with torch.no_grad():
        result = call.func(*args, **{key: zero(value) for key, value in call.kwargs.items()})
    result = args[0] if call.name == "setitem" else result
    if isinstance(result, Tensor) and not result.any():
        return _NONE
    return (wide(result), None) if isinstance(result, Tensor) else None


def _remainder(call: Intercepted) -> tuple[Tensor | None, int | None] | None:
    """What a function of each value by itself adds: h - h'(u) u."""
    inside = [t for t in call.tensors if t.requires_grad]
    leaves = {id(t): t.detach().clone().requires_grad_() for t in inside}

    def fresh(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        # A copy of the leaf, since the call may write in place.
        return leaves[id(value)].clone() if id(value) in leaves else value.clone()

    args = tuple(map(fresh, call.args))
    result = call.func(*args, **{key: fresh(value) for key, value in call.kwargs.items()})
    if not isinstance(result, Tensor) or any(leaf.shape != result.shape for leaf in leaves.values()):
        return None
    slopes = torch.autograd.grad(result, list(leaves.values()), torch.ones_like(result), allow_unused=True)
    # Where a function is constant, it is also at infinity; where its result is infinite, its input was.
    parts = [
        torch.where(slope == 0, 0.0, leaf * slope)
        for leaf, slope in zip(leaves.values(), slopes, strict=True)
        if slope is not None
    ]
    return wide((result - sum(parts)).masked_fill(result.isinf(), 0.0).detach()), None
