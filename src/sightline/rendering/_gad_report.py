"""The report of an evaluation: the paper's tables with controls in every cell, its figures, and what follows."""

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sightline._common.renderers import renders
from sightline._common.written import whole_files, write_text
from sightline.arrays import ImageBatch, first_of_each
from sightline.errors import InputError
from sightline.gad import MATCHED, OWN, Control, Evaluation, Outputs, Step, agreement, doubts, fidelities
from sightline.rendering import _gad_figures as figures

if TYPE_CHECKING:
    from sightline.gad import GAD

Row = Mapping[Hashable, Any]
Published = Mapping[tuple[str, int], tuple[tuple[int, int], tuple[float, float]]]

SHOWN = 5
"""Images of each class on the figures."""
FIT = (
    "shift 1, shift 2: by how much the other class's logit fell on images of class 1, and of class 2; this should be "
    "near alpha.",
    "own 1, own 2: by how much the class's own logit rose on its images; this should be near 0.",
    "error: the mean squared error of all logits, in squared logits.",
    "label agreement: the share of images on which the original network, of the two classes, decides for the label's.",
)
"""What the columns of `GAD.report` mean."""
VERDICTS = (
    "area at equal pixels: whether the hull of GAD's pixels is smaller than that of as many pixels of each control.",
    "rs at equal pixels, rs at equal area: whether the class's logit changes more, per pixel taken out, than for a "
    "control of as many pixels, or of a hull as large (RS, the sensitivity of a region); rs pair: the same of the "
    "class's logit less the other class's.",
    "gain: better than every control; loss: worse than some control; not shown: neither. Tests flip the signs of the "
    "paired differences, with Holm's correction for the controls, at 5 %. too few: fewer than twenty images with hulls "
    "on both sides, or a control is missing.",
)
"""What the columns and words of the verdicts mean."""


@renders(Evaluation, "report")
def write_evaluation(
    found: Evaluation,
    gad: "GAD",
    images: ImageBatch,
    names: tuple[str, str],
    folder: str | Path,
    *,
    beside: Published | None = None,
) -> str:
    """Write `report.md`, `evaluation.json`, the tables as CSV and the figures as PNG.

    Args:
        found: the evaluation.
        gad: the support networks.
        images: what was evaluated.
        names: what the two classes are called.
        folder: where to write.
        beside: by method and class, the paper's figures that are to stand beside: wins of original and GAD, RS of the
            supplementary region and of GAD.

    Returns:
        The report's text.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        found.save(folder)
        before, after = gad.outputs(images, names=names)
        text = _text(found, gad, names, before, fidelities(before, after, gad.classes), beside)
        drawn = _draw(found, gad, images, names, before, after, folder)
        pictures = "\n".join(f"![{title}]({name})" for name, title in drawn.items())
        about = [
            f"Gradient Artificial Distancing of {names[0]} (class 1) and {names[1]} (class 2) was evaluated on "
            f"{found.rows['image'].nunique()} images.",
            *_told_apart(before, gad),
            *gad.notes,
            *VERDICTS,
        ]
        write_text(folder / "evaluation.json", json.dumps({"about": about}, indent=1) + "\n")
        write_text(folder / "report.md", f"{text}\n\n## Figures\n\n{pictures}\n")
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
    return text


def _told_apart(said: Outputs, gad: "GAD") -> list[str]:
    """How well the network itself tells the two classes apart: one that guesses has nothing to explain."""
    share, count = agreement(said, gad.classes), len(said.labels)
    right = round(share * count)
    sentence = f"Between the two classes the network itself classifies {right} of {count} of these images correctly."
    return [sentence, *doubts(said, gad.classes, gad.titles)]


def _text(
    found: Evaluation,
    gad: "GAD",
    names: tuple[str, str],
    before: Outputs,
    fidelity: pd.DataFrame,
    beside: Published | None,
) -> str:
    count = found.rows["image"].nunique()
    training = gad.training
    steps = f"{training.steps} steps" if training.steps else f"{training.epochs} epochs"
    lines = [
        f"# Gradient Artificial Distancing: {names[0]} and {names[1]}, {count} images",
        "",
        f"Support networks: {gad.strategy}, {training.mode} mode, Adam {training.rate:g}, {steps}, batches of "
        f"{training.batch_size}. Class 1 is {gad.titles[0]}, class 2 {gad.titles[1]}.",
        "",
        *_told_apart(before, gad),
        "",
        *(f"- {note}" for note in gad.notes),
        "",
        "## The fit",
        "",
        *_table(gad.report.drop(columns=["alpha 1", "alpha 2"], errors="ignore")),
        "",
        *(f"- {line}" for line in FIT),
        "",
        "Whether they still see these images as the original does (share of equal decisions, rank correlations):",
        "",
        *_table(fidelity.reset_index()),
        "",
        "## Complexity (table 1)",
        "",
        "On how many images which hull is smaller, original : GAD, and the same for controls; in brackets ties (which "
        "the paper counts for the original) and degenerate hulls. Clipped is the original map clipped at zero, without "
        "any distancing.",
        "",
        *_table(_complexity(found, beside)),
        "",
        "## Sensitivity (table 2)",
        "",
        "Mean RS x 100: supplementary region / GAD's, and controls at GAD's number of pixels and at its hull area.",
        "",
        *_table(_sensitivity(found, beside)),
        "",
        "## Verdicts",
        "",
        *(f"- {line}" for line in VERDICTS),
        "",
        *_table(titled(found.verdicts, names)),
        "",
        "## GAD less each control",
        "",
        "Paired by image; 95 % intervals of the mean, by flipping signs. At equal pixels: hull area in % of the image "
        "(smaller is better) and RS x 100; at equal hull area: RS x 100. p is adjusted for the controls by Holm's "
        "method. `real`: p <= 0.05 on the good side; `worse`: on the other.",
        "",
        *_table(_gains(found)),
    ]
    return "\n".join(lines)


def _complexity(found: Evaluation, beside: Published | None) -> pd.DataFrame:
    keys = ["reading", "question", "method", "class"]
    rows = []
    for key, group in found.complexity.groupby(keys, sort=False):
        entry: dict[Hashable, Any] = dict(zip(keys, key, strict=True))
        for row in group.to_dict("records"):
            entry[_HEADINGS.get((row["arm"], row["matched"]), f"original : {row['arm']}, as many pixels")] = _wins(row)
        entry["by construction"] = "yes" if bool(group["by construction"].iloc[0]) else ""
        if beside:
            known = beside.get((entry["method"], entry["class"]))
            entry["paper"] = "" if known is None else "{} : {} of 512".format(*known[0])
        rows.append(entry)
    return pd.DataFrame(rows)


_HEADINGS = {
    ("gad", OWN): "original : GAD",
    ("clipped", OWN): "original : clipped",
    (Control.SHUFFLED.value, OWN): "original : shuffled labels",
}


def _wins(row: Row) -> str:
    apart = ", ".join(f"{row[what]} {what}" for what in ("ties", "degenerate") if row[what])
    return f"{row['loses']} : {row['wins']}{f' ({apart})' if apart else ''}"


def _sensitivity(found: Evaluation, beside: Published | None) -> pd.DataFrame:
    keys = ["reading", "question", "method", "class", "fill"]
    rows = []
    for key, group in found.sensitivity.groupby(keys, sort=False):
        rs = group.set_index(["arm", "matched"])["RS x 100"]
        entry: dict[Hashable, Any] = dict(zip(keys, key, strict=True))
        entry["supplementary / GAD"] = " / ".join(
            f"{rs.get((arm, OWN), np.nan):.3g}" for arm in ("supplementary", "gad")
        )
        entry["clipped"] = rs.get(("clipped", OWN), np.nan)
        for control in Control:
            pair = [rs.get((control.value, matched), np.nan) for matched in MATCHED]
            if (control.value, MATCHED[0]) in rs:
                entry[f"{control.value}, pixels / area"] = " / ".join(f"{value:.3g}" for value in pair)
        if beside:
            known = beside.get((entry["method"], entry["class"]))
            entry["paper"] = "" if known is None else "{:g} / {:g}".format(*known[1])
        rows.append(entry)
    return pd.DataFrame(rows)


def _gains(found: Evaluation) -> pd.DataFrame:
    gains = found.gains
    scale = np.where(gains["figure"].eq("area"), 100, 1)
    said = [
        f"{gain:+.3g} [{low:+.3g}, {high:+.3g}], {n} images, p {p:.2g}"
        + (", real" if real else ", worse" if worse else "")
        for gain, low, high, n, p, real, worse in zip(
            *(gains[name] * scale for name in ("gain", "low", "high")),
            *(gains[name] for name in ("images", "adjusted", "real", "worse")),
            strict=True,
        )
    ]
    what = gains["figure"] + " at equal " + gains["matched"]
    keys = ["reading", "question", "method", "class", "fill", "control"]
    wide = gains.assign(said=said, what=what).pivot_table("said", keys, "what", aggfunc="first", sort=False)
    return wide.reset_index().fillna("")


def titled(verdicts: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """Verdicts with the classes by name."""
    return verdicts.assign(**{"class": [names[number - 1] for number in verdicts["class"]]})


def _table(frame: pd.DataFrame) -> list[str]:
    """A table in Markdown."""

    def cell(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")

    lines = [f"| {' | '.join(map(str, frame.columns))} |", "|" + "---|" * len(frame.columns)]
    return lines + [f"| {' | '.join(map(cell, row))} |" for row in frame.itertuples(index=False)]


def _draw(
    found: Evaluation,
    gad: "GAD",
    images: ImageBatch,
    names: tuple[str, str],
    before: Outputs,
    after: Mapping[Step, Outputs],
    folder: Path,
) -> dict[str, str]:
    """The figures, by file name."""
    methods = [method for method in found.methods if method.name not in found.refused]
    reading = next(iter(found.readings.values()))
    labels = [gad.classes[names.index(str(label))] for label in images.labels]
    rows = first_of_each(images.labels, names, 3)
    question = found.rows.loc[found.rows["reading"] == reading.name, "question"].iloc[0]
    few = gad.explain_each(images[rows], methods, reading=reading, question=question, on_refusal="record")
    few[0].save(folder / "examples")
    first = methods[-1].name
    wrong, titled_one = misclassified(before, gad.classes, names)
    one = few
    if wrong is not None:
        one = gad.explain_each(images[[wrong]], methods, reading=reading, question=question, on_refusal="record")
    least = least_activated(before, gad.classes)
    clues = gad.explain_each(images[least], methods, reading=reading, question=question, on_refusal="record")
    made = {
        "logits.png": ("Logits before and after distancing", figures.logit_scatter(before, after, gad.classes, names)),
        "maps.png": ("Original maps of both classes", figures.original_maps(few, first, names)),
        "alphas.png": (titled_one, figures.per_alpha(one, first, 0, names)),
        "hulls.png": ("Hulls at 10 % of the maximum", figures.hull_figure(few[0], first)),
        "gad.png": ("Original and GAD", figures.side_by_side({"": few[0]})),
        "clues.png": (
            "Hulls on the images that speak least for their class",
            figures.visual_clues({"": figures.Clues(clues, [labels[i] for i in least])}, gad.classes, names, SHOWN),
        ),
    }
    for name, (_, figure) in made.items():
        with whole_files() as part:
            figure.savefig(part(folder / name), dpi=110)
    return {name: title for name, (title, _) in made.items()}


def misclassified(said: Outputs, classes: tuple[int, int], names: tuple[str, str]) -> tuple[int | None, str]:
    """The number of the picture that is most clearly taken for the other class, as in the paper's figure 3; a title."""
    others = torch.where(said.labels == classes[0], classes[1], classes[0])
    own, other = (said.logits.gather(1, labels[:, None])[:, 0] for labels in (said.labels, others))
    place = int((other - own).argmax())
    if other[place] <= own[place]:
        return None, "The map of each network, for both classes (no picture is misclassified)"
    is_first = int(said.labels[place]) == classes[0]
    label, taken = names if is_first else names[::-1]
    title = f"The map of each network, for both classes, of a picture of {label} that the network takes for {taken}"
    return int(said.numbers[place]), title


def least_activated(said: Outputs, classes: tuple[int, int]) -> list[int]:
    """The images of each class whose own logit is lowest."""
    chosen = []
    for c in classes:
        rows = (said.labels == c).nonzero().flatten()
        chosen += said.numbers[rows[said.logits[rows, c].argsort()[:SHOWN]]].tolist()
    return chosen
