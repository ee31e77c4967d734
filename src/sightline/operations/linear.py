"""Weighted layers, with a batch norm that follows folded in, whose backward is chosen when the backward runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sightline.errors import RefusalError
from sightline.operations.active import Active
from sightline.operations.kept import Constants, Kept, wide
from sightline.operations.reading import Native, argument
from sightline.operations.vocabulary import Kind, Operation

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Transpose = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, eq=False)
class Form:
    """A weighted layer as mathematics: y = W x + b, and W's transpose.

    Attributes:
        weight: shape as torch's operation has it.
        bias: shape (output channel,), or None.
        product: (x, weight, bias) -> y.
        transpose: (signal at y, weight, x where it is at hand) -> W^T signal.
        dense: whether every output sees every input (linear, matmul), as against a convolution.
        spread: (value for each output channel) -> shaped so that it multiplies the weight.
        axis: where the result's channels are.
        padded_same: whether it is a convolution whose padding keeps the size, but for strides.
    """

    weight: Tensor
    bias: Tensor | None
    product: Product
    transpose: Transpose
    dense: bool
    spread: Callable[[Tensor], Tensor]
    axis: int
    padded_same: bool = False


class Linear:
    """What a rule sees of a weighted layer y_j = sum_i x_i w_ij + b_j, a folded batch norm included.

    All values are in single precision at least.

    Attributes:
        dense: whether it is a linear layer and no convolution.
        first: whether no weighted layer stands between it and the input.
        operation: the operation, for records.
        constants: per row, what the active rule gave to the biases; rules set it through `to_biases`.
        from_image: what was done to the image before this layer, where that only moved, padded or rescaled pixels.
    """

    def __init__(self, form: Form, x: Kept, active: Active, *, first: bool) -> None:
        self.form, self._x, self._active, self.first = form, x, active, first
        self._constants = Constants([form.weight, *([] if form.bias is None else [form.bias])])
        self._scale: Tensor | None = None
        self._result: Kept | None = None
        self._once: dict[tuple[object, str], Tensor] = {}
        self.operation: Operation | None = None
        self.constants: Tensor | None = None
        self.from_image: Callable[[Tensor], Tensor] | None = None

    def folded(self, scale: Tensor, shift: Tensor) -> "Linear":
        """This layer and the batch norm that follows it, as one layer: y = scale * (W x + b) + shift."""
        bias = shift if self.form.bias is None else shift + scale * self.form.bias
        new = Linear(replace(self.form, bias=bias), self._x, self._active, first=self.first)
        new._scale = scale if self._scale is None else self._scale * scale
        new.from_image = self.from_image
        return new

    def made(self, operation: Operation, result: Kept) -> None:
        """Complete it once the operation has run."""
        self.operation, self._result = operation, result

    def forget_result(self) -> None:
        """Keep the result no longer; it is made again where it is needed after all."""
        self._result = None

    @property
    def dense(self) -> bool:  # noqa: D102
        return self.form.dense

    @property
    def last(self) -> bool:
        """Whether the explained value is reached from here without another weighted layer."""
        return self.operation is not None and self.operation.order in self._active.final_layers

    @property
    def x(self) -> Tensor:
        """The input."""
        return wide(self._x.values)

    @property
    def nonnegative(self) -> bool:
        """Whether no input is below zero."""
        return self._x.nonnegative

    @property
    def weight(self) -> Tensor:
        """The weights, times the folded scale."""
        self._constants.check()
        weight = wide(self.form.weight)
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
        """The result y, as it was, or made again where it was written over or is of low precision."""
        kept = self._result
        if kept is not None and kept.intact and kept.values.dtype in {torch.float32, torch.float64}:
            return kept.values
        return self.once("result", lambda: self.product(self.x, self.weight, self.bias))

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
        return self.pull(signal, wide(self.form.weight))

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
        if low is None or high is None:
            if self._active.pixel_range is None:
                raise RefusalError(
                    "The first layer's rule needs the range of a pixel as the model sees it, and the model does not "
                    "say how it encodes images. Name it: sightline.propagation.epsilon_gamma_box(low=..., high=...), "
                    "each a number or one per channel, or load images and model through sightline."
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
            raise RefusalError(
                f"The images have pixels outside the range {_listed(low)} to {_listed(high)} that the first layer's "
                "rule was told, so that rule is not defined for them. Name the range that your images have: "
                "sightline.propagation.epsilon_gamma_box(low=..., high=...)."
            )
        return least, most

    def rest(self) -> None:
        """Forget what was computed for a backward that is over."""
        self.constants = None
        if not self._active.again:
            self._once.clear()


_MADE_BY = "_sightline_made_by"


def sign(result: Tensor, linear: Linear, x: Tensor) -> None:
    """Note on a weighted layer's result which layer made it from what, for a batch norm that may follow."""
    setattr(result, _MADE_BY, (linear, x, x._version, result._version))


def foldable(h: Tensor) -> tuple[Linear, Tensor | None] | None:
    """The weighted layer whose result h is, untouched, and its input; no input where that was written over since."""
    note: tuple[Linear, Tensor, int, int] | None = getattr(h, _MADE_BY, None)
    if note is None:
        return None
    linear, x, version, made = note
    if h._version != made or (linear.form.axis == -1 and h.dim() != 2):
        return None
    return linear, x if x._version == version else None


class RuledLinear(torch.autograd.Function):
    """A weighted layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: Linear, native: Native) -> Tensor:
        """Torch's own operation."""
        ctx.set_materialize_grads(False)
        ctx.linear, ctx.dtype = linear, x.dtype
        y: Tensor = native(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor | None) -> tuple[Tensor | None, None, None]:
        """The active rule; without one, the transpose."""
        linear: Linear = ctx.linear
        if signal is None:
            return None, None, None
        active = linear._active
        if active.rule(Kind.LINEAR) is None:
            found = linear.pull_as_is(signal)
        else:
            found = apply_rule(Kind.LINEAR, signal, linear)
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
        ctx: Any, h: Tensor, x: Tensor | None, linear: Linear | str, norm: "BatchNorm", native: Native
    ) -> Tensor:
        """Torch's own operation."""
        ctx.set_materialize_grads(False)
        ctx.linear, ctx.norm, ctx.folds = linear, norm, x is not None
        ctx.dtype = h.dtype if x is None else x.dtype
        y: Tensor = native(h)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """The active rule; without one, the scale."""
        if signal is None:
            return None, None, None, None, None
        linear: Linear | str = ctx.linear
        if isinstance(linear, str):
            raise RefusalError(linear)
        if linear._active.rule(Kind.BATCH_NORM) is None:
            return ctx.norm.gradient(signal), None, None, None, None
        found = apply_rule(Kind.LINEAR if ctx.folds else Kind.BATCH_NORM, signal, linear).to(ctx.dtype)
        if linear._active.last:
            ctx.linear = None
        return (None, found, None, None, None) if ctx.folds else (found, None, None, None, None)


def apply_rule(kind: Kind, signal: Tensor, linear: Linear) -> Tensor:
    """Apply the active rule to a weighted layer, and note what became of the relevance."""
    active = linear._active
    rule = active.rule(kind)
    assert rule is not None  # noqa: S101 - asked for by the caller
    # Arithmetic in single precision at least, and out of reach of autocast.
    with torch.autocast(signal.device.type, enabled=False):
        found: Tensor = rule(wide(signal), linear)
    if active.ledger is not None and linear.operation is not None:
        active.ledger.note(linear.operation, signal, [found], linear.constants)
    linear.rest()
    return found


def form_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Form | None:
    """The weighted layer that a call amounts to; None for forms without a rule (weights from the input, no batch)."""
    if name.startswith("conv"):
        return _convolution(name, args, kwargs)
    if name == "addmm":
        if argument(args, kwargs, 3, "beta", 1) != 1 or argument(args, kwargs, 4, "alpha", 1) != 1:
            return None
        bias, matrix = argument(args, kwargs, 0, "input"), argument(args, kwargs, 2, "mat2")
        return None if bias.requires_grad or matrix.requires_grad or bias.dim() != 1 else _dense(matrix.t(), bias)
    if name in {"matmul", "mm"}:
        return _dense(kwargs.get("mat2", argument(args, kwargs, 1, "other")).t(), None)
    weight, bias = argument(args, kwargs, 1, "weight"), argument(args, kwargs, 2, "bias")
    x = argument(args, kwargs, 0, "input")
    if weight.dim() != 2 or x.dim() < 2 or weight.requires_grad or _depends(bias):
        return None
    return _dense(weight, bias)


def _depends(bias: Tensor | None) -> bool:
    return bias is not None and bias.requires_grad


def _dense(weight: Tensor, bias: Tensor | None) -> Form:
    return Form(
        weight=weight,
        bias=bias,
        product=functional.linear,
        transpose=lambda s, w, _: s @ w,
        dense=True,
        spread=lambda values: values.unsqueeze(1),
        axis=-1,
    )


def _convolution(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Form | None:
    x, weight = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "weight")
    bias = argument(args, kwargs, 2, "bias")
    if weight.requires_grad or _depends(bias) or x.dim() != weight.dim():
        return None
    n = weight.dim() - 2
    stride = _tuple(argument(args, kwargs, 3, "stride", 1), n)
    padding = argument(args, kwargs, 4, "padding", 0)
    out, transposed = (0,) * n, False
    if name == "convolution":
        dilation, groups = argument(args, kwargs, 5, "dilation"), argument(args, kwargs, 8, "groups")
        transposed, out = argument(args, kwargs, 6, "transposed"), argument(args, kwargs, 7, "output_padding")
    elif name.startswith("conv_transpose"):
        out, transposed = _tuple(argument(args, kwargs, 5, "output_padding", 0), n), True
        groups, dilation = argument(args, kwargs, 6, "groups", 1), argument(args, kwargs, 7, "dilation", 1)
    else:
        dilation, groups = argument(args, kwargs, 5, "dilation", 1), argument(args, kwargs, 6, "groups", 1)
    dilation = _tuple(dilation, n)
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    same = padding == "same"
    # Where "same" does not come out even, torch pads once more at the far ends.
    more = [r % 2 if same else 0 for r in reach]
    if same:
        padding = tuple(r // 2 for r in reach)
    padding = (0,) * n if padding == "valid" else _tuple(padding, n)
    same = same or (not transposed and all(2 * p == r for p, r in zip(padding, reach, strict=True)))
    settings = (stride, padding, dilation, transposed, out, groups)

    def product(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        x = functional.pad(x, [side for m in reversed(more) for side in (0, m)]) if any(more) else x
        return torch.convolution(x, w, b, *settings)

    def transpose(s: Tensor, w: Tensor, x: Tensor | None) -> Tensor:
        # Only the shape of x matters, which any tensor can have.
        if x is None or x.dtype != s.dtype or any(more):
            x = s.new_empty(()).expand([*shape[:2], *(size + m for size, m in zip(shape[2:], more, strict=True))])
        pulled: Tensor = torch.ops.aten.convolution_backward(s, x, w, None, *settings, [True, False, False])[0]
        return pulled[tuple(map(slice, shape))] if any(more) else pulled

    def spread(values: Tensor) -> Tensor:
        if transposed:
            # Weights are (input, output / groups, ...), the groups one after the other along the inputs.
            per_group = values.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
            return per_group.reshape(weight.shape[0], -1, *[1] * n)
        return values.reshape(-1, *[1] * (n + 1))

    shape = tuple(x.shape)
    return Form(weight, bias, product, transpose, dense=False, spread=spread, axis=1, padded_same=same)


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * n if len(values) == 1 else values


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """A batch norm in evaluation mode, y = scale * h + shift.

    Attributes:
        scale: shape (channel,).
        shift: shape (channel,).
        gradient: torch's own derivative, signal at y -> signal at h.
    """

    scale: Tensor
    shift: Tensor
    gradient: Callable[[Tensor], Tensor]


def batch_norm_of(func: Native, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BatchNorm | None:
    """What a call of batch norm does; None where it has no running statistics."""
    # torch.batch_norm has the same arguments as F.batch_norm in another order.
    names = ("running_mean", "running_var", "weight", "bias")
    if func is not functional.batch_norm:
        names = ("weight", "bias", "running_mean", "running_var")
    given = {name: argument(args, kwargs, place, name) for place, name in enumerate(names, start=1)}
    eps = argument(args, kwargs, 7, "eps", 1e-5)
    mean, variance = given["running_mean"], given["running_var"]
    if mean is None or variance is None or any(_depends(tensor) for tensor in given.values()):
        return None
    scale = (wide(variance) + eps).rsqrt()
    if given["weight"] is not None:
        scale = scale * given["weight"]
    shift = -wide(mean) * scale
    if given["bias"] is not None:
        shift = shift + given["bias"]
    weight, none = given["weight"], mean.new_empty(0)

    def gradient(signal: Tensor) -> Tensor:
        # Only the shape of the input matters here, and torch's own rounding is kept.
        h = signal.new_empty(()).expand(signal.shape)
        pulled: Tensor = torch.ops.aten.native_batch_norm_backward(
            signal, h, weight, mean, variance, none, none, False, eps, [True, False, False]
        )[0]
        return pulled

    return BatchNorm(scale, shift, gradient)


def diagonal(scale: Tensor, shift: Tensor) -> Form:
    """A batch norm that follows no weighted layer, as a weighted layer with one input for each output."""

    def shaped(values: Tensor, like: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * (like.dim() - 2))

    def product(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return x * shaped(w, x) if b is None else x * shaped(w, x) + shaped(b, x)

    return Form(
        weight=scale,
        bias=shift,
        product=product,
        transpose=lambda s, w, _: s * shaped(w, s),
        dense=False,
        spread=lambda values: values,
        axis=1,
    )


def _listed(limit: object) -> str:
    return ", ".join(f"{value:.4g}" for value in torch.as_tensor(limit).flatten().tolist())
