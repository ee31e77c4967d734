"""The rectifier whose backward is chosen when the backward runs, so that one forward serves every propagation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline.operations.vocabulary import Kind, Rectification

if TYPE_CHECKING:
    from sightline.propagation import Propagation


@dataclass(slots=True)
class Active:
    """The propagation that is being pulled back, if any.

    The nodes of a graph hold this and not their tape, which holds the graph: a circle would never be freed. It is no
    thread-local either, since a backward may run in another thread.
    """

    propagation: "Propagation | None" = None


@dataclass(frozen=True, slots=True)
class Rectified:
    """What a rule for rectifiers sees of one.

    Attributes:
        open: true where the rectifier passes values, strictly between its bounds (h > 0; h < 6 for ReLU6).
    """

    open: Tensor


class RuledRectifier(torch.autograd.Function):
    """y = min(max(x, lower), upper), with the backward rule of whichever propagation is being pulled back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, active: Active, native: Callable[[Tensor], Tensor], settings: Rectification
    ) -> Tensor:
        """Apply the spelling's own torch operation, in place where it is, so that values and memory are the model's."""
        before = x.clone() if settings.in_place and not settings.closed_at_bounds else x
        y = native(x)
        if settings.in_place:
            ctx.mark_dirty(y)
        if settings.name == "relu":
            # torch keeps a ReLU's result too, and the next layer shares it.
            ctx.save_for_backward(y)
        elif settings.closed_at_bounds:
            # The bounds pass nothing, so the result tells where it is open. A mask, because torch lets a later
            # operation write over the results of these.
            ctx.save_for_backward((y > settings.lower) & (y < settings.upper))
        else:
            ctx.save_for_backward(before)
        ctx.set_materialize_grads(False)
        ctx.active, ctx.native, ctx.settings = active, native, settings
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        """Hand the incoming signal to the active rule; without one, it is torch's own backward."""
        if grad is None:
            return None, None, None, None
        (kept,) = ctx.saved_tensors
        settings: Rectification = ctx.settings
        propagation = ctx.active.propagation
        rule = None if propagation is None else propagation.rules.get(Kind.RECTIFIER)
        if rule is not None:
            open_ = kept if kept.dtype is torch.bool else (kept > settings.lower) & (kept < settings.upper)
            grad = rule(grad, Rectified(open_))
        elif settings.name == "relu":
            grad = torch.ops.aten.threshold_backward(grad, kept, 0)
        elif settings.closed_at_bounds:
            grad = torch.where(kept, grad, torch.zeros_like(grad))
        else:
            with torch.enable_grad():
                x = kept.clone().requires_grad_()
                # A clone within, because an in-place spelling may not write to a leaf.
                (grad,) = torch.autograd.grad(ctx.native(x.clone()), x, grad)
        return grad, None, None, None
