"""The montage: each image and its maps side by side, on scales that a colour-blind reader can tell apart."""

import operator
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from PIL import Image

from sightline._common.renderers import renders
from sightline.errors import InputError
from sightline.explaining import STRETCHED, Explanation
from sightline.rendering._figure import PaperFigure, any_script
from sightline.rendering._notebook import pictured
from sightline.rendering._paper import bibliography
from sightline.rendering._picture import OVERLAY, Array, draw_map, draw_photograph, has_sign, overlaid, scale_bar

ROWS = 12
"""Images on a montage; the first ones are shown, and it says of how many. Fewer where maps take several lines."""
COLUMNS = 8
"""Maps on a line; more go on a second line under the first."""

# In inches.
TILE = 2.0
_GAP, _LEFT = 0.08, 0.1
_CAPTION, _HEAD, _FOOT = 0.62, 0.46, 0.82
_TITLE = 0.3
_SMALLEST_WIDTH = 5.0


@renders(Explanation, "figure")
def montage(
    explanation: Explanation, images: Sequence[int] | None = None, *, overlay: float = OVERLAY, tile: float = TILE
) -> PaperFigure:
    """A row for each image, a column for each method; beyond eight methods, several lines for each image.

    Signed maps have a symmetric scale about zero; maps without negative values a scale from zero. Each map is scaled
    by its own 98th percentile of magnitude, and lies over its picture in faint grey.

    Args:
        explanation: what is shown.
        images: numbers of the images to show; by default the first ones, up to twelve.
        overlay: how much of the picture shows under a map, from 0 (none: zero is white) to 1.
        tile: width of a picture in inches.

    Raises:
        InputError: there is no such image, or a number is out of its range.
    """
    _check(explanation, images, overlay, tile)
    names = list(explanation.maps)
    lines = max(1, -(-len(names) // COLUMNS))
    shown = explanation.subset(
        range(min(max(ROWS // lines, 2), len(explanation))) if images is None else list(map(int, images))
    )
    high, wide = shown.images.shape[2:]
    tall = tile * min(max(high / wide, 0.3), 2.0)
    # Where maps take several lines, each line needs its titles.
    above = 0.0 if lines == 1 else _TITLE
    # There the caption stands beside the second line.
    block = tall + _CAPTION if lines == 1 else lines * (tall + above) + above / 2
    width = max(tile * (1 + min(len(names), COLUMNS)) + 2 * _LEFT, _SMALLEST_WIDTH)
    height = block * len(shown) + (_HEAD - above) + _FOOT
    figure = PaperFigure(figsize=(width, height), facecolor="white")
    heat = {name: shown.heatmap(name).detach().float().cpu().numpy() for name in names}
    signed = {name: has_sign(values) for name, values in heat.items()}

    def place(row: int, line: int, column: int, title: str) -> Axes:
        top = height - _HEAD - row * block - line * (tall + above)
        left = _LEFT + column * tile
        box = (left + _GAP / 2, top - tall, tile - _GAP, tall)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_edgecolor("#bbbbbb")
            spine.set_linewidth(0.6)
        if row == 0 or lines > 1:
            size = 9.5 if lines == 1 else 8.0
            parts = title.replace("@", "@\n", 1).replace("@", "").split("\n")
            text = "\n".join(_fitted(part, size, tile - _GAP) for part in parts)
            axes.set_title(text, fontsize=size, pad=5 if lines == 1 else 3, parse_math=False)
        return axes

    for row in range(len(shown)):
        picture = np.clip(shown.display[row], 0, 1)
        axes = place(row, 0, 0, "image")
        draw_photograph(axes, picture)
        caption = "\n".join(_fitted(line, 8.0, tile - _GAP) for line in shown.caption(row).split("\n")[:4])
        axes.set_xlabel(caption, fontsize=8, labelpad=3, color="#222222", parse_math=False)
        for number, name in enumerate(names):
            method, _, layer = name.partition("@")
            axes = place(
                row, number // COLUMNS, 1 + number % COLUMNS, method.replace("_", " ") + (f"@{layer}" if layer else "")
            )
            draw_map(axes, heat[name][row], picture, signed=signed[name], overlay=overlay)
            _mark(axes, heat[name][row])
    said = ["each map's colours end at its own 98th percentile of magnitude"]
    if any(STRETCHED in notes for notes in shown.image_notes):
        said.append("each picture stretched from its smallest to its largest value")
    if len(shown) < len(explanation):
        said.append(f"{len(shown)} of {len(explanation)} images")
    if explanation.refused:
        said.append(f"refused: {', '.join(explanation.refused)}")
    _legend(figure, width, height, signed_too=any(signed.values()), unsigned_too=not all(signed.values()))
    figure.text(
        0.14 / width,
        0.07 / height,
        # The second line is for what not every montage has to say.
        "\n".join(_fitted(line, 7.0, width - 0.3) for line in (said[0], "; ".join(said[1:])) if line),
        fontsize=7,
        color="#555555",
        parse_math=False,
    )
    return figure


@renders(Explanation, "overlay")
def overlay_of(explanation: Explanation, method: str, image: int, overlay: float) -> Image.Image:
    """One map over its picture at the picture's full size; see `Explanation.overlay`."""
    _check(explanation, [image], overlay, TILE)
    values = explanation.heatmap(method).detach().float().cpu().numpy()
    # The sign is that of the method's maps together, as on the montage.
    return overlaid(values[image], explanation.display[image], signed=has_sign(values), overlay=overlay)


@renders(Explanation, "html")
def _html(explanation: Explanation) -> str:
    return pictured(repr(explanation), montage(explanation), explanation.checks.notes)


@renders(Explanation, "files")
def _files(explanation: Explanation) -> dict[str, Callable[[Path], None]]:
    return {"montage.png": lambda path: montage(explanation).savefig(path, dpi=110)}


@renders(Explanation, "bibliography")
def _bibliography(explanation: Explanation) -> str:
    return bibliography(explanation.methods.values())


def _check(explanation: Explanation, images: Sequence[int] | None, overlay: float, tile: float) -> None:
    if not 0 <= overlay <= 1:
        raise InputError(f"overlay is how much of the picture shows, from 0 to 1; got {overlay!r}.")
    if not 0.2 <= tile <= 20:
        raise InputError(f"tile is the width of a picture in inches, from 0.2 to 20; got {tile!r}.")
    try:
        numbers = [operator.index(image) for image in images] if images is not None else []
    except TypeError as error:
        raise InputError(f"images are numbers of images, such as [0, 3]; got {images!r}.") from error
    wrong = [image for image in numbers if not -len(explanation) <= image < len(explanation)]
    if wrong or (images is not None and not numbers):
        raise InputError(
            f"images are numbers from 0 to {len(explanation) - 1}, at least one; got {wrong[0] if wrong else 'none'}."
        )


def _mark(axes: Axes, values: Array) -> None:
    """Say in words what no colour says."""
    known = np.isfinite(values)
    word = "not finite" if not known.all() else "zero everywhere" if not values.any() else ""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    axes.text(
        0.5, 0.5, word, transform=axes.transAxes, ha="center", va="center", fontsize=8, bbox=box if word else None
    )


def _legend(figure: PaperFigure, width: float, height: float, *, signed_too: bool, unsigned_too: bool) -> None:
    bars = []
    if signed_too:
        bars.append((scale_bar(signed=True), Normalize(-1, 1), [-1, 0, 1], ["against", "0", "for"]))
    if unsigned_too:
        bars.append((scale_bar(signed=False), Normalize(0, 1), [0, 1], ["0", "most"]))
    for number, (colours, norm, ticks, labels) in enumerate(bars):
        left = 0.4 + number * 2.1
        axes = figure.add_axes((left / width, 0.52 / height, 1.5 / width, 0.11 / height))
        bar = figure.colorbar(ScalarMappable(norm, colours), cax=axes, orientation="horizontal", ticks=ticks)
        bar.ax.set_xticklabels(labels, fontsize=7.5)
        bar.ax.tick_params(length=2, pad=1.5)
        bar.outline.set_linewidth(0.4)


def _fitted(line: str, size: float, inches: float) -> str:
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
