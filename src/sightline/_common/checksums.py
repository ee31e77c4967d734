"""Checksums: whether what was kept is what was written, and whether files hold what they held."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SUM = "checksum"
_SIZE = 16


def checksum(*parts: bytes | str) -> str:
    """A name for some content; that of parts differs from that of the same bytes cut elsewhere."""
    digest = hashlib.blake2b(digest_size=_SIZE)
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def checksum_of(path: Path) -> str | None:
    """A name for the content of a file; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_SIZE)).hexdigest()
    except OSError:
        return None


def sealed(record: dict[str, Any], indent: int | None = None) -> str:
    """A record as JSON that carries its own checksum.

    Example:
        >>> unsealed(sealed({"steps": 5}))
        {'steps': 5}
    """
    text = json.dumps(record | {_SUM: checksum(_plain(record))}, indent=indent, ensure_ascii=False, default=str)
    # File names that are not UTF-8 hold surrogates, which become JSON's own escapes.
    return text.encode("utf-8", "backslashreplace").decode()


def unsealed(text: str | bytes) -> dict[str, Any]:
    """The record that `sealed` made text of.

    Raises:
        ValueError: the text is not what was written.
    """
    record = json.loads(text)
    if not isinstance(record, dict) or record.pop(_SUM, None) != checksum(_plain(record)):
        raise ValueError("its checksum does not fit its content")
    return record


def fits(record: dict[str, Any]) -> bool:
    """Whether a record that was read from `sealed` text is what was written; also true of one without a checksum."""
    return _SUM not in record or record[_SUM] == checksum(_plain({k: v for k, v in record.items() if k != _SUM}))


def sums_of(files: Mapping[str, Path]) -> dict[str, str | None]:
    """A name for the content of each file, for a record that goes with them; see `changed`."""
    return {name: checksum_of(path) for name, path in files.items()}


def changed(folder: Path, sums: Mapping[str, str | None]) -> list[str]:
    """The files in a folder whose content is another than when their record was written."""
    return [name for name, known in sums.items() if checksum_of(folder / name) != known]


def _plain(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, default=str)
