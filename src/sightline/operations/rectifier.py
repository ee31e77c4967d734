"""The rectifier whose backward is chosen when the backward runs, so that one forward serves every propagation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline.operations.vocabulary import Kind, Rectification

if TYPE_CHECKING:
    from sightline.operations.tape import Tape


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
        ctx: Any, x: Tensor, tape: "Tape", native: Callable[[Tensor], Tensor], settings: Rectification
    ) -> Tensor:
        """Apply the spelling's own torch operation, in place where it is, so that values and memory are the model's."""
        before = x.clone() if settings.in_place and not settings.closed_at_bounds else x
        y = native(x)
        if settings.in_place:
            ctx.mark_dirty(y)
        # Where the bounds themselves are closed, the result tells all, and the next layer keeps it anyway.
        ctx.save_for_backward(y if settings.closed_at_bounds else before)
        ctx.set_materialize_grads(False)
        ctx.tape, ctx.native, ctx.settings = tape, native, settings
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        """Hand the incoming signal to the active rule; without one, it is torch's own backward."""
        if grad is None:
            return None, None, None, None
        (kept,) = ctx.saved_tensors
        settings: Rectification = ctx.settings
        rule = ctx.tape.active.rules.get(Kind.RECTIFIER)
        if rule is not None:
            grad = rule(grad, Rectified((kept > settings.lower) & (kept < settings.upper)))
        elif not settings.closed_at_bounds:
            with torch.enable_grad():
                x = kept.clone().requires_grad_()
                # A clone within, because an in-place spelling may not write to a leaf.
                (grad,) = torch.autograd.grad(ctx.native(x.clone()), x, grad)
        elif settings.upper == float("inf"):
            grad = torch.ops.aten.threshold_backward(grad, kept, settings.lower)
        else:
            grad = torch.ops.aten.hardtanh_backward(grad, kept, settings.lower, settings.upper)
        return grad, None, None, None
