"""An image file as a picture on the scale 0..255, with all its levels where it has more than 8 bits."""

import io
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from sightline.arrays import _levels as level
from sightline.arrays._formats import named_format
from sightline.arrays._levels import Levels
from sightline.arrays._raster import File, Raster, check_pixels
from sightline.arrays._readers import HEAD, Reader, reader_of
from sightline.errors import InputError

_LISTENING = threading.Lock()
# Of ITU-R BT.601, which Pillow uses.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass
class Decoded:
    """A picture on the scale 0..255.

    Attributes:
        planes: one picture of Pillow's mode RGB or L; where the file has more than 8 bits, its channels one by one in
            mode F.
        notes: what had to be done to it, in sentences.
        levels: black and white in the file's units, where it has more than 8 bits or they were stated.
        cut: whether only the 8 highest bits could be read.
    """

    planes: list[Image.Image]
    notes: list[str] = field(default_factory=list)
    levels: Levels | None = None
    cut: bool = False


def read_image(
    source: Path | bytes,
    *,
    grey: bool,
    max_pixels: int,
    values: tuple[float, float] | None = None,
    reader: Reader | None = None,
) -> Decoded:
    """Read an image by the reader of its format.

    Args:
        source: The file, or what it would hold.
        grey: Whether to return one channel instead of RGB.
        max_pixels: Largest number of pixels to decode.
        values: Which values of the file are black and white; by default what `levels_of` finds.
        reader: What reads it, instead of the registered reader of its format.

    Returns:
        The picture.

    Raises:
        InputError: If the file cannot be used, with the reason.
    """
    if isinstance(source, Path) and not source.is_file():
        raise InputError("it is not a file")
    if (source.stat().st_size if isinstance(source, Path) else len(source)) == 0:
        raise InputError("it is empty (0 bytes)")
    # What warnings do is the same in all threads, so only one at a time may listen to them.
    with (
        _LISTENING,
        warnings.catch_warnings(record=True) as caught,
        source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file,
    ):
        warnings.simplefilter("always")
        raster = _read(file, source, reader, max_pixels)
    found = _shown(raster, grey=grey, stated=values)
    found.notes += raster.described
    bomb = Image.DecompressionBombWarning
    found.notes += [f"Reading it warned: {w.message}" for w in caught if not issubclass(w.category, bomb)]
    return found


def _read(file: File, source: Path | bytes, reader: Reader | None, max_pixels: int) -> Raster:
    head = file.read(HEAD)
    file.seek(0)
    reader = reader or reader_of(source.name if isinstance(source, Path) else "", head)
    try:
        raster = reader.read(file, max_pixels)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(named_format(source) or "it is not a picture in a format that Pillow knows") from error
    except Exception as error:
        # Decoders raise many kinds of error on damaged files, without a common base.
        raise InputError(f"it cannot be decoded ({type(error).__name__}: {error})") from error
    if not isinstance(raster, Raster):
        raise InputError(f"its reader {reader!r} gave {type(raster).__name__}; expected a sightline.arrays.Raster")
    check_pixels(raster.values.shape[1], raster.values.shape[0], max_pixels)
    return raster


def _shown(raster: Raster, *, grey: bool, stated: tuple[float, float] | None) -> Decoded:
    """The picture of a raster."""
    values = raster.values
    if values.dtype == np.uint8 and raster.is_plain:
        # As Pillow itself does with 8 bits, in whole numbers.
        image = Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values))
        image = image.convert("L" if grey else "RGB")
        if stated is None:
            return Decoded([image], list(raster.notes), None, raster.cut)
        values = np.asarray(image).reshape(*values.shape[:2], -1)
    found = level.levels_of(values, stated, raster.range)
    notes = [level.note(values, found)]
    pixels = level.scaled(values, found)
    if raster.white_is_low:
        pixels = 255 - pixels
        notes.append("Inverted, since the file says that its smallest value is white.")
    if raster.alpha is not None and raster.alpha.min() < 1:
        alpha = raster.alpha.clip(0, 1).astype(np.float32)[..., None]
        pixels = pixels * alpha + 255 * (1 - alpha)
        notes.append("Transparent parts were put over white.")
    if raster.orientation in range(2, 9):
        pixels = raster.turned(pixels)
        notes.append("Turned as its EXIF orientation says.")
    if grey and pixels.shape[-1] == 3:
        pixels = (pixels @ _LUMA)[..., None]
    planes = [Image.fromarray(np.ascontiguousarray(pixels[..., channel])) for channel in range(pixels.shape[-1])]
    return Decoded(planes, [*notes, *raster.notes], found, raster.cut)
