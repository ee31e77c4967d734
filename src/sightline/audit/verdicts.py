"""Verdicts: rules stated before the figures, and what they say of each method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from sightline.intervals import FEWEST, Values, share_interval

SPREAD = 0.2
"""How far floor and ceiling must lie apart, in units of the measure, for a figure between them to mean anything."""


class Said(StrEnum):
    """What a rule says of a method."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    UNDECIDED = "undecided"
    REPORTED = "reported"


@dataclass(frozen=True)
class Rule:
    """A bound on (value - floor) / (ceiling - floor), with means over images.

    Attributes:
        test: the test it decides.
        case: the case of it that decides; others are reported beside it.
        measure: the measure that decides.
        bound: where good and bad part.
        low_is_good: on which side good lies.
        words: the rule in words.
        floor: what the value is where nothing is alike; measured on other images where it is None.
        ceiling: what it is where all is alike that can be; measured under slight noise where it is None.
        silent: why methods of which the test says nothing are not judged; where it is empty they are undecided.
        counts: whether its verdict counts for the verdict over all tests.
        witness: a method known to have the property; where it fails, the model gives the test nothing to see.
    """

    test: str
    case: str
    measure: str
    bound: float
    low_is_good: bool
    words: str
    floor: float | None = None
    ceiling: float | None = None
    silent: str = ""
    counts: bool = True
    witness: str = ""


class Finding(NamedTuple):
    """A verdict and what it rests on.

    Attributes:
        said: pass, fail, undecided, or reported where the test does not judge the method.
        figure: (value - floor) / (ceiling - floor); NaN where there is none.
        low: lower end of its 95 % interval over images.
        high: upper end.
        images: how many carry it.
        reason: why it is undecided; otherwise empty.
    """

    said: Said
    figure: float
    low: float
    high: float
    images: int
    reason: str


def undecided(reason: str, images: int = 0) -> Finding:
    """No verdict, for a reason that is known before the figures."""
    return Finding(Said.UNDECIDED, math.nan, -math.inf, math.inf, images, reason)


def reported(reason: str, images: int = 0) -> Finding:
    """Figures that decide nothing, for a reason."""
    return Finding(Said.REPORTED, math.nan, -math.inf, math.inf, images, reason)


def judge(rule: Rule, value: Values, floor: Values, ceiling: Values) -> Finding:
    """What a rule says: pass or fail where the whole interval lies on one side of its bound, else undecided.

    Args:
        rule: the rule.
        value: for each image; NaN where there is none.
        floor: what the measure says where nothing is alike.
        ceiling: what it says where all is alike that can be.
    """
    known = np.isfinite(value) & np.isfinite(floor) & np.isfinite(ceiling)
    count = int(known.sum())
    if count == 0:
        return undecided("there is no image on which this could be measured")
    value, floor, ceiling = value[known], floor[known], ceiling[known]
    if count < FEWEST:
        return undecided(
            f"an interval needs at least {FEWEST} images and {count} came; {FEWEST - count} more are needed", count
        )
    gap = float(ceiling.mean() - floor.mean())
    if gap < SPREAD:
        return undecided(
            "its maps of one image under slight noise are hardly more alike than its maps of different images "
            f"({ceiling.mean():.2f} against {floor.mean():.2f}), so likeness says nothing",
            count,
        )
    figure = float((value.mean() - floor.mean()) / gap)
    low, high = share_interval(value, floor, ceiling)
    below, above = high < rule.bound, low > rule.bound
    if below or above:
        good = below is rule.low_is_good
        return Finding(Said.PASS if good else Said.FAIL, figure, low, high, count, "")
    # Intervals shrink with the root of the number of images.
    distance = abs(figure - rule.bound)
    wide = distance == 0 or not math.isfinite(high - low)
    wanted = 100 * count if wide else math.ceil(count * ((high - low) / 2 / distance) ** 2)
    more = f"about {wanted - count} more images" if wanted < 100 * count else "more images than are worth their time"
    return Finding(
        Said.UNDECIDED, figure, low, high, count, f"the interval reaches over the bound {rule.bound:g}; {more} may tell"
    )


def overall(findings: Sequence[Finding]) -> Said:
    """Of several verdicts: fail where one fails, pass where all pass, else undecided."""
    said = {finding.said for finding in findings} - {Said.REPORTED}
    return Said.FAIL if Said.FAIL in said else Said.PASS if said == {Said.PASS} else Said.UNDECIDED
