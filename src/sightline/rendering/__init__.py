"""Figures, pages and tables of results, registered by type of result.

- `renders` registers a function that makes an output of a type of result; `render` calls it.
- `montage`: images and their maps side by side. `write_page`: one HTML file of all that a folder holds.
- `PaperFigure`: a figure that a journal takes. `bibliography`, `latex`: whom to cite, and tables, for a paper.
"""

import importlib
from typing import TYPE_CHECKING

from sightline._common.renderers import render, renders

if TYPE_CHECKING:
    from sightline.rendering._figure import PaperFigure
    from sightline.rendering._gad_printed import write_tables
    from sightline.rendering._gad_report import FIT, VERDICTS, titled, write_evaluation
    from sightline.rendering._montage import montage
    from sightline.rendering._paper import bibliography, latex
    from sightline.rendering._picture import resampled
    from sightline.rendering._writing import write_page

__all__ = [
    "FIT",
    "VERDICTS",
    "PaperFigure",
    "bibliography",
    "latex",
    "montage",
    "render",
    "renders",
    "resampled",
    "titled",
    "write_evaluation",
    "write_page",
    "write_tables",
]

_HOME = {
    "FIT": "_gad_report",
    "VERDICTS": "_gad_report",
    "PaperFigure": "_figure",
    "bibliography": "_paper",
    "latex": "_paper",
    "montage": "_montage",
    "resampled": "_picture",
    "titled": "_gad_report",
    "write_evaluation": "_gad_report",
    "write_page": "_writing",
    "write_tables": "_gad_printed",
}

if not TYPE_CHECKING:
    # matplotlib is imported when something is drawn.
    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'sightline.rendering' has no attribute {name!r}")
        return getattr(importlib.import_module(f"sightline.rendering.{_HOME[name]}"), name)
