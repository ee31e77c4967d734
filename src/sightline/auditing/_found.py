"""What an audit found: its figures and verdicts, a paragraph of advice, and how they are shown and saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sightline._common.checksums import checksum_of, sealed, unsealed
from sightline._common.renderers import render
from sightline._common.version import versions
from sightline._common.written import whole_folder
from sightline.auditing._advice import advice
from sightline.auditing._judged import Judged
from sightline.auditing._judging import findings_of
from sightline.auditing._pairs import Sample
from sightline.auditing.questions import Question, Subjects
from sightline.explaining import FORMAT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FILES = ("scores.csv", "table.csv", "reasons.csv", "verdicts.csv", "audit.png")
"""What `Audit.save` writes beside `audit.json`."""


@dataclass(frozen=True, repr=False, eq=False)
class Audit(Judged):
    """The result of an audit.

    Attributes:
        scores: a row for each test, case, method, measure and image.
        findings: for each test and method, the verdict and what it rests on.
        questions: what was asked, as prepared for this audit.
        refused: for each method that could not be audited, why.
        sample: the images: their names, groups and pairs.
        settings: what was audited and how.
    """

    @classmethod
    def of(
        cls,
        scores: pd.DataFrame,
        subjects: Subjects,
        questions: Sequence[Question],
        reasons: Mapping[str, str],
        sample: Sample,
        settings: Mapping[str, Any],
    ) -> "Audit":
        """Judge scores by the rules of the questions.

        Args:
            scores: see `Audit`.
            subjects: the methods.
            questions: see `Audit`.
            reasons: by the questions' names, why one says nothing on this model; empty where it does.
            sample: see `Audit`.
            settings: see `Audit`.
        """
        findings = findings_of(scores, subjects, questions, reasons, sample)
        return cls(scores, findings, questions, dict(subjects.refused), sample, {**settings, "versions": versions()})

    @property
    def advice(self) -> str:
        """Which methods to use for this model, and why, in a paragraph."""
        return advice(self)

    def show(self) -> "Figure":
        """Verdicts and curves on one page, as a matplotlib figure."""
        figure: Figure = render(self, "figure")
        return figure

    def _repr_html_(self) -> str:
        return str(render(self, "html"))

    def latex(self) -> str:
        """The verdicts with their figures and intervals, as a table in LaTeX."""
        return str(render(self, "latex"))

    @property
    def bibliography(self) -> str:
        """Whom to cite for the tests and for the methods of the catalogue, in BibTeX."""
        return str(render(self, "bibliography"))

    def save(self, folder: str | Path) -> Path:
        """Write `audit.png`, `audit.json`, `verdicts.csv`, `reasons.csv`, `table.csv` and `scores.csv`.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder)
        record = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "images": list(self.names),
            "refused": dict(self.refused),
            "captions": {question.name: question.caption for question in self.questions},
            "rules": {test: rule and rule.words for test, rule in self.rules.items()},
            "verdicts": self.verdicts.to_dict("index"),
            "alike": self.alike,
            "advice": self.advice,
        }
        with whole_folder(folder) as part:
            for name in ("scores", "table", "reasons"):
                getattr(self, name).to_csv(part(f"{name}.csv"), index=False, float_format="%.6g")
            self.verdicts.to_csv(part("verdicts.csv"))
            for name, draw in render(self, "files").items():
                draw(part(name))
            # Last, with the checksums of the others, so that what is damaged later can be found.
            record["files"] = {name: checksum_of(part(name)) for name in _FILES}
            part("audit.json").write_text(sealed(record, indent=2) + "\n", encoding="utf-8")
        return folder


def is_saved(folder: Path) -> bool:
    """Whether a folder holds all that `Audit.save` writes, as it was written."""
    try:
        files = unsealed((folder / "audit.json").read_bytes())["files"]
        return dict(files) == {name: checksum_of(folder / name) for name in _FILES}
    except (OSError, ValueError, KeyError, TypeError):
        return False
