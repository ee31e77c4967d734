"""Regions: the important pixels of a map, and the convex hull that a person sees around them."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from scipy.spatial import ConvexHull
from skimage.morphology import convex_hull_image
from torch import Tensor

from sightline.errors import InputError


class By(StrEnum):
    """What decides whether a pixel is important."""

    MAXIMUM = "maximum"
    RANK = "rank"
    MASS = "mass"
    MINMAX = "minmax"
    POSITIVE = "positive"


@dataclass(frozen=True)
class Important:
    """Which pixels of a map v are important.

    By `maximum`: v >= share * max v. By `rank`: fewer than the share of all pixels lie above it. By `mass`: the fewest
    highest pixels that hold the share of the sum of max(v, 0). By `positive`: fewer than the share of all positive
    pixels lie above it. By these rules only pixels with v > 0 are important. By `minmax`: (v - min v) / (max v - min v)
    >= share, as a map is usually displayed; this may include negative pixels. A constant map has no important pixels.
    Of pixels with equal values all or none are important, wherever they lie.

    Attributes:
        share: above 0, at most 1.
        by: the rule.

    Raises:
        InputError: the share is outside its range.
    """

    share: float = 0.5
    by: By | str = By.MAXIMUM

    def __post_init__(self) -> None:
        if self.by not in set(By):
            raise InputError(f"Pixels are important by {', '.join(By)}; got {self.by!r}.")
        object.__setattr__(self, "by", By(self.by))
        if not 0 < self.share <= 1:
            raise InputError(f"The share of important pixels is above 0 and at most 1; got {self.share}.")

    def __call__(self, heatmaps: Float[Tensor, "batch height width"]) -> Bool[Tensor, "batch height width"]:
        """True at the important pixels."""
        if self.by is By.MINMAX:
            # A constant map becomes 0 throughout, and nothing in it is important.
            return minmax(heatmaps.detach()) >= self.share
        flat = heatmaps.detach().flatten(1).nan_to_num(-math.inf)
        top = flat.amax(1, keepdim=True)
        if self.by is By.MAXIMUM:
            chosen = flat >= self.share * top
        elif self.by is By.RANK:
            chosen = places(flat).above < math.ceil(self.share * flat.shape[1])
        elif self.by is By.POSITIVE:
            chosen = places(flat).above < (self.share * (flat > 0).sum(1, keepdim=True).double()).ceil()
        else:
            chosen = places(flat).above < self._heaviest(flat)[:, None]
        return (chosen & (flat > 0)).view_as(heatmaps)

    def _heaviest(self, flat: Tensor) -> Tensor:
        """How many pixels it takes to hold the share of what is positive."""
        positive = flat.clamp(min=0).double().sort(1, descending=True).values
        held = positive.cumsum(1)
        # The sum itself may be missed by rounding where all of it is wanted.
        return 1 + (held < self.share * held[:, -1:] * (1 - 1e-12)).sum(1)


def minmax(heatmaps: Float[Tensor, "*batch height width"]) -> Float[Tensor, "*batch height width"]:
    """Each map scaled by its own minimum and maximum to 0..1; 0 where it is constant or not finite."""
    known = heatmaps.isfinite()
    low = torch.where(known, heatmaps, math.inf).amin((-2, -1), keepdim=True)
    high = torch.where(known, heatmaps, -math.inf).amax((-2, -1), keepdim=True)
    return torch.where(known & (high > low), (heatmaps - low) / (high - low), 0)


class Places(NamedTuple):
    """Where pixels stand in the order of their map; equal pixels stand at the same place.

    Attributes:
        above: shape (batch, pixel): how many pixels are higher.
        through: shape (batch, pixel): how many are as high or higher, the pixel itself included.
    """

    above: Int[Tensor, "batch pixel"]
    through: Int[Tensor, "batch pixel"]


def places(flat: Float[Tensor, "batch pixel"]) -> Places:
    """How many pixels of its map are higher than each pixel, and how many as high or higher."""
    below = -flat.contiguous()
    rising = below.sort(1).values
    return Places(torch.searchsorted(rising, below), torch.searchsorted(rising, below, right=True))


@dataclass(frozen=True)
class Regions:
    """Regions of some images.

    Attributes:
        masks: shape (batch, height, width): true inside and on the boundary.
        degenerate: shape (batch,): whether no three of the pixels span a hull, so that the mask is the pixels alone.
    """

    masks: Bool[Tensor, "batch height width"]
    degenerate: Bool[Tensor, " batch"]

    @property
    def areas(self) -> Int[Tensor, " batch"]:
        """The pixels of each region."""
        return self.masks.flatten(1).sum(1)


def hulls(pixels: Bool[Tensor, "batch height width"], *, per_component: bool = False) -> Regions:
    """The convex hull of the centres of some pixels, as the pixels whose centres lie in it or on its boundary.

    Args:
        pixels: true at the pixels to be enclosed.
        per_component: whether each set of pixels that touch (also by a corner) gets a hull of its own.

    Returns:
        The hulls; where there is none (no pixels, or all on one line) the pixels themselves.
    """
    masks, degenerate = [], []
    for picture in pixels.cpu().numpy():
        parts = label(picture, _TOUCHING)[0] if per_component else picture.astype(np.uint8)
        mask, spanned = np.zeros_like(picture), False
        # Only where a part lies, since a speckled map has thousands.
        for number, window in enumerate(find_objects(parts), 1):
            drawn, spans = _hull(parts[window] == number)
            mask[window] |= drawn
            spanned |= spans
        masks.append(mask)
        degenerate.append(not spanned)
    stacked = torch.from_numpy(np.stack(masks)).to(pixels.device)
    return Regions(stacked, torch.tensor(degenerate, device=pixels.device))


_TOUCHING = np.ones((3, 3))
"""Pixels that touch by a side or a corner."""


def _hull(pixels: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], bool]:
    """The hull of one set of pixels that reaches all sides of its window, and whether three of them span one."""
    points = np.argwhere(pixels)
    ways = points - points[0]
    # From the first pixel the last one is another, unless it is the only one.
    on_one_line = bool((ways[:, 0] * ways[-1, 1] == ways[:, 1] * ways[-1, 0]).all())
    return (pixels, False) if on_one_line else (convex_hull_image(pixels, offset_coordinates=False), True)


def hull_area(rows: NDArray[np.integer], columns: NDArray[np.integer]) -> int:
    """The pixels inside and on the boundary of the hull of some pixels, without drawing it.

    Pick's theorem: a polygon with corners on a grid holds area + boundary points / 2 + 1 points of the grid.

    Returns:
        The area of `hulls`' mask; the number of pixels itself where they span no hull.
    """
    # Only the outermost pixels of each row can be corners.
    top, height = int(rows.min()), int(np.ptp(rows)) + 1
    left, right = np.full(height, np.iinfo(np.int64).max), np.full(height, -1)
    np.minimum.at(left, rows - top, columns)
    np.maximum.at(right, rows - top, columns)
    (within,) = np.nonzero(right >= 0)
    points = np.concatenate([np.stack([within, side[within]], 1) for side in (left, right)])
    ways = points - points[0]
    farthest = ways[np.abs(ways).sum(1).argmax()]
    if (ways[:, 0] * farthest[1] == ways[:, 1] * farthest[0]).all():
        return len(rows)
    corners = points[ConvexHull(points).vertices]
    sides = np.roll(corners, -1, 0) - corners
    twice = abs(int((corners[:, 0] * sides[:, 1] - corners[:, 1] * sides[:, 0]).sum()))
    return (twice + int(np.gcd(sides[:, 0], sides[:, 1]).sum())) // 2 + 1


def complexity(areas: Int[Tensor, " batch"], originals: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """RC = area of a region / area of the original's; NaN where that is empty.

    Mazini Rodrigues et al. 2024, arXiv 2401.14434, equation 1.
    """
    return areas.double() / originals.double()


def sensitivity(
    before: Float[Tensor, " batch"], after: Float[Tensor, " batch"], areas: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """RS = |output - output with the region occluded| / its pixels; NaN for an empty region.

    Mazini Rodrigues et al. 2024, arXiv 2401.14434, equation 2.
    """
    return torch.where(areas > 0, (before - after).abs().double() / areas, torch.nan)
