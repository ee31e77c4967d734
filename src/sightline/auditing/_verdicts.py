"""Verdicts: rules stated before the figures, and what they say of each method."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline._common.words import counted
from sightline.auditing._contrast import LEVEL, Mean, Numbers, estimate
from sightline.auditing.questions._rule import Finding, Rule, Said
from sightline.evaluation import FEWEST, Values, holm

NETWORKS = 5
"""Random networks that a verdict on them needs: the draw of their weights moves a figure more than the images do."""
GROUPS = 5
"""Groups of images that belong together which an interval over groups needs."""

SPREAD = 0.2
"""How far floor and ceiling must lie apart, in units of the measure, for a figure between them to mean anything."""


def undecided(reason: str, images: int = 0, networks: int = 0) -> Finding:
    """No verdict, for a reason that is known before the figures."""
    return Finding(Said.UNDECIDED, math.nan, -math.inf, math.inf, images, reason, networks)


def reported(reason: str, images: int = 0) -> Finding:
    """Figures that decide nothing, for a reason."""
    return Finding(Said.REPORTED, math.nan, -math.inf, math.inf, images, reason, alone=Said.REPORTED)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a rule judges: numbers for each image, NaN where there is none.

    Attributes:
        value: shape (image,), or (image, network) where several random networks were asked.
        floor: shape (image,): what the measure says where nothing is alike.
        ceiling: shape (image,): what it says where all is alike that can be.
        groups: shape (image,): numbers of the groups of images that belong together; by default each is its own.
        contents: shape (image,): numbers of the images' contents; an image that is given twice counts once. By default
            all are different.
        value_partners: shape (image,): with which image each value was measured, if it was measured on pairs.
        floor_partners: the same of the floors.
    """

    value: Values
    floor: Values
    ceiling: Values
    groups: Numbers | None = None
    contents: Numbers | None = None
    value_partners: Numbers | None = None
    floor_partners: Numbers | None = None


def judge(rule: Rule, evidence: Evidence) -> Finding:
    """What a rule says of one method by itself: `corrected` says it of all of an audit.

    Pass or fail where the figure's distance from the bound is significant at 5 %, so that the whole interval lies on
    one side of it; else undecided.

    Args:
        rule: the rule.
        evidence: the numbers.
    """
    floor, ceiling = evidence.floor, evidence.ceiling
    value = evidence.value.reshape(len(floor), -1)
    networks = value.shape[1] if rule.networks else 0
    value = np.where(np.isfinite(ceiling)[:, None], value, np.nan)
    known = np.isfinite(value)
    asked = len(value)
    contents = np.arange(asked) if evidence.contents is None else evidence.contents
    images = len(np.unique(contents[known.any(1)]))
    if images == 0:
        return undecided("there is no image on which this could be measured", 0, networks)
    if images < FEWEST:
        return undecided(
            f"an interval needs at least {FEWEST} images and got {images}; {FEWEST - images} more are needed",
            images, networks,
        )  # fmt: skip
    if rule.networks and networks < NETWORKS:
        return undecided(
            f"how random weights are drawn decides as much as the images do: this needs at least {NETWORKS} random "
            f"networks and got {networks}",
            images, networks,
        )  # fmt: skip
    left_out = 1 - float(known.mean())
    if left_out > 0.5:
        return undecided(
            f"{left_out:.0%} of the comparisons say nothing: there both maps are constant or not finite, or what is "
            "judged cannot be told",
            images, networks,
        )  # fmt: skip
    groups = np.arange(asked) if evidence.groups is None else evidence.groups
    count = len(np.unique(groups[known.any(1)]))
    if count < GROUPS:
        return undecided(
            f"the images belong to {counted(count, 'group')}, and an interval over groups needs at least {GROUPS}",
            images, networks,
        )  # fmt: skip
    carried = known.any(1)
    # Pairs tell of both of their images, so that no floor is left out where its own value is missing.
    floor = floor if evidence.floor_partners is not None else np.where(carried, floor, np.nan)
    ceiling = np.where(carried, ceiling, np.nan)
    means = Mean.of(value, evidence.value_partners), Mean.of(floor, evidence.floor_partners), Mean.of(ceiling)
    raw, below, above = (mean.value for mean in means)
    if not math.isfinite(below):
        return undecided("there are no two different images whose maps could be compared", images, networks)
    found = Finding(
        Said.UNDECIDED, math.nan, -math.inf, math.inf, images, "", networks, raw, below, above
    )  # fmt: skip
    if not rule.of and above - below < SPREAD:
        return found._replace(
            reason="its maps of one image under slight noise are hardly more alike than its maps of different images "
            f"({above:.2f} against {below:.2f}), so likeness says nothing"
        )
    figure, low, high, p = estimate(*means, rule.bound, groups)
    found = found._replace(figure=figure, low=low, high=high, p=p, adjusted=p, note=_note(rule, below, above, left_out))
    if p < LEVEL:
        said = Said.PASS if (figure < rule.bound) == rule.low_is_good else Said.FAIL
        return found._replace(said=said, alone=said)
    return found._replace(reason=_more(rule, found, count))


def corrected(findings: Mapping[tuple[str, str], Finding]) -> dict[tuple[str, str], Finding]:
    """The findings of a whole audit, so that any of its verdicts is false with a probability of at most 5 %.

    Probabilities are adjusted by Holm's method (Holm 1979, A simple sequentially rejective multiple test procedure),
    which holds however the verdicts depend on each other.

    Args:
        findings: from `judge`, by test and method.
    """
    adjusted = dict(zip(findings, holm([one.p for one in findings.values()]), strict=True))
    told = {}
    for key, found in findings.items():
        p = adjusted[key]
        told[key] = found._replace(adjusted=p)
        if found.alone in {Said.PASS, Said.FAIL} and not p < LEVEL:
            count = sum(math.isfinite(one.p) for one in findings.values())
            told[key] = told[key]._replace(
                said=Said.UNDECIDED,
                reason=f"by itself this would be a {found.alone} (p = {found.p:.2g}), "
                f"but not as one of {count} verdicts (p = {p:.2g} after Holm's correction)",
            )
    return told


def _note(rule: Rule, floor: float, ceiling: float, left_out: float) -> str:
    notes = []
    if rule.floor is None and ceiling - floor < 2 * SPREAD:
        notes.append(
            f"its maps of different images are already {floor:.2f} alike, and {ceiling:.2f} under slight noise, so "
            "that the figure rests on a narrow range"
        )
    if left_out > 0.1:
        notes.append(f"{left_out:.0%} of the comparisons were left out, since they say nothing there")
    return "; ".join(notes)


def _more(rule: Rule, found: Finding, count: int) -> str:
    """How many images may decide: intervals shrink with the root of their number."""
    distance, wide = abs(found.figure - rule.bound), found.high - found.low
    endless = distance == 0 or not math.isfinite(wide)
    wanted = 100 * count if endless else math.ceil(count * (wide / 2 / distance) ** 2)
    what = "images or random networks" if rule.networks else "images"
    more = f"about {wanted - count} more {what}" if wanted < 100 * count else f"more {what} than are worth their time"
    return f"the interval reaches over the bound {rule.bound:g}; {more} may tell"


def overall(findings: Sequence[Finding]) -> Said:
    """Of several verdicts: fail where one fails, pass where all pass, else undecided."""
    said = {finding.said for finding in findings} - {Said.REPORTED}
    return Said.FAIL if Said.FAIL in said else Said.PASS if said == {Said.PASS} else Said.UNDECIDED
