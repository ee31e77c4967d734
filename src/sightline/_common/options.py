"""Options of a call as a dataclass: each is described once, for Python, the command line and recipes."""

import functools
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar, cast

from sightline.errors import alternatives

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


Reader = Callable[[str, str], Any]
"""From a text of the command line, and the flag it belongs to, to a value."""


@dataclass(frozen=True)
class Flag:
    """How an option is given on the command line.

    Attributes:
        name: its flag where it is not its name, such as "--range"; of an argument, its name in usage lines.
        argument: whether it is given by position.
        many: whether it may be given several times.
        read: makes a value of its text; by default the type says how.
        shown: its default as a text, where `read` makes something else of a text.
        kind: what the command line checks a text for, where the option may be of several types.
        hidden: whether the command line lacks it.
    """

    name: str = ""
    argument: bool = False
    many: bool = False
    read: Reader | None = None
    shown: str | None = None
    kind: type | None = None
    hidden: bool = False


def option(
    default: T,
    words: str,
    flag: Flag = Flag(),
    *,
    key: str = "",
    least: int | None = None,
    most: int | None = None,
) -> T:
    """A field of a dataclass of options.

    Such a dataclass is the parameter list of a Python call (`takes`), the options of a command and a part of a recipe:
    the metadata of its fields are what `pydantic.Field` takes.

    Args:
        default: its default.
        words: what it is, in sentences; `described` gives them back.
        flag: how it is given on the command line.
        key: its name in a recipe, where it is another one.
        least: the smallest number that it may be.
        most: the largest.
    """
    return field(default=default, metadata=_metadata(words, flag, key, least, most))


def required(
    words: str,
    flag: Flag = Flag(),
    *,
    least: int | None = None,
) -> Any:
    """A field without a default; see `option`."""
    return field(metadata=_metadata(words, flag, "", least, None))


def flag_of(one: "Field[Any]") -> Flag:
    """How a field is given on the command line."""
    extra = one.metadata.get("json_schema_extra")
    return extra["flag"] if extra else Flag(hidden=True)


def _metadata(words: str, flag: Flag, key: str, least: int | None, most: int | None) -> dict[str, Any]:
    named = {"alias": key or None, "ge": least, "le": most}
    given = {name: value for name, value in named.items() if value is not None}
    return {"description": words, "json_schema_extra": {"flag": flag}} | given


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
        known = [one.name for one in parameters]

        @functools.wraps(function)
        def call(*given: Any, **more: Any) -> Any:
            # The options' constructor would name itself.
            for name in more:
                if name not in known:
                    message = f"{function.__name__}() got an unexpected keyword argument {name!r}. "
                    raise TypeError(message + alternatives(name, known))
            return function(*given, **more)

        call.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
        if function.__doc__ is not None:
            lines = [_line(name, words) for name, words in described(options).items()]
            call.__doc__ = function.__doc__.replace("{options}", "\n".join(lines).lstrip())
        return cast("F", call)

    return decorate


_VARIABLE = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _words(one: "Field[Any]") -> str:
    return str(one.metadata.get("description", ""))


def _line(name: str, words: str) -> str:
    return textwrap.fill(f"{name}: {words}", 120, initial_indent=" " * 8, subsequent_indent=" " * 12)
