"""A recipe: one TOML file that says what a run explains, with what, and where the results go."""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from torch import nn

from sightline._common.words import counted
from sightline.auditing import TESTS
from sightline.errors import InputError
from sightline.methods import Method, as_method
from sightline.models import device_named, load_model
from sightline.options import AuditPart, GADPart, ModelOptions, PixelOptions, SeedOptions

_WORDS = re.compile(r"predicted|top-[1-9]\d{0,8}")
_PAIR = re.compile(r"([0-9]+)-([0-9]+)")
_CLASS = re.compile(r"[0-9]+")
_MOST = 1 << 31
T = TypeVar("T")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataPart(_Part):
    """The images: folders, files and patterns; or a table of paths; or a data set of Hugging Face on disk."""

    images: list[str] | None = Field(default=None, min_length=1)
    table: str | None = None
    dataset: str | None = None
    path: str = "path"
    image: str = "image"
    label: str = "label"
    limit: int | None = Field(default=None, ge=1)
    max_pixels: int = Field(default=PixelOptions.max_pixels, ge=1)

    @model_validator(mode="after")
    def _one(self) -> "DataPart":
        if sum(given is not None for given in (self.images, self.table, self.dataset)) != 1:
            raise ValueError("say exactly one of images, table and dataset")
        return self


class OutputPart(_Part):
    """Where maps go, and how they are kept."""

    folder: str
    precision: Literal["float32", "float16"] = "float32"
    side: int | None = Field(default=None, ge=1)
    channels: bool = False
    chunk: int = Field(default=64, ge=1, le=4096)


class EnginePart(_Part):
    """What does the work."""

    name: Literal["local", "ray"] = "local"
    readers: int = Field(default=2, ge=1, le=64)
    workers: int = Field(default=2, ge=1)
    threads: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)
    address: str | None = None


def _beside(folder: Path, spec: str) -> str:
    """A name in which FILE.py, if there is one, is a file in the recipe's folder."""
    place, _, name = spec.rpartition(":")
    return f"{folder / place}:{name}" if place.endswith(".py") else spec


def _target(text: str | int) -> str:
    text = str(text)
    if text == "all" or text.startswith("per-image:"):
        raise ValueError(f"a run takes each target by itself, and none for each image; got {text!r}")
    if _WORDS.fullmatch(text):
        return text
    if _CLASS.fullmatch(text) and int(text) < _MOST:
        return str(int(text))
    if (pair := _PAIR.fullmatch(text)) and int(pair[1]) != int(pair[2]) and max(int(pair[1]), int(pair[2])) < _MOST:
        return f"{int(pair[1])}-{int(pair[2])}"
    # A name is looked up once the model is there; what looks like a number can be no other mistake.
    if re.search(r"[^\W\d_]", text) and not re.fullmatch(r"top-.*", text):
        return text
    raise ValueError(
        'a target is "predicted", "top-2" (the second likeliest class), a class by number or name (281, "tabby") or a '
        f'pair ("281-207": why 281 and not 207); got {text!r}'
    )


class Recipe(_Part):
    """What a run explains, with what, and where the results go."""

    folder: Path = Field(default=Path(), exclude=True)
    methods: list[str] = Field(min_length=1)
    targets: list[Annotated[str | int, AfterValidator(_target)]] = Field(default=["predicted"], min_length=1)
    seed: int = SeedOptions.seed
    model: ModelOptions
    data: DataPart
    output: OutputPart
    audit: AuditPart | None = None
    gad: GADPart | None = None
    engine: EnginePart = EnginePart()

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: list[str], info: ValidationInfo) -> list[str]:
        folder = info.context or info.data["folder"]
        try:
            return _once("methods", methods, [as_method(_beside(folder, one)).name for one in methods])
        except InputError as error:
            raise ValueError(str(error)) from error

    @field_validator("targets")
    @classmethod
    def _distinct(cls, targets: list[str | int]) -> list[str | int]:
        return _once("targets", targets, targets)

    @classmethod
    def of(cls, found: Mapping[str, Any], folder: Path) -> "Recipe":
        """A recipe from what is written in it, or from its own `record`.

        Args:
            found: what TOML or JSON gives.
            folder: where the files that it names lie.

        Raises:
            ValidationError: something in it is wrong.
        """
        # As JSON, in which numbers are strict and a list can be a tuple.
        return cls.model_validate_json(json.dumps(found), context=folder).model_copy(update={"folder": folder})

    def record(self) -> dict[str, Any]:
        """What is written in it, for JSON."""
        return self.model_dump(mode="json", by_alias=True)

    def network(self) -> nn.Module:
        """The model; files are looked for in the recipe's folder.

        Raises:
            InputError: see `load_model`.
        """
        model = self.model
        is_file = isinstance(model.classes, Path) or (isinstance(model.classes, str) and "," not in model.classes)
        beside = replace(
            model,
            spec=_beside(self.folder, model.spec),
            weights=model.weights and self.folder / model.weights,
            classes=self.folder / str(model.classes) if is_file else model.classes,
        )
        return load_model(**beside.settings(), device=device_named(model.device))

    def chosen(self) -> dict[str, Method]:
        """The methods by the names that they have in results."""
        return {one.name: one for one in (as_method(_beside(self.folder, spec)) for spec in self.methods)}

    def methods_of(self, names: Sequence[str]) -> list[Method]:
        """The methods of some names, which an earlier recipe of the same run may have given.

        Raises:
            InputError: one is neither in this recipe nor in the catalogue.
        """
        own = self.chosen()
        return [own.get(name) or as_method(name) for name in names]

    def tests(self) -> Sequence[str]:
        """What the audit asks."""
        given = TESTS if self.audit is None or self.audit.tests is None else self.audit.tests
        return [_beside(self.folder, test) for test in given]


def _once(what: str, given: list[T], names: Sequence[object]) -> list[T]:
    if len(set(names)) < len(names):
        raise ValueError(f"{what} are named once each; got {', '.join(map(str, given))}")
    return given


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Paths in it are relative to its own folder.

    Raises:
        InputError: it cannot be read; or something in it is wrong, with the line and what to write instead.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The recipe {path} is no TOML: {error}.") from error
    if "folder" in found:
        raise InputError(f"The recipe {path} is not understood: folder = ... belongs under [output].")
    try:
        return Recipe.of(found, path.resolve().parent)
    except (ValidationError, TypeError) as error:
        if not isinstance(error, ValidationError):
            raise InputError(f"The recipe {path} is not understood: {error}.") from error
        # Of a value that may be of several kinds, each kind complains; the first one says enough.
        first: dict[str, Any] = {}
        for one in error.errors():
            first.setdefault(_line(text, _keys(one["loc"])), one)
        said = [f"{line}: {_remedy(one)}" for line, one in first.items()]
        raise InputError(
            f"The recipe {path} has {counted(len(said), 'mistake')}. " + " ".join(f"{one}." for one in said)
        ) from error


def _keys(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The keys of a place, without the kinds of value that were tried."""
    depth = 2 if place and str(place[0]) in _PARTS else 1
    return place[:depth]


def _line(text: str, place: tuple[int | str, ...]) -> str:
    """Where a key stands in a text of TOML; where it is missing, the table that lacks it."""
    names = [str(part) for part in place if isinstance(part, str)]
    table: list[str] = []
    best, line_of = -1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[{1,2}([A-Za-z][\w\s.\"'-]*)\]{1,2}\s*(#.*)?$", line):
            table = [part.strip(" \"'") for part in head[1].split(".")]
            here = table
        elif key := re.match(r"\s*([\w\"'.-]+)\s*=", line):
            here = [*table, *(part.strip("\"'") for part in key[1].split("."))]
        else:
            continue
        if here == names[: len(here)] and len(here) > best:
            best, line_of = len(here), number
    return f"line {line_of}, {'.'.join(names)}" if line_of else (".".join(names) or "as a whole")


def _remedy(error: Any) -> str:
    place, kind = error["loc"], error["type"]
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        part: Any = Recipe
        for name in place[:-1]:
            part = _PARTS.get(str(name), part)
        known = [name for name in _names(part) if name != "folder" or part is OutputPart]
        near = difflib.get_close_matches(str(place[-1]), known, 1)
        return f"there is no such key{f'; did you mean {near[0]}' if near else ''}; known are {', '.join(known)}"
    if kind == "missing":
        return "it is missing; add it"
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    came = error.get("input")
    shown = "" if isinstance(came, dict) or kind == "value_error" else f"; got {came!r}"
    return f"{message[0].lower()}{message[1:]}{shown}"


def _names(part: Any) -> list[str]:
    """The keys of a part."""
    return [one.metadata.get("alias", one.name) for one in fields(part)] if is_dataclass(part) else [*part.model_fields]


_PARTS: dict[str, type] = {
    "model": ModelOptions, "data": DataPart, "output": OutputPart, "audit": AuditPart, "gad": GADPart,
    "engine": EnginePart,
}  # fmt: skip
