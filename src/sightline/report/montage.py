"""The montage: each image and its maps side by side, on scales that a colour-blind reader can tell apart."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from sightline.report.figure import PaperFigure, any_script

if TYPE_CHECKING:
    from sightline.explanation import Explanation

ROWS = 12
"""Images on a montage; the first ones are shown, and it says of how many. Fewer where maps take several lines."""
COLUMNS = 8
"""Maps on a line; more go on a second line under the first."""

_SIGNED, _UNSIGNED = "RdBu_r", "magma"
_PERCENTILE = 98.0
# In inches.
_TILE, _GAP, _LEFT = 2.0, 0.08, 0.1
_CAPTION, _HEAD, _FOOT = 0.62, 0.46, 0.72
_TITLE = 0.3
_SMALLEST_WIDTH = 5.0


def save_montage(explanation: "Explanation", path: Path) -> None:
    """Write the montage as a PNG."""
    montage(explanation).savefig(path, dpi=110)


def montage(explanation: "Explanation") -> PaperFigure:
    """A row for each of the first images, a column for each method; beyond eight methods, several lines for each image.

    Signed maps have a symmetric scale about zero, white where nothing speaks either way; maps without negative
    values a scale from zero. Each map is scaled by its own 98th percentile of magnitude. Maps coarser than the
    image lie over it.
    """
    names = list(explanation.maps)
    lines = max(1, -(-len(names) // COLUMNS))
    shown = explanation.subset(range(min(max(ROWS // lines, 2), len(explanation))))
    high, wide = shown.images.shape[2:]
    tall = _TILE * min(max(high / wide, 0.3), 2.0)
    # Where maps take several lines, each line needs its titles.
    above = 0.0 if lines == 1 else _TITLE
    # There the caption stands beside the second line.
    block = tall + _CAPTION if lines == 1 else lines * (tall + above) + above / 2
    width = max(_TILE * (1 + min(len(names), COLUMNS)) + 2 * _LEFT, _SMALLEST_WIDTH)
    height = block * len(shown) + (_HEAD - above) + _FOOT
    figure = PaperFigure(figsize=(width, height), facecolor="white")
    heat = {name: shown.heatmap(name).detach().float().cpu().numpy() for name in names}
    # A map that is zero everywhere has no sign of its own, and is white.
    signed = {name: bool((values < 0).any()) or not bool((values > 0).any()) for name, values in heat.items()}

    def place(row: int, line: int, column: int, title: str) -> Axes:
        top = height - _HEAD - row * block - line * (tall + above)
        left = _LEFT + column * _TILE
        box = (left + _GAP / 2, top - tall, _TILE - _GAP, tall)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_edgecolor("#bbbbbb")
            spine.set_linewidth(0.6)
        if row == 0 or lines > 1:
            size = 9.5 if lines == 1 else 8.0
            parts = title.replace("@", "@\n", 1).replace("@", "").split("\n")
            text = "\n".join(_fitted(part, size) for part in parts)
            axes.set_title(text, fontsize=size, pad=5 if lines == 1 else 3, parse_math=False)
        return axes

    for row in range(len(shown)):
        picture = np.clip(shown.display[row], 0, 1)
        axes = place(row, 0, 0, "image")
        axes.imshow(picture, interpolation="nearest")
        caption = "\n".join(_fitted(line, 8.0) for line in shown.caption(row).split("\n")[:4])
        axes.set_xlabel(caption, fontsize=8, labelpad=3, color="#222222", parse_math=False)
        for number, name in enumerate(names):
            method, _, layer = name.partition("@")
            axes = place(
                row, number // COLUMNS, 1 + number % COLUMNS, method.replace("_", " ") + (f"@{layer}" if layer else "")
            )
            coarse = shown[name].shape[2:] != shown.images.shape[2:]
            _draw(axes, heat[name][row], picture if coarse else None, signed=signed[name])
    said = ["each map scaled by its own 98th percentile of magnitude"]
    if len(shown) < len(explanation):
        said.append(f"{len(shown)} of {len(explanation)} images")
    if explanation.refused:
        said.append(f"refused: {', '.join(explanation.refused)}")
    _legend(figure, width, height, signed_too=any(signed.values()), unsigned_too=not all(signed.values()))
    figure.text(
        0.14 / width,
        0.07 / height,
        _fitted("; ".join(said), 7.0, width - 0.3),
        fontsize=7,
        color="#555555",
        parse_math=False,
    )
    return figure


def _draw(axes: Axes, values: NDArray[np.floating], under: NDArray[np.floating] | None, *, signed: bool) -> None:
    known = np.isfinite(values)
    finite = np.where(known, values, 0.0)
    scale = float(np.percentile(np.abs(finite), _PERCENTILE)) or float(np.abs(finite).max()) or 1.0
    share = np.clip(finite / scale, -1, 1)
    colours = colormaps[_SIGNED]((share + 1) / 2) if signed else colormaps[_UNSIGNED](share)
    if under is not None:
        grey = np.repeat(under.mean(-1, keepdims=True), 3, axis=-1)
        colours[..., :3] = 0.35 * grey + 0.65 * colours[..., :3]
    # A green that neither scale has, for what is no number at all.
    colours[~known, :3] = (0.2, 0.75, 0.35)
    axes.imshow(colours[..., :3], interpolation="nearest")
    word = "not finite" if not known.all() else "zero everywhere" if not finite.any() else ""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    axes.text(
        0.5, 0.5, word, transform=axes.transAxes, ha="center", va="center", fontsize=8, bbox=box if word else None
    )


def _legend(figure: PaperFigure, width: float, height: float, *, signed_too: bool, unsigned_too: bool) -> None:
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


def _fitted(line: str, size: float, inches: float = _TILE - _GAP) -> str:
    """The line, with its middle left out where it is wider than its place."""
    font = FontProperties(size=size)

    def fits(text: str) -> bool:
        with any_script():
            return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] <= inches * 72

    if fits(line):
        return line
    keep = len(line) - 1
    while keep > 2 and not fits(_shortened(line, keep)):
        keep -= 1
    return _shortened(line, keep)


def _shortened(line: str, keep: int) -> str:
    return f"{line[: keep - keep // 2]}…{line[len(line) - keep // 2 :]}"
