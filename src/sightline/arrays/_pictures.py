"""The reader of pictures: what Pillow decodes, and TIFFs and PNGs of more than 8 bits with all their levels."""

import numpy as np
from PIL import Image, ImageOps

from sightline.arrays._deep import first_of, from_pillow, from_tiff, is_cut
from sightline.arrays._raster import File, Raster, check_pixels
from sightline.arrays._readers import PICTURES, READERS
from sightline.errors import InputError

_ORIENTATION = 0x0112


class Pictures:
    """Pictures as cameras, browsers and microscopes write them."""

    # Not every installation of Pillow can read the last four.
    suffixes: tuple[str, ...] = (
        ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm",
        ".avif", ".jp2", ".jpeg2000", ".j2k",
    )  # fmt: skip

    def recognises(self, head: bytes) -> bool:  # noqa: ARG002 - it is asked for every file that no other reader takes
        return False

    def read(self, file: File, max_pixels: int) -> Raster:
        try:
            deep = from_tiff(file, max_pixels)
            if deep is not None:
                return deep
            file.seek(0)
            with Image.open(file) as image:
                # So far Pillow has read the header only.
                check_pixels(image.width, image.height, max_pixels)
                cut = is_cut(image)
                deep = from_pillow(image, file)
                return _of_eight_bits(image, cut=cut) if deep is None else deep
        except Image.DecompressionBombError as error:
            raise InputError(
                "it has more pixels than Pillow will read (PIL.Image.MAX_IMAGE_PIXELS); make it smaller"
            ) from error


def _of_eight_bits(image: Image.Image, *, cut: bool) -> Raster:
    notes = [*first_of(getattr(image, "n_frames", 1))]
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
    if cut:
        notes.append("Only the 8 highest bits of each value could be read.")
    image = image.convert("L" if image.mode in {"1", "L"} else "RGB")
    return Raster(np.asarray(image), cut=cut, notes=tuple(notes))


READERS.register(PICTURES, Pictures())
