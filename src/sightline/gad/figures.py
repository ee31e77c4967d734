"""Figures: those of the paper, from a fit and its explanations."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor

from sightline.gad.explained import GADExplanation
from sightline.gad.survey import Said
from sightline.gad.targets import Step
from sightline.regions import Important, hulls
from sightline.report.figure import PaperFigure

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, RED, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
_BLUES = LinearSegmentedColormap.from_list("original", ["white", BLUE])
_REDS = LinearSegmentedColormap.from_list("gad", ["white", RED])
_PERCENTILE = 99.0
_TILE = 1.7
_DOT = 0.025
"""How large a pixel that stays is drawn, as a share of the picture's side."""
Picture = NDArray[np.floating]


def logit_scatter(
    before: Said, after: Mapping[Step, Said], classes: tuple[int, int], names: tuple[str, str]
) -> PaperFigure:
    """The two logits of each training image, before and after distancing (the paper's figure 1).

    Args:
        before: what the original network says.
        after: what each support network says, by its distances.
        classes: the pair.
        names: theirs.
    """
    steps: list[tuple[str, Said]] = [("original", before)]
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


def grey_maps(found: Sequence[GADExplanation], method: str, names: Sequence[str]) -> PaperFigure:
    """Each image and its original map for each class, white to black (the paper's figure 2)."""
    count = len(found[0])
    figure, panels = _grid(count, 1 + len(found), ["image", *(f"{method}, {name}" for name in names)])
    for row in range(count):
        _show(panels[row][0], found[0].original.display[row])
        for column, one in enumerate(found, 1):
            panels[row][column].imshow(_scaled(one.stacks[method][0, row]), cmap="Greys", vmin=0, vmax=1)
    return figure


def per_alpha(one: GADExplanation, method: str, image: int) -> PaperFigure:
    """The map of each network for one image, and what stays in all (the paper's figure 3)."""
    stack, kept = one.stacks[method][:, image], one.consistent(method)
    alphas = [f"alpha {a:g}" if a == b else f"alpha {a:g}, {b:g}" for a, b in one.settings["alphas"]]
    titles = ["image", "original", *alphas, "stays in all"]
    figure, panels = _grid(1, len(titles), titles)
    _show(panels[0][0], one.original.display[image])
    for axes, heatmap in zip(panels[0][1:-1], stack, strict=True):
        axes.imshow(_scaled(heatmap), cmap="Greys", vmin=0, vmax=1)
    _kept(panels[0][-1], one.original.display[image], kept.heatmaps[image])
    return figure


def hull_figure(one: GADExplanation, method: str, share: float = 0.1) -> PaperFigure:
    """The hull around the pixels of GAD's map above a share of its maximum (the paper's figure 4, at 10 %)."""
    heatmaps = one.heatmap(method)
    regions = hulls(Important(share)(heatmaps)).masks.cpu().numpy()
    figure, panels = _grid(len(one), 3, ["image", f"{method}, GAD", f"hull at {share:.0%}"])
    for row in range(len(one)):
        _show(panels[row][0], one.original.display[row])
        _kept(panels[row][1], one.original.display[row], heatmaps[row])
        _show(panels[row][2], one.original.display[row])
        _outline(panels[row][2], regions[row], RED)
    return figure


def side_by_side(found: Mapping[str, GADExplanation]) -> PaperFigure:
    """Original maps in blue over GAD's in red, for each method; several networks side by side (the paper's figure 5).

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
                above.imshow(_scaled(one.stacks[method][0, image]), cmap=_BLUES, vmin=0, vmax=1)
                _kept(below, one.original.display[image], one.heatmap(method)[image])
    for place, method in enumerate(methods):
        panels[1 + 2 * place][0].set_ylabel(method.replace("_", " "), fontsize=8)
        panels[2 + 2 * place][0].set_ylabel("GAD, pixels enlarged", fontsize=7, color=RED)
    return figure


def save_side_by_side(one: GADExplanation, path: Path, images: int = 6) -> None:
    """Write the first images of an explanation, original and GAD."""
    side_by_side({"": one.subset(range(min(images, len(one))))}).savefig(path, dpi=110)


def visual_clues(
    found: Sequence[GADExplanation],
    labels: Sequence[int],
    classes: tuple[int, int],
    names: tuple[str, str],
    count: int = 5,
) -> PaperFigure:
    """Hulls of the original (red) and of GAD (green) on the images that speak least for their class (figure 6).

    Args:
        found: the explanation for each class of the pair, of the same images.
        labels: the class of each image.
        classes: the pair.
        names: theirs.
        count: images of each class.
    """
    methods = list(found[0].stacks)
    chosen = []
    for place, (one, c) in enumerate(zip(found, classes, strict=True)):
        rows = [i for i, label in enumerate(labels) if label == c]
        rows.sort(key=lambda i: float(one.original.values[i]))
        chosen += [(place, i) for i in rows[:count]]
    titles = [f"{names[place]}, {float(found[place].original.values[i]):.2g}" for place, i in chosen]
    figure, panels = _grid(len(methods), len(chosen), titles)
    for row, method in enumerate(methods):
        panels[row][0].set_ylabel(method.replace("_", " "), fontsize=8)
        kept = [one.consistent(method) for one in found]
        for column, (place, i) in enumerate(chosen):
            axes = panels[row][column]
            _show(axes, found[place].original.display[i])
            for pixels, colour in ((kept[place].original, RED), (kept[place].pixels, GREEN)):
                region = hulls(pixels[i : i + 1])
                if not bool(region.degenerate):
                    _outline(axes, region.masks[0].cpu().numpy(), colour)
    return figure


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
        axes.set_title(title if len(title) <= 26 else f"{title[:25]}…", fontsize=8, parse_math=False)
    return figure, [list(row) for row in panels]


def _scaled(heatmap: Tensor) -> Picture:
    """What speaks for the class, 0 to 1 at the 99th percentile of what does."""
    values = torch.nan_to_num(heatmap.detach()).clamp(min=0).double().cpu().numpy()
    positive = values[values > 0]
    return np.clip(values / (np.percentile(positive, _PERCENTILE) if positive.size else 1.0), 0, 1)


def _kept(axes: Axes, picture: Picture, heatmap: Tensor) -> None:
    """What stayed, over the faded image; single pixels are drawn as large as an eye can find."""
    grey = np.clip(picture, 0, 1).mean(2, keepdims=True)
    axes.imshow(np.repeat(0.75 + 0.25 * grey, 3, 2), interpolation="nearest")
    scores = _scaled(heatmap)
    if not scores.any():
        axes.text(0.5, 0.5, "nothing stays", transform=axes.transAxes, ha="center", va="center", fontsize=7)
        return
    side = max(1, round(min(scores.shape) * _DOT))
    grown = maximum_filter(scores, side)
    colours = _REDS(0.35 + 0.65 * grown)
    colours[..., 3] = grown > 0
    axes.imshow(colours, interpolation="nearest")


def _show(axes: Axes, picture: Picture) -> None:
    axes.imshow(np.clip(picture, 0, 1), interpolation="nearest")


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str) -> None:
    colours = np.zeros((*mask.shape, 4))
    colours[..., :3] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    colours[..., 3] = 0.25 * mask
    axes.imshow(colours, interpolation="nearest")
    axes.contour(
        np.pad(mask, 1).astype(float),
        [0.5],
        colors=colour,
        linewidths=1.2,
        extent=(-1.5, mask.shape[1] + 0.5, -1.5, mask.shape[0] + 0.5),
    )
