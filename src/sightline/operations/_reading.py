"""Reading a call: what an operation is, given not only its name but its arguments."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from sightline.operations._graph import elementwise_alike
from sightline.operations._kept import Constants
from sightline.operations._origins import is_gate, is_mixed
from sightline.operations._vocabulary import Kind, keeps_zero

Native = Callable[..., Any]
_SMALL = 4096


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str, default: Any = None) -> Any:
    """An argument of a call, by position or by name."""
    return kwargs[name] if name in kwargs else args[position] if len(args) > position else default


def kind_of_call(
    name: str, kind: Kind, args: tuple[Any, ...], kwargs: Mapping[str, Any], tensors: list[Tensor]
) -> Kind:
    """The kind of a call that is no rectifier, as far as it depends on its arguments."""
    inside = [tensor for tensor in tensors if tensor.requires_grad]
    match kind:
        case Kind.MAXIMUM | Kind.MAX_POOLING if is_mixed(tensors):
            # The largest of a value and a constant is a rectifier; of values alone it is pooling.
            kind = Kind.POINTWISE
        case Kind.MAX_POOLING if argument(args, kwargs, 6 if "adaptive" not in name else 2, "return_indices"):
            kind = Kind.MAXIMUM
        case Kind.RESAMPLING:
            mode = argument(args, kwargs, 3 if name in {"interpolate", "upsample"} else 2, "mode", "nearest")
            if name in {"interpolate", "upsample"} and str(mode).startswith("nearest"):
                kind = Kind.RESHAPE
            elif len(inside) > 1:
                kind = Kind.UNKNOWN
        case Kind.SCALING:
            kind = _product(name, args, kwargs, inside)
        case Kind.LINEAR if len(inside) > 1:
            kind = Kind.MATMUL
        case Kind.NORMALISATION if name == "instance_norm" and not argument(args, kwargs, 5, "use_input_stats", True):
            # By running statistics, which is what a batch norm does.
            kind = Kind.BATCH_NORM if len(inside) == 1 else Kind.UNKNOWN
        case Kind.POINTWISE if name in {"maximum", "minimum"} and len(inside) == 2:
            # The larger of two values is pooled, unless both are functions of one: that is an activation.
            if not is_mixed(tensors) and not elementwise_alike(*inside):
                kind = Kind.MAXIMUM
        case Kind.POINTWISE if keeps_zero(name, args, kwargs):
            kind = Kind.ACTIVATION
        case Kind.BATCH_NORM | Kind.AVERAGE_POOLING | Kind.REDUCTION | Kind.ACTIVATION if len(inside) > 1:
            # Its settings depend on the image too: a slope, a scale.
            kind = Kind.UNKNOWN
        case Kind.MATMUL if name in {"matmul", "mm"} and _constant_right(args, kwargs):
            kind = Kind.LINEAR
        case _:
            pass
    return kind


def _product(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], inside: list[Tensor]) -> Kind:
    if len(inside) == 1:
        first = argument(args, kwargs, 0, "input")
        quotient = "div" in name and first is not inside[0]
        rounded = kwargs.get("rounding_mode") is not None
        reversed_ = name in {"rtruediv", "rdiv"}
        return Kind.POINTWISE if rounded or (quotient != reversed_) else Kind.SCALING
    gates = sum(map(is_gate, inside))
    if len(inside) == 2 and gates == 1 and "div" not in name:
        return Kind.GATING
    return Kind.PRODUCT


def _constant_right(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    left = argument(args, kwargs, 0, "input")
    right = kwargs.get("mat2", argument(args, kwargs, 1, "other"))
    return (
        isinstance(left, Tensor)
        and isinstance(right, Tensor)
        and left.requires_grad
        and not right.requires_grad
        and left.dim() >= 2
        and right.dim() == 2
    )


def bound(
    func: Native, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, in_place: bool, copies: bool
) -> tuple[list[Tensor], Native] | None:
    """The tensors of a call that depend on the input, and the call as a function of them alone.

    A constant that the call writes into is one of them: it depends on the input from then on. None where they are not
    arguments themselves but parts of one. With `copies`, small constants are copied, so that the model may change its
    own.
    """
    alone = not kwargs and not any(isinstance(v, Tensor | list | tuple) for v in args[1:])
    if alone and not (in_place and copies) and isinstance(args[0], Tensor):
        # One tensor and numbers: nothing to watch.
        rest = args[1:]
        return [args[0]], lambda x: func(x, *rest)
    places = [
        i
        for i, value in enumerate(args)
        if isinstance(value, Tensor) and (value.requires_grad or (i == 0 and in_place))
    ]
    names = [key for key, value in kwargs.items() if isinstance(value, Tensor) and value.requires_grad]
    nested = any(isinstance(value, list | tuple) and _holds_signal(value) for value in (*args, *kwargs.values()))
    if nested:
        return None
    tensors = [args[i] for i in places] + [kwargs[key] for key in names]

    def constant(value: Any) -> Any:
        return value.clone() if copies and isinstance(value, Tensor) and value.numel() <= _SMALL else value

    fixed = tuple(None if i in places else constant(value) for i, value in enumerate(args))
    keywords = {key: constant(value) for key, value in kwargs.items() if key not in names}
    constants = Constants([value for value in (*fixed, *keywords.values()) if isinstance(value, Tensor)])

    def native(*values: Tensor) -> Any:
        constants.check()
        filled = list(fixed)
        for place, value in zip(places, values, strict=False):
            filled[place] = value
        return func(*filled, **keywords, **dict(zip(names, values[len(places) :], strict=True)))

    return tensors, native


def _holds_signal(values: Any) -> bool:
    return any(
        value.requires_grad if isinstance(value, Tensor) else isinstance(value, list | tuple) and _holds_signal(value)
        for value in values
    )


def averaging(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[Tensor], Tensor] | None:
    """The average pooling over the windows of a max-pooling; None where torch has none (dilated windows)."""
    if name.startswith("adaptive"):
        size = argument(args, kwargs, 1, "output_size")
        pool = getattr(functional, name.replace("max", "avg"))
        return lambda x: pool(x, size)
    dilation = argument(args, kwargs, 4, "dilation", 1)
    if any(d != 1 for d in (dilation if isinstance(dilation, list | tuple) else (dilation,))):
        return None
    pool = getattr(functional, name.replace("max", "avg"))
    kernel = argument(args, kwargs, 1, "kernel_size")
    stride = argument(args, kwargs, 2, "stride") or kernel
    padding = argument(args, kwargs, 3, "padding", 0)
    ceil_mode = bool(argument(args, kwargs, 5, "ceil_mode", default=False))
    return lambda x: pool(x, kernel, stride, padding, ceil_mode)


def writes_in_place(kind: Kind, in_place: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call may write over its first argument: by its spelling, or by an `inplace` argument."""
    if in_place or kwargs.get("inplace"):
        return True
    # F.leaky_relu(x, 0.1, True), F.dropout(x, 0.5, False, True): the flag may stand anywhere.
    return kind in {Kind.RECTIFIER, Kind.ACTIVATION, Kind.POINTWISE, Kind.IDENTITY, Kind.GATE} and True in [
        value for value in args if isinstance(value, bool)
    ]
