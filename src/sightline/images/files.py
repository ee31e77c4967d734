"""Which picture files a path, folder or pattern stands for."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"})
# Pictures too, which a person would miss if they were passed over in silence, though not all can be read.
_ALSO_PICTURES = frozenset({".heic", ".heif", ".avif", ".jp2", ".svg"})


@dataclass(frozen=True)
class Found:
    """One picture file: where it is, the folder that its name is relative to, and its class folder's name."""

    path: Path
    root: Path
    label: str | None = None


def find_images(paths: Sequence[str | Path]) -> tuple[list[Found], list[tuple[Path, str]]]:
    """List the picture files that paths stand for.

    Args:
        paths: Files, folders (searched through; hidden files are passed over) and patterns such as
            ``"photos/**/*.jpg"``. Files given by name are listed whatever their suffix.

    Returns:
        The files, those of each folder or pattern sorted, and each path that gave none with the reason.
    """
    found: list[Found] = []
    failures: list[tuple[Path, str]] = []
    for entry in paths:
        path = Path(entry)
        if path.is_dir():
            matches = _in_folder(path)
            reason = f"the folder {readable(path)} holds no picture files ({', '.join(sorted(SUFFIXES))})"
        elif os.path.lexists(path):
            matches, reason = [Found(path, path.parent)], ""
        elif glob.has_magic(str(entry)):
            matches = _by_pattern(str(entry))
            reason = f"no picture file matches the pattern {readable(path)}"
        else:
            matches, reason = [], f"{readable(path)} does not exist"
        found += matches
        if not matches:
            failures.append((path, reason))
    return found, failures


def _in_folder(folder: Path) -> list[Found]:
    files = sorted(_walk(folder))
    parts = [file.relative_to(folder).parts for file in files]
    by_class = all(len(part) > 1 for part in parts)
    return [Found(file, folder, part[0] if by_class else None) for file, part in zip(files, parts, strict=True)]


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
        yield from (Path(place, name) for name in files if _is_picture(name))


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES | _ALSO_PICTURES


def _by_pattern(pattern: str) -> list[Found]:
    fixed = list(Path(pattern).parts)
    while any(glob.has_magic(part) for part in fixed):
        fixed.pop()
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - a Path cannot glob absolutely
    return [Found(path, Path(*fixed)) for path in sorted(matches) if path.is_file() and _is_picture(path.name)]


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


def readable(path: Path) -> str:
    """A path as text that can be written anywhere, also where the file name is not valid UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
