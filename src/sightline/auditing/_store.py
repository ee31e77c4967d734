"""Scores of an audit, kept part by part, so that an interrupted one goes on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sightline._common.checksums import checksum, sealed, unsealed
from sightline._common.written import whole_files, write_text
from sightline.auditing.questions import Score
from sightline.errors import InputError

_IDENTITY = "audit-identity.json"


class ScoreStore:
    """The scores of one audit, in memory or, where a folder is given, in files.

    Args:
        folder: where; none to keep nothing.
        identity: what decides the scores.

    Raises:
        InputError: the folder holds another audit, or cannot be written.
    """

    def __init__(self, folder: str | Path | None, identity: Mapping[str, Any]) -> None:
        self._frames: dict[str, pd.DataFrame] = {}
        self._refused: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._folder = None if folder is None else Path(folder) / "scores"
        self._whole: set[str] = set()
        if self._folder is None:
            return
        text = json.dumps(identity, indent=2, sort_keys=True) + "\n"
        self._identity = checksum(text)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / _IDENTITY
            there = path.read_bytes() if path.is_file() else None
            if there is not None and there != text.encode() and _is_json(there):
                raise InputError(
                    f"{self._folder.parent} holds another audit: of another model, other images, methods, tests or "
                    "settings. Name another folder, or remove that one."
                )
            if there != text.encode():
                # Several processes may see to blocks of one audit; none reads half of what another writes.
                write_text(path, text)
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error

    def has(self, name: str) -> bool:
        """Whether a part's scores are there, whole, and of this audit.

        Args:
            name: the part's.
        """
        if self._folder is None:
            return name in self._frames
        if name not in self._whole:
            try:
                record = unsealed((self._folder / f"{name}.json").read_bytes())
                scores = checksum((self._folder / f"{name}.csv").read_bytes())
            except (OSError, ValueError):
                return False
            if record.get("audit") != self._identity or record.get("scores") != scores:
                return False
            self._whole.add(name)
        return True

    def keep(self, name: str, scores: Iterable[Score], refused: Mapping[str, str], failure: str = "") -> None:
        """Keep the scores of a part; with a folder it has them when this returns.

        Args:
            name: the part's.
            scores: its scores.
            refused: methods that were refused so far, and why.
            failure: why the question has no scores, where it failed.
        """
        frame = pd.DataFrame(scores, columns=list(Score._fields))
        if self._folder is None:
            self._frames[name], self._refused = frame, self._refused | dict(refused)
            self._failures[name] = failure
            return
        text = frame.to_csv(index=False).encode("utf-8", "backslashreplace")
        record = {"audit": self._identity, "scores": checksum(text), "refused": dict(refused), "failure": failure}
        # The record last: without it the scores do not count.
        with whole_files() as part:
            part(self._folder / f"{name}.csv").write_bytes(text)
            part(self._folder / f"{name}.json").write_text(sealed(record), encoding="utf-8")

    def refused(self, name: str) -> dict[str, str]:
        """Methods that were refused up to a part, and why.

        Args:
            name: the part's.
        """
        if self._folder is None:
            return self._refused
        found: dict[str, str] = unsealed((self._folder / f"{name}.json").read_bytes())["refused"]
        return found

    def failure(self, name: str) -> str:
        """Why the question of a part failed at it; empty where it did not.

        Args:
            name: the part's.
        """
        if self._folder is None:
            return self._failures[name]
        return str(unsealed((self._folder / f"{name}.json").read_bytes())["failure"])

    def scores(self, names: Sequence[str]) -> pd.DataFrame:
        """The scores of some parts, a row for each.

        Args:
            names: the parts'.
        """
        # With a folder they are read back even where they have just been made, so that an audit that was interrupted
        # says the same.
        frames = self._frames if self._folder is None else {n: pd.read_csv(self._folder / f"{n}.csv") for n in names}
        return pd.concat([one for name in names if len(one := frames[name])], ignore_index=True)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
