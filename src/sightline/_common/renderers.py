"""How results are shown: figures, HTML, LaTeX and files, by functions that register themselves by type of result.

A result asks for what it is to look like by `render` and knows nothing of pictures; libraries that draw are imported
then, and not before.
"""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from sightline._common.registry import Registry
from sightline.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])

RENDERERS: Registry[Callable[..., Any]] = Registry("renderer", "sightline.renderers")
"""By name: `package.Class.output`, such as `sightline.Explanation.figure`; so are entry points named."""
_OWN = {
    "sightline.arrays": ("_thumbnails",),
    "sightline.auditing": ("_audit_page",),
    "sightline.explaining": ("_montage",),
    "sightline.gad": ("_gad", "_gad_report"),
}
"""For each package of results, the modules of `sightline.rendering` that register their renderers."""


def renders(result: type, output: str) -> Callable[[F], F]:
    """Register a function that makes an output of results of one type, and of types derived from it.

    Args:
        result: the type of result.
        output: what is made: `figure` (of matplotlib), `html` (what a notebook shows), `latex`, `bibliography`
            (BibTeX), `files` (what `save` writes beside the numbers, as functions of a path by file name), or another
            word.

    Raises:
        InputError: another function makes this output of this type.

    Example:
        @renders(Explanation, "figure")
        def montage(explanation): ...
    """

    def register(function: F) -> F:
        RENDERERS.register(_name(result, output), function)
        return function

    return register


def render(result: object, output: str, *given: Any, **options: Any) -> Any:
    """An output of a result; see `renders`.

    Args:
        result: what is shown.
        output: what is made of it, such as `figure`.
        given: arguments of the renderer.
        options: likewise.

    Raises:
        InputError: nothing makes this output of such a result.
    """
    kinds = type(result).__mro__
    for kind in kinds:
        for module in _OWN.get(".".join(kind.__module__.split(".")[:2]), ()):
            importlib.import_module(f"sightline.rendering.{module}")
    for name in (_name(kind, output) for kind in kinds):
        if name in RENDERERS:
            return RENDERERS[name](result, *given, **options)
    kind = type(result)
    raise InputError(
        f"Expected a renderer that makes {output!r} of {kind.__name__}, but none is registered. Register a function by "
        f"sightline.rendering.renders({kind.__name__}, {output!r}), or by an entry point {_name(kind, output)} of the "
        f"group {RENDERERS.group}."
    )


def _name(kind: type, output: str) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}.{output}"
