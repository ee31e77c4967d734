"""An audit on one page: the verdicts, the curves of the randomisation, and how alike the maps of two classes are."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import fill

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import escape
from matplotlib.axes import Axes

from sightline._common.renderers import renders
from sightline._common.words import counted
from sightline.auditing import CONTROLS, JUDGED, Audit
from sightline.methods import catalogue
from sightline.rendering._figure import PaperFigure
from sightline.rendering._paper import bibliography, latex

_COLOURS = {"pass": "#cfe8df", "fail": "#f6d3bf", "undecided": "#eeeeee", "reported": "#ffffff"}
_TEXT = {"pass": "#0b7a57", "fail": "#b54708", "undecided": "inherit", "reported": "inherit"}
"""Of the words in a notebook, whose background may be dark."""
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


@renders(Audit, "figure")
def audit_page(found: Audit) -> PaperFigure:
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


@renders(Audit, "files")
def _files(found: Audit) -> dict[str, Callable[[Path], None]]:
    return {"audit.png": lambda path: audit_page(found).savefig(path, dpi=110)}


def _verdicts(axes: Axes, found: Audit) -> None:
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


@renders(Audit, "html")
def _html(found: Audit) -> str:
    """The verdicts of an audit as a table, and its advice."""
    table = found.judged
    counts = found.counts
    head = "".join(f"<th>{escape(str(name).replace('_', ' '))}</th>" for name in (*table.columns, *counts.columns))
    rows = []
    for method, said in table.iterrows():
        cells = []
        for test, word in said.items():
            finding = found.findings.get((str(test), str(method)))
            figure = "" if finding is None else f" {found.figure(str(test), str(method))}".rstrip()
            reason = escape(finding.reason) if finding is not None else ""
            cells.append(f'<td title="{reason}" style="color:{_TEXT[word]}">{escape(word)}{figure}</td>')
        cells += [f"<td>{escape(text)}</td>" for text in counts.loc[str(method)]]
        rows.append(f"<tr><th>{escape(str(method))}</th>{''.join(cells)}</tr>")
    return (
        f"<p>Audit of {counted(len(found.names), 'image')}</p><table><thead><tr><th>method</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table><p>{escape(found.advice)}</p>"
    )


@renders(Audit, "latex")
def _latex(found: Audit) -> str:
    def cell(test: str, method: str, word: str) -> str:
        return f"{word} {found.shown(test, method)}".strip() if (test, method) in found.findings else word

    table = found.judged
    cells = {
        str(test).replace("_", " "): [cell(str(test), str(m), word) for m, word in table[test].items()]
        for test in table.columns
    }
    cells |= {name: list(found.counts[name]) for name in ("images", "networks")}
    rules = {test: rule.words for test, rule in found.rules.items() if rule is not None and test in table.columns}
    frame = pd.DataFrame(cells, index=table.index.rename(None))
    return latex(frame, _caption(len(found.names), rules), "audit")


def _caption(images: int, rules: Mapping[str, str]) -> str:
    """What a reader of an audit's table must know, who sees it without the report.

    Args:
        images: how many there were.
        rules: for each test that judges, when a method passes it.
    """
    passed = "; ".join(f"{test.replace('_', ' ')} is passed where {words}" for test, words in rules.items())
    return f"Audit of {images} image{'' if images == 1 else 's'}. {FIGURES}" + (
        f" The test {passed}." if passed else ""
    )


@renders(Audit, "bibliography")
def _bibliography(found: Audit) -> str:
    known = catalogue()
    methods = list(dict.fromkeys(method for _, method in found.findings))
    cites = list(dict.fromkeys(cited for question in found.questions for cited in question.cites))
    text = bibliography([known[name] for name in methods if name in known], *cites)
    return "\n\n".join([text] * bool(text) + [cited for cited in cites if cited.startswith("@")])
