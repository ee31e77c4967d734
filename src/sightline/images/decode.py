"""A picture file as 8-bit RGB or grey, whatever it holds."""

import io
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sightline.errors import InputError

_ORIENTATION = 0x0112
_LISTENING = threading.Lock()


def read_image(path: Path | bytes, *, grey: bool, max_pixels: int) -> tuple[Image.Image, list[str]]:
    """Read a picture, turned as its EXIF orientation says.

    Args:
        path: The file, or what it would hold.
        grey: Whether to return one channel instead of RGB.
        max_pixels: Largest number of pixels to decode.

    Returns:
        The picture in Pillow's mode RGB or L, and what had to be done to it, in sentences.

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
            # Given a path, Pillow maps some uncompressed TIFFs into memory, and turns those wrongly.
            with path.open("rb") if isinstance(path, Path) else io.BytesIO(path) as stream, Image.open(stream) as image:
                picture, notes = _decode(image, grey=grey, max_pixels=max_pixels)
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            raise InputError(
                "it has more pixels than Pillow will read (PIL.Image.MAX_IMAGE_PIXELS); make it smaller"
            ) from error
        except UnidentifiedImageError as error:
            raise InputError("it is not a picture in a format that Pillow knows") from error
        except Exception as error:
            # Pillow's decoders raise many kinds of error on damaged files, without a common base.
            raise InputError(f"it cannot be decoded ({type(error).__name__}: {error})") from error
    bomb = Image.DecompressionBombWarning
    notes += [f"Pillow warned: {w.message}" for w in caught if not issubclass(w.category, bomb)]
    return picture, notes


def _decode(image: Image.Image, *, grey: bool, max_pixels: int) -> tuple[Image.Image, list[str]]:
    # So far Pillow has read the header only.
    if image.width * image.height > max_pixels:
        raise InputError(
            f"it has {image.width} x {image.height} pixels, more than max_pixels={max_pixels}; "
            "make it smaller, or raise max_pixels in load_images"
        )
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"The first of {frames} frames was taken.")
    if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
        notes.append("Turned as its EXIF orientation says.")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image, note = _to_eight_bits(image)
        notes.append(note)
    elif image.has_transparency_data:
        layers = image.convert("RGBA")
        if np.asarray(layers)[..., 3].min() < 255:
            notes.append("Transparent parts were put over white.")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    elif image.mode == "CMYK":
        notes.append("Converted from CMYK without its colour profile.")
        image = image.convert("RGB")
    if grey and image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return image.convert("L" if grey else "RGB"), notes


def _to_eight_bits(image: Image.Image) -> tuple[Image.Image, str]:
    """Scale deep grey values to 0..255; Pillow's own conversion would cut them off at 255."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("it holds values that are not finite")
    low, high = float(values.min()), float(values.max())
    whole = image.mode != "F"
    # Pillow hands 16-bit files over as 32-bit ones in some formats, and floats come in two customary ranges.
    if whole and (image.mode != "I" or 0 <= low <= high <= 65535):
        low, high = 0.0, 65535.0
        note = "16-bit grey values were scaled from 0..65535 to 0..255."
    elif not whole and 0 <= low <= high <= 1:
        low, high = 0.0, 1.0
        note = "Floating-point grey values were scaled from 0..1 to 0..255."
    elif not whole and 0 <= low <= high <= 255:
        low, high = 0.0, 255.0
        note = "Floating-point grey values were taken as 0..255."
    else:
        note = f"32-bit grey values were scaled from their own range, {low:g}..{high:g}, to 0..255."
    scaled = (values - low) * (255.0 / ((high - low) or 1.0))
    return Image.fromarray(np.rint(scaled).astype(np.uint8)), note
