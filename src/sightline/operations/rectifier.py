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
    """What a rule for rectifiers sees of one: which values it let through, and its own gradient.

    Attributes:
        open: true where the rectifier passes values, strictly between its bounds (h > 0; h < 6 for ReLU6).
        gradient: the ordinary backward, G -> G * derivative, as torch computes it for this spelling.
    """

    open: Tensor
    gradient: Callable[[Tensor], Tensor]


class RuledRectifier(torch.autograd.Function):
    """y = min(max(x, lower), upper), with the backward rule of whichever propagation is being pulled back."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        tape: "Tape",
        native: Callable[[Tensor], Tensor],
        settings: Rectification,
        is_relu: bool,
    ) -> Tensor:
        """Apply the spelling's own torch operation, so that values are bit-equal to the model's."""
        y = native(x)
        # ReLU's backward needs only its result, which the next layer keeps anyway; the others need their input.
        ctx.save_for_backward(y if is_relu else x)
        ctx.set_materialize_grads(False)
        ctx.tape, ctx.native, ctx.settings, ctx.is_relu = tape, native, settings, is_relu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None, None]:
        """Hand the incoming signal to the active rule."""
        if grad is None:
            return None, None, None, None, None
        (kept,) = ctx.saved_tensors

        def gradient(signal: Tensor) -> Tensor:
            if ctx.is_relu:
                result: Tensor = torch.ops.aten.threshold_backward(signal, kept, 0)
                return result
            with torch.enable_grad():
                x = kept.detach().requires_grad_()
                pulled: tuple[Tensor, ...] = torch.autograd.grad(ctx.native(x), x, signal)
                return pulled[0]

        rule = ctx.tape.active.rules.get(Kind.RECTIFIER)
        if rule is None:
            return gradient(grad), None, None, None, None
        settings: Rectification = ctx.settings
        open_ = (kept > settings.lower) & (kept < settings.upper)
        return rule(grad, Rectified(open_, gradient)), None, None, None, None
