"""Figures: those of the paper, from a fit and its explanations.

Maps are in the colours of all pictures (`_picture.py`). Each has a legend, since a reader may see it alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor

from sightline.evaluation import Important, hulls
from sightline.gad import GADExplanation, Outputs, Step
from sightline.rendering._figure import PaperFigure
from sightline.rendering._picture import FOR, draw_map, draw_photograph, place_picture

_PERCENTILE = 99.0
# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, RED, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
_ORIGINAL, _GAD = ORANGE, GREEN
"""Outlines of hulls."""
_DASHED = (0, (3, 2))
_MAP = f"evidence for the class; colours end at the {_PERCENTILE:g}th percentile"
_KEPT = "what stays important in all networks, pixels enlarged"
_TILE = 1.7
_DOT = 0.025
"""How large a pixel that stays is drawn, as a share of the picture's side."""
Picture = NDArray[np.floating]


def logit_scatter(
    before: Outputs, after: Mapping[Step, Outputs], classes: tuple[int, int], names: tuple[str, str]
) -> PaperFigure:
    """The two logits of each training image, before and after distancing (the paper's figure 1).

    Args:
        before: what the original network says.
        after: what each support network says, by its distances.
        classes: the pair.
        names: theirs.
    """
    steps: list[tuple[str, Outputs]] = [("original", before)]
    steps += [(f"alpha {a:g}" if a == b else f"alpha {a:g}, {b:g}", said) for (a, b), said in after.items()]
    figure = PaperFigure(figsize=(2.5 * len(steps) + 0.6, 3.1), layout="constrained")
    panels = figure.subplots(1, len(steps), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, said) in zip(panels, steps, strict=True):
        for c, name, colour, marker in zip(classes, names, (BLUE, RED), ("o", "^"), strict=True):
            rows = said.labels == c
            first, second = (said.logits[rows, number].numpy() for number in classes)
            axes.scatter(first, second, s=5, alpha=0.35, color=colour, marker=marker, linewidths=0, label=name)
        axes.axline((0, 0), slope=1, color="#999999", linewidth=0.7, zorder=0)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(f"logit of {names[0]}", fontsize=8)
        axes.tick_params(labelsize=7)
    panels[0].set_ylabel(f"logit of {names[1]}", fontsize=8)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, markerscale=2
    )
    return figure


def original_maps(found: Sequence[GADExplanation], method: str, names: Sequence[str]) -> PaperFigure:
    """Each image and its original map for each class (the paper's figure 2)."""
    count = len(found[0])
    figure, panels = _grid(count, 1 + len(found), ["image", *(f"{method}, {name}" for name in names)])
    for row in range(count):
        _show(panels[row][0], found[0].original.display[row])
        for column, one in enumerate(found, 1):
            _draw(panels[row][column], found[0].original.display[row], one.stacks[method][0, row])
    return _with_legend(figure, [_red(_MAP)])


def per_alpha(found: Sequence[GADExplanation], method: str, image: int, names: Sequence[str]) -> PaperFigure:
    """The map of each network for one image, for each class, and what stays in all (the paper's figure 3).

    Args:
        found: the explanation for each class of the pair, of the same images.
        method: whose maps.
        image: which of the images.
        names: of the classes.
    """
    alphas = [f"alpha {a:g}" if a == b else f"alpha {a:g}, {b:g}" for a, b in found[0].settings["alphas"]]
    titles = ["image", "original", *alphas, "stays in all"]
    figure, panels = _grid(len(found), len(titles), titles)
    for row, one, name in zip(panels, found, names, strict=True):
        picture = one.original.display[image]
        _show(row[0], picture)
        row[0].set_ylabel(name, fontsize=8)
        for axes, heatmap in zip(row[1:-1], one.stacks[method][:, image], strict=True):
            _draw(axes, picture, heatmap)
        _kept(row[-1], picture, one.consistent(method).heatmaps[image])
    return _with_legend(figure, [_red(f"{_MAP}; last: {_KEPT}")])


def hull_figure(one: GADExplanation, method: str, share: float = 0.1) -> PaperFigure:
    """The hull around the pixels of GAD's map above a share of its maximum (the paper's figure 4, at 10 %)."""
    heatmaps = one.heatmap(method)
    regions = hulls(Important(share)(heatmaps)).masks.cpu().numpy()
    figure, panels = _grid(len(one), 3, ["image", f"{method}, GAD", f"hull at {share:.0%}"])
    for row in range(len(one)):
        _show(panels[row][0], one.original.display[row])
        _kept(panels[row][1], one.original.display[row], heatmaps[row])
        _show(panels[row][2], one.original.display[row])
        _outline(panels[row][2], regions[row], _GAD)
    hull = Line2D([], [], color=_GAD, label=f"hull of the pixels above {share:.0%} of the maximum")
    return _with_legend(figure, [_red(_KEPT), hull])


def side_by_side(found: Mapping[str, GADExplanation]) -> PaperFigure:
    """Original maps over GAD's, for each method; several networks side by side (the paper's figure 5).

    Args:
        found: explanations of the same images, by the name of their network.
    """
    first = next(iter(found.values()))
    methods, count = list(first.stacks), len(first)
    titles = [
        f"{network}: {first.original.names[i]}" if network else first.original.names[i]
        for network in found
        for i in range(count)
    ]
    figure, panels = _grid(1 + 2 * len(methods), len(titles), titles)
    for block, one in enumerate(found.values()):
        for image in range(count):
            column = block * count + image
            _show(panels[0][column], one.original.display[image])
            panels[0][column].set_xlabel(_told(one, image), fontsize=7)
            for place, method in enumerate(methods):
                above, below = panels[1 + 2 * place][column], panels[2 + 2 * place][column]
                _draw(above, one.original.display[image], one.stacks[method][0, image])
                _kept(below, one.original.display[image], one.heatmap(method)[image])
    for place, method in enumerate(methods):
        panels[1 + 2 * place][0].set_ylabel(method.replace("_", " "), fontsize=8)
        panels[2 + 2 * place][0].set_ylabel("GAD", fontsize=8)
    return _with_legend(figure, [_red(f"{_MAP}; GAD: {_KEPT}")])


class Clues(NamedTuple):
    """What one network says of its least activated images.

    Attributes:
        found: the explanation for each class of the pair, of the same images.
        labels: the class of each image.
    """

    found: Sequence[GADExplanation]
    labels: Sequence[int]


def visual_clues(
    clues: Mapping[str, Clues], classes: tuple[int, int], names: tuple[str, str], count: int = 5
) -> PaperFigure:
    """Hulls of the original and of GAD on the images with the lowest values for their class (figure 6).

    Args:
        clues: by the name of the network, which is empty where there is one only.
        classes: the pair.
        names: theirs.
        count: images of each class, of each network.
    """
    chosen: list[tuple[str, int, int]] = []
    for network, (found, labels) in clues.items():
        for place, (one, c) in enumerate(zip(found, classes, strict=True)):
            rows = sorted(
                (i for i, label in enumerate(labels) if label == c), key=lambda i: float(one.original.values[i])
            )
            chosen += [(network, place, i) for i in rows[:count]]
    titles = []
    for network, place, i in chosen:
        one = clues[network].found[place]
        value = "difference" if one.settings.get("question") == "pair" else "logit"
        title = f"{names[place]}, {value} {float(one.original.values[i]):.2g}"
        titles.append(f"{network}\n{title}" if network else title)
    methods = list(dict.fromkeys(name for clue in clues.values() for name in clue.found[0].stacks))
    figure, panels = _grid(len(methods), len(chosen), titles)
    for row, method in enumerate(methods):
        panels[row][0].set_ylabel(method.replace("_", " "), fontsize=8)
        for column, (network, place, i) in enumerate(chosen):
            one, axes = clues[network].found[place], panels[row][column]
            _show(axes, one.original.display[i])
            if method not in one.stacks:
                continue
            kept = one.subset([i]).consistent(method)
            for pixels, colour in ((kept.original, _ORIGINAL), (kept.pixels, _GAD)):
                region = hulls(pixels)
                if not bool(region.degenerate):
                    _outline(axes, region.masks[0].cpu().numpy(), colour, dashed=colour == _ORIGINAL)
    said = "hull of what is important"
    return _with_legend(
        figure,
        [
            Line2D([], [], color=_ORIGINAL, linestyle=_DASHED, label=f"{said} in the original network"),
            Line2D([], [], color=_GAD, label=f"{said} in all networks (GAD)"),
        ],
    )


def _told(one: GADExplanation, image: int) -> str:
    return one.original.caption(image).split("\n", 1)[-1]


def _grid(rows: int, columns: int, titles: Sequence[str]) -> tuple[PaperFigure, list[list[Axes]]]:
    figure = PaperFigure(figsize=(_TILE * columns + 0.3, _TILE * rows + 0.5), facecolor="white", layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_edgecolor("#bbbbbb")
            spine.set_linewidth(0.6)
    for axes, title in zip(panels[0], titles, strict=True):
        lines = [line if len(line) <= 26 else f"{line[:25]}…" for line in title.split("\n")]
        axes.set_title("\n".join(lines), fontsize=8, parse_math=False)
    return figure, [list(row) for row in panels]


def _scaled(heatmap: Tensor) -> Picture:
    """What speaks for the class, 0 to 1 at the 99th percentile of what does."""
    values = torch.nan_to_num(heatmap.detach()).clamp(min=0).double().cpu().numpy()
    positive = values[values > 0]
    return np.clip(values / (np.percentile(positive, _PERCENTILE) if positive.size else 1.0), 0, 1)


def _red(said: str) -> Patch:
    return Patch(color=FOR, label=said)


def _with_legend(figure: PaperFigure, handles: Sequence[Patch | Line2D]) -> PaperFigure:
    width = figure.get_figwidth()
    rows = 1 if width > 6 else len(handles)
    figure.set_figheight(figure.get_figheight() + 0.15 + 0.17 * rows)
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles) if rows == 1 else 1, fontsize=7)
    return figure


def _draw(axes: Axes, picture: Picture, heatmap: Tensor) -> None:
    """What a map says for the class, over the faint image."""
    draw_map(axes, _scaled(heatmap), picture, signed=True, scale=1.0)


def _kept(axes: Axes, picture: Picture, heatmap: Tensor) -> None:
    """What stayed, over the faint image; single pixels are drawn as large as an eye can find."""
    scores = _scaled(heatmap)
    # The smallest value that stayed must be seen too.
    marked = np.where(scores > 0, 0.35 + 0.65 * scores, 0)
    side = max(1, round(min(scores.shape) * _DOT))
    draw_map(axes, maximum_filter(marked, side), picture, signed=True, scale=1.0)
    if not scores.any():
        axes.text(0.5, 0.5, "nothing stays", transform=axes.transAxes, ha="center", va="center", fontsize=7)


def _show(axes: Axes, picture: Picture) -> None:
    draw_photograph(axes, picture)


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str, *, dashed: bool = False) -> None:
    tint = np.array(to_rgb(colour))
    place_picture(
        axes,
        mask[..., None].astype(float),
        lambda covered: np.concatenate([np.broadcast_to(tint, (*covered.shape[:2], 3)), 0.25 * covered], axis=-1),
    )
    axes.contour(
        np.pad(mask, 1).astype(float),
        [0.5],
        colors=colour,
        linewidths=1.2,
        linestyles=[_DASHED if dashed else "solid"],
        extent=(-1.5, mask.shape[1] + 0.5, -1.5, mask.shape[0] + 0.5),
    )
