"""Methods by name: the catalogue's, those of other distributions, and those in a user's own file."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from sightline._common.registry import Registry
from sightline._common.user_code import is_user_code
from sightline.errors import InputError, alternatives
from sightline.methods._method import Method


@runtime_checkable
class MapFunction(Protocol):
    """A method that is any function, as `sightline.from_callable` makes it: it can be audited, not explained."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        ...

    def maps(self, model: Any, images: Tensor, classes: Tensor) -> Tensor:
        """One map for each image."""
        ...


def _accepted(found: object) -> Method | MapFunction:
    """What a user's file or an entry point may hold."""
    wanted = "expected a sightline.Method, a function without arguments that makes one, or what from_callable returns"
    if isinstance(found, type) and issubclass(found, Method):
        raise InputError(f"{wanted}; got the class {found.__name__} itself. Call it, as in Method(...).")
    if isinstance(found, Method | MapFunction):
        return found
    if not callable(found):
        raise InputError(f"{wanted}; got {type(found).__name__}.")
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        raise InputError(
            f"{wanted}; got {getattr(found, '__name__', type(found).__name__)}, which takes arguments. A function of "
            "(model, images, classes) becomes a method for audits by sightline.from_callable(function)."
        ) from None
    try:
        made = found()
    except Exception as error:
        raise InputError(f"the function failed with {type(error).__name__}: {error}") from error
    if not isinstance(made, Method | MapFunction):
        raise InputError(f"{wanted}; the function returned {type(made).__name__}.")
    return made


METHODS_GROUP = "sightline.methods"
"""The entry points by which other distributions register methods."""
METHODS: Registry[Method | MapFunction] = Registry("method", METHODS_GROUP, ("sightline.methods.rows",), _accepted)
_MADE: dict[tuple[str, bytes], Method | MapFunction] = {}
"""What users' files gave, by name and content: a file is run once, and again when it was changed."""


def catalogue() -> Mapping[str, Method]:
    """All named methods, by name: Sightline's own, then those that other distributions register.

    A distribution registers one as an entry point of the group `sightline.methods`: a `Method`, or a function without
    arguments that makes one. Those that cannot be used are left out; `unusable` says why.
    """
    return MappingProxyType(
        {name: part for name, part in _all().items() if not isinstance(part, InputError | MapFunction)}
    )


def known_methods() -> dict[str, Method]:
    """The catalogue, and the methods of users' files that were asked for since the program started.

    What was saved is read back with these. A file that is merely named in what was saved is not run.
    """
    return {one.name: one for one in _MADE.values() if isinstance(one, Method)} | dict(catalogue())


def unusable() -> dict[str, str]:
    """For each method of another distribution that cannot be explained, why."""
    return {
        name: str(part) if isinstance(part, InputError) else _only_audited(name)
        for name, part in _all().items()
        if isinstance(part, InputError | MapFunction)
    }


def _all() -> dict[str, Method | MapFunction | InputError]:
    found: dict[str, Method | MapFunction | InputError] = {}
    for name in METHODS:
        try:
            found[name] = _under_its_name(METHODS[name], name)
        except InputError as error:
            found[name] = error
    return found


def as_method(method: object) -> Method:
    """A method from itself, or from its name: `NAME`, `FILE.py:NAME` or `package.module:NAME`, each with `@LAYER`.

    Raises:
        InputError: there is no method of that name (similar names are given), or it is a function, which has no map to
            explain by.
    """
    found = method_or_function(method)
    if isinstance(found, Method):
        return found
    raise InputError(_only_audited(found.name))


def method_or_function(method: object) -> Method | MapFunction:
    """What can be audited: a method as `as_method` takes it, or a function as `from_callable` makes it.

    Raises:
        InputError: there is no method of that name.
    """
    if isinstance(method, Method | MapFunction) and not isinstance(method, type):
        return method
    if not isinstance(method, str):
        raise InputError(f"A method is a name or a sightline.Method; got {method!r}.")
    name, at, layer = method.strip().rpartition("@")
    if not at or ":" in layer:
        # The folder of a user's file may have an @ in its name.
        name, layer = method.strip(), ""
    found = _of_name(name)
    if not layer:
        return found
    if isinstance(found, Method):
        return found.at(layer)
    raise InputError(f"{found.name} is a function, so it reads no layer and cannot be moved to {layer!r}.")


def _of_name(name: str) -> Method | MapFunction:
    if name in METHODS:
        return _under_its_name(METHODS[name], name)
    if is_user_code(name):
        return _in_user_code(name)
    plain = name.lower().replace("_", "").replace("-", "").replace(" ", "")
    if plain in _ELSEWHERE:
        raise InputError(f"There is no method {name!r}: {_ELSEWHERE[plain]}")
    raise InputError(f"There is no method {name!r}. {alternatives(name, list(METHODS))}")


def _under_its_name(found: Method | MapFunction, name: str) -> Method | MapFunction:
    return replace(found, name=name) if isinstance(found, Method) and found.name != name else found


def _in_user_code(spec: str) -> Method | MapFunction:
    """A method of a user's own, called as in the file unless it has a name of its own."""
    place, _, name = spec.rpartition(":")
    file = Path(place)
    key = (spec, file.read_bytes() if place.endswith(".py") and file.is_file() else b"")
    if key in _MADE:
        return _MADE[key]
    found = METHODS[spec]
    if isinstance(found, Method) and found.name == replace(found, name="").name:
        found = replace(found, name=name)
    if found.name in METHODS and METHODS[found.name] != found:
        raise InputError(
            f"{spec} is called {found.name}, as is another method of `sightline methods`. Give it a name of its own: "
            "Method(..., name=...)."
        )
    _MADE[key] = found
    return found


def _only_audited(name: str) -> str:
    return (
        f"{name} is a function made by from_callable: Sightline sees its maps but not how they are computed, so it can "
        "audit them and has nothing to check in an explanation. Use it in `sightline audit` (sightline.audit), or "
        "state it as a sightline.Method."
    )


_OWN = "sightline.from_callable(function) audits such a method of another library beside these."
_CHANGED = f"it asks the network about changed images, and Sightline on purpose reads the network's own signals. {_OWN}"
_ELSEWHERE = {
    **dict.fromkeys(
        (
            "lime", "shap", "kernelshap", "partitionshap", "shapley", "occlusion", "occlusionsensitivity", "rise",
            "scorecam", "ablationcam", "featureablation", "featurepermutation", "shapleyvaluesampling",
            "extremalperturbation", "meaningfulperturbation",
        ),
        _CHANGED,
    ),
    **dict.fromkeys(
        ("eigencam", "eigengradcam", "deeplift", "deepliftshap", "deepshap", "informationbottleneck"),
        f"it is not part of Sightline. {_OWN}",
    ),
    "gradientshap": "here it is expected_gradients, which needs references.",
    "deconvolution": "here it is deconvnet.",
    "vanillagradient": "here it is gradient.",
    "ig": "here it is integrated_gradients.",
}  # fmt: skip
"""Names by which people ask for methods of other libraries."""
