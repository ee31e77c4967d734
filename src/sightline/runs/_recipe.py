"""A recipe: one TOML file that says what a run explains, with what, and where the results go."""

import difflib
import re
import tomllib
from collections.abc import Sequence
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
from sightline.arrays._load import MAX_PIXELS
from sightline.errors import InputError
from sightline.methods import Method, as_method
from sightline.models import load_model
from sightline.models._device import device_named

_WORDS = re.compile(r"predicted|top-[1-9]\d{0,8}")
_PAIR = re.compile(r"([0-9]+)-([0-9]+)")
_CLASS = re.compile(r"[0-9]+")
_MOST = 1 << 31
T = TypeVar("T")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelPart(_Part):
    """The model, and how it wants its pictures; see `load_model`."""

    spec: str
    weights: str | None = None
    size: Annotated[int, Field(ge=1)] | Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    mean: float | list[float] | None = None
    std: float | list[float] | None = None
    range: list[float] | None = Field(default=None, min_length=2, max_length=2)
    resize: int | Literal["stretch", "none"] | None = None
    channels: Literal[1, 3] | None = None
    values: list[float] | None = Field(default=None, min_length=2, max_length=2)
    classes: str | list[str] | None = None
    output: Literal["classes", "labels", "values"] | None = None
    multi_label: bool | None = None
    pretrained: bool = True
    device: str = "auto"

    def load(self, folder: Path) -> nn.Module:
        """The model; files are looked for in the recipe's folder."""
        names = self.classes if not isinstance(self.classes, str) or "," in self.classes else folder / self.classes
        return load_model(
            _beside(folder, self.spec),
            weights=None if self.weights is None else folder / self.weights,
            size=(self.size[0], self.size[1]) if isinstance(self.size, list) else self.size,
            mean=self.mean,
            std=self.std,
            value_range=None if self.range is None else (self.range[0], self.range[1]),
            resize=self.resize,
            channels=self.channels,
            values=None if self.values is None else (self.values[0], self.values[1]),
            classes=names,
            output=self.output,
            multi_label=self.multi_label,
            pretrained=self.pretrained,
            device=device_named(self.device),
        )


class DataPart(_Part):
    """The images: folders, files and patterns; or a table of paths; or a data set of Hugging Face on disk."""

    images: list[str] | None = Field(default=None, min_length=1)
    table: str | None = None
    dataset: str | None = None
    path: str = "path"
    image: str = "image"
    label: str = "label"
    limit: int | None = Field(default=None, ge=1)
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)

    @model_validator(mode="after")
    def _one(self) -> "DataPart":
        if sum(given is not None for given in (self.images, self.table, self.dataset)) != 1:
            raise ValueError("say exactly one of images, table and dataset")
        return self


class AuditPart(_Part):
    """An audit of the first images; see `audit`. `groups` is `folder` or a CSV file, as of the command line."""

    images: int = Field(default=32, ge=1)
    tests: list[str] = ["class_sensitivity", "parameter_randomization", "input_bias"]
    stages: int | None = Field(default=None, ge=1)
    networks: int = Field(default=5, ge=1)
    groups: str = ""
    block: int | None = Field(default=None, ge=1)


class GADPart(_Part):
    """Support networks of two classes, trained beside; see `GAD`."""

    classes: list[int | str] = Field(min_length=2, max_length=2)
    images: str
    labels: list[str] = Field(min_length=2, max_length=2)
    alphas: list[float | Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(
        default=[2.0, 4.0, 6.0, 8.0], min_length=1
    )
    mode: Literal["eval", "train"] = "eval"
    strategy: Literal["trained", "interpolated"] = "trained"
    rate: float = Field(default=4e-5, gt=0)
    epochs: int = Field(default=10, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    controls: bool = True


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
    seed: int = 0
    model: ModelPart
    data: DataPart
    output: OutputPart
    audit: AuditPart | None = None
    gad: GADPart | None = None
    engine: EnginePart = EnginePart()

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: list[str], info: ValidationInfo) -> list[str]:
        try:
            return _once("methods", methods, [as_method(_beside(info.data["folder"], one)).name for one in methods])
        except InputError as error:
            raise ValueError(str(error)) from error

    @field_validator("targets")
    @classmethod
    def _distinct(cls, targets: list[str | int]) -> list[str | int]:
        return _once("targets", targets, targets)

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
        return Recipe(**{**found, "folder": path.resolve().parent})
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
    if kind == "extra_forbidden":
        part: Any = Recipe
        for name in place[:-1]:
            part = _PARTS.get(str(name), part)
        known = [name for name in part.model_fields if name != "folder" or part is OutputPart]
        near = difflib.get_close_matches(str(place[-1]), known, 1)
        return f"there is no such key{f'; did you mean {near[0]}' if near else ''}; known are {', '.join(known)}"
    if kind == "missing":
        return "it is missing; add it"
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    came = error.get("input")
    shown = "" if isinstance(came, dict) or kind == "value_error" else f"; got {came!r}"
    return f"{message[0].lower()}{message[1:]}{shown}"


_PARTS: dict[str, type[_Part]] = {
    "model": ModelPart, "data": DataPart, "output": OutputPart, "audit": AuditPart, "gad": GADPart,
    "engine": EnginePart,
}  # fmt: skip
