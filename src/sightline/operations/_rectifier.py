"""The rectifier whose backward is chosen when the backward runs, so that one forward serves every propagation."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline.operations._active import Active
from sightline.operations._kept import Kept, unaliased
from sightline.operations._reading import Native
from sightline.operations._vocabulary import Kind


@dataclass(frozen=True, slots=True)
class Rectification:
    """A rectifier's settings.

    Attributes:
        lower: values below become this.
        upper: values above become this.
        in_place: whether it writes its result over its input.
        name: its spelling.
    """

    lower: float
    upper: float
    in_place: bool
    name: str

    @property
    def closed_at_bounds(self) -> bool:
        """Whether the ordinary gradient is zero at the bounds themselves (ReLU, hardtanh) or not (clamp, maximum)."""
        return self.name in {"relu", "relu6", "hardtanh", "threshold"}


class Rectified:
    """What a rule for rectifiers sees of one.

    Args:
        kind: the kind whose rule it takes.
        settings: its bounds and spelling.
        native: the spelling's own torch operation.
        active: where the active rule is looked up.
    """

    def __init__(self, kind: Kind, settings: Rectification, native: Native, active: Active) -> None:
        self.kind, self.settings, self.native, self._active = kind, settings, native, active
        # The input where the bounds themselves pass a gradient, else the result, which the next layer shares.
        self.kept: Kept | None = None

    @property
    def values(self) -> Tensor:
        """Values that tell where it is open: the input or the result."""
        assert self.kept is not None  # noqa: S101 - set by whoever performs the operation
        return self.kept.values

    @property
    def open(self) -> Tensor:
        """True where the rectifier passes values, strictly between its bounds (h > 0; h < 6 for ReLU6)."""
        values = self.values
        above = values > self.settings.lower
        return above & (values < self.settings.upper) if self.settings.upper < torch.inf else above

    def shut(self, signal: Tensor) -> Tensor:
        """The signal where the rectifier is open, and 0 elsewhere."""
        if self.settings.name == "relu":
            found: Tensor = torch.ops.aten.threshold_backward(signal, self.values, 0)
            return found
        return torch.where(self.open, signal, torch.zeros_like(signal))

    @property
    def result(self) -> Tensor:
        """What it gave."""
        return self.values.clamp(self.settings.lower, self.settings.upper)


class RuledRectifier(torch.autograd.Function):
    """y = min(max(x, lower), upper), with the backward rule of whichever propagation is being pulled back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rectified: Rectified) -> Tensor:
        """Apply the spelling's own torch operation, in place where it is, so that values and memory are the model's."""
        y = unaliased(rectified.native(x), [x])
        if rectified.settings.in_place:
            ctx.mark_dirty(y)
        ctx.set_materialize_grads(False)
        ctx.rectified = rectified
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None]:
        """Hand the incoming signal to the active rule; without one, it is torch's own backward."""
        if grad is None:
            return None, None
        rectified: Rectified = ctx.rectified
        settings, active = rectified.settings, rectified._active
        rule = active.rule(rectified.kind)
        if rule is not None:
            grad = rule(grad, rectified)
        elif settings.closed_at_bounds:
            grad = rectified.shut(grad)
        else:
            with torch.enable_grad():
                x = rectified.values.clone().requires_grad_()
                # A clone within, because an in-place spelling may not write to a leaf.
                (grad,) = torch.autograd.grad(rectified.native(x.clone()), x, grad)
        if active.last:
            ctx.rectified = None
        return grad, None
