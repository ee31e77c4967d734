"""The rule by which a test decides, and what it says of a method."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


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
        networks: whether its values come from several random networks, each asked about every image.
        of: the measure of the whole of which the measure is a part; the figure is then the sum of the one over the sum
            of the other, and each image counts by its amount.
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
    networks: bool = False
    of: str = ""


class Finding(NamedTuple):
    """A verdict and what it rests on.

    Attributes:
        said: pass, fail, undecided, or reported where the test does not judge the method; after correction for all
            verdicts of the audit.
        figure: (value - floor) / (ceiling - floor); NaN where there is none.
        low: lower end of its 95 % interval over images, their pairs, and random networks.
        high: upper end.
        images: how many carry it.
        reason: why it is undecided; otherwise empty.
        networks: how many random networks carry it; 0 where the test asks the trained one alone.
        raw: the mean of the measure itself, before it is set between floor and ceiling.
        floor: the mean of the floor.
        ceiling: that of the ceiling.
        p: probability of a distance from the bound at least as large by chance; NaN where none is known.
        adjusted: the same, corrected for all verdicts of the audit by Holm's method.
        alone: what the rule says before that correction.
        note: what a reader of a verdict should know beside it; mostly empty.
    """

    said: Said
    figure: float
    low: float
    high: float
    images: int
    reason: str
    networks: int = 0
    raw: float = math.nan
    floor: float = math.nan
    ceiling: float = math.nan
    p: float = math.nan
    adjusted: float = math.nan
    alone: Said = Said.UNDECIDED
    note: str = ""
