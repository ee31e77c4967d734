"""Layers given as modules, by their names in the model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from sightline.errors import InputError
from sightline.explaining._targets import Direction, Target, Unit
from sightline.methods import Method


def methods_named(model: Callable[..., Any], methods: Sequence[Method]) -> list[Method]:
    """The same methods, with the layers that are given as modules named as in the model.

    Raises:
        InputError: a module is not in the model.
    """
    return [_method(model, method) for method in methods]


def target_named(model: Callable[..., Any], target: Target) -> Target:
    """The same target, with its layer named as in the model.

    Raises:
        InputError: the layer is not in the model.
    """
    if isinstance(target, Unit | Direction) and isinstance(target.layer, nn.Module):
        return replace(target, layer=_name(model, target.layer))
    return target


def _method(model: Callable[..., Any], method: Method) -> Method:
    layer = getattr(method.aggregation, "layer", None)
    if isinstance(layer, nn.Module):
        aggregation: Any = method.aggregation
        method = replace(method, aggregation=replace(aggregation, layer=_name(model, layer)))
    if method.times is not None:
        method = replace(method, times=_method(model, method.times))
    return method


def _name(model: Callable[..., Any], layer: nn.Module) -> str:
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    name: str = next((name for name, module in modules if module is layer), "")
    if not name:
        what = "is the model itself" if layer is model else "is no module of the model"
        raise InputError(
            f"The layer that was given, a {type(layer).__name__}, {what}. Give one of its modules, or the name of one."
        )
    return name
