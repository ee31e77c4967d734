"""A picture file as RGB or grey, whatever it holds; with all its levels where it has more than 8 bits."""

import io
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sightline.arrays import _levels as level
from sightline.arrays._deep import Deep, check_pixels, from_pillow, from_tiff, is_cut
from sightline.arrays._formats import named_format
from sightline.arrays._levels import Levels
from sightline.errors import InputError

_ORIENTATION = 0x0112
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
    path: Path | bytes, *, grey: bool, max_pixels: int, values: tuple[float, float] | None = None
) -> Decoded:
    """Read a picture, turned as its EXIF orientation says.

    Args:
        path: The file, or what it would hold.
        grey: Whether to return one channel instead of RGB.
        max_pixels: Largest number of pixels to decode.
        values: Which values of the file are black and white; by default what `levels_of` finds.

    Returns:
        The picture.

    Raises:
        InputError: If the file cannot be used, with the reason.
    """
    if isinstance(path, Path) and not path.is_file():
        raise InputError("it is not a file")
    if (path.stat().st_size if isinstance(path, Path) else len(path)) == 0:
        raise InputError("it is empty (0 bytes)")
    # What warnings do is the same in all threads, so only one at a time may listen to them.
    with _LISTENING, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            deep = from_tiff(path, max_pixels)
            if deep is not None:
                decoded = _shown(deep, grey=grey, stated=values)
            else:
                # Given a path, Pillow maps some uncompressed TIFFs into memory, and turns those wrongly.
                with (
                    path.open("rb") if isinstance(path, Path) else io.BytesIO(path) as stream,
                    Image.open(stream) as image,
                ):
                    decoded = _decode(image, path, grey=grey, max_pixels=max_pixels, stated=values)
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            raise InputError(
                "it has more pixels than Pillow will read (PIL.Image.MAX_IMAGE_PIXELS); make it smaller"
            ) from error
        except UnidentifiedImageError as error:
            raise InputError(named_format(path) or "it is not a picture in a format that Pillow knows") from error
        except Exception as error:
            # Pillow's decoders raise many kinds of error on damaged files, without a common base.
            raise InputError(f"it cannot be decoded ({type(error).__name__}: {error})") from error
    bomb = Image.DecompressionBombWarning
    decoded.notes += [f"Pillow warned: {w.message}" for w in caught if not issubclass(w.category, bomb)]
    return decoded


def _decode(
    image: Image.Image, source: Path | bytes, *, grey: bool, max_pixels: int, stated: tuple[float, float] | None
) -> Decoded:
    # So far Pillow has read the header only.
    check_pixels(image.width, image.height, max_pixels)
    cut = is_cut(image)
    deep = from_pillow(image, source)
    if deep is not None:
        return _shown(deep, grey=grey, stated=stated)
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"The first of {frames} frames was taken.")
    if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
        notes.append("Turned as its EXIF orientation says.")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        if np.asarray(layers)[..., 3].min() < 255:
            notes.append("Transparent parts were put over white.")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    elif image.mode == "CMYK":
        notes.append("Converted from CMYK without its colour profile.")
        image = image.convert("RGB")
    if grey and image.mode not in ("1", "L"):
        image = image.convert("RGB")
    if cut:
        notes.append("Only the 8 highest bits of each value could be read.")
    image = image.convert("L" if grey else "RGB")
    if stated is None:
        return Decoded([image], notes, None, cut)
    pixels = np.asarray(image)
    found = level.levels_of(pixels, stated)
    notes.append(level.note(pixels, found))
    return Decoded(_planes(level.scaled(pixels.reshape(*pixels.shape[:2], -1), found)), notes, found, cut)


def _shown(deep: Deep, *, grey: bool, stated: tuple[float, float] | None) -> Decoded:
    """Values of more than 8 bits on the scale 0..255."""
    found = level.levels_of(deep.values, stated, deep.top)
    notes = [level.note(deep.values, found)]
    pixels = level.scaled(deep.values, found)
    if deep.white_is_zero:
        pixels = 255 - pixels
        notes.append("Inverted, since the file says that its smallest value is white.")
    if deep.alpha is not None and deep.alpha.min() < 1:
        alpha = deep.alpha.clip(0, 1).astype(np.float32)[..., None]
        pixels = pixels * alpha + 255 * (1 - alpha)
        notes.append("Transparent parts were put over white.")
    if deep.frames > 1:
        notes.append(f"The first of {deep.frames} frames was taken.")
    if deep.orientation in range(2, 9):
        pixels = deep.turned(pixels)
        notes.append("Turned as its EXIF orientation says.")
    if grey and pixels.shape[-1] == 3:
        pixels = (pixels @ _LUMA)[..., None]
    return Decoded(_planes(pixels), notes, found)


def _planes(pixels: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(np.ascontiguousarray(pixels[..., channel])) for channel in range(pixels.shape[-1])]
