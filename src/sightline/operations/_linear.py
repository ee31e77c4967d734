"""Weighted layers, with a batch norm that follows folded in, whose backward is chosen when the backward runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline._common.torch_private import version_of
from sightline.errors import RefusalError
from sightline.operations._active import Active
from sightline.operations._forms import BatchNorm, Form, Shape, diagonal, merged
from sightline.operations._kept import Constants, Kept, keep, unaliased, wide
from sightline.operations._notes import Note
from sightline.operations._reading import Native
from sightline.operations._vocabulary import Kind, Operation


class Linear:
    """What a rule sees of a weighted layer y_j = sum_i x_i w_ij + b_j, a folded batch norm included.

    All values are in single precision at least. Where the network computes in a lower one (in half precision, under
    autocast), inputs and weights are rounded as it rounds them.

    Attributes:
        kind: the kind whose rule it takes.
        dense: whether it is a linear layer and no convolution.
        first: whether no weighted layer stands between it and the input.
        operation: the operation, for records.
        constants: per row, what the active rule gave to the biases; rules set it through `to_biases`.
        from_image: what was done to the image before this layer, where that only moved, padded or rescaled pixels.
        layers: how many layers of the network it sums.
    """

    layers = 1

    def __init__(self, form: Form, x: Kept, active: Active, *, kind: Kind, first: bool) -> None:
        self.form, self._x, self._active, self.kind, self.first = form, x, active, kind, first
        self._constants = Constants([form.weight, *([] if form.bias is None else [form.bias])])
        self._scale: Tensor | None = None
        self._result: Kept | None = None
        self._exact: Tensor | None = None
        # The precision of the result, and of what enters the product, where it is lower than single.
        self._low: torch.dtype | None = None
        self._rounds: torch.dtype | None = None
        self._compared = False
        self._once: dict[tuple[object, str], Tensor] = {}
        self.operation: Operation | None = None
        self.constants: Tensor | None = None
        self.from_image: Callable[[Tensor], Tensor] | None = None
        self._inner: Linear | None = None
        self._whole = False

    def folded(self, scale: Tensor, shift: Tensor) -> "Linear":
        """This layer and the batch norm that follows it, as one layer: y = scale * (W x + b) + shift."""
        bias = shift if self.form.bias is None else shift + scale * self.form.bias
        new = Linear(replace(self.form, bias=bias), self._x, self._active, kind=self.kind, first=self.first)
        new._scale = scale if self._scale is None else self._scale * scale
        new.from_image, new._inner, new._rounds = self.from_image, self, self._rounds
        new.layers = self.layers
        return new

    def identity(self, ones: Tensor) -> "Linear":
        """This layer's input itself, as a layer with a one for each channel."""
        new = Linear(diagonal(ones, torch.zeros_like(ones)), self._x, self._active, kind=self.kind, first=False)
        new.layers = 0
        return new

    @classmethod
    def summed(cls, branches: "Sequence[tuple[Linear, float]]", before: Shape, after: Shape) -> "Linear | None":
        """Parallel layers on one input, each times a number, as one layer; None where that is none."""
        parts = [
            (branch.form, branch.weight * factor, None if branch.bias is None else branch.bias * factor)
            for branch, factor in branches
        ]
        form = merged(parts, before, after)
        if form is None:
            return None
        inside = next((branch for branch, _ in branches if not branch.form.diagonal), branches[0][0])
        new = cls(form, inside._x, inside._active, kind=inside.kind, first=inside.first)
        new.from_image, new._whole = inside.from_image, True
        new.layers = sum(branch.layers for branch, _ in branches)
        return new

    def outer(self, norm: BatchNorm, kind: Kind) -> "Linear":
        """The batch norm alone of a folded pair, for rules that tell the two apart."""
        assert self._inner is not None  # noqa: S101 - it is folded
        x = keep(self._inner.result)
        alone = Linear(diagonal(norm.scale, norm.shift), x, self._active, kind=kind, first=False)
        alone.operation = self.operation
        return alone

    def made(self, operation: Operation, result: Kept) -> None:
        """Complete it once the operation has run."""
        self.operation, self._result = operation, result
        if result.dtype not in {torch.float32, torch.float64}:
            self._low = result.dtype
            # A batch norm computes in its own precision, whatever enters it.
            own = self._inner is not None or self._whole or self.form.diagonal
            self._rounds = self._rounds if own else result.dtype

    def forget_result(self) -> None:
        """Keep the result no longer; it is made again where it is needed after all."""
        self._result = None

    @property
    def dense(self) -> bool:
        return self.form.dense

    @property
    def last(self) -> bool:
        """Whether the explained value is reached from here without another weighted layer."""
        return self.operation is not None and self.operation.order in self._active.final_layers

    @property
    def x(self) -> Tensor:
        """The input."""
        return self._rounded(self._x.values)

    @property
    def nonnegative(self) -> bool:
        """Whether no input is below zero."""
        return self._x.nonnegative

    @property
    def weight(self) -> Tensor:
        """The weights, times the folded scale."""
        self._constants.check()
        weight = self._rounded(self.form.weight)
        return weight if self._scale is None else weight * self.form.spread(wide(self._scale))

    def fresh_weight(self) -> Tensor:
        """The weights, times the folded scale, in memory that may be written over."""
        weight = self.weight
        return weight.clone() if weight is self.form.weight else weight

    @property
    def bias(self) -> Tensor | None:
        """The bias for each output channel, the folded shift included."""
        self._constants.check()
        return None if self.form.bias is None else wide(self.form.bias)

    @property
    def result(self) -> Tensor:
        """The result y with which the network went on, or that made again where it was written over."""
        kept = self._result
        self._compared = self._low is not None
        if kept is not None and kept.intact:
            return wide(kept.values)
        if self._low is None:
            return self.once("result", lambda: self.product(self.x, self.weight, self.bias))
        return wide(self.exact.to(self._low))

    @property
    def exact(self) -> Tensor:
        """The sum of all x_i w_ij and b_j, which in low precision is the result without the network's rounding."""
        if self._low is None:
            return self.result
        if self._exact is None:
            self._exact = self.once("exact", lambda: self.product(self.x, self.weight, self.bias))
        return self._exact

    @property
    def rounding(self) -> Tensor | None:
        """What the network's rounding added to the result; None in single precision."""
        return None if self._low is None else self.result - self.exact

    def _rounded(self, values: Tensor) -> Tensor:
        return wide(values if self._rounds is None else values.to(self._rounds))

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W x + b for other values."""
        return self.form.product(x, weight, bias)

    def pull(self, signal: Tensor, weight: Tensor) -> Tensor:
        """W^T signal for other weights."""
        return self.form.transpose(signal, weight, self._x.values if self._x.intact else None)

    def pull_as_is(self, signal: Tensor) -> Tensor:
        """W^T signal in the signal's own precision, which is the gradient."""
        self._constants.check()
        x = self._x.values if self._x.intact else None
        return self.form.transpose(signal, self.form.weight.to(signal.dtype), x)

    def pull_weights(self, signal: Tensor) -> Tensor:
        """W^T signal for the layer's own weights; folds the scale into the signal, which is smaller."""
        self._constants.check()
        if self._scale is not None:
            signal = signal * self.over_channels(wide(self._scale), signal)
        return self.pull(signal, self._rounded(self.form.weight))

    def over_channels(self, values: Tensor, like: Tensor) -> Tensor:
        """A value for each output channel, shaped so that it broadcasts over results."""
        return values if self.form.axis == -1 else values.reshape(-1, *[1] * (like.dim() - 2))

    def to_biases(self, shares: Tensor, bias: Tensor | None) -> None:
        """Record that each bias takes its value times `shares` of the relevance."""
        if bias is None or shares.dim() < 2:
            return
        per_channel = shares.movedim(self.form.axis, 1).flatten(2).sum(2) if shares.dim() > 2 else shares
        given = per_channel.double() @ bias.double()
        self.constants = given if self.constants is None else self.constants + given

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What depends on no target, made once where the same rules follow for another target."""
        key = self._active.propagation, name
        if key in self._once:
            return self._once[key]
        made = make()
        if self._active.again:
            self._once[key] = made
        return made

    def pixel_range(self, low: object, high: object) -> tuple[Tensor, Tensor]:
        """The least and the greatest value that each input can take, given those of a pixel (shape (channel,)).

        Raises:
            RefusalError: the range is unknown, or something else than pixels enters this layer.
        """
        made = None if self._active.propagation is None else self._active.propagation.made
        name = made.make.__name__ if made and {"low", "high"} <= dict(made.settings).keys() else ""
        if low is None or high is None:
            if self._active.pixel_range is None:
                raise RefusalError(
                    "The first layer's rule needs the range of a pixel as the model sees it, and nothing says how the "
                    "images are encoded. "
                    + (_NAME_RANGE.format(factory=name) if name else "")
                    + "sightline.load_model(model, mean=..., std=...) tells it for images normalised so; the command "
                    f"line knows it. {_UNBOUNDED}"
                )
            low, high = self._active.pixel_range
        if self.from_image is None:
            raise RefusalError(
                f"The first layer's rule is made for pixels, but what enters {self.operation} is no longer the image "
                "moved, padded or rescaled. Use a rule for signed inputs there, such as w_squared or flat."
            )
        x = self._x.values

        def seen(limit: object) -> Tensor:
            values = torch.as_tensor(limit, dtype=x.dtype, device=x.device)
            assert self.from_image is not None  # noqa: S101 - checked above
            return wide(self.from_image(values))

        first, second = seen(low), seen(high)
        least, most = torch.minimum(first, second).expand_as(x), torch.maximum(first, second).expand_as(x)
        slack = 1e-4 * (most - least).amax()
        if bool(((x < least - slack) | (x > most + slack)).any()):
            naming = f"sightline.propagation.{name}(low=..., high=...)" if name else ""
            raise RefusalError(
                f"The images have pixels outside the range {_listed(low)} to {_listed(high)} that the first layer's "
                "rule was told, so that rule is not defined for them. "
                + (f"Name the range that your images have: {naming}. " if naming else "")
                + _UNBOUNDED
            )
        return least, most

    def rest(self) -> None:
        """Forget what was computed for a backward that is over."""
        self.constants = self._exact = None
        self._compared = False
        if not self._active.again:
            self._once.clear()


_MADE_BY = Note[tuple[Linear, Tensor, int, int]]("made_by", through_hooks=True)


def sign(result: Tensor, linear: Linear, x: Tensor) -> None:
    """Note on a weighted layer's result which layer made it from what, for a batch norm that may follow."""
    _MADE_BY.put(result, (linear, x, version_of(x), version_of(result)))


def foldable(h: Tensor) -> tuple[Linear, Tensor | None] | None:
    """The weighted layer whose result h is, untouched, and its input; no input where that was written over since."""
    found = _MADE_BY.of(h)
    if found is None:
        return None
    linear, x, version, made = found
    if version_of(h) != made or (linear.form.axis == -1 and h.dim() != 2):
        return None
    return linear, x if version_of(x) == version else None


class RuledLinear(torch.autograd.Function):
    """A weighted layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: Linear, native: Native) -> Tensor:
        """Torch's own operation."""
        ctx.set_materialize_grads(False)
        ctx.linear, ctx.dtype = linear, x.dtype
        return unaliased(native(x), [x])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor | None) -> tuple[Tensor | None, None, None]:
        """The active rule; without one, the transpose."""
        linear: Linear = ctx.linear
        if signal is None:
            return None, None, None
        active = linear._active
        found = linear.pull_as_is(signal) if active.rule(linear.kind) is None else apply_rule(signal, linear)
        if active.last:
            ctx.linear = None
        return found.to(ctx.dtype), None, None


class RuledBatchNorm(torch.autograd.Function):
    """A batch norm in evaluation mode: y = scale * h + shift.

    It takes the input x of the weighted layer that made h beside h itself. A rule for relevance hands its result to x
    and nothing to h, so that layer's own node is skipped.
    """

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, x: Tensor | None, linear: Linear | str, norm: BatchNorm, native: Native, kind: Kind
    ) -> Tensor:
        """Torch's own operation."""
        ctx.set_materialize_grads(False)
        ctx.linear, ctx.norm, ctx.kind, ctx.folds = linear, norm, kind, x is not None
        ctx.dtype = h.dtype if x is None else x.dtype
        return unaliased(native(h), [h])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        """The active rule; without one, the scale."""
        if signal is None:
            return None, None, None, None, None, None
        linear: Linear | str = ctx.linear
        if isinstance(linear, str):
            raise RefusalError(linear)
        active = linear._active
        if active.rule(ctx.kind) is None:
            return ctx.norm.gradient(signal), None, None, None, None, None
        folds = ctx.folds and active.rule(linear.kind) is not None
        alone = linear.outer(ctx.norm, ctx.kind) if ctx.folds and not folds else linear
        found = apply_rule(signal, alone).to(ctx.dtype)
        if active.last:
            ctx.linear = None
        return (None, found, None, None, None, None) if folds else (found, None, None, None, None, None)


def apply_rule(signal: Tensor, linear: Linear) -> Tensor:
    """Apply the active rule to a weighted layer, and note what became of the relevance."""
    active = linear._active
    rule = active.rule(linear.kind)
    assert rule is not None  # noqa: S101 - asked for by the caller
    # Arithmetic in single precision at least, and out of reach of autocast.
    with torch.autocast(signal.device.type, enabled=False):
        found: Tensor = rule(wide(signal), linear)
    if active.ledger is not None and linear.operation is not None:
        active.ledger.note(linear.operation, signal, [found], linear.constants)
        if linear._compared and linear._low is not None:
            active.ledger.note_rounding(linear.operation, linear.result, linear.exact, linear._low)
    linear.rest()
    return found


def _listed(limit: object) -> str:
    return ", ".join(f"{value:.4g}" for value in torch.as_tensor(limit).flatten().tolist())


_UNBOUNDED = (
    "For inputs that have no range, such as standardised measurements, there is deep_taylor_w_squared: Deep Taylor "
    "with the w^2 rule at the first layer."
)
_NAME_RANGE = (
    "Name the range: sightline.Method(propagation=sightline.propagation.{factory}(low=..., high=...), "
    'name="{factory}"), each a number or one per channel, such as images.min() and images.max(). Or '
)
