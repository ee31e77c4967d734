"""Images of a batch, small, in rows."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sightline._common.renderers import renders
from sightline.arrays import ImageBatch
from sightline.rendering._figure import PaperFigure
from sightline.rendering._notebook import pictured

_ACROSS, _INCHES = 8, 1.2
_PICTURED = 24


@renders(ImageBatch, "html")
def _html(batch: ImageBatch) -> str:
    notes = [*batch.warnings, *(reason for _, reason in batch.failures)]
    return pictured(repr(batch).partition("\n")[0], thumbnails(batch.display()[:_PICTURED], batch.names), notes)


def thumbnails(pictures: Float[np.ndarray, "image height width 3"], names: Sequence[str]) -> PaperFigure:
    """The pictures with their names, eight in a row.

    Args:
        pictures: RGB values in 0..1.
        names: one for each.
    """
    rows = max(1, -(-len(pictures) // _ACROSS))
    across = min(len(pictures), _ACROSS) or 1
    figure = PaperFigure(figsize=(across * _INCHES, rows * (_INCHES + 0.2)), facecolor="white")
    for number, picture in enumerate(pictures):
        axes = figure.add_subplot(rows, across, number + 1)
        axes.imshow(np.clip(picture, 0, 1), interpolation="antialiased")
        name = names[number]
        axes.set_title(name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}", fontsize=6, parse_math=False)
        axes.axis("off")
    figure.tight_layout(pad=0.3)
    return figure
