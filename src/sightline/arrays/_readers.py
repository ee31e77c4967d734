"""Readers of image files: which there are, and which one reads a file.

A reader is one object in one file. A distribution makes its own known by an entry point of the group
`sightline.readers`; one that nobody has registered is named as FILE.py:NAME::

    import gzip
    import numpy as np
    from sightline.arrays import Raster

    class Heights:
        suffixes = (".hgt.gz",)

        def recognises(self, head):
            return False

        def read(self, file, max_pixels):
            values = np.frombuffer(gzip.decompress(file.read()), ">i2").reshape(1201, 1201)
            return Raster(values, unit="m")

    READER = Heights()      # sightline.load_images("heights/", reader="heights.py:READER")
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from sightline._common.registry import Registry
from sightline.arrays._raster import File, Raster
from sightline.errors import InputError

HEAD = 512
"""How many bytes of a file a reader sees to recognise it."""


@runtime_checkable
class Reader(Protocol):
    """Reads the files of one format, or of several."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of its files end, in lower case, as (".nii", ".nii.gz").

        Where two readers fit, the longer suffix decides; what ends like a picture is read as a picture.
        """

    def recognises(self, head: bytes) -> bool:
        """Whether a file without a known suffix is of this format, from its first bytes."""

    def read(self, file: File, max_pixels: int) -> Raster:
        """The values of one picture.

        Args:
            file: open at its start; its `name` is the path, where it has one.
            max_pixels: the largest number of pixels to decode; of what is larger nothing more than the header should
                be read, see `check_pixels`.

        Raises:
            InputError: the file cannot be used; the reason continues "FILE: it ...". Other errors are reported as
                damage to the file.
        """


def accepted(given: object) -> Reader:
    """A reader, or what a class of readers makes.

    Raises:
        InputError: it is none.
    """
    reader = given() if isinstance(given, type) else given
    if not isinstance(reader, Reader) or not (
        isinstance(reader.suffixes, tuple)
        and all(isinstance(suffix, str) and suffix[:1] == "." for suffix in reader.suffixes)
    ):
        raise InputError(
            f"Expected a reader of image files, with suffixes such as ('.nii', '.nii.gz') and the methods recognises "
            f"and read; got {given!r}. See sightline.arrays.Reader."
        )
    return reader


READERS: Registry[Reader] = Registry("reader", "sightline.readers", ("sightline.arrays._pictures",), accepted)
PICTURES = "pictures"


def as_reader(given: "Reader | str | None") -> Reader | None:
    """A reader by its name, by FILE.py:NAME, or as it is.

    Raises:
        InputError: there is none of this name, or it is no reader.
    """
    if given is None:
        return None
    return READERS[given] if isinstance(given, str) else accepted(given)


def readers() -> Iterator[Reader]:
    """All registered readers."""
    return (READERS[name] for name in READERS)


def suffixes(reader: Reader | None = None) -> list[str]:
    """How names of files end that can be read: by one reader, or by any."""
    return sorted({suffix for one in (readers() if reader is None else [reader]) for suffix in one.suffixes})


def by_name(name: str) -> Reader | None:
    """The reader of files of a name."""
    low, pictures = name.lower(), READERS[PICTURES]
    # First, so that the readers of other distributions are not imported for pictures.
    if low.endswith(pictures.suffixes):
        return pictures
    fitting = [(len(suffix), reader) for reader in readers() for suffix in reader.suffixes if low.endswith(suffix)]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def reader_of(name: str, head: bytes) -> Reader:
    """The reader of a file: by its name, else by its first bytes, else the one of pictures."""
    found = by_name(name) or next((reader for reader in readers() if reader.recognises(head)), None)
    return found or READERS[PICTURES]
