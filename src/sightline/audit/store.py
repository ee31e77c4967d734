"""Scores of an audit, kept block by block, so that an interrupted one goes on."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sightline.audit.block import Score
from sightline.errors import InputError

_IDENTITY = "audit-identity.json"


class ScoreStore:
    """The scores of one audit, in memory and, where a folder is given, in files.

    Args:
        folder: where; none to keep nothing.
        identity: what decides the scores.

    Raises:
        InputError: the folder holds another audit, or cannot be written.
    """

    def __init__(self, folder: str | Path | None, identity: Mapping[str, Any]) -> None:
        self._parts: list[pd.DataFrame] = []
        self._folder = None if folder is None else Path(folder) / "scores"
        if self._folder is None:
            return
        text = json.dumps(identity, indent=2, sort_keys=True) + "\n"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / _IDENTITY
            if path.is_file() and path.read_text(encoding="utf-8") != text:
                raise InputError(
                    f"{self._folder.parent} holds another audit: of another model, other images, methods, tests or "
                    "settings. Name another folder, or remove that one."
                )
            if not path.is_file():
                # Several processes may see to blocks of one audit; none reads half of what another writes.
                part = path.with_suffix(f".{os.getpid()}")
                part.write_text(text, encoding="utf-8")
                part.replace(path)
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error

    def keep(self, number: int, make: Callable[[], Iterable[Score]], refused: dict[str, str]) -> None:
        """Take the scores of a block from its file, or make and write them.

        Args:
            number: the block's number.
            make: makes its scores.
            refused: methods that were refused so far, and why; read back with the scores.
        """
        if self._folder is None:
            self._parts.append(pd.DataFrame(make(), columns=list(Score._fields)))
            return
        file, reasons = self._folder / f"{number:05d}.csv", self._folder / f"{number:05d}.json"
        if file.is_file():
            self._parts.append(pd.read_csv(file))
            refused |= json.loads(reasons.read_text(encoding="utf-8"))
            return
        frame = pd.DataFrame(make(), columns=list(Score._fields))
        reasons.write_text(json.dumps(refused), encoding="utf-8")
        part = file.with_suffix(".part")
        frame.to_csv(part, index=False)
        part.replace(file)
        # As it would be read back, so that an audit that was interrupted says the same.
        self._parts.append(pd.read_csv(file))

    def scores(self) -> pd.DataFrame:
        """All scores, a row for each."""
        return pd.concat(self._parts, ignore_index=True)
