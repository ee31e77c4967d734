"""Which picture files a path, folder or pattern stands for."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sightline._common.words import counted, readable
from sightline.arrays._formats import holds_images, named_format
from sightline.arrays._readers import Reader, by_name, suffixes

_SHOWN = 5


@dataclass(frozen=True)
class Found:
    """One picture file: where it is, the folder that its name is relative to, and its class folder's name."""

    path: Path
    root: Path
    label: str | None = None


class Listing(NamedTuple):
    """What paths stand for.

    Attributes:
        found: the picture files.
        failures: each path that gave none, and each file of images of a kind that is not read, with the reason.
        ignored: files of folders that hold no images as far as their names tell.
    """

    found: list[Found]
    failures: list[tuple[Path, str]]
    ignored: list[Path]


def find_images(paths: Sequence[str | Path], reader: Reader | None = None) -> Listing:
    """List the picture files that paths stand for.

    Args:
        paths: Files, folders (searched through; hidden files are passed over) and patterns such as
            ``"photos/**/*.jpg"``. Files given by name are listed whatever their suffix.
        reader: What reads them: of folders and patterns its files are listed; by default those of every reader.

    Returns:
        The files, those of each folder or pattern sorted; and what is not read.
    """
    found: list[Found] = []
    failures: list[tuple[Path, str]] = []
    ignored: list[Path] = []
    for entry in paths:
        path = Path(entry)
        unread: list[tuple[Path, str]] = []
        if path.is_dir():
            matches, unread, others = _in_folder(path, reader)
            ignored += others
            reason = f"the folder {readable(path)} holds no picture files ({', '.join(suffixes(reader))})"
        elif os.path.lexists(path):
            matches, reason = [Found(path, path.parent)], ""
        elif glob.has_magic(str(entry)):
            matches, unread = _by_pattern(str(entry), reader)
            reason = f"no picture file matches the pattern {readable(path)}"
        else:
            matches, reason = [], f"{readable(path)} does not exist"
        found += matches
        failures += unread
        if not matches and not unread:
            failures.append((path, reason))
    return Listing(found, failures, ignored)


def _in_folder(folder: Path, reader: Reader | None) -> Listing:
    files, unread, ignored = _sorted_out(sorted(_walk(folder)), reader)
    parts = [file.relative_to(folder).parts for file in files]
    by_class = all(len(part) > 1 for part in parts)
    found = [
        Found(file, folder, readable(part[0]) if by_class else None) for file, part in zip(files, parts, strict=True)
    ]
    return Listing(found, unread, ignored)


def _sorted_out(files: Sequence[Path], reader: Reader | None) -> tuple[list[Path], list[tuple[Path, str]], list[Path]]:
    """Picture files, files of images that are not read with the reason, and others."""
    pictures, unread, others = [], [], []
    for file in files:
        if by_name(file.name) if reader is None else file.name.lower().endswith(reader.suffixes):
            pictures.append(file)
        # Scanners name files of DICOM without a suffix.
        elif (holds_images(file.name) or not file.suffix) and (what := _format_of(file)):
            unread.append((file, f"{readable(file)}: {what}"))
        else:
            others.append(file)
    return pictures, unread, others


def _format_of(file: Path) -> str | None:
    try:
        return named_format(file) if holds_images(file.name) or file.is_file() else None
    except OSError:
        return None


def _walk(folder: Path) -> Iterator[Path]:
    # Data sets are often assembled from links to folders, which may lead back to where they are.
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".") and os.path.realpath(Path(place, name)) not in seen
        ]
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _by_pattern(pattern: str, reader: Reader | None) -> tuple[list[Found], list[tuple[Path, str]]]:
    fixed = list(Path(pattern).parts)
    while any(glob.has_magic(part) for part in fixed):
        fixed.pop()
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - a Path cannot glob absolutely
    files = [path for path in sorted(matches) if path.is_file() and not path.name.startswith(".")]
    pictures, unread, _ = _sorted_out(files, reader)
    return [Found(path, Path(*fixed)) for path in pictures], unread


def ignored_files(paths: Sequence[Path]) -> str:
    """A sentence on files that were passed over; empty where there are none."""
    if not paths:
        return ""
    shown = ", ".join(readable(path) for path in paths[:_SHOWN])
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{counted(len(paths), 'file')} not read, having no suffix of a picture: {shown}{more}."


def unique_names(found: Sequence[Found]) -> list[str]:
    """Name files relative to the folder that all their roots share; a file listed twice gets a number."""
    if not found:
        return []
    # Not Path.resolve(), which would replace a link by the file that it leads to.
    common = os.path.commonpath([os.path.abspath(item.root) for item in found])  # noqa: PTH100
    names = [readable(Path(os.path.relpath(item.path, common))) for item in found]
    total, count = Counter(names), Counter[str]()
    for position, name in enumerate(names):
        count[name] += 1
        if total[name] > 1:
            names[position] = f"{name} ({count[name]} of {total[name]})"
    return names
