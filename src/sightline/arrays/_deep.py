"""Pictures of more than 8 bits a value, read with all their levels, in the units of the file."""

import struct
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.arrays._raster import File, Raster, check_pixels
from sightline.errors import InputError

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2
_ORIENTATION = 274


def from_tiff(stream: File, max_pixels: int) -> Raster | None:
    """Read a TIFF that holds something other than values of 8 bits or 1 bit.

    Returns:
        Its values; None for other files, and for what only Pillow can decode.

    Raises:
        InputError: it has too many pixels or too many channels.
    """
    stream.seek(0)
    if stream.read(4) not in _TIFF:
        return None
    import tifffile

    stream.seek(0)
    try:
        with tifffile.TiffFile(stream) as file:
            page: Any = file.pages[0]
            # Unsigned bytes and bits are Pillow's, which also knows palettes and bilevel compressions.
            if page.dtype in {None, np.dtype("u1"), np.dtype(bool)} or page.photometric not in {0, 1, 2}:
                return None
            check_pixels(page.imagewidth, page.imagelength, max_pixels)
            values = page.asarray()
            orientation = page.tags.valueof(_ORIENTATION, 1)
            frames, axes = len(file.pages), page.axes
    except InputError:
        raise
    except Exception:  # noqa: BLE001 - it may lack a codec, or the file may be damaged; Pillow says more
        return None
    if values.dtype.kind == "c":
        raise InputError("its values are complex numbers; save their magnitude or their real part")
    if axes == "SYX":
        values, axes = np.moveaxis(values, 0, -1), "YXS"
    if axes not in {"YX", "YXS"}:
        raise InputError(f"its first page is an array of shape {values.shape}, not a picture of height and width")
    values = values.reshape(*values.shape[:2], -1)
    colours = 3 if page.photometric == _RGB else 1
    extra = tuple(page.extrasamples)
    if values.shape[2] - colours not in {0, 1} or (values.shape[2] > colours and not {*extra} <= {1, 2}):
        raise InputError(
            f"it has {values.shape[2]} channels; pictures have 1 (grey) or 3 (RGB), and perhaps one of transparency"
        )
    alpha = None
    if values.shape[2] > colours:
        opaque = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        alpha = values[..., -1] / opaque
        values = values[..., :colours]
        if extra == (1,):
            # Colours that were multiplied by the alpha already; where that is 0, nothing is left of them.
            values = np.divide(values, alpha[..., None], where=alpha[..., None] > 0, out=np.zeros(values.shape))
    inverted = page.photometric == _MIN_IS_WHITE
    return Raster(values, alpha, white_is_low=inverted, orientation=int(orientation), notes=first_of(frames))


def from_pillow(image: Image.Image, stream: File) -> Raster | None:
    """The values of an opened picture whose format has more than 8 bits; None where 8 bits hold it all.

    Raises:
        InputError: its values cannot be had as they are in the file.
    """
    if image.format == "FITS":
        raise InputError("it is FITS, whose scaling of values Pillow does not follow")
    if image.format == "PPM":
        return _from_pnm(image, stream)
    ends = None
    white_is_low = image.format == "TIFF" and image.tag_v2.get(262) == _MIN_IS_WHITE  # type: ignore[attr-defined]
    if image.mode == "F" or image.mode.startswith("I"):
        orientation = int(image.getexif().get(_ORIENTATION, 1))
        values = np.asarray(image)
        alpha = None
        if image.format == "PNG":
            # Older versions of Pillow widen the 16 bits of a PNG to 32.
            values = values.astype(np.uint16)
            alpha = _one_clear_colour(image, values[..., None])
        if image.format == "TIFF":
            bits, kind = (int(image.tag_v2.get(tag, (1,))[0]) for tag in (258, 339))  # type: ignore[attr-defined]
            if bits == 32 and image.mode == "I" and kind == 1:
                # Pillow takes unsigned values for signed ones.
                values = values.view(np.uint32)
            ends = (0.0, 2.0**bits - 1) if bits in range(9, 16) else None
        notes = first_of(getattr(image, "n_frames", 1))
        return Raster(_plain(values), alpha, ends, white_is_low, orientation=orientation, notes=notes)
    return _colour_of_png(image, stream) if image.format == "PNG" else None


def is_cut(image: Image.Image) -> bool:
    """Whether Pillow is about to drop the low bits of an opened picture."""
    return ";16" in _raw_mode(image) or (image.format == "JPEG2000" and _bits_of_jpeg2000(image) > 8)


def first_of(frames: int) -> tuple[str, ...]:
    """A note on files that hold several pictures."""
    return (f"The first of {frames} frames was taken.",) if frames > 1 else ()


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """The same values in the byte order of this machine."""
    return values.astype(values.dtype.newbyteorder("="))


def _raw_mode(image: Image.Image) -> str:
    """The name by which Pillow's decoder knows how values lie in the file."""
    tiles = getattr(image, "tile", None) or [(None, None, None, "")]
    words = tiles[0][3]
    return str(words[0] if isinstance(words, tuple) and words else words)


def _colour_of_png(image: Image.Image, stream: File) -> Raster | None:
    """A PNG of 16 bits in colour or with transparency, of which Pillow alone gives the high bytes only."""
    raw = _raw_mode(image)
    if raw not in {"RGB;16B", "RGBA;16B", "LA;16B"}:
        return None
    exif = int(image.getexif().get(_ORIENTATION, 1))

    def decoded(raw_mode: str, mode: str) -> NDArray[np.uint16]:
        stream.seek(0)
        with Image.open(stream) as own:
            tile = own.tile[0]
            own.tile = [type(tile)(*tile[:3], raw_mode)]
            own._mode = mode
            own.info.pop("transparency", None)
            return np.asarray(own).astype(np.uint16)

    if raw == "LA;16B":
        # The four bytes of a pixel, which are its two values.
        part = decoded("RGBA", "RGBA")
        values = part[..., 0::2] * 256 + part[..., 1::2]
    else:
        mode = raw.removesuffix(";16B")
        # Read as if the low byte came last, the high byte is what Pillow keeps; as if it came first, the low one.
        values = decoded(raw, mode) * 256 + decoded(f"{mode};16L", mode)
    if raw == "RGB;16B":
        return Raster(values, _one_clear_colour(image, values), orientation=exif)
    return Raster(values[..., :-1], values[..., -1] / 65535, orientation=exif)


def _one_clear_colour(image: Image.Image, values: NDArray[Any]) -> NDArray[np.float64] | None:
    clear = image.info.get("transparency")
    return None if clear is None else (values != np.asarray(clear)).any(-1).astype(np.float64)


def _from_pnm(image: Image.Image, stream: File) -> Raster | None:
    """A PGM or PPM of more than 8 bits, as it is in the file; Pillow would scale it."""
    _, _, offset, words = image.tile[0]  # type: ignore[attr-defined]
    if image.mode == "F":
        return Raster(_plain(np.asarray(image)))
    # The largest value, or where that is a usual one, the name of the layout.
    top = int(words[-1]) if isinstance(words, tuple) else 65535 if ";16" in words else 255
    if top <= 255:
        return None
    channels = len(image.getbands())
    count = image.width * image.height * channels
    stream.seek(0)
    content = stream.read()
    if content[1:2] in b"23":
        values = np.array(content[offset:].split(), dtype=np.int64)[:count]
    else:
        values = np.frombuffer(content, dtype=">u2", offset=offset, count=min(count, (len(content) - offset) // 2))
    if len(values) < count:
        raise InputError(f"it is cut short: {len(values)} of {count} values are there")
    return Raster(values.astype(np.uint16).reshape(image.height, image.width, channels), range=(0, top))


def _bits_of_jpeg2000(image: Image.Image) -> int:
    stream = getattr(image, "fp", None)
    if stream is None or image.mode.startswith("I"):
        return 8
    with suppress(OSError, struct.error, IndexError):
        place = stream.tell()
        stream.seek(0)
        head = stream.read(4096)
        stream.seek(place)
        # The depth of the first component follows the sizes at the start of the code stream.
        start = head.find(b"\xff\x4f\xff\x51")
        return (head[start + 42] & 0x7F) + 1 if start >= 0 else 8
    return 8
