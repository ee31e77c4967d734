"""What Gradient Artificial Distancing found: figures, tables and HTML of its results."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from sightline._common.renderers import renders
from sightline.gad import GAD, Evaluation, GADExplanation
from sightline.rendering._figure import PaperFigure
from sightline.rendering._gad_figures import side_by_side
from sightline.rendering._notebook import pictured, tabled
from sightline.rendering._paper import GAD as PAPER
from sightline.rendering._paper import bibliography, latex

_SAVED = 6
"""Images on the figure that is saved with the maps."""


@renders(GADExplanation, "figure")
def figure(found: GADExplanation) -> PaperFigure:
    """Original maps and what stays of them, side by side."""
    return side_by_side({"": found})


@renders(GADExplanation, "html")
def _html(found: GADExplanation) -> str:
    return pictured(repr(found), figure(found), found.notes)


@renders(GADExplanation, "bibliography")
def _bibliography(found: GADExplanation) -> str:
    return bibliography([found.original.methods[name] for name in found.stacks], PAPER)


@renders(GADExplanation, "files")
def _files(found: GADExplanation) -> dict[str, Callable[[Path], None]]:
    few = found.subset(range(min(_SAVED, len(found))))
    return {"gad.png": lambda path: figure(few).savefig(path, dpi=110)}


@renders(GAD, "html")
def _networks(gad: GAD) -> str:
    title = f"GAD of {gad.titles[0]} and {gad.titles[1]}, {gad.strategy}, {gad.training.mode} mode"
    return tabled(title, gad.report, gad.notes)


@renders(Evaluation, "html")
def _evaluation(found: Evaluation) -> str:
    return "".join(tabled(title, table) for _, title, table in _tables(found))


@renders(Evaluation, "latex")
def _latex(found: Evaluation) -> str:
    return "\n".join(latex(table, title, label) for label, title, table in _tables(found))


def _tables(found: Evaluation) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Label, title and table."""
    yield "gad-verdicts", "Verdicts: does GAD gain over every control?", found.verdicts
    title = "Complexity: on how many images a region's hull is smaller than the original's, and its share."
    yield "gad-complexity", title, found.complexity
    yield "gad-sensitivity", "Sensitivity: what occluding a region does, per pixel, times 100.", found.sensitivity
