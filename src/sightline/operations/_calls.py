"""Operations without weights, whose backward is chosen when the backward runs: adds, pooling, activations, products."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline.operations._active import Active
from sightline.operations._kept import Kept, unaliased, wide
from sightline.operations._reading import Native
from sightline.operations._steady import steady_unseen
from sightline.operations._vocabulary import Intercepted, Kind, Operation


class Call:
    """What a rule sees of an operation without weights.

    Attributes:
        kind: what it is.
        native: the operation as a function of the tensors that depend on the input.
        signals: which of the tensors carry a signal; one that does not is a constant that the operation wrote into.
        operation: the operation, for records.
        constants: per row, what the active rule gave to constants.
        made: the result, where it is known before the node is made.
    """

    def __init__(
        self,
        kind: Kind,
        native: Native,
        inputs: Sequence[Kept],
        active: Active,
        *,
        in_place: bool = False,
        signals: Sequence[bool] = (True,),
    ) -> None:
        self.kind, self.native, self._inputs, self._active = kind, native, tuple(inputs), active
        self.in_place, self.signals = in_place, tuple(signals)
        self.operation: Operation | None = None
        self.constants: Tensor | None = None
        self.made: Tensor | None = None

    def read(self, call: Intercepted, tensors: list[Tensor]) -> None:
        """Take from a call on these tensors what rules of its kind need beside them."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The values that came in, in single precision at least."""
        return tuple(wide(kept.values) for kept in self._inputs)

    def again(self, *values: Tensor) -> Tensor:
        """The operation on other values, which stay as they are."""
        made: Tensor = self.native(*([value.clone() for value in values] if self.in_place else values))
        return made

    def with_pull(self) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        """The result, made again, and the function that pulls a signal back through the ordinary derivative."""
        return self._with_pull(self.inputs)

    def gradient(self, signal: Tensor) -> tuple[Tensor, ...]:
        """The signal pulled back through the ordinary derivative, in the operation's own precision."""
        return self._with_pull(tuple(kept.values for kept in self._inputs))[1](signal)

    def _with_pull(self, values: Sequence[Tensor]) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        with torch.enable_grad():
            leaves = [value.detach().requires_grad_() for value in values]
            result = self.again(*leaves)
        steady_unseen(result, set())

        def pull(signal: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(result, leaves, signal.to(result.dtype), materialize_grads=True)

        return result.detach(), pull


def attempt(native: Native, tensors: Sequence[Tensor], *, in_place: bool) -> Tensor | None:
    """What a call gives, as one tensor that depends on the input; None where it gives anything else.

    Calls that give several tensors (`chunk`, `max` along an axis), none that depends on the input (`c.view_as(h)`), one
    of their inputs as it is (dropout in evaluation mode), or their first input in another shape (`unsqueeze_`) have no
    single result whose signal a rule could share out.

    Args:
        native: the call as a function of the tensors that depend on the input.
        tensors: these, which stay as they are.
        in_place: whether the call may write over the first of them.
    """
    if not all(tensor.is_floating_point() for tensor in tensors):
        return None
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        values = [leaf.clone() for leaf in leaves] if in_place else leaves
        made = native(*values)
    if not isinstance(made, Tensor) or not made.requires_grad or any(made is leaf for leaf in leaves):
        return None
    return made if made is not values[0] or made.shape == tensors[0].shape else None


def fresh(made: Tensor, tensors: Sequence[Tensor]) -> Tensor | None:
    """A result as a tensor that is no view; None where it shares memory with one of the inputs."""
    memory = made.untyped_storage().data_ptr()
    return None if any(tensor.untyped_storage().data_ptr() == memory for tensor in tensors) else made.data


class RuledCall(torch.autograd.Function):
    """An operation without weights."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Tensor:
        """Torch's own operation, in place where it is."""
        ctx.set_materialize_grads(False)
        y = unaliased(call.native(*tensors) if call.made is None else call.made, tensors)
        call.made = None
        ctx.mark_dirty(*(tensor for tensor in tensors if tensor is y))
        ctx.call = call
        ctx.dtypes = [tensor.dtype for tensor in tensors]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor | None) -> tuple[Tensor | None, ...]:
        """The active rule; without one, the ordinary derivative."""
        if signal is None:
            return (None, *[None] * len(ctx.dtypes))
        found = pull(ctx.call, signal, ctx.dtypes)
        if ctx.call._active.last:
            ctx.call = None
        return (None, *found)


def pull(call: Call, signal: Tensor, dtypes: Sequence[torch.dtype]) -> list[Tensor | None]:
    """The signal at each input of a call, by the active rule, or without one by the ordinary derivative."""
    active = call._active
    rule = active.rule(call.kind)
    if rule is None:
        found: Sequence[Tensor | None] = call.gradient(signal)
    else:
        with torch.autocast(signal.device.type, enabled=False):
            shared = rule(wide(signal), call)
            given = zip((shared,) if isinstance(shared, Tensor) else shared, call.signals, strict=True)
            found = [part if carries else None for part, carries in given]
        if active.ledger is not None and call.operation is not None:
            sent = [part for part in found if part is not None]
            active.ledger.note(call.operation, signal, sent, call.constants)
            if call.kind.adds and len(sent) > 1 and active.grows_at_sums:
                active.ledger.note_growth(call.operation, signal, sent)
        call.constants = None
    return [None if part is None else part.to(dtype) for part, dtype in zip(found, dtypes, strict=True)]
