"""An audit on one page: the verdicts, the curves of the randomisation, and how alike the maps of two classes are."""

import math
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sightline.auditing import CONTROLS, JUDGED
from sightline.rendering._figure import PaperFigure

if TYPE_CHECKING:
    from sightline.auditing._found import Audit

_COLOURS = {"pass": "#cfe8df", "fail": "#f6d3bf", "undecided": "#eeeeee", "reported": "#ffffff"}
_WORDS = {"pass": "#00664a", "fail": "#a23c00", "undecided": "#555555", "reported": "#888888"}
FIGURES = (
    "Each cell has the verdict, corrected for the number of verdicts, its figure and, in brackets, a 95 % interval "
    "over images and, where the weights are random, over networks. Figures of likeness are "
    "scaled: 0 is the likeness to another image's map, 1 that to the same image's map under slight noise; beyond "
    "either they are below 0 or above 1."
)
"""What a reader of verdicts must know of their figures."""
_LINES = 8
"""Methods whose curves a person can still tell apart."""
_PER_ROW = 4
"""Entries of a legend on a line."""


def audit_page(found: "Audit") -> PaperFigure:
    """Verdicts with their figures above; below, the randomisation's curves and the maps of other classes."""
    verdicts = found.verdicts
    rows = len(verdicts)
    table = found.table
    parts = [test for test in ("parameter_randomization", "class_sensitivity") if test in set(table["test"])]
    height = 1.5 + 0.26 * rows + (0.4 + 0.3 * rows if parts else 0)
    # A verdict with its figure and interval takes 1.6 inches.
    width = max(11.0, 2.5 + 1.6 * len(found.judged.columns))
    figure = PaperFigure(figsize=(width, max(height, 6.0)), facecolor="white", layout="constrained")
    heights = [0.6 + 0.26 * rows, 0.6 + 0.3 * rows] if parts else [1]
    grid = figure.add_gridspec(len(heights), max(len(parts), 1), height_ratios=heights)
    _verdicts(figure.add_subplot(grid[0, :]), found)
    for column, test in enumerate(parts):
        axes = figure.add_subplot(grid[1, column])
        chosen = table[(table["test"] == test) & (table["measure"] == JUDGED)]
        (_curves if test == "parameter_randomization" else _classes)(axes, chosen, list(verdicts.index))
    count = len(found.names)
    figure.suptitle(f"Audit of {count} image{'' if count == 1 else 's'}", fontsize=12, x=0.01, ha="left")
    words = "\n".join(fill(text, round(15 * width)) for text in (FIGURES, found.advice))
    figure.supxlabel(words, fontsize=8, x=0.01, ha="left", parse_math=False)
    return figure


def save_audit_page(found: "Audit", path: Path) -> None:
    """Write the page as a picture."""
    audit_page(found).savefig(path, dpi=110)


def _verdicts(axes: Axes, found: "Audit") -> None:
    verdicts = found.judged
    for row, (method, said) in enumerate(verdicts.iterrows()):
        for column, (test, word) in enumerate(said.items()):
            axes.add_patch(mpl.patches.Rectangle((column, row), 0.98, 0.94, facecolor=_COLOURS[word], linewidth=0))
            text = word
            if (str(test), str(method)) in found.findings:
                text = f"{word}   {found.shown(str(test), str(method))}".strip()
            axes.text(column + 0.03, row + 0.47, text, fontsize=7.5, va="center", color=_WORDS[word])
    counts = found.counts.loc[verdicts.index]
    for row, (images, networks) in enumerate(zip(counts["images"], counts["networks"], strict=True)):
        for place, text in ((0.05, images), (0.45, networks)):
            axes.text(len(verdicts.columns) + place, row + 0.47, text, fontsize=7.5, va="center", color="#555555")
    axes.set_xlim(0, len(verdicts.columns) + 0.8)
    axes.set_ylim(len(verdicts), 0)
    axes.set_yticks(np.arange(len(verdicts)) + 0.47, [str(name) for name in verdicts.index], fontsize=8)
    places = [*(np.arange(len(verdicts.columns)) + 0.49), *(len(verdicts.columns) + np.array([0.15, 0.6]))]
    axes.set_xticks(places, [*(str(c).replace("_", " ") for c in verdicts.columns), "images", "networks"])
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colour(number: int) -> tuple[float, float, float, float]:
    red, green, blue, _ = mpl.colormaps["tab20"](number % 20)
    return red, green, blue, 1.0


def _curves(axes: Axes, table: pd.DataFrame, methods: list[str]) -> None:
    stages = list(dict.fromkeys(table["case"]))
    own = {
        method: rows
        for method in methods
        if method not in CONTROLS
        and not (rows := table[table["method"] == method].set_index("case").reindex(stages))["mean"].isna().all()
    }
    (_lines if len(own) <= _LINES else _shades)(axes, own)
    axes.set_xticks(np.arange(1, len(stages) + 1), [fill(stage, 26) for stage in stages], rotation=60, ha="right")
    axes.tick_params(labelsize=6.5)
    entries = len(own) if len(own) <= _LINES else 0
    _titled(axes, "Likeness to the trained network's map as layers lose their weights", entries)


def _lines(axes: Axes, own: dict[str, pd.DataFrame]) -> None:
    for number, (method, rows) in enumerate(own.items()):
        places = np.arange(1, len(rows) + 1)
        axes.fill_between(places, rows["low"], rows["high"], color=_colour(number), alpha=0.18, linewidth=0)
        axes.plot(places, rows["mean"], color=_colour(number), marker="o", markersize=3, linewidth=1.3, label=method)
    axes.axhline(0, color="#999999", linewidth=0.6)
    axes.set_ylim(None, 1.02)
    axes.set_ylabel("rank correlation, without its sign", fontsize=8)


def _titled(axes: Axes, title: str, entries: int) -> None:
    """A title, and between it and the axes a legend of some entries, so that it hides nothing that is drawn."""
    rows = -(-entries // _PER_ROW)
    axes.set_title(title, fontsize=9, loc="left", pad=6 + 10 * rows)
    if entries:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.1, ncols=min(entries, _PER_ROW),
            fontsize=6.5, frameon=False, columnspacing=1.2, handletextpad=0.4,
        )  # fmt: skip


def _shades(axes: Axes, own: dict[str, pd.DataFrame]) -> None:
    """More curves than a person can tell apart, as a table of their means: the darker, the more alike."""
    for row, rows in enumerate(own.values()):
        for place, mean in enumerate(rows["mean"], 1):
            if not math.isfinite(mean):
                continue
            shade = 1 - 0.75 * min(abs(mean), 1)
            box = mpl.patches.Rectangle((place - 0.5, row - 0.5), 0.97, 0.94, facecolor=str(shade), linewidth=0)
            axes.add_patch(box)
            ink = "white" if shade < 0.5 else "black"
            axes.text(place, row, f"{mean:.2f}".replace("0.", ".", 1), fontsize=6, ha="center", va="center", color=ink)
    axes.set_xlim(0.5, len(next(iter(own.values()))) + 0.5)
    axes.set_ylim(len(own) - 0.5, -0.5)
    axes.set_yticks(range(len(own)), list(own))
    axes.set_xlabel("rank correlation, without its sign", fontsize=7)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _classes(axes: Axes, table: pd.DataFrame, methods: list[str]) -> None:
    cases = list(dict.fromkeys(table["case"]))
    shown = [method for method in methods if method in set(table["method"])]
    for row, method in enumerate(shown):
        own = table[table["method"] == method].set_index("case")
        floor, ceiling = (float(own[name].iloc[0]) for name in ("floor", "ceiling"))
        axes.plot([floor, ceiling], [row, row], color="#cccccc", linewidth=5, solid_capstyle="butt", zorder=0)
        for case, marker in zip(cases, "o^sD", strict=False):
            one = own.loc[case]
            axes.plot([one["low"], one["high"]], [row, row], color="#333333", linewidth=0.8)
            label = case if row == 0 else None
            axes.plot(
                [one["mean"]], [row], marker=marker, markersize=4.5, color=_colour(row), linestyle="", label=label
            )
    axes.set_yticks(range(len(shown)), shown, fontsize=7)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(labelsize=7)
    axes.set_xlabel(
        "rank correlation, no sign (grey: from another image's map to that under slight noise)", fontsize=6.5
    )
    _titled(axes, "Likeness to the map of the predicted class", len(axes.get_legend_handles_labels()[0]))
    legend = axes.get_legend()
    for handle in legend.legend_handles if legend is not None else ():
        if isinstance(handle, mpl.lines.Line2D):
            handle.set_color("#333333")
