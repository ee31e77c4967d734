"""What a reader gives: the values of one picture in the units of its file, and what the file says of them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError

File = io.BufferedReader | io.BytesIO
"""A file that is open for reading bytes, on disk or in memory."""


@dataclass(frozen=True, eq=False)
class Raster:
    """Values as a file has them.

    Attributes:
        values: numbers of any real type, of shape (height, width), or (height, width, channel) with 1 channel or 3.
        alpha: how opaque each pixel is, 0..1, of shape (height, width); None where all are opaque.
        range: the values that are black and white, where the file says so: the largest value of its bits, a window.
            None leaves it to the type of the values, see `Preprocessing.values`.
        white_is_low: whether the file says that small values are bright.
        orientation: how the picture is to be turned, as the number of an EXIF orientation.
        cut: whether the file has more than 8 bits a value, of which only 8 could be read.
        unit: of the values, such as "HU".
        channels: the name of each channel.
        spacing: height and width of a pixel, with their unit, as (0.5, 0.5, "mm").
        notes: what was done in reading that a user should know, in sentences.

    Raises:
        InputError: the values have another shape, or are no real numbers.
    """

    values: NDArray[Any]
    alpha: NDArray[np.floating[Any]] | None = None
    range: tuple[float | int, float | int] | None = None
    white_is_low: bool = False
    orientation: int = 1
    cut: bool = False
    unit: str = ""
    channels: tuple[str, ...] = ()
    spacing: tuple[float | int, float | int, str] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim == 2:
            object.__setattr__(self, "values", self.values[..., None])
        if self.values.ndim != 3 or self.values.shape[2] not in {1, 3} or 0 in self.values.shape:
            raise InputError(
                f"it holds an array of shape {self.values.shape}; expected (height, width) or "
                "(height, width, channel) with 1 channel (grey) or 3 (RGB)"
            )
        if self.values.dtype.kind not in "biuf":
            raise InputError(f"its values are of type {self.values.dtype}; expected real numbers")

    @property
    def is_plain(self) -> bool:
        """Whether its values are all there is to its picture."""
        return self.range is None and self.alpha is None and not self.white_is_low and self.orientation == 1

    def turned(self, values: NDArray[Any]) -> NDArray[Any]:
        """An array of its height and width, turned as its orientation says."""
        if self.orientation in {5, 6, 7, 8}:
            values = values.swapaxes(0, 1)
        if self.orientation in {3, 4, 7, 8}:
            values = values[::-1]
        return values[:, ::-1] if self.orientation in {2, 3, 6, 7} else values

    @property
    def described(self) -> Iterator[str]:
        """What the file says of its values, in sentences."""
        if self.unit:
            yield f"The unit of the file's values is {self.unit}."
        if self.channels:
            yield f"The file's channels are {', '.join(self.channels)}."
        if self.spacing is not None:
            height, width, unit = self.spacing
            yield f"A pixel of the file is {height:g} {unit} high and {width:g} {unit} wide."


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture that is too large to decode.

    Raises:
        InputError: it is.
    """
    if width * height > max_pixels:
        raise InputError(
            f"it has {width} x {height} pixels, more than max_pixels={max_pixels}; make it smaller, or raise the limit "
            "(--max-pixels, max_pixels=)"
        )
