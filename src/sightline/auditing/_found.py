"""What an audit found: scores, a table with intervals, verdicts, and a paragraph of advice."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sightline._common.checksums import checksum_of, sealed, unsealed
from sightline._common.equality import Compared
from sightline._common.renderers import render
from sightline._common.words import counted
from sightline._common.written import whole_files
from sightline.auditing._block import CEILING, FLOOR, REFERENCE, SAME_CLASS
from sightline.auditing._contrast import Mean, estimate
from sightline.auditing._pairs import Sample
from sightline.auditing._similarity import JUDGED
from sightline.auditing._subjects import CONTROLS, Subjects
from sightline.auditing._verdicts import Evidence, Finding, Rule, Said, corrected, judge, overall, reported, undecided
from sightline.auditing.questions._input_bias import PATCH, SEEN, WITHOUT, InputBias
from sightline.errors import InputError
from sightline.evaluation import Values
from sightline.explaining._explanation import FORMAT, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTHING = 1e-6
_FILES = ("scores.csv", "table.csv", "reasons.csv", "verdicts.csv", "audit.png")
"""What `Audit.save` writes beside `audit.json`."""
_OFF = 0.5
ALIKE = 0.5
"""Likeness of a method's maps of different images above which they say little of the image at hand."""


@dataclass(frozen=True, repr=False, eq=False)
class Audit(Compared):
    """The result of an audit.

    Attributes:
        scores: a row for each test, case, method, measure and image.
        findings: for each test and method, the verdict and what it rests on.
        rules: for each test, the rule that decides it; none where it only reports.
        refused: for each method that could not be audited, why.
        sample: the images: their names, groups and pairs.
        settings: what was audited and how.
    """

    scores: pd.DataFrame
    findings: Mapping[tuple[str, str], Finding]
    rules: Mapping[str, Rule | None]
    refused: Mapping[str, str]
    sample: Sample
    settings: Mapping[str, Any]

    @property
    def names(self) -> Sequence[str]:
        """What the images are called."""
        return self.sample.names

    @classmethod
    def of(
        cls,
        scores: pd.DataFrame,
        subjects: Subjects,
        rules: Mapping[str, Rule | None],
        reasons: Mapping[str, str],
        told: Mapping[str, Callable[[pd.DataFrame], str]],
        sample: Sample,
        settings: Mapping[str, Any],
    ) -> "Audit":
        """Judge scores by rules.

        Args:
            scores: see `Audit`.
            subjects: the methods.
            rules: see `Audit`.
            reasons: why a test cannot bite on this model; empty where it can.
            told: of a test without a rule, what the scores of one method say in words.
            sample: see `Audit`.
            settings: see `Audit`.
        """
        findings: dict[tuple[str, str], Finding] = {}
        for test, rule in rules.items():
            for method in subjects.names:
                if method in subjects.refused:
                    found = undecided(f"refused: {subjects.refused[method]}")
                elif reasons[test]:
                    found = undecided(reasons[test])
                elif rule is None:
                    own = scores[(scores["test"] == test) & (scores["method"] == method)]
                    found = reported(told[test](own))
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
        return cls(scores, findings, rules, dict(subjects.refused), sample, {**settings, "versions": versions()})

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
            cells = _cells(group, count)
            mean = Mean.of(cells, pairs.get(str(key[1])))
            found = estimate(mean, none, one, 0.0, self.sample.groups)
            row = dict(zip(keys, key, strict=True)) | {"mean": mean.value, "low": found.low, "high": found.high}
            row["median"] = float(np.median(known)) if len(known := cells[np.isfinite(cells)]) else math.nan
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
        set between `floor` and `ceiling`.
        """
        return pd.DataFrame(
            [
                {"test": test, "method": method, **found._asdict(), "said": str(found.said), "alone": str(found.alone)}
                | {"shown": self.shown(test, method)}
                for (test, method), found in self.findings.items()
            ]
        )

    def shown(self, test: str, method: str) -> str:
        """A verdict's figure for people: empty where there is none, and in words where it is far off its scale.

        Likeness has a meaning between that of another image's map, 0, and that under slight noise, 1; how far outside
        it lies depends on how near these two are to each other.
        """
        found, rule = self.findings[test, method], self.rules.get(test)
        if not math.isfinite(found.figure):
            return ""
        if rule is not None and rule.floor is None and not -_OFF <= found.figure <= 1 + _OFF:
            return "far below 0" if found.figure < 0 else "far above 1"
        return f"{found.figure:.2f} [{found.low:.2f}, {found.high:.2f}]"

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

    @property
    def advice(self) -> str:
        """Which methods to use for this model, and why, in a paragraph."""
        verdicts = self.verdicts.drop(index=list(CONTROLS), errors="ignore")
        lists = {said: list(verdicts.index[verdicts["overall"] == said]) for said in Said}
        weights = str(self.settings.get("weights", ""))
        untrained = weights.startswith("untrained")
        sentences = []
        if untrained:
            sentences.append(
                "The weights of this network are drawn at random: it has learned nothing that a map could show."
            )
        elif "random unless" in weights:
            sentences.append(
                f"Its weights are {weights}; with random ones it has learned nothing that a map could show."
            )
        kind = self.settings.get("output", {}).get("kind", "classes")
        everywhere = {method: likeness for method, likeness in self.alike.items() if method not in lists[Said.FAIL]}
        good = [method for method in lists[Said.PASS] if method not in everywhere]
        if good:
            noun = {"classes": "class", "labels": "label"}.get(kind, "output")
            sentences.append(
                f"On these {len(self.names)} images the maps of {_and(good)} depend on the {noun} and on this model's "
                f"weights, as far as these tests can tell{'' if untrained else '; prefer them'}."
            )
        if unlike := [f"{m} ({likeness:.2f})" for m, likeness in everywhere.items() if m in verdicts.index]:
            sentences.append(
                f"The maps of {_and(unlike)} are alike for different images (rank correlation without its sign, in "
                "brackets), so that they say little of the image at hand: do not prefer them, whatever else they pass."
            )
        alike: dict[tuple[tuple[str, ...], bool], list[str]] = {}
        for method in lists[Said.FAIL]:
            failed = tuple(test for test in self.rules if self.findings[test, method].said is Said.FAIL)
            without = self.findings.get((WITHOUT, method))
            cured = failed == (InputBias.name,) and without is not None and without.said is Said.PASS
            alike.setdefault((failed, cured), []).append(method)
        for (failed, cured), methods in alike.items():
            told = [
                f"{method} ({', '.join(self.shown(test, method).split(' [')[0] for test in failed)})"
                for method in methods
            ]
            one = len(methods) == 1
            advice = f"do not read {'its' if one else 'their'} maps as explanations of this model"
            if cured:
                advice = "read the maps only without the factor of the input, which pass"
            sentences.append(f"{_and(told)} {'fails' if one else 'fail'} {_and(failed)}: {advice}.")
        floor = self.settings.get("floor", {})
        if kind != "values" and floor.get("of other classes", 0) < floor.get("pairs", 0) / 2:
            sentences.append(
                f"Of {floor['pairs']} pairs of images that floors rest on, {floor['of other classes'] or 'none'} "
                "are of different predicted classes, since the network says the same of most of these images: verdicts "
                "between floor and ceiling rest on images of one class."
            )
        if lists[Said.UNDECIDED]:
            sentences.append(f"No verdict for {_and(lists[Said.UNDECIDED])}; the table says why.")
        words: dict[str, list[str]] = {}
        for (test, method), found in self.findings.items():
            if self.rules[test] is None and found.reason and method in verdicts.index:
                words.setdefault(found.reason, []).append(method)
        sentences += [f"Of {_and(methods)}: {reason}." for reason, methods in words.items()]
        blind: dict[str, list[str]] = {}
        for method, colours in self.blind_to.items():
            if method in verdicts.index:
                blind.setdefault(_and(colours), []).append(method)
        sentences += [
            f"Whatever the model does there, {colours} stays empty in the maps of {_and(methods)}."
            for colours, methods in blind.items()
        ]
        return " ".join(sentences)

    @property
    def blind_to(self) -> dict[str, list[str]]:
        """For each method the colours at which its maps are zero whatever the network does, as far as input_bias saw.

        Those that are tried are zero in the network's input, named with its colour where the encoding is known, black
        and white.
        """
        rows = self.table
        rows = rows[(rows["measure"] == SEEN) & (rows["mean"] < _NOTHING)]
        found: dict[str, list[str]] = {}
        for case, method in zip(rows["case"], rows["method"], strict=True):
            colour = str(case).removeprefix(PATCH)
            null = self.settings.get("null_colour")
            if colour == "zero" and null is not None:
                colour = f"zero, which is the colour {tuple(round(value) for value in null)}"
            found.setdefault(str(method), []).append(colour)
        return found

    def show(self) -> "Figure":
        """Verdicts and curves on one page, as a matplotlib figure."""
        figure: Figure = render(self, "figure")
        return figure

    def _repr_html_(self) -> str:
        return str(render(self, "html"))

    def latex(self) -> str:
        """The verdicts with their figures and intervals, as a table in LaTeX."""
        return str(render(self, "latex"))

    @property
    def bibliography(self) -> str:
        """Whom to cite for the tests and for the methods of the catalogue, in BibTeX."""
        return str(render(self, "bibliography"))

    def save(self, folder: str | Path) -> Path:
        """Write `audit.png`, `audit.json`, `verdicts.csv`, `reasons.csv`, `table.csv` and `scores.csv`.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder)
        record = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "images": list(self.names),
            "refused": dict(self.refused),
            "rules": {test: rule and rule.words for test, rule in self.rules.items()},
            "verdicts": self.verdicts.to_dict("index"),
            "alike": self.alike,
            "advice": self.advice,
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_files() as part:
                for name in ("scores", "table", "reasons"):
                    getattr(self, name).to_csv(part(folder / f"{name}.csv"), index=False, float_format="%.6g")
                self.verdicts.to_csv(part(folder / "verdicts.csv"))
                for name, draw in render(self, "files").items():
                    draw(part(folder / name))
                # Last, with the checksums of the others, so that what is damaged later can be found.
                record["files"] = {name: checksum_of(part(folder / name)) for name in _FILES}
                part(folder / "audit.json").write_text(sealed(record, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
        return folder


def is_saved(folder: Path) -> bool:
    """Whether a folder holds all that `Audit.save` writes, as it was written."""
    try:
        files = unsealed((folder / "audit.json").read_bytes())["files"]
        return dict(files) == {name: checksum_of(folder / name) for name in _FILES}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _judged(scores: pd.DataFrame, rule: Rule, method: str, sample: Sample) -> Finding:
    own, count = scores[scores["method"] == method], len(sample.names)
    if rule.silent and own[(own["test"] == rule.test) & (own["measure"] == rule.measure)].empty:
        return reported(rule.silent)

    def values(test: str, case: str, measure: str = rule.measure) -> Values:
        rows = own[(own["test"] == test) & (own["case"] == case) & (own["measure"] == measure)]
        return _cells(rows, count)

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


def _cells(rows: pd.DataFrame, count: int) -> Values:
    """The numbers of a case, shape (image, network), the mean of several draws; NaN where there is none."""
    networks, columns = np.unique(rows["network"].to_numpy(), return_inverse=True)
    shape = (count, max(len(networks), 1))
    values = rows["value"].to_numpy(dtype=float)
    known = np.isfinite(values)
    places = rows["image"].to_numpy(dtype=int)[known] * shape[1] + columns[known]
    sums, numbers = (np.bincount(places, weights, count * shape[1]) for weights in (values[known], None))
    with np.errstate(invalid="ignore"):
        return (sums / numbers).reshape(shape)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
