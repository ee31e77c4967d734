"""`claims`: a network and images in; an answer to each claim of the literature, with its table, out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline._common.checksums import sealed
from sightline._common.words import counted
from sightline._common.written import whole_files
from sightline.arrays import ImageBatch, as_images, whole
from sightline.auditing._subjects import Asked
from sightline.errors import InputError, RefusalError
from sightline.evaluation import FEWEST
from sightline.explaining._explanation import FORMAT, versions
from sightline.methods import as_method
from sightline.models import model_info
from sightline.options import PARTS, ClaimsOptions
from sightline.study._encodings import bias
from sightline.study._part import Part
from sightline.study._sensitivity import PAIRS, Progress, audited, methods_of, sensitivity, unanswered
from sightline.study._survey import survey

_ALONE = {"survey": survey, "encoding": bias}


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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_files() as place:
                for name, part in self.parts.items():
                    part.table.to_csv(place(folder / f"{name}.csv"), index=False, float_format="%.6g")
                place(folder / "study.md").write_text(self.markdown(), encoding="utf-8", errors="backslashreplace")
                place(folder / "study.json").write_text(sealed(record, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
        return folder


def claims(
    model: Callable[..., Any],
    images: Asked,
    methods: Sequence[str] | None = None,
    parts: Sequence[str] = ClaimsOptions.parts,
    *,
    folder: str | Path | None = None,
    count: int | None = None,
    networks: int = ClaimsOptions.networks,
    stages: int = ClaimsOptions.stages,
    seed: int = ClaimsOptions.seed,
    progress: Progress | None = None,
) -> Study:
    """Test claims of the literature on a network: each is answered by a fixed rule.

    One audit answers `aggregation` and `propagation`. `survey` and `encoding` ask for many passes, and take a quarter
    of the images, but at least twenty where there are as many.

    Args:
        model: a network in evaluation mode.
        images: see `sightline.explain`; a verdict needs at least twenty.
        methods: names from the catalogue for `aggregation` and `propagation`; by default all of both claims.
        parts: some of `aggregation`, `propagation`, `survey` and `encoding`.
        folder: where the study is written after each part; an interrupted audit goes on there.
        count: of the images, take so many, spread evenly; by default all.
        networks: random networks; a verdict needs at least five.
        stages: with 1 all layers become random at once; else in so many steps from the output.
        seed: base of all randomness.
        progress: called with what is done, and the steps done and in all.

    Raises:
        InputError: images, parts or methods cannot be used, or the folder holds another audit.

    Example:
        found = claims(model, images, folder="study")
        found.answers  # {"Positive aggregation fails class sensitivity": "does not hold", ...}
    """
    unknown = [name for name in parts if name not in PARTS]
    if unknown or not parts:
        raise InputError(f"Parts are {', '.join(PARTS)}; got {', '.join(unknown) or 'none'}.")
    whole("networks", networks)
    whole("stages", stages)
    if count is not None:
        whole("count", count)
    asked = [name for name in PARTS if name in parts]
    judged = [name for name in asked if name in PAIRS]
    names = [as_method(name).name for name in methods or _methods(judged)]
    as_images(images.tensor if isinstance(images, ImageBatch) else images)
    chosen = _evenly(images, count or len(images))
    fewer = _evenly(chosen, max(FEWEST, len(chosen) // 4))
    info = model_info(model)
    settings = {
        "model": info.spec, "weights": info.weights, "images": len(chosen), "fewer images": len(fewer),
        "networks": networks, "stages": stages, "seed": seed, "methods": names if judged else [], "parts": asked,
        "versions": versions(),
    }  # fmt: skip
    place = None if folder is None else Path(folder)
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
            found = audited(
                model, chosen, names, networks=networks, stages=stages, seed=seed, folder=own, progress=progress
            )
        except RefusalError as error:
            study = keep({name: unanswered(name, str(error)) for name in judged})
        else:
            if own is not None:
                found.save(own)
            study = keep({name: sensitivity(name, found, names) for name in judged})
    for name in asked:
        if name in _ALONE:

            def step(now: int, of: int, name: str = name) -> None:
                if progress is not None:
                    progress(name, now, of)

            study = keep({name: _ALONE[name](model, fewer, seed=seed, step=step)})
    return study


def _methods(parts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in methods_of(part)))


def _evenly(images: Asked, count: int) -> Asked:
    total = len(images)
    return images[sorted(set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()))]
