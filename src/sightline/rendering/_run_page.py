"""What the page shows of a run: how far it is, a summary of each method, a sample of its images, what failed."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sightline._common.words import counted
from sightline.errors import InputError, install
from sightline.explaining import Explained, caption, class_name
from sightline.models import OutputKind
from sightline.rendering._gallery import ORIGINAL, PREDICTED, Gallery, MapSet, joined, placed_maps

if TYPE_CHECKING:
    from sightline.runs import Run

SAMPLE, MOST = 24, 1000
"""How many images of a run a page shows unless asked otherwise, and at most."""
_NUMBERS = ("output", "other", "is_predicted")
"""Columns of scores that say what `explained` says in words."""
_LISTED = 200
"""Failures that a page lists; the Parquet files have all."""


def local_folder(folder: str | Path) -> Path | None:
    """A folder's path; None for an address of fsspec that is not on this machine.

    Raises:
        InputError: fsspec knows no such address.
    """
    if "://" not in str(folder):
        return Path(folder)
    with _installed():
        from sightline.runs import Place
    return Place(str(folder)).local


def run_at(place: str) -> "Run":
    """The run in a folder, or at an address of fsspec.

    Raises:
        InputError: there is none, it is damaged, or it cannot be reached.
    """
    with _installed():
        from sightline.runs import open_run
    try:
        return open_run(place)
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror or error}.") from error


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"The page of a run needs {error.name}: {install('runs')}.") from error


def runs_of(folder: Path) -> Iterator[Path]:
    """The folder itself and those in it that hold runs."""
    found = {path.parent for name in ("images.parquet", "sums") for path in folder.rglob(name)}
    yield from sorted(found, key=lambda path: (len(path.parts), path))


def run_part(run: "Run", gallery: Gallery, name: str, count: int = SAMPLE) -> dict[str, Any]:
    """A run as the page shows it; the maps of its sample go into the gallery.

    Args:
        run: the run.
        gallery: of the page.
        name: what the network is called if other maps of the same images contradict these.
        count: how many images the sample has, at most.

    Raises:
        InputError: something of the run is damaged, or cannot be read.
    """
    try:
        scores, failures = run.scores, run.failures
        sample = evenly(sorted(set(scores["image"])), count)
        _fill(gallery, run, scores, sample, name)
    except OSError as error:
        raise InputError(f"{run.place} cannot be read: {error.strerror or error}.") from error
    recipe = run.settings["recipe"]
    listed = failures.head(_LISTED)
    return {
        "place": name,
        "about": _about(run, scores, failures, len(sample)),
        "tables": [
            {"title": title, "columns": list(table.columns), "rows": table.to_dict("records"), "open": shown}
            for title, table, shown in (
                ("Methods: a summary of all images that are done", _summary(run, scores, failures), True),
                (f"Failures{_of(len(listed), len(failures))}", listed.fillna(""), True),
                (f"Scores of {counted(len(sample), 'image')} in the gallery", _scores(run, scores, sample), False),
            )
            if not table.empty
        ],
        # As the manifest of an explanation says it.
        "manifest": {
            "methods": run.settings["methods"],
            "settings": {
                "model": recipe["model"]["spec"],
                "weights": recipe["model"]["weights"] or "as the model has them",
                "identity": run.settings["identity"],
                "recipe": recipe,
            },
        },
    }


def evenly(numbers: Sequence[int], count: int) -> list[int]:
    """Some of the numbers, spread evenly: the middle one of each of `count` parts of the same length.

    Example:
        >>> evenly(range(100), 4)
        [12, 37, 62, 87]
    """
    count = min(count, len(numbers))
    return [int(numbers[(2 * part + 1) * len(numbers) // (2 * count)]) for part in range(count)]


def _fill(gallery: Gallery, run: "Run", scores: pd.DataFrame, sample: Sequence[int], name: str) -> None:
    """Put pictures, captions and maps of the sample into the gallery."""
    output, names = _output(run), run.settings["class_names"]
    chosen = scores[scores["image"].isin(sample)]
    titles = run.images["name"]
    pictures = zip(sample, run.pictures(sample), strict=True)
    places = {
        number: gallery.add_picture({"name": titles[number], "notes": picture.notes}, picture.pixels)
        for number, picture in pictures
    }
    for (target, method), rows in chosen.groupby(["target", "method"], sort=False):
        numbers = rows["image"].tolist()
        heat = _maps(run, str(target), str(method), numbers)
        captions = [
            caption(
                row["name"], _explained(row), _number(row["value"]),
                None if pd.isna(row["predicted"]) else int(row["predicted"]),
                None if pd.isna(row["probability"]) else float(row["probability"]), output, names,
            )
            for row in rows.to_dict("records")
        ]  # fmt: skip
        title = _title(str(target), _explained(rows.iloc[0].to_dict()), output, names)
        gallery.add_maps(
            name, MapSet(ORIGINAL, title, str(method), [places[number] for number in numbers], captions, heat)
        )


def _maps(run: "Run", target: str, method: str, numbers: Sequence[int]) -> torch.Tensor:
    """Maps of some images, shape (image, height, width)."""
    found = torch.from_numpy(run.heatmap(method, numbers, target))
    if found.ndim == 3:
        return found
    kept = joined(found, run.settings["methods"][method]["reduction"])
    placement = run.settings.get("placements", {}).get(method)
    # Maps that were shrunk have other cells than the layer.
    fits = placement is not None and tuple(placement["cells"]) == tuple(kept.shape[1:])
    return placed_maps(kept, placement if fits else None)


def _title(target: str, explained: Explained, output: OutputKind, names: Sequence[str]) -> str:
    """What a target of a recipe is called on the page: `0 (cat)`, `2-1 (hen rather than dog)`, `top-2`."""
    # The second likeliest class is another one from image to image, even where it is the same in a sample.
    if re.fullmatch(r"top-\d+", target):
        return target
    if explained.predicted:
        return PREDICTED
    named = explained.named(output, names)
    return target if named == target else f"{target} ({named})"


def _explained(row: Mapping[Any, Any]) -> Explained:
    """What a row of scores is about."""
    number, other = (None if pd.isna(row[name]) else int(row[name]) for name in ("output", "other"))
    words = str(row["explained"]) if number is None else ""
    return Explained(number, other, predicted=bool(row["is_predicted"]), words=words)


def _output(run: "Run") -> OutputKind:
    known = run.settings.get("output")
    return OutputKind(known=False) if known is None else OutputKind(**known)


def _about(run: "Run", scores: pd.DataFrame, failures: pd.DataFrame, shown: int) -> list[str]:
    """What a reader should know of the run, in sentences."""
    settings, model = run.settings, run.settings["recipe"]["model"]
    done = scores["image"].nunique()
    weights = f" (weights: {model['weights']})" if model["weights"] else ""
    said = [
        f"A run of {counted(len(run), 'image')} through {model['spec']}{weights}, by "
        f"{counted(len(run.methods), 'method')} ({', '.join(run.methods)}), explaining "
        f"{counted(len(run.targets), 'target')} ({', '.join(run.targets)}): {counted(done, 'image')} with maps, "
        f"{counted(len(failures), 'failure')}."
    ]
    if not run.complete:
        parts = len(run.settings["tasks"]) * -(-len(run) // int(settings["identity"]["chunk"]))
        said.append(
            f"The run is not finished: {parts - run.missing} of {counted(parts, 'chunk')} are done, and everything "
            "here is of these. The command of the run goes on from there."
        )
    if shown:
        which = "all of them" if shown == done else f"{shown} of these {done}, spread evenly over the run"
        said.append(f"The gallery shows {which}; sightline report FOLDER --images N shows another number.")
    said += [f"Warning: {sentence}" for sentence in settings["warnings"]]
    said += [
        f"{method} was refused for {target}: {why}"
        for target, own in run.refused.items()
        for method, why in own.items()
    ]
    if settings["skipped"]:
        said.append("Not used: " + "; ".join(reason for _, reason in settings["skipped"]) + ".")
    if settings.get("ignored"):
        said.append(str(settings["ignored"]))
    return said


def _summary(run: "Run", scores: pd.DataFrame, failures: pd.DataFrame) -> pd.DataFrame:
    """A row for each target and method."""
    rows = []
    for target, methods in ((target, methods) for pairs in _tasks(run) for target, methods in pairs):
        for method in methods:
            if method in run.refused.get(target, {}):
                continue
            own = scores[(scores["target"] == target) & (scores["method"] == method)]
            # An image that could not be read has no target and no method.
            failed = failures[failures["target"].isin(["", target]) & failures["method"].isin(["", method])]
            rows.append(
                {"method": method, "target": target, "images with a map": len(own)}
                | {"images that failed": failed["image"].nunique()}
                | {"mean of the explained value": own["value"].mean(), "smallest": own["value"].min()}
                | {"largest": own["value"].max()}
                | {"largest completeness residual": own["completeness"].abs().max()}
                | {"maps with values that are not finite": int((own["not_finite"] > 0).sum())}
            )
    table = pd.DataFrame(rows)
    return table if table.empty else table.dropna(axis="columns", how="all")


def _tasks(run: "Run") -> list[list[tuple[str, list[str]]]]:
    return [[(target, list(methods)) for target, methods in pairs] for pairs in run.settings["tasks"].values()]


def _scores(run: "Run", scores: pd.DataFrame, sample: Sequence[int]) -> pd.DataFrame:
    """The scores of the sample, as the run keeps them, with the names of classes."""
    output, names = _output(run), run.settings["class_names"]
    table = scores[scores["image"].isin(sample)].copy()
    table["predicted"] = [
        "" if pd.isna(label) else class_name(int(label), output, names) for label in table["predicted"]
    ]
    table["explained"] = [_explained(row).named(output, names) for row in table.to_dict("records")]
    table["label"] = table["label"].fillna("")
    return table.drop(columns=["scale", *_NUMBERS]).dropna(axis="columns", how="all")


def _of(shown: int, all_of_them: int) -> str:
    if shown == all_of_them:
        return ""
    return f": the first {shown} of {all_of_them}; sightline.open_run(FOLDER).failures has all"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(np.float64(value))
