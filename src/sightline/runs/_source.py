"""Where a run's images come from: folders, tables of paths, data sets of Hugging Face on disk. Read one at a time."""

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from sightline._common.checksums import checksum, checksum_of
from sightline._common.words import readable
from sightline.arrays import Found, ImageBatch, as_batch, find_images, ignored_files, prepared, unique_names
from sightline.errors import InputError, install
from sightline.models import Preprocessing
from sightline.runs._recipe import DataPart


class Source(Protocol):
    """Images by number, none of which is read before it is asked for.

    Attributes:
        names: one for each image.
        labels: what class it is said to show, or None.
        skipped: what was named and holds no image, with the reason.
        ignored: a sentence on files that were passed over, or nothing.
    """

    names: Sequence[str]
    labels: Sequence[str | None]
    skipped: Sequence[tuple[str, str]]
    ignored: str

    def raw(self, number: int) -> Path | bytes:
        """The file of an image, or what it would hold."""

    def weight(self, number: int) -> int:
        """Its bytes, as far as they are known without reading it."""


class Files:
    """Picture files."""

    def __init__(self, found: Sequence[Found], skipped: Sequence[tuple[str, str]], ignored: str = "") -> None:
        self._found = found
        self.names: Sequence[str] = unique_names(found)
        self.labels: Sequence[str | None] = [one.label for one in found]
        self.skipped, self.ignored = skipped, ignored

    def raw(self, number: int) -> Path | bytes:
        return self._found[number].path

    def weight(self, number: int) -> int:
        try:
            return self._found[number].path.stat().st_size
        except OSError:
            return -1


class Rows:
    """A data set of Hugging Face: encoded pictures in a column."""

    def __init__(self, rows: Any, image: str, label: str) -> None:
        import datasets

        if image not in rows.column_names:
            raise InputError(
                f"The data set has no column {image!r}, but {', '.join(rows.column_names)}. Name it as image = ... in "
                "[data]."
            )
        try:
            self._rows = rows.cast_column(image, datasets.Image(decode=False)).select_columns([image])
        except Exception as error:  # Arrow's errors have no common base with Python's
            raise InputError(f"The column {image!r} of the data set holds no pictures ({error}).") from error
        self._image = image
        self.names: Sequence[str] = [f"row {number}" for number in range(len(rows))]
        self.labels: Sequence[str | None] = [None] * len(rows)
        if label in rows.column_names:
            kind = rows.features[label]
            named = getattr(kind, "int2str", str)
            # A negative number is what an unlabelled row has.
            unknown = {None} if named is str else {None, -1}
            self.labels = [None if value in unknown else str(named(value)) for value in rows[label]]
        self.skipped: Sequence[tuple[str, str]] = ()
        self.ignored = ""

    def raw(self, number: int) -> Path | bytes:
        cell = self._rows[number][self._image]
        if cell is None:
            return b""
        content: bytes | None = cell["bytes"]
        return Path(cell["path"]) if content is None else content

    def weight(self, number: int) -> int:
        del number
        return -1

    @property
    def identity(self) -> str:
        """What the data set says it is."""
        return str(self._rows._fingerprint)


def open_source(data: DataPart, folder: Path) -> Files | Rows:
    """List the images of a recipe.

    Raises:
        InputError: there are none, or they cannot be listed.
    """
    if data.dataset is not None:
        return Rows(_dataset(folder / data.dataset, data.limit), data.image, data.label)
    if data.table is not None:
        found, skipped = _table(folder / data.table, data), []
        ignored: list[Path] = []
    else:
        found, failures, ignored = find_images([folder / place for place in data.images or ()])
        skipped = [(readable(path), reason) for path, reason in failures]
    found = found[: data.limit]
    if not found:
        raise InputError(f"There are no images: {'; '.join(reason for _, reason in skipped) or 'the table is empty'}.")
    return Files(found, skipped, ignored_files(ignored))


def identity_of(source: Files | Rows) -> str:
    """A name for a list of images: their names, labels and sizes in bytes."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(source, Rows):
        digest.update(source.identity.encode())
    for number, (name, label) in enumerate(zip(source.names, source.labels, strict=True)):
        digest.update(f"{name}\0{label}\0{source.weight(number)}\n".encode())
    return digest.hexdigest()


def contents_of(source: Source, readers: int, numbers: Sequence[int] | None = None) -> list[str]:
    """A name for the content of each image, or of some, by reading it; empty where it cannot be read."""

    def content(number: int) -> str:
        try:
            raw = source.raw(number)
        except OSError:
            return ""
        return checksum(raw) if isinstance(raw, bytes) else checksum_of(raw) or ""

    with ThreadPoolExecutor(readers, "read") as pool:
        return list(pool.map(content, range(len(source.names)) if numbers is None else numbers))


class Read(NamedTuple):
    """Images that were read, with their numbers, and why others were not."""

    numbers: list[int]
    batch: ImageBatch | None
    failures: list[tuple[int, str]]

    @property
    def warnings(self) -> list[str]:
        """What must be known of the images; see `ImageBatch`."""
        return [] if self.batch is None else self.batch.warnings


def read(source: Source, numbers: Sequence[int], preprocessing: Preprocessing, max_pixels: int) -> Read:
    """Read some images; those that cannot be used become failures."""
    good: list[tuple[int, Any]] = []
    failures = []
    for number in numbers:
        try:
            good.append((number, prepared(source.raw(number), preprocessing, max_pixels)))
        except InputError as error:
            failures.append((number, str(error)))
        except OSError as error:
            failures.append((number, f"it cannot be read ({error.strerror or error})"))
    if not good:
        return Read([], None, failures)
    kept = [number for number, _ in good]
    batch = as_batch(
        [one for _, one in good],
        [source.names[number] for number in kept],
        [Path(source.names[number]) for number in kept],
        [source.labels[number] for number in kept],
        preprocessing,
    )
    return Read(kept, batch, failures)


def _table(path: Path, data: DataPart) -> list[Found]:
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            # As they stand: 007 is a name, and NA a label.
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"The table {path} cannot be read: {error}.") from error
    if data.path not in table.columns:
        raise InputError(
            f"The table {path} has no column {data.path!r}, but {', '.join(map(str, table.columns))}. Name it as "
            "path = ... in [data]."
        )
    labels: list[Any] = table[data.label].tolist() if data.label in table.columns else [None] * len(table)
    # A cell that is empty is no path; reading it fails like any other missing file.
    return [
        Found(path.parent / str(place), path.parent, None if _nothing(label) else str(label))
        for place, label in zip(table[data.path], labels, strict=True)
    ]


def _nothing(label: object) -> bool:
    return label is None or label == "" or (isinstance(label, float) and math.isnan(label))


def _dataset(path: Path, limit: int | None) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"Data sets of Hugging Face need: {install('datasets')}.") from error
    try:
        rows = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no data set that `save_to_disk` wrote ({error}).") from error
    if not isinstance(rows, datasets.Dataset):
        raise InputError(f"{path} holds several data sets ({', '.join(rows)}); name the folder of one of them.")
    return rows.select(range(min(limit, len(rows)))) if limit is not None else rows
