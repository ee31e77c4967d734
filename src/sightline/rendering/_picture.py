"""Maps and photographs on a figure, resampled to the pixels they are drawn on, and the colours of maps.

A picture is averaged over the area of each pixel it is drawn on; one that is enlarged keeps its pixels as squares, with
borders that may fall between two pixels. Choosing the nearest pixel instead would drop rows and columns, or draw some
wider than others, and show stripes and grids that a map does not have. The size in pixels is known only when the figure
is written, so the resampling is part of drawing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.image import AxesImage
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating[Any]]

FOR, AGAINST, AMOUNT = "#b2182b", "#2166ac", "#d95f02"  # also in page/page.js
"""Evidence for the explained value, against it, and its amount where a map has no sign: one convention for all
pictures, the page's among them. A colour-blind reader can tell the first two apart."""
NOT_FINITE = "#33bf59"
"""Where a map has no number."""
OVERLAY = 0.4
"""How much of the picture shows under a map."""
_COVER = 0.8
"""How much of the picture the end of a scale hides; the rest keeps a place under a strong map recognisable."""
CLIP = 0.98
"""The scale of a map ends at this quantile of its magnitudes, so that a few extremes do not hide the rest."""


def resampled(values: Array, height: int, width: int) -> Array:
    """Values of another number of rows and columns, averaged over the area of each.

    Args:
        values: shape (rows, columns) or (rows, columns, channels), finite.
        height: rows wanted.
        width: columns wanted.

    Returns:
        Shape (height, width) or (height, width, channels). Each result is the mean of the values it covers, those
        covered in part with that part as weight, so the mean of all stays the same. Twice as many rows repeat each.

    Example:
        >>> resampled(np.array([[0.0, 1.0, 2.0, 3.0]]), 1, 2)
        array([[0.5, 2.5]])
    """
    return _along(_along(np.asarray(values, dtype=np.float64), 0, height), 1, width)


def _along(values: Array, axis: int, count: int) -> Array:
    given = values.shape[axis]
    if count == given:
        return values
    moved = np.moveaxis(values, axis, 0)
    sums = np.concatenate([np.zeros_like(moved[:1]), moved.cumsum(0)])
    edges = np.arange(count + 1) * given / count
    whole = np.minimum(edges.astype(int), given - 1)
    part = (edges - whole).reshape(-1, *[1] * (moved.ndim - 1))
    upto = sums[whole] + part * moved[whole]
    return np.moveaxis(np.diff(upto, axis=0) * (count / given), 0, axis)


class _Resampled(AxesImage):
    """An image of matplotlib that is resampled by `resampled`, and coloured after that."""

    def __init__(self, axes: Axes, layers: Array, paint: Callable[[Array], Array]) -> None:
        super().__init__(axes, interpolation="nearest", origin="upper")
        self.layers, self.paint = layers, paint
        self.set_data(np.clip(paint(layers), 0, 1))

    def make_image(
        self, renderer: Any, magnification: float = 1.0, unsampled: bool = False
    ) -> tuple[Any, float, float, Any]:
        """The picture at the size at which it is drawn; see matplotlib."""
        del renderer, unsampled
        left, right, bottom, top = self.get_extent()
        corners = self.get_transform().transform([(left, bottom), (right, top)]) * magnification
        # A border between two pixels of the output belongs to the nearest one, so that neighbours do not overlap.
        x0, y0 = (round(float(place)) for place in corners.min(0))
        x1, y1 = (round(float(place)) for place in corners.max(0))
        width, height = max(x1 - x0, 1), max(y1 - y0, 1)
        colours = np.clip(self.paint(resampled(self.layers, height, width)), 0, 1)
        if colours.shape[-1] == 3:
            colours = np.concatenate([colours, np.ones_like(colours[..., :1])], axis=-1)
        picture = np.round(colours * 255).astype(np.uint8)
        # Renderers expect the lowest row first.
        return picture[::-1], x0 / magnification, y0 / magnification, Affine2D()


def place_picture(axes: Axes, layers: Array, paint: Callable[[Array], Array] = lambda layers: layers) -> AxesImage:
    """Draw a picture that fills some axes, like `axes.imshow`, averaged where it is shrunk.

    Args:
        axes: where.
        layers: shape (height, width, channels): what is resampled, such as values of a map and the picture under it.
        paint: from the resampled layers to colours, shape (height, width, 3 or 4), 0 to 1. Resampling comes first, so
            that the colour of a pixel is that of the mean value in it.
    """
    image = _Resampled(axes, np.asarray(layers, dtype=np.float64), paint)
    height, width = layers.shape[:2]
    image.set_extent((-0.5, width - 0.5, height - 0.5, -0.5))
    image.set_clip_path(axes.patch)
    axes.add_image(image)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_aspect("equal")
    return image


def scale_of(values: Array) -> float:
    """The magnitude at which the colours of a map end: its 98th percentile, or its largest where most of it is zero."""
    magnitude = np.abs(values[np.isfinite(values)])
    if not magnitude.size:
        return 1.0
    # Between the last zero and the least value there is nothing to interpolate.
    return float(np.quantile(magnitude, CLIP, method="higher")) or float(magnitude.max()) or 1.0


def coloured(share: Array, ground: Array, *, signed: bool) -> Array:
    """The colours of a map over a picture.

    They are linear in the value, between the ground at zero and full colour at the end of the scale, so that a pixel
    which averages several values looks like several pixels seen from afar.

    Args:
        share: shape (height, width): values as shares of the scale, clipped to -1 to 1.
        ground: shape (height, width, 3), or a colour: what shows where the map is zero.
        signed: whether the map has a sign.
    """
    share = np.clip(share, -1, 1)[..., None]
    ends = np.where(share < 0, np.array(to_rgb(AGAINST)), np.array(to_rgb(FOR))) if signed else np.array(to_rgb(AMOUNT))
    cover = _COVER * abs(share)
    return (1 - cover) * ground + cover * ends


def scale_bar(*, signed: bool) -> LinearSegmentedColormap:
    """The colours of a map over white, for a colour bar."""
    share = np.linspace(-1.0 if signed else 0.0, 1, 257)[None]
    return LinearSegmentedColormap.from_list("map", coloured(share, np.ones(3), signed=signed)[0])


def faint(picture: Array, overlay: float) -> Array:
    """A picture in grey under a map: white for 0, its own greys for 1."""
    grey = np.repeat(np.clip(picture, 0, 1).mean(-1, keepdims=True), 3, axis=-1)
    return 1 - overlay * (1 - grey)


def draw_photograph(axes: Axes, picture: Array) -> AxesImage:
    """Draw a photograph, shape (height, width, 3), 0 to 1."""
    return place_picture(axes, np.clip(picture, 0, 1))


def draw_map(
    axes: Axes, values: Array, picture: Array, *, signed: bool, overlay: float = OVERLAY, scale: float | None = None
) -> AxesImage:
    """Draw a map over its faint picture.

    Args:
        axes: where.
        values: shape (height, width).
        picture: shape (height, width, 3), 0 to 1.
        signed: whether the map has a sign.
        overlay: how much of the picture shows, 0 to 1.
        scale: the magnitude at which the colours end; by default that of `scale_of`.
    """
    return place_picture(axes, *_layers(values, picture, signed=signed, overlay=overlay, scale=scale))


def overlaid(values: Array, picture: Array, *, signed: bool, overlay: float) -> Image.Image:
    """A map over its faint picture, a pixel for each of the picture's; arguments as of `draw_map`."""
    layers, paint = _layers(values, picture, signed=signed, overlay=overlay)
    return Image.fromarray(np.round(np.clip(paint(layers), 0, 1) * 255).astype(np.uint8))


def has_sign(values: Array) -> bool:
    """Whether maps need the signed scale; one that is zero everywhere has no sign of its own, and is drawn on it."""
    return bool((values < 0).any()) or not bool((values > 0).any())


def _layers(
    values: Array, picture: Array, *, signed: bool, overlay: float, scale: float | None = None
) -> tuple[Array, Callable[[Array], Array]]:
    known = np.isfinite(values)
    end = scale_of(values) if scale is None else scale
    layers = np.dstack([np.where(known, values, 0.0) / end, ~known, faint(picture, overlay)])

    def paint(layers: Array) -> Array:
        missing = layers[..., 1:2]
        colours = coloured(layers[..., 0], layers[..., 2:], signed=signed)
        painted: Array = (1 - missing) * colours + missing * np.array(to_rgb(NOT_FINITE))
        return painted

    return layers, paint
