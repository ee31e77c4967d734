"""The record of a fit: what its networks were made from, what was asked for, and what is done, beside the weights."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline._common.version import versions
from sightline.errors import InputError
from sightline.explaining import FORMAT, check_format

FILE = "gad.json"


def begin(folder: Path, identity: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a new fit, or of the same one that was begun before; it is written to the folder.

    Args:
        folder: where.
        identity: what decides each network's weights.
        asked: which networks are wanted now.

    Raises:
        InputError: the folder holds another fit or a damaged record, or cannot be written.
    """
    digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).hexdigest()
    begun = {"format": FORMAT, **identity, **asked, "identity": digest, "versions": versions(), "trained": {}}
    if (folder / FILE).is_file():
        there = read(folder)
        differs = [name for name in identity if there.get(name) != identity[name]]
        if differs:
            raise InputError(
                f"The folder {folder} holds another fit: it differs in {', '.join(differs)}. Name another folder, or "
                "remove that one."
            )
        begun |= {**there, **asked}
    write(folder, begun)
    return begun


def merge_fits(folder: Path, other: Path) -> None:
    """Take networks that the same fit made in another folder, such as on another machine.

    Raises:
        InputError: the other folder holds another fit, or one of both cannot be read or written.
    """
    theirs = read(other)
    ours = read(folder) if (folder / FILE).is_file() else {**theirs, "trained": {}}
    if ours["identity"] != theirs["identity"]:
        raise InputError(f"The folders {folder} and {other} hold different fits.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in theirs["trained"]:
            part = folder / f"{name}.part"
            shutil.copyfile(other / name, part)
            part.replace(folder / name)
    except OSError as error:
        raise InputError(f"The networks of {other} cannot be copied to {folder}: {error.strerror or error}.") from error
    write(folder, {**ours, "trained": {**ours["trained"], **theirs["trained"]}})


def read(folder: Path) -> dict[str, Any]:
    """The record in a folder.

    Raises:
        InputError: there is none that can be read, or a later version wrote it.
    """
    try:
        there = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error
    if not isinstance(there, dict):
        raise unreadable(folder, TypeError("it holds no names with values"))
    check_format(there, folder / FILE)
    return there


def unreadable(folder: Path, error: Exception) -> InputError:
    """What to say of a record that cannot be used."""
    return InputError(
        f"{folder / FILE} is missing or damaged ({error}), so it cannot be read as the record of a fit. Name a folder "
        "that GAD.save or `sightline gad fit` wrote, or remove this one."
    )


def write(folder: Path, entries: Mapping[str, Any]) -> None:
    """Write a record in one step.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{FILE}.part"
        part.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        part.replace(folder / FILE)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
