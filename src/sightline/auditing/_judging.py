"""From scores to verdicts: what the rules of all questions say of all methods."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from sightline.auditing._pairs import Sample
from sightline.auditing._verdicts import Evidence, corrected, judge, reported, undecided
from sightline.auditing.questions import CEILING, FLOOR, REFERENCE, SAME_CLASS, Finding, Question, Rule, Said, Subjects
from sightline.auditing.questions._checked import worded
from sightline.evaluation import Values


def findings_of(
    scores: pd.DataFrame,
    subjects: Subjects,
    questions: Sequence[Question],
    reasons: Mapping[str, str],
    sample: Sample,
) -> dict[tuple[str, str], Finding]:
    """For each test and method the verdict and what it rests on, corrected for their number.

    Args:
        scores: a row for each test, case, method, measure and image.
        subjects: the methods.
        questions: the questions.
        reasons: by the questions' names, why one says nothing on this model; empty where it does.
        sample: the images.
    """
    findings: dict[tuple[str, str], Finding] = {}
    rules: dict[str, Rule | None] = {}
    for question in questions:
        rules |= question.tests
        for test, rule in question.tests.items():
            for method in subjects.names:
                if method in subjects.refused:
                    found = undecided(f"refused: {subjects.refused[method]}")
                elif reasons.get(question.name):
                    found = undecided(reasons[question.name])
                elif rule is None:
                    own = scores[(scores["test"] == test) & (scores["method"] == method)]
                    found = reported(worded(question, partial(question.summary, own), str))
                else:
                    found = _judged(scores, rule, method, sample)
                findings[test, method] = found
    findings |= corrected(findings)
    for test, rule in rules.items():
        witness = findings.get((test, rule.witness)) if rule is not None else None
        if rule is not None and witness is not None and witness.said is Said.FAIL:
            reason = (
                f"even the maps of the {rule.witness} are alike ({witness.figure:.2f}, bound {rule.bound:g}), so "
                "that on this model the test has nothing to see"
            )
            findings |= {(test, method): undecided(reason, witness.images) for method in subjects.names}
    return findings


def _judged(scores: pd.DataFrame, rule: Rule, method: str, sample: Sample) -> Finding:
    own, count = scores[scores["method"] == method], len(sample.names)
    if rule.silent and own[(own["test"] == rule.test) & (own["measure"] == rule.measure)].empty:
        return reported(rule.silent)

    def values(test: str, case: str, measure: str = rule.measure) -> Values:
        rows = own[(own["test"] == test) & (own["case"] == case) & (own["measure"] == measure)]
        return cells(rows, count)

    floor = values(REFERENCE, FLOOR)[:, 0] if rule.floor is None else np.full(count, rule.floor)
    if rule.of:
        ceiling = values(rule.test, rule.case, rule.of)[:, 0]
    else:
        ceiling = values(REFERENCE, CEILING)[:, 0] if rule.ceiling is None else np.full(count, rule.ceiling)
    evidence = Evidence(
        values(rule.test, rule.case), floor, ceiling, sample.groups, sample.contents,
        sample.alike.partners if rule.case == SAME_CLASS else None,
        sample.others.partners if rule.floor is None else None,
    )  # fmt: skip
    found = judge(rule, evidence)
    # Of a constant map no rank is known, whatever the measure of the rule.
    silent = int(np.isnan(values(REFERENCE, CEILING, "spearman")).sum())
    if silent * 2 > count:
        return undecided(f"its map is constant or not finite on {silent} of {count} images", found.images)
    return found


def cells(rows: pd.DataFrame, count: int) -> Values:
    """The numbers of a case, shape (image, network), the mean of several draws; NaN where there is none."""
    networks, columns = np.unique(rows["network"].to_numpy(), return_inverse=True)
    shape = (count, max(len(networks), 1))
    values = rows["value"].to_numpy(dtype=float)
    known = np.isfinite(values)
    places = rows["image"].to_numpy(dtype=int)[known] * shape[1] + columns[known]
    sums, numbers = (np.bincount(places, weights, count * shape[1]) for weights in (values[known], None))
    with np.errstate(invalid="ignore"):
        return (sums / numbers).reshape(shape)
