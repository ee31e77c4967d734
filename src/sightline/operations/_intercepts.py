"""Intercepts: what an operation gives when no signal comes in, which FullGrad counts beside the input.

An operation with result h and inputs u is h = J u + b, with J its derivative at u. For a weighted layer and a batch
norm b is the bias, for a constant summand that constant, and for a function of each value by itself h - h'(u) u; for
what is homogeneous (rectifiers, pooling, moving pixels) it is nothing. With all of them z = x . dz/dx + sum b . dz/dh
exactly. An infinite constant (padding before max-pooling, masks) adds nothing: where the value is finite, no signal
comes back to it.

A layer may also have a bias without its whole intercept being known: group norm depends on the image in other ways too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sightline._common.torch_private import is_view, root_of
from sightline.operations._vocabulary import NO_BIAS, Intercepted, Operation
from sightline.operations.kinds._unknown import UNKNOWN
from sightline.operations.layout import Grid, Unreadable


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
        found = call.kind.bias_term(call)
        # What is not known by itself may still have the bias of its function.
        said = call.kind if UNKNOWN in {call.kind, call.spelled} else call.spelled
        bias = said.bias(call) if found is None else None
        obscure = found is None and said.may_hide_bias(call)
        first = call.tensors[0]
        writes = call.writes
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
            value, axis = NO_BIAS if known is None else known
            if value is None:
                return
            value = value.masked_fill(value.isinf(), 0.0)
            # A bias is one though it be zero; what depends on the image counts where it is something.
            is_bias = axis is not None or bias is not None
            if is_bias or bool(value.any()):
                self.found.append(Intercept(operation, value, axis, made.grad_fn, made.output_nr, grid, is_bias))

        return after
