"""How sure a figure between its floor and its ceiling is, over everything that varies.

The figure is r = (V - F) / (C - F), with the means V of what was measured, F of the floor and C of the ceiling.
Whether r lies on one side of a bound b is asked of the contrast D = V - (1 - b) F - b C, which is linear in the means:
its standard error follows from what each image (or group of images that belong together) and each random network
contributes to it, and t = D / se(D) is compared with Student's distribution. The interval of r holds the bounds that
t does not reject (Fieller 1954, Some problems in interval estimation).

Images and networks are crossed: each network is asked about every image, so that both contribute to the error
(Cameron, Gelbach and Miller 2011, Robust inference with multiway clustering), with the degrees of freedom of whichever
are fewer: an estimate of the degrees of freedom is too large where few networks happen to agree.
Pairs of images, of which floors are means, share images with each other; each counts for both of its images, as in
Fafchamps and Gubert 2007, The formation of risk sharing networks, but without taking off what is then counted twice, so
that the error of a floor is rather stated too large.

Likeness is skewed, so that t is also taken with Hall's correction for skewness (Hall 1992, On the removal of skewness
by transformation), and the larger of both p-values counts.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from sightline.evaluation import Values

LEVEL = 0.05
"""Of two-sided tests, and one minus that of intervals."""
Numbers = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Mean:
    """A mean over images and networks, and what each of them contributes to its error.

    Attributes:
        value: the mean; NaN where there is no number.
        images: shape (image,): the deviations of an image's numbers from the mean, over the count of all numbers.
        networks: shape (network,): the same for each network; empty where there is only one.
        known: shape (image,): which images have a number.
    """

    value: float
    images: Values
    networks: Values
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, cells: Values, partners: Numbers | None = None) -> "Mean":
        """The mean of numbers.

        Args:
            cells: shape (image,) or (image, network); NaN where there is none.
            partners: shape (image,): the other image of each number that was measured on a pair of images.
        """
        cells = cells.reshape(len(cells), -1)
        known = np.isfinite(cells)
        count = int(known.sum())
        mean = float(cells[known].mean()) if count else math.nan
        parts = np.where(known, cells - mean, 0.0) / max(count, 1)
        images = parts.sum(1)
        if partners is not None:
            images = images + np.bincount(partners, images, len(images))
        networks = parts.sum(0) if cells.shape[1] > 1 else np.zeros(0)
        return cls(mean, images, networks, np.asarray(known.any(1)))


class Estimate(NamedTuple):
    """A figure and how sure it is.

    Attributes:
        figure: (value - floor) / (ceiling - floor).
        low: lower end of its 95 % interval; infinite where floor and ceiling may be the same.
        high: upper end.
        p: two-sided, of the figure being the bound; NaN where that cannot be told.
    """

    figure: float
    low: float
    high: float
    p: float


def estimate(value: Mean, floor: Mean, ceiling: Mean, bound: float, groups: Numbers) -> Estimate:
    """The figure, its 95 % interval, and the probability of its distance from a bound by chance.

    Args:
        value: what was measured.
        floor: where the figure is 0.
        ceiling: where it is 1.
        bound: which value of the figure is tested.
        groups: shape (image,): numbers of the groups of images that belong together, from 0 without a gap.
    """
    above, gap = value.value - floor.value, ceiling.value - floor.value
    figure = above / gap if gap else math.nan
    counted = value.known | floor.known | ceiling.known
    count = len(np.unique(groups[counted]))
    numbers = len(value.networks)
    if count < 2:
        return Estimate(figure, -math.inf, math.inf, math.nan)
    # With the bound b, the contrast's contributions are first - b * second.
    first, second = (np.bincount(groups, own) for own in (value.images - floor.images, ceiling.images - floor.images))
    scale = count / (count - 1)
    of_images = [scale * float(a @ b) for a, b in ((first, first), (first, second), (second, second))]
    of_networks = numbers / (numbers - 1) * float(np.square(value.networks).sum()) if numbers > 1 else 0.0

    def by_images(b: float) -> float:
        return max(of_images[0] - 2 * b * of_images[1] + b * b * of_images[2], 0.0)

    total = by_images(bound) + of_networks
    distance = above - bound * gap
    if total == 0:
        p = float(distance == 0)
        return Estimate(figure, *((figure, figure) if gap > 0 else (-math.inf, math.inf)), p)
    freedom = min(count, numbers) - 1 if numbers > 1 else count - 1
    t = distance / math.sqrt(total)
    # The third moment of what images contribute, as a share of the whole standard error; networks are too few for one.
    parts = first - bound * second
    third = scale * float((parts**3).sum()) / total**1.5
    # Where a few images rule the mean, Student's test alone is too sure; the larger p-value of both counts.
    corrected = t + third / 6 + third * t**2 / 3 + third**2 * t**3 / 27
    p = float(2 * student.sf(min(abs(t), corrected if t > 0 else -corrected), freedom))
    squared = float(student.isf(LEVEL / 2, freedom)) ** 2
    # (above - b gap)^2 <= t^2 var(b), solved for b.
    a = gap**2 - squared * of_images[2]
    half = above * gap - squared * of_images[1]
    c = above**2 - squared * (of_images[0] + of_networks)
    root = half**2 - a * c
    if a <= 0 or root < 0 or gap <= 0:
        return Estimate(figure, -math.inf, math.inf, p)
    ends = ((half - math.sqrt(root)) / a, (half + math.sqrt(root)) / a)
    return Estimate(figure, *ends, p)
