"""Reading the arguments of a call."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from sightline.operations._kept import Constants

Native = Callable[..., Any]
_SMALL = 4096


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str, default: Any = None) -> Any:
    """An argument of a call, by position or by name."""
    return kwargs[name] if name in kwargs else args[position] if len(args) > position else default


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
