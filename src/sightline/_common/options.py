"""Options of a call as a dataclass: each is described once, for Python, the command line and recipes."""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import Field, field, fields
from typing import Any, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def option(default: T, words: str) -> T:
    """A field of a dataclass of options.

    Args:
        default: its default.
        words: what it is, in sentences; `described` gives them back.
    """
    return field(default=default, metadata={"help": words})


def described(options: type) -> dict[str, str]:
    """What each option is, in sentences.

    Args:
        options: a dataclass whose fields were made by `option`.
    """
    return {one.name: _words(one) for one in fields(options)}


def takes(options: type) -> Callable[[F], F]:
    """Give a function the signature and the documentation of the options that it takes as `*options, **more`.

    Options that are positional in the dataclass come after the function's own positional parameters, keyword-only ones
    before its own keyword-only parameters. `{options}` in its docstring becomes a line for each of them.

    Args:
        options: a dataclass whose fields were made by `option`.
    """

    def decorate(function: F) -> F:
        own = [one for one in inspect.signature(function).parameters.values() if one.kind not in _VARIABLE]
        asked = inspect.signature(options).parameters.values()
        parameters = sorted([*own, *asked], key=lambda one: (one.kind, one in own and one.kind is one.KEYWORD_ONLY))
        result = inspect.signature(function).return_annotation
        function.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
        if function.__doc__ is not None:
            lines = [_line(name, words) for name, words in described(options).items()]
            function.__doc__ = function.__doc__.replace("{options}", "\n".join(lines).lstrip())
        return function

    return decorate


_VARIABLE = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _words(one: "Field[Any]") -> str:
    return str(one.metadata.get("help", ""))


def _line(name: str, words: str) -> str:
    return textwrap.fill(f"{name}: {words}", 120, initial_indent=" " * 8, subsequent_indent=" " * 12)
