"""Evaluation: the paper's two tables, beside the controls without which they can be won by doing nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sightline._common.equality import Compared
from sightline._common.renderers import render
from sightline._common.written import whole_files
from sightline.evaluation import FEWEST, holm, sign_flips
from sightline.gad._consistency import Consistency
from sightline.gad._controls import MATCHED, OWN, Control
from sightline.methods import Method

LEVEL = 0.05
"""Of the verdicts: the probability of a false gain or loss among the comparisons of a cell, at most."""
FIGURES = (("area", "pixels"), ("rs", "pixels"), ("rs", "area"), ("rs pair", "pixels"), ("rs pair", "area"))
"""What GAD is compared in, and what a control is made to agree in: the number of pixels, or their hull's area."""
_UNMATCHED = ("gad", "clipped", Control.SHUFFLED.value)
"""Arms that are as large as they are, in the order of tables."""
_KEYS = ("reading", "question", "method", "class")


@dataclass(frozen=True, eq=False)
class Evaluation(Compared):
    """Regions and what occluding them does, and what follows.

    Attributes:
        rows: a row for each image, method, class, reading, arm and fill: `pixels`, the hull's `area`, `rc` (that area
            over the original's; NaN where a hull is degenerate), whether it is `degenerate`, the `change` in the
            class's logit when it is occluded, `rs` (per pixel of the hull), `rs pair` (the same of the difference of
            both logits), the share of `new` pixels, and the `question`. The `arm` is `original`, `gad`, `supplementary`
            (the original's hull without GAD's), `clipped`, or a control (see `Control`); `matched` says whether it has
            GAD's number of `pixels`, GAD's hull `area`, or a size of its `own`.
        readings: by name, what "stays important" meant.
        refused: for each method without a row, and each control that the network has none of, why.
        methods: with which settings they were evaluated.
    """

    rows: pd.DataFrame
    readings: dict[str, Consistency]
    refused: dict[str, str]
    methods: tuple[Method, ...] = ()

    @property
    def complexity(self) -> pd.DataFrame:
        """The paper's table 1: on how many images which hull is smaller (RC < 1 is GAD's), also for each control.

        A row for each reading, question, method, class and arm. `wins` counts RC < 1, `ties` RC = 1, `loses` RC > 1;
        the paper counts ties for the original. Images in which a hull is `degenerate` are counted apart; `RC` is the
        mean of the others. `by construction` says where no hull of GAD can be larger, so that its wins are no finding.
        """
        found = []
        for key, group in self._cells():
            once = group.drop_duplicates(["image", "arm", "matched"])
            ratios = once.pivot(index="image", columns=["arm", "matched"], values="rc")
            for arm in _arms(ratios, ("pixels",)):
                ratio = ratios[arm]
                found.append(
                    {**key, "arm": arm[0], "matched": arm[1]}
                    | {"wins": int((ratio < 1).sum()), "ties": int((ratio == 1).sum()), "loses": int((ratio > 1).sum())}
                    | {"degenerate": int(ratio.isna().sum()), "RC": float(ratio.mean())}
                    | {"by construction": self.readings[key["reading"]].nested}
                )
        return pd.DataFrame(found)

    @property
    def sensitivity(self) -> pd.DataFrame:
        """The paper's table 2: the mean of RS x 100 of the supplementary region and of GAD's, also for each control.

        A row for each reading, question, method, class, fill and arm.
        """
        found = []
        for key, group in self._cells("fill"):
            rs = group.pivot_table("rs", "image", ["arm", "matched"], aggfunc="first")
            found += [
                {**key, "arm": arm[0], "matched": arm[1], "RS x 100": 100 * float(rs[arm].mean())}
                for arm in [*_known(rs, [("supplementary", OWN), ("original", OWN)]), *_arms(rs, MATCHED)]
            ]
        return pd.DataFrame(found)

    @property
    def gains(self) -> pd.DataFrame:
        """GAD minus each control, paired by image, with the 95 % interval of the mean and p by flipping signs.

        At GAD's number of pixels: the hull's `area` as a share of the image (smaller is better), `rs` x 100 and
        `rs pair` x 100 (larger is better); at GAD's hull area: both RS again. `adjusted` is p corrected by Holm's
        method for the controls of a cell (reading, method, class, fill) and figure; `real` is true where it is at most
        0.05 on the good side, and `worse` where it is so on the other, each of at least twenty images.
        """
        found: list[dict[str, Any]] = []
        for key, group in self._cells("fill"):
            arms = ["arm", "matched"]
            tables = {name: group.pivot_table(name, "image", arms, aggfunc="first") for name, _ in FIGURES}
            flat = group.pivot_table("degenerate", "image", arms, aggfunc="first").astype(bool)
            size = float(group["size"].iloc[0])
            for figure, matched in FIGURES:
                values = tables[figure] * (1 / size if figure == "area" else 100.0)
                rows = [
                    {**key, "control": control.value, "figure": figure, "matched": matched}
                    | _against(values, flat, (control.value, matched))
                    for control in Control
                    # Networks on shuffled labels belong to every verdict; other controls are not there for all methods.
                    if (control.value, matched) in flat or control is Control.SHUFFLED
                ]
                for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
                    good = (row["gain"] < 0) if figure == "area" else (row["gain"] > 0)
                    shown = adjusted <= LEVEL and row["images"] >= FEWEST
                    found.append({**row, "adjusted": adjusted, "real": shown and good, "worse": shown and not good})
        return pd.DataFrame(found)

    @property
    def verdicts(self) -> pd.DataFrame:
        """Whether GAD is better than the best of its controls.

        `gain`: better than every control; `loss`: worse than some control; both after Holm's correction for the
        controls, so that where there is no difference either is said with a probability of 5 % at most. Otherwise
        `not shown`. `too few` says that the images with hulls on both sides are fewer than twenty, or that a control
        is missing.
        """
        found: dict[tuple[Any, ...], dict[str, str]] = {}
        keys = [*_KEYS, "fill"]
        for key, group in self.gains.groupby([*keys, "figure", "matched"], sort=False):
            said = "not shown"
            if bool((group["images"] < FEWEST).any()):
                said = "too few"
            elif bool(group["real"].all()):
                said = "gain"
            elif bool(group["worse"].any()):
                said = "loss"
            found.setdefault(key[:-2], {})[f"{key[-2]} at equal {key[-1]}"] = said
        return pd.DataFrame([dict(zip(keys, key, strict=True)) | row for key, row in found.items()])

    def save(self, folder: str | Path) -> Path:
        """Write `regions.csv`, `complexity.csv`, `sensitivity.csv`, `gains.csv` and `verdicts.csv`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_files() as part:
            self.rows.to_csv(part(folder / "regions.csv"), index=False, float_format="%.6g")
            for name in ("complexity", "sensitivity", "gains", "verdicts"):
                getattr(self, name).to_csv(part(folder / f"{name}.csv"), index=False, float_format="%.5g")
        return folder

    def latex(self) -> str:
        """Tables 1 and 2 of the paper with the controls, and the verdicts, in LaTeX."""
        return str(render(self, "latex"))

    def _repr_html_(self) -> str:
        return str(render(self, "html"))

    def _cells(self, *more: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        names = [*_KEYS, *more]
        for key, group in self.rows.groupby(names, sort=False):
            yield dict(zip(names, key, strict=True)), group


Arm = tuple[str, str]


def _arms(table: pd.DataFrame, matched: Sequence[str]) -> list[Arm]:
    """The arms that a table has, in order: those of a size of their own, then the controls."""
    controls = [(control.value, what) for what in matched for control in Control]
    return _known(table, [*((arm, OWN) for arm in _UNMATCHED), *controls])


def _known(table: pd.DataFrame, arms: Sequence[Arm]) -> list[Arm]:
    return [arm for arm in arms if arm in table]


def _against(values: pd.DataFrame, flat: pd.DataFrame, arm: Arm) -> dict[str, Any]:
    """GAD less a control, by image, where neither has a degenerate hull."""
    gad, difference = ("gad", OWN), np.empty(0)
    if arm in values and arm in flat and gad in values:
        known = ~(flat[gad] | flat[arm])
        difference = (values[gad] - values[arm])[known].dropna().to_numpy()
    flipped = sign_flips(difference)
    interval = {"gain": flipped.mean, "low": flipped.low, "high": flipped.high, "p": flipped.p}
    return {"images": len(difference), **interval}
