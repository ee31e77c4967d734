"""A store of pictures: decoded once into a file, read from there as often as a training asks."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline._common.words import readable
from sightline._common.written import write_text
from sightline.arrays._batch import ImageBatch
from sightline.arrays._files import Found, unique_names
from sightline.arrays._labelled import Labelled
from sightline.arrays._levels import Levels, warnings
from sightline.arrays._load import MAX_PIXELS, Prepared, prepared
from sightline.errors import InputError
from sightline.models import Preprocessing


@dataclass(frozen=True)
class PictureStore:
    """Labelled pictures at a network's size, in a file that is mapped into memory.

    Attributes:
        pixels: shape (picture, height, width, channel), values 0..255; whole numbers of 8 bits, or floating-point
            where a file has more.
        about: for each picture its path, label, split, original size, box and notes.
        failures: the files that could not be used, and why.
        preprocessing: how pixels become numbers.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    about: list[dict[str, Any]]
    failures: list[str]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.about)

    @property
    def labels(self) -> list[str]:
        """The label of each picture."""
        return [entry["label"] for entry in self.about]

    @property
    def warnings(self) -> list[str]:
        """What must be known before these pictures are used; see `ImageBatch`."""
        levels = [None if entry["levels"] is None else Levels(*entry["levels"]) for entry in self.about]
        return warnings(levels, sum(entry["cut"] for entry in self.about))

    def batch(self, rows: Sequence[int]) -> ImageBatch:
        """Some pictures as a network's input."""
        chosen = [self.about[row] for row in rows]
        paths = [Path(entry["path"]) for entry in chosen]
        return ImageBatch(
            tensor=self.preprocessing.encode(self.pixels[list(rows)]),
            names=unique_names([Found(path, path.parent) for path in paths]),
            paths=paths,
            labels=[entry["label"] for entry in chosen],
            sizes=[(entry["size"][0], entry["size"][1]) for entry in chosen],
            boxes=[tuple(entry["box"]) for entry in chosen],
            notes=[entry["notes"] for entry in chosen],
            preprocessing=self.preprocessing,
            levels=[None if (found := entry["levels"]) is None else Levels(*found) for entry in chosen],
            cut=sum(entry["cut"] for entry in chosen),
        )


def store_pictures(
    pictures: Labelled,
    preprocessing: Preprocessing,
    folder: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> PictureStore:
    """Decode pictures into `pictures.npy` and `pictures.json` of a folder, or take what is there if it is theirs.

    Raises:
        InputError: no picture can be read, or the folder cannot be written.
    """
    folder = Path(folder)
    wanted = {
        # With size and times, since a picture may be replaced under its name; nobody sets that of the last change.
        "files": [[str(path), *_stamp(path)] for path in pictures.paths],
        "labels": list(pictures.labels),
        "training": list(pictures.training),
        "preprocessing": json.loads(json.dumps(asdict(preprocessing))),
    }
    data, notes = folder / "pictures.npy", folder / "pictures.json"
    if data.is_file() and notes.is_file():
        try:
            there = json.loads(notes.read_text(encoding="utf-8"))
            if all(there.get(key) == value for key, value in wanted.items()):
                pixels = np.load(data, mmap_mode="r")
                return PictureStore(pixels, there["about"], there["failures"], preprocessing)
        except (OSError, ValueError, KeyError, AttributeError, EOFError):
            # Damaged: made anew.
            pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        notes.unlink(missing_ok=True)
        # A new file, so that one that is mapped elsewhere keeps its pictures.
        part = data.with_name(data.name + ".part")
        part.unlink(missing_ok=True)
        found = _decoded(pictures, preprocessing, part, max_pixels, progress)
        part.replace(data)
        write_text(notes, json.dumps({**wanted, "about": found.about, "failures": found.failures}))
    except OSError as error:
        raise InputError(
            f"The pictures cannot be kept in {folder}: {error.strerror or error}. Name another folder, or make room."
        ) from error
    return found


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        known = path.stat()
    except OSError:
        return 0, 0, 0
    return known.st_size, known.st_mtime_ns, known.st_ctime_ns


def _decoded(
    pictures: Labelled,
    preprocessing: Preprocessing,
    file: Path,
    max_pixels: int,
    progress: Callable[[int, int], None] | None,
) -> PictureStore:
    def read(path: Path) -> Prepared | str:
        try:
            return prepared(path, preprocessing, max_pixels)
        except InputError as error:
            return f"{readable(path)}: {error}"

    about: list[dict[str, Any]] = []
    failures: list[str] = []
    shape = (len(pictures), *preprocessing.size, preprocessing.channels)
    pixels: Any = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    with ThreadPoolExecutor() as pool:
        for number, found in enumerate(pool.map(read, pictures.paths)):
            if isinstance(found, str):
                failures.append(found)
            else:
                if found.pixels.dtype != np.uint8 and pixels.dtype == np.uint8:
                    # The first one with more than 8 bits: all are kept as floating-point numbers from here on.
                    whole, pixels = pixels, None
                    wide = file.with_name(file.name + ".wide")
                    pixels = np.lib.format.open_memmap(wide, mode="w+", dtype=np.float32, shape=shape)
                    pixels[: len(about)] = whole[: len(about)]
                    wide.replace(file)
                pixels[len(about)] = found.pixels
                about.append(
                    {
                        "path": str(pictures.paths[number]),
                        "label": pictures.labels[number],
                        "training": pictures.training[number],
                        "size": list(found.size),
                        "box": list(found.box),
                        "notes": found.notes,
                        "levels": found.levels,
                        "cut": found.cut,
                    }
                )
            if progress is not None:
                progress(number + 1, len(pictures))
    if not about:
        raise InputError(f"No picture could be read: {'; '.join(failures[:3]) or 'none was named'}.")
    pixels.flush()
    # What could not be read leaves unused rows at the end.
    return PictureStore(pixels[: len(about)], about, failures, preprocessing)
