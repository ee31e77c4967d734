"""Weighted layers and batch norms as mathematics, read from the calls that perform them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sightline.operations._kept import wide
from sightline.operations._reading import Native, argument

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Transpose = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Shape = tuple[int, ...]


class Settings(NamedTuple):
    """How a convolution moves over its input; `more` is what is padded at the far end of each axis only."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    out: tuple[int, ...]
    groups: int
    more: tuple[int, ...]


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
        diagonal: whether it is a batch norm, with one input for each output.
        settings: for a convolution, how it moves over its input.
    """

    weight: Tensor
    bias: Tensor | None
    product: Product
    transpose: Transpose
    dense: bool
    spread: Callable[[Tensor], Tensor]
    axis: int
    padded_same: bool = False
    diagonal: bool = False
    settings: "Settings | None" = None


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
    settings = Settings(stride, padding, dilation, transposed, _tuple(out, n), groups, tuple(more))
    return _convolved(weight, bias, tuple(x.shape), settings, same=same)


def _convolved(weight: Tensor, bias: Tensor | None, shape: tuple[int, ...], settings: Settings, *, same: bool) -> Form:
    n, more, groups, transposed = len(shape) - 2, settings.more, settings.groups, settings.transposed
    moves = (settings.stride, settings.padding, settings.dilation, transposed, settings.out, groups)

    def product(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        x = functional.pad(x, [side for m in reversed(more) for side in (0, m)]) if any(more) else x
        return torch.convolution(x, w, b, *moves)

    def transpose(s: Tensor, w: Tensor, x: Tensor | None) -> Tensor:
        # Only the shape of x matters, which any tensor can have.
        if x is None or x.dtype != s.dtype or any(more):
            x = s.new_empty(()).expand([*shape[:2], *(size + m for size, m in zip(shape[2:], more, strict=True))])
        pulled: Tensor = torch.ops.aten.convolution_backward(s, x, w, None, *moves, [True, False, False])[0]
        return pulled[tuple(map(slice, shape))] if any(more) else pulled

    def spread(values: Tensor) -> Tensor:
        if transposed:
            # Weights are (input, output / groups, ...), the groups one after the other along the inputs.
            per_group = values.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
            return per_group.reshape(weight.shape[0], -1, *[1] * n)
        return values.reshape(-1, *[1] * (n + 1))

    return Form(
        weight, bias, product, transpose, dense=False, spread=spread, axis=1, padded_same=same, settings=settings
    )


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
    """What a call of batch norm, or of instance norm by running statistics, does; None where it has none."""
    if not has_statistics(func, args, kwargs):
        return None
    given = _settings_of(func, args, kwargs)
    eps = argument(args, kwargs, 7, "eps", 1e-5)
    mean, variance = given["running_mean"], given["running_var"]
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


def has_statistics(func: Native, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of batch norm has running statistics, and neither they nor its weights depend on the input."""
    given = _settings_of(func, args, kwargs)
    complete = given["running_mean"] is not None and given["running_var"] is not None
    return complete and not any(_depends(tensor) for tensor in given.values())


def _settings_of(func: Native, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    # torch.batch_norm has the same arguments as F.batch_norm in another order, and so have the instance norms.
    names = ("running_mean", "running_var", "weight", "bias")
    if func not in {functional.batch_norm, functional.instance_norm}:
        names = ("weight", "bias", "running_mean", "running_var")
    return {name: argument(args, kwargs, place, name) for place, name in enumerate(names, start=1)}


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
        diagonal=True,
    )


def merged(parts: Sequence[tuple[Form, Tensor, Tensor | None]], before: Shape, after: Shape) -> Form | None:
    """The sum of layers on one input as one layer; None where it is no layer of a kind that torch has.

    A batch norm is the diagonal of a dense layer, or a 1 x 1 convolution of each channel by itself. Kernels of several
    sizes are brought to one by zeros around and between their weights; groups, to their greatest common divisor.

    Args:
        parts: each with the weight and bias to take in its stead.
        before: the input's shape.
        after: the result's.
    """
    forms = [form for form, _, _ in parts]
    biases = [bias for _, _, bias in parts if bias is not None]
    bias = sum(biases[1:], start=biases[0]) if biases else None
    weights = [weight for _, weight, _ in parts]
    if all(form.diagonal for form in forms):
        assert bias is not None  # noqa: S101 - batch norms have one
        return diagonal(sum(weights[1:], start=weights[0]), bias)
    if any(form.dense for form in forms):
        if not all(form.dense or (form.diagonal and len(after) == 2) for form in forms):
            return None
        full = [torch.diag(w) if form.diagonal else w for form, w in zip(forms, weights, strict=True)]
        return _dense(sum(full[1:], start=full[0]), bias)
    settings = [_depthwise(before) if form.settings is None else form.settings for form in forms]
    if any(s.transposed for s in settings):
        alike = len(set(settings)) == 1 and len({w.shape for w in weights}) == 1
        return _convolved(sum(weights[1:], start=weights[0]), bias, before, settings[0], same=False) if alike else None
    return _one_convolution(weights, bias, settings, before, after)


def _depthwise(before: Shape) -> Settings:
    one, none = (1,) * (len(before) - 2), (0,) * (len(before) - 2)
    return Settings(one, none, one, False, none, before[1], none)


def _one_convolution(
    weights: Sequence[Tensor], bias: Tensor | None, settings: Sequence[Settings], before: Shape, after: Shape
) -> Form | None:
    n, stride = len(before) - 2, settings[0].stride
    if any(s.stride != stride for s in settings):
        return None
    groups = math.gcd(*(s.groups for s in settings))
    kernels = [
        _regrouped(w.reshape(-1, 1, *[1] * n) if w.dim() == 1 else w, s.groups, groups)
        for w, s in zip(weights, settings, strict=True)
    ]
    axes: list[tuple[int, int, int, int]] = []  # of each: step, padding, size, what is padded at the far end
    for axis in range(n):
        pad = max(s.padding[axis] for s in settings)
        spans = [(k.shape[2 + axis] - 1, s) for k, s in zip(kernels, settings, strict=True)]
        gaps = [s.dilation[axis] for span, s in spans if span]
        step = math.gcd(*gaps, *(pad - s.padding[axis] for s in settings)) or 1
        reach = pad + max(span * s.dilation[axis] - s.padding[axis] for span, s in spans)
        room = before[2 + axis] + 2 * pad - reach - 1
        lacking = max(0, (after[2 + axis] - 1) * stride[axis] - room)
        if (room + lacking) // stride[axis] + 1 != after[2 + axis]:
            return None
        axes.append((step, pad, reach // step + 1, lacking))
    steps, pads, sizes, more = zip(*axes, strict=True)
    whole = kernels[0].new_zeros(*kernels[0].shape[:2], *sizes)
    for kernel, s in zip(kernels, settings, strict=True):
        places = [slice(None), slice(None)]
        for axis in range(n):
            start, gap = (pads[axis] - s.padding[axis]) // steps[axis], max(1, s.dilation[axis] // steps[axis])
            places.append(slice(start, start + (kernel.shape[2 + axis] - 1) * gap + 1, gap))
        whole[tuple(places)] += kernel
    moves = Settings(stride, pads, steps, False, (0,) * n, groups, more)
    return _convolved(whole, bias, before, moves, same=False)


def _regrouped(weight: Tensor, groups: int, fewer: int) -> Tensor:
    """The kernel of a grouped convolution with fewer groups, zero where it connected nothing."""
    ratio = groups // fewer
    if ratio == 1:
        return weight
    outside, inside = weight.shape[0] // groups, weight.shape[1]
    blocks = weight.reshape(fewer, ratio, outside, inside, *weight.shape[2:])
    full = weight.new_zeros(fewer, ratio, outside, ratio, inside, *weight.shape[2:])
    for number in range(ratio):
        full[:, number, :, number] = blocks[:, number]
    return full.reshape(weight.shape[0], ratio * inside, *weight.shape[2:])
