"""Commands from options: parameters for typer from dataclasses, and work that is imported when it is asked for."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from sightline._common.interrupt import imported
from sightline._common.options import Flag, flag_of
from sightline.options import ModelOptions
from sightline.options import listed as words_with_commas


def command(work: str, words: str, *options: type) -> Callable[..., None]:
    """A function from which typer makes a command.

    Its parameters are the fields of the dataclasses, arguments first and the model's options last. It makes the
    dataclasses of what was given, imports the work, and calls it with them, in their order.

    Args:
        work: a function as `package.module:NAME`. It is imported late, because help and mistakes in options should not
            wait for torch.
        words: what the command does.
        options: dataclasses made with `sightline._common.options.option`.
    """
    taken: dict[str, _Option] = {}
    for one in sorted((one for owner in options for one in _options(owner)), key=lambda one: one.rank):
        # Of an argument and an option of one name, as of `study claims IMAGES --images 20`, the option yields.
        taken[one.one.name if one.name in taken else one.name] = one

    def run(**given: Any) -> None:
        values: dict[type, dict[str, Any]] = {owner: {} for owner in options}
        for name, one in taken.items():
            values[one.owner][one.one.name] = one.value(given[name])
        asked = [owner(**values[owner]) for owner in options]
        module, _, function = work.partition(":")
        done = getattr(importlib.import_module(module), function)
        imported()
        done(*asked)

    parameters = [one.parameter(name) for name, one in taken.items()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__doc__ = words
    return run


@dataclass(frozen=True)
class _Option:
    """A field of a dataclass as a parameter of a command.

    Attributes:
        owner: the dataclass.
        one: its field.
        kinds: the types of its values, without None.
    """

    owner: type
    one: "Field[Any]"
    kinds: tuple[Any, ...]

    @property
    def flag(self) -> Flag:
        return flag_of(self.one)

    @property
    def name(self) -> str:
        return (self.flag.name or self.one.name).removeprefix("--").replace("-", "_")

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Arguments come first, of which the model is the first; then options, what several commands share last."""
        is_shared = self.one.name not in self.owner.__annotations__
        return not self.flag.argument, (self.owner is ModelOptions) is not self.flag.argument, is_shared

    @property
    def with_commas(self) -> bool:
        flag = self.flag
        several = get_origin(self.kinds[0]) is tuple and not flag.many and not flag.argument
        return several and flag.read is None and flag.kind is None

    @property
    def default(self) -> Any:
        """As the command line would give it."""
        default = self.one.default if self.flag.shown is None else self.flag.shown
        return ",".join(default) if self.with_commas and isinstance(default, tuple) else default

    def value(self, given: Any) -> Any:
        """What a text of the command line stands for."""
        if given == self.default:
            return self.one.default
        if given is not None and self.flag.read is not None:
            return self.flag.read(given, self.flag.name or f"--{self.one.name.replace('_', '-')}")
        if isinstance(given, list):
            return tuple(given)
        return words_with_commas(given) if self.with_commas and given is not None else given

    def parameter(self, name: str) -> inspect.Parameter:
        """For typer."""
        meta, flag = self.one.metadata, self.flag
        settings = {"help": meta["description"], "min": meta.get("ge"), "max": meta.get("le")}
        names = [flag.name] if flag.name.startswith("--") else []
        how: Any = typer.Argument(**settings) if flag.argument else typer.Option(*names, **settings)
        is_required = self.one.default is MISSING
        kind = self.kind if is_required or self.default is not None else Union[self.kind, None]  # noqa: UP007
        return inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if is_required else self.default,
            annotation=Annotated[kind, how],
        )

    @property
    def kind(self) -> Any:
        """What typer checks a text for."""
        (first, *more), flag = self.kinds, self.flag
        if flag.kind is not None:
            return flag.kind
        if flag.read is not None or more or self.with_commas:
            return str
        if get_origin(first) is tuple:
            return list[str]
        # Which words can be said is checked by what takes them, in a sentence.
        return type(get_args(first)[0]) if get_origin(first) is Literal else first


def _options(owner: type) -> list[_Option]:
    hints = get_type_hints(owner)
    return [_Option(owner, one, _kinds(hints[one.name])) for one in fields(owner) if not flag_of(one).hidden]


def _kinds(hint: Any) -> tuple[Any, ...]:
    members = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    return tuple(one for one in members if one is not NoneType)
