"""What an audit found in figures: scores, a table with intervals, verdicts and their reasons."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sightline._common.equality import Compared
from sightline._common.words import counted
from sightline.auditing._contrast import Mean, estimate
from sightline.auditing._judging import cells
from sightline.auditing._pairs import Sample
from sightline.auditing._verdicts import overall
from sightline.auditing.questions import CEILING, FLOOR, REFERENCE, SAME_CLASS, Finding, Question, Rule
from sightline.evaluation import JUDGED

_OFF = 0.5
ALIKE = 0.5
"""Likeness of a method's maps of different images above which they say little of the image at hand."""


@dataclass(frozen=True, repr=False, eq=False)
class Judged(Compared):
    """The figures of an audit.

    Attributes:
        scores: a row for each test, case, method, measure and image.
        findings: for each test and method, the verdict and what it rests on.
        questions: what was asked, as prepared for this audit.
        refused: for each method that could not be audited, why.
        sample: the images: their names, groups and pairs.
        settings: what was audited and how.
    """

    scores: pd.DataFrame
    findings: Mapping[tuple[str, str], Finding]
    questions: Sequence[Question]
    refused: Mapping[str, str]
    sample: Sample
    settings: Mapping[str, Any]

    @property
    def names(self) -> Sequence[str]:
        """What the images are called."""
        return self.sample.names

    @property
    def rules(self) -> dict[str, Rule | None]:
        """For each test, the rule that decides it; none where it only reports."""
        return {test: rule for question in self.questions for test, rule in question.tests.items()}

    def __repr__(self) -> str:
        return f"Audit({counted(len(self.names), 'image')})\n{self.verdicts.to_string()}"

    @property
    def verdicts(self) -> pd.DataFrame:
        """Pass, fail, undecided or reported for each method (row) and test, and over all tests."""
        methods = list(dict.fromkeys(method for _, method in self.findings))
        rows = {}
        for method in methods:
            said = {test: self.findings[test, method] for test in self.rules}
            rows[method] = {test: str(one.said) for test, one in said.items()}
            counted = [one for test, one in said.items() if (rule := self.rules[test]) is not None and rule.counts]
            rows[method]["overall"] = str(overall(counted))
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")

    @property
    def judged(self) -> pd.DataFrame:
        """The verdicts, without tests that judge nobody: what people are shown."""
        verdicts = self.verdicts
        return verdicts[[test for test in verdicts.columns if set(verdicts[test]) != {"reported"}]]

    @property
    def counts(self) -> pd.DataFrame:
        """For each method, over how many images and how many random networks its judged figures are, in words."""

        def span(numbers: Sequence[int]) -> str:
            known = sorted({number for number in numbers if number})
            return "" if not known else str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"

        rows = {}
        for method in self.verdicts.index:
            own = [one for (_, name), one in self.findings.items() if name == method and math.isfinite(one.figure)]
            rows[method] = {name: span([getattr(one, name) for one in own]) for name in ("images", "networks")}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["images", "networks"]).rename_axis("method")

    @property
    def table(self) -> pd.DataFrame:
        """A row for each test, case, method and measure: the mean with its interval, median, floor, ceiling, counts.

        `images` and `networks` are how many images and how many random networks the mean is over; of the trained
        network alone, that is 0 networks.
        """
        rows = []
        count = len(self.names)
        pairs = {FLOOR: self.sample.others.partners, SAME_CLASS: self.sample.alike.partners}
        none, one = Mean.of(np.zeros(count)), Mean.of(np.ones(count))
        means = self.scores[self.scores["test"] == REFERENCE].groupby(["case", "method", "measure"])["value"].mean()
        keys = ["test", "case", "method", "measure"]
        for key, group in self.scores.groupby(keys, sort=False):
            values = cells(group, count)
            mean = Mean.of(values, pairs.get(str(key[1])))
            found = estimate(mean, none, one, 0.0, self.sample.groups)
            row = dict(zip(keys, key, strict=True)) | {"mean": mean.value, "low": found.low, "high": found.high}
            row["median"] = float(np.median(known)) if len(known := values[np.isfinite(values)]) else math.nan
            row |= {
                "images": len(np.unique(self.sample.contents[mean.known])),
                "networks": group.loc[group["network"] > 0, "network"].nunique(),
            }
            for name, case in (("floor", FLOOR), ("ceiling", CEILING)):
                row[name] = means.get((case, *key[2:]), math.nan)
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def reasons(self) -> pd.DataFrame:
        """For each test and method the verdict, the figure it rests on with its interval, and why it is undecided.

        `said` is corrected for all verdicts of the audit, `alone` is not; `raw` is the likeness itself, before it is
        set between `floor` and `ceiling`. `shown` and `interval` say the figure and its interval for people.
        """
        return pd.DataFrame(
            [
                {"test": test, "method": method, **found._asdict(), "said": str(found.said), "alone": str(found.alone)}
                | {"shown": self.figure(test, method), "interval": self.interval(test, method)}
                for (test, method), found in self.findings.items()
            ]
        )

    def shown(self, test: str, method: str) -> str:
        """A verdict's figure for people: empty where there is none, and in words where it is far off its scale.

        Likeness has a meaning between that of another image's map, 0, and that under slight noise, 1; how far outside
        it lies depends on how near these two are to each other.
        """
        found = self.findings[test, method]
        figure, interval = self.figure(test, method), self.interval(test, method)
        return f"{figure} [{found.low:.2f}, {found.high:.2f}]" if interval else figure

    def figure(self, test: str, method: str) -> str:
        """The same without its interval."""
        figure = self.findings[test, method].figure
        if not math.isfinite(figure):
            return ""
        if self._is_far_off(test, method):
            return "far below 0" if figure < 0 else "far above 1"
        return f"{figure:.2f}"

    def interval(self, test: str, method: str) -> str:
        """Its interval for people: empty where there is no figure or it is far off its scale."""
        found = self.findings[test, method]
        if not math.isfinite(found.figure) or self._is_far_off(test, method):
            return ""
        return f"{found.low:.2f} to {found.high:.2f}"

    def _is_far_off(self, test: str, method: str) -> bool:
        rule, figure = self.rules.get(test), self.findings[test, method].figure
        return rule is not None and rule.floor is None and not -_OFF <= figure <= 1 + _OFF

    @property
    def alike(self) -> dict[str, float]:
        """The methods whose maps of different images are alike, with that likeness (rank correlation, no sign)."""
        rows = self.table
        rows = rows[(rows["test"] == REFERENCE) & (rows["case"] == FLOOR) & (rows["measure"] == JUDGED)]
        return {
            str(method): float(mean)
            for method, mean, low in zip(rows["method"], rows["mean"], rows["low"], strict=True)
            if low > ALIKE
        }
