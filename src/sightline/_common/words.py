"""Words for messages and records."""

import os
from collections.abc import Sequence
from pathlib import Path


def readable(path: str | Path) -> str:
    """A path as text that can be written anywhere, also where a name in it is not valid UTF-8."""
    text = path.as_posix() if isinstance(path, Path) else path
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def joined(names: Sequence[str]) -> str:
    """Names in a sentence: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def counted(number: int, thing: str, things: str = "") -> str:
    """A number of things: 1 image, 2 images; with the plural where it is another: 2 classes."""
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"
