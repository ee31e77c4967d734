"""From a torch function to its name and kind."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sightline._common.torch_private import operator_namespace
from sightline.operations._vocabulary import KINDS, Kind
from sightline.operations.kinds._unknown import UNKNOWN
from sightline.operations.layout._seen import LayoutRule


def spelling(function: Callable[..., Any]) -> tuple[str, Kind, bool]:
    """Name, kind and in-place mark of a torch function, method, operator or property.

    `UNKNOWN` is an answer, not an error: the propagation decides what to do with it.
    """
    name, in_place, is_torchs = _name(function)
    return name, (KINDS.spelled(name) if is_torchs else None) or UNKNOWN, in_place


def layout_rule(name: str, kind: Kind) -> LayoutRule:
    """How the function of that name, read as that kind, maps layouts."""
    return (KINDS.spelled(name) or UNKNOWN).layouts.get(name, kind.layout)


@lru_cache(maxsize=4096)
def _name(function: Callable[..., Any]) -> tuple[str, bool, bool]:
    name: str = getattr(function, "__name__", type(function).__name__)
    if not _is_torchs(function):
        return name, False, False
    if name == "__get__":
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    overload = name.split(".")[0]
    in_place = overload.endswith("_") and not overload.endswith("__")
    bare = overload.strip("_")
    in_place = in_place or (overload.startswith("__i") and bare in {"iadd", "isub", "imul", "itruediv", "idiv"})
    return bare, in_place, True


def _is_torchs(function: Callable[..., Any]) -> bool:
    """Whether a function is torch's own; others may bear the name of one and do something else."""
    namespace = operator_namespace(function)
    if namespace is not None:
        return namespace == "aten"
    module = getattr(function, "__module__", None)
    return module is None or module.split(".")[0] == "torch"
