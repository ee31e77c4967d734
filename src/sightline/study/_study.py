"""`claims`: a network and images in; an answer to each claim of the literature, with its table, out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, Protocol, cast

import numpy as np

from sightline._common.checksums import sealed
from sightline._common.options import takes
from sightline._common.version import versions
from sightline._common.words import counted
from sightline._common.written import whole_folder
from sightline.arrays import as_images
from sightline.auditing import questions_of
from sightline.errors import RefusalError
from sightline.evaluation import FEWEST, Asked, values_of
from sightline.explaining import FORMAT
from sightline.methods import as_method
from sightline.models import model_info
from sightline.options import PARTS
from sightline.study._encodings import bias
from sightline.study._options import StudyOptions
from sightline.study._part import Part
from sightline.study._sensitivity import PAIRS, audited, methods_of, sensitivity, unanswered
from sightline.study._survey import survey

_ALONE = {"survey": survey, "encoding": bias}

P = ParamSpec("P")


@dataclass(frozen=True, eq=False)
class Study:
    """What a study found.

    Attributes:
        parts: by name, in order.
        settings: what was asked of what.

    Example:
        claims(model, images, folder="study").answers
    """

    parts: Mapping[str, Part]
    settings: Mapping[str, Any]

    @property
    def answers(self) -> dict[str, str]:
        """For each claim: holds, does not hold, mixed or undecided."""
        return {claim: str(answer) for part in self.parts.values() for claim, answer in part.answers.items()}

    def markdown(self) -> str:
        """The study as a page of Markdown: the answers, then each part with its rule and table."""
        s = self.settings
        head = [
            "# Claims of the literature on saliency methods",
            "",
            f"Network: {s['model']}; weights {s['weights']}. {counted(s['images'], 'image')}, of which "
            f"{s['fewer images']} for settings and input bias; {counted(s['networks'], 'random network')}; seed "
            f"{s['seed']}. Intervals are 95 %; verdicts are corrected by Holm's method.",
            "",
            "| claim | answer |",
            "| --- | --- |",
            *(f"| {claim} | {answer} |" for claim, answer in self.answers.items()),
            "",
        ]
        return "\n".join(head) + "\n" + "\n".join(part.markdown() for part in self.parts.values())

    def save(self, folder: str | Path) -> Path:
        """Write `study.md`, `study.json`, and the table of each part as a CSV file.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder)
        record = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "answers": self.answers,
            "parts": {
                name: {"answers": dict(part.answers), "refused": dict(part.refused), "notes": list(part.notes)}
                for name, part in self.parts.items()
            },
        }
        with whole_folder(folder) as place:
            for name, part in self.parts.items():
                part.table.to_csv(place(f"{name}.csv"), index=False, float_format="%.6g")
            place("study.md").write_text(self.markdown(), encoding="utf-8", errors="backslashreplace")
            place("study.json").write_text(sealed(record, indent=2) + "\n", encoding="utf-8")
        return folder


def _typed(options: Callable[P, StudyOptions]) -> Callable[[Callable[..., Study]], "Claims[P]"]:
    return cast('Callable[[Callable[..., Study]], "Claims[P]"]', takes(cast("type", options)))


class Claims(Protocol[P]):
    """The type of `claims`: the options are those of `StudyOptions`."""

    def __call__(self, model: Callable[..., Any], images: Asked, /, *options: P.args, **more: P.kwargs) -> Study: ...


@_typed(StudyOptions)
def claims(model: Callable[..., Any], images: Asked, *options: Any, **more: Any) -> Study:  # noqa: D417 - {options}
    """Test claims of the literature on a network: each is answered by a fixed rule.

    One audit answers `aggregation` and `propagation`. `survey` and `encoding` ask for many passes, and take a quarter
    of the images, but at least twenty where there are as many.

    Args:
        model: a network in evaluation mode.
        images: see `sightline.explain`; a verdict needs at least twenty.
        {options}

    Raises:
        InputError: images, parts or methods cannot be used, or the folder holds another audit.

    Example:
        found = claims(model, images, folder="study")
        found.answers  # {"Positive aggregation fails class sensitivity": "does not hold", ...}
    """
    given = StudyOptions(*options, **more)
    parts, progress = given.parts, given.progress
    questions = questions_of(given.tests, masked=False)
    asked = [name for name in PARTS if name in parts]
    judged = [name for name in asked if name in PAIRS]
    rows = [as_method(one) for one in given.methods or _methods(judged)]
    names = [row.name for row in rows]
    as_images(values_of(images))
    chosen = _evenly(images, given.count or len(images))
    fewer = _evenly(chosen, max(FEWEST, len(chosen) // 4))
    info = model_info(model)
    settings = {
        "model": info.spec, "weights": info.weights, "images": len(chosen), "fewer images": len(fewer),
        "networks": given.networks, "stages": given.stages, "seed": given.seed, "methods": names if judged else [],
        "tests": [question.name for question in questions], "parts": asked, "versions": versions(),
    }  # fmt: skip
    place = None if given.folder is None else Path(given.folder)
    done: dict[str, Part] = {}

    def keep(made: Mapping[str, Part]) -> Study:
        done.update(made)
        study = Study(done, settings)
        if place is not None:
            study.save(place)
        return study

    if judged:
        own = None if place is None else place / "-".join(["audit", *judged])
        try:
            found = audited(model, chosen, rows, questions, given, own)
        except RefusalError as error:
            study = keep(
                {
                    name: unanswered(name, str(error), [test for one in questions for test in one.tests])
                    for name in judged
                }
            )
        else:
            if own is not None:
                found.save(own)
            study = keep({name: sensitivity(name, found, names) for name in judged})
    for name in asked:
        if name in _ALONE:

            def step(now: int, of: int, name: str = name) -> None:
                if progress is not None:
                    progress(name, now, of)

            study = keep({name: _ALONE[name](model, fewer, seed=given.seed, step=step)})
    return study


def _methods(parts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in methods_of(part)))


def _evenly(images: Asked, count: int) -> Asked:
    total = len(images)
    return images[sorted(set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()))]
