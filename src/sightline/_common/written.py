"""Files that are written whole or not at all, so that a full disk leaves no half of a result; and files of tensors."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors.torch import load, load_file
from torch import Tensor

from sightline._common.words import readable
from sightline.errors import InputError


@contextmanager
def whole_files() -> Iterator[Callable[[Path], Path]]:
    """Write files that belong together.

    The function it gives takes where a file shall lie, and returns where to write it until then. When all are written
    they take their places; after an error none does, and what lay there before stays.

    Example:
        with whole_files() as part:
            part(folder / "table.csv").write_text(text)
    """
    parts: dict[Path, Path] = {}

    def part(path: Path) -> Path:
        path = path.resolve()
        if path.exists() and not path.is_file():
            # A device or a pipe, which cannot be replaced.
            return path
        # The suffix stays, since libraries tell the format by it.
        parts[path] = path.with_name(f".part-{os.getpid()}-{path.name}")
        return parts[path]

    try:
        yield part
        for path, written in parts.items():
            written.replace(path)
    finally:
        for written in parts.values():
            with suppress(OSError):
                written.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Callable[[str], Path]]:
    """Write files of one folder, made where it is missing, as `whole_files` does; the function takes their names.

    Raises:
        InputError: the folder cannot be written.

    Example:
        with whole_folder(folder) as part:
            part("table.csv").write_text(text)
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_files() as part:
            yield lambda name: part(folder / name)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8; parts of names that are not text become escapes and do not end the work."""
    with whole_files() as part:
        part(path).write_text(text, encoding="utf-8", errors="backslashreplace")


def tensors_in(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, whatever its path; safetensors itself opens none that is not UTF-8."""
    return load_file(path) if readable(path) == path.as_posix() else load(path.read_bytes())
