"""Options of several commands: the model, its images, the page."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from sightline._common.options import Flag, option, required
from sightline.errors import InputError
from sightline.options._reading import numbers, resizing, rising

STRICT = {"extra": "forbid", "strict": True}
"""Of a dataclass that is a part of a recipe: what pydantic, which reads it, makes of unknown keys and other types."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """A model, and how it wants its images; see `sightline.load_model`. It is the part [model] of a recipe.

    Raises:
        InputError: the input would have no pixels.
    """

    __pydantic_config__ = STRICT

    spec: str = required(
        "torchvision:NAME, timm:NAME, hf:ID_OR_DIR, FILE.py:FACTORY or package.module:FACTORY.",
        Flag("model", argument=True),
    )
    weights: Path | None = option(None, "A .pt or .safetensors file of weights.")
    classes: Path | str | tuple[str, ...] | None = option(
        None, "A text file with a class name per line.", Flag("--class-names", kind=Path)
    )
    output: Literal["classes", "labels", "values"] | None = option(
        None,
        "What the outputs are: classes (one among all, softmax), labels (each a yes or no of its own, sigmoid) or "
        "values (regression); by default what the model says, else classes.",
    )
    multi_label: bool | None = option(None, "Short for --output labels; --no-multi-label for --output classes.")
    size: int | tuple[int, int] | None = option(None, "Side of the input in pixels.", Flag(kind=int))
    mean: float | tuple[float, ...] | None = option(
        None, "Mean per channel, with commas, in the units of --range.", Flag(read=numbers)
    )
    std: float | tuple[float, ...] | None = option(
        None, "Standard deviation per channel, in the units of --range.", Flag(read=numbers)
    )
    resize: int | Literal["stretch", "none"] | None = option(
        None, "Short side before the centre crop in pixels; or stretch; or none.", Flag(read=resizing)
    )
    channels: Literal[1, 3] | None = option(
        None, "1 for grey images or 3 for RGB; by default as many as the model takes.", Flag(kind=int)
    )
    values: tuple[float, float] | None = option(
        None,
        "Which values of the files are black and white, in their own units: 0,4095 for 12 bits stored in 16.",
        Flag(read=rising),
    )
    value_range: tuple[float, float] | None = option(
        None,
        "What pixels 0..255 become before mean and std: 0,1 or -1,1 or 0,255.",
        Flag("--range", read=rising),
        key="range",
    )
    pretrained: bool = option(True, "Fetch the model's published weights if none are given.")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps.")

    def __post_init__(self) -> None:
        sides = self.size if isinstance(self.size, tuple) else (1 if self.size is None else self.size,)
        if min(sides) < 1:
            raise InputError(f"The size of the input is in pixels, at least 1; got {self.size}.")

    def settings(self) -> dict[str, Any]:
        """What `load_model` takes, but for the device, which is looked for first."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "device"}


@dataclass(frozen=True, kw_only=True)
class PixelOptions:
    """How large an image may be."""

    max_pixels: int = option(64_000_000, "Images with more pixels than this are not decoded.", least=1)


@dataclass(frozen=True, kw_only=True)
class ImageOptions(PixelOptions):
    """The images of a command."""

    images: tuple[str, ...] = required("Image files, folders, or folders of class folders.", Flag(argument=True))
    strict: bool = option(False, "Stop with an error where a path or an image file cannot be used.", Flag("--strict"))


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """The HTML page of a folder."""

    page_side: int | None = option(
        None,
        "Longer side of the maps on the page in pixels; by default as large as fits into 16 MB, up to 1024.",
    )


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """Where all randomness starts."""

    seed: int = option(0, "Base of all randomness.")
