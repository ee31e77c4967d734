"""The montage: each image and its maps side by side, on scales that a colour-blind reader can tell apart."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sightline.explanation import Explanation

ROWS = 12
"""Images on a montage; the first ones are shown, and it says of how many."""

_SIGNED, _UNSIGNED = "RdBu_r", "magma"
_PERCENTILE = 98.0
_TILE = 2.0
_CAPTION = 0.5
_HEAD, _FOOT = 0.42, 0.72


def montage(explanation: "Explanation") -> Figure:
    """A row for each of the first twelve images, a column for each method.

    Signed maps have a symmetric scale about zero, white where nothing speaks either way; maps without negative
    values a scale from zero. Each map is scaled by its own 98th percentile of magnitude. Maps coarser than the
    image lie over it.
    """
    names = list(explanation.maps)
    rows = range(min(ROWS, len(explanation)))
    width = _TILE * (1 + len(names)) + 0.2
    height = (_TILE + _CAPTION) * len(rows) + _HEAD + _FOOT
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    shown = explanation.subset(rows)
    heat = {name: shown.heatmap(name).detach().float().cpu().numpy() for name in names}
    signed = {name: bool((values < 0).any()) for name, values in heat.items()}

    def place(row: int, column: int) -> Axes:
        top = height - _HEAD - row * (_TILE + _CAPTION)
        left = 0.1 + column * _TILE
        axes = figure.add_axes(
            (
                (left + 0.04) / width,
                (top - _TILE + 0.04) / height,
                (_TILE - 0.08) / width,
                (_TILE - 0.08) / height,
            )
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_edgecolor("#bbbbbb")
            spine.set_linewidth(0.6)
        return axes

    for row in rows:
        picture = np.clip(explanation.display[row], 0, 1)
        axes = place(row, 0)
        axes.imshow(picture, interpolation="nearest")
        axes.set_xlabel(_caption(explanation.caption(row)), fontsize=8, labelpad=3, color="#222222")
        if row == 0:
            axes.set_title("image", fontsize=9.5, pad=5)
        for column, name in enumerate(names, start=1):
            axes = place(row, column)
            coarse = explanation[name].shape[2:] != explanation.images.shape[2:]
            _draw(axes, heat[name][row], picture if coarse else None, signed=signed[name])
            if row == 0:
                axes.set_title(_title(name), fontsize=9.5, pad=5)
    said = f"; {len(rows)} of {len(explanation)} images" if len(rows) < len(explanation) else ""
    _legend(figure, width, height, said, signed_too=any(signed.values()), unsigned_too=not all(signed.values()))
    return figure


def _draw(axes: Axes, values: NDArray[np.floating], under: NDArray[np.floating] | None, *, signed: bool) -> None:
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    scale = float(np.percentile(np.abs(finite), _PERCENTILE)) or float(np.abs(finite).max()) or 1.0
    share = np.clip(finite / scale, -1, 1)
    colours = colormaps[_SIGNED]((share + 1) / 2) if signed else colormaps[_UNSIGNED](share)
    if under is not None:
        grey = np.repeat(under.mean(-1, keepdims=True), 3, axis=-1)
        colours[..., :3] = 0.35 * grey + 0.65 * colours[..., :3]
    axes.imshow(colours[..., :3], interpolation="nearest")
    if not finite.any():
        axes.text(0.5, 0.5, "zero everywhere", transform=axes.transAxes, ha="center", va="center", fontsize=8,
                  color="#222222" if signed else "white")  # fmt: skip


def _legend(figure: Figure, width: float, height: float, said: str, *, signed_too: bool, unsigned_too: bool) -> None:
    bars = []
    if signed_too:
        bars.append((_SIGNED, Normalize(-1, 1), [-1, 0, 1], ["against", "0", "for"]))
    if unsigned_too:
        bars.append((_UNSIGNED, Normalize(0, 1), [0, 1], ["0", "most"]))
    for number, (colours, norm, ticks, labels) in enumerate(bars):
        left = 0.4 + number * 2.1
        axes = figure.add_axes((left / width, 0.42 / height, 1.5 / width, 0.11 / height))
        bar = figure.colorbar(ScalarMappable(norm, colours), cax=axes, orientation="horizontal", ticks=ticks)
        bar.ax.set_xticklabels(labels, fontsize=7.5)
        bar.ax.tick_params(length=2, pad=1.5)
        bar.outline.set_linewidth(0.4)
    figure.text(
        0.3 / width,
        0.07 / height,
        f"each map scaled by its own 98th percentile of magnitude{said}",
        fontsize=7,
        color="#555555",
    )


def _title(name: str) -> str:
    method, _, layer = name.partition("@")
    words = method.replace("_", " ")
    return f"{words}\n{layer}" if layer else words


def _caption(caption: str) -> str:
    return "\n".join(line if len(line) <= 34 else f"{line[:16]}…{line[-16:]}" for line in caption.split("\n")[:3])
