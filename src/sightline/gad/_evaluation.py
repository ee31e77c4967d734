"""Evaluation: the paper's two tables, beside the controls without which they can be won by doing nothing."""

from collections.abc import Iterator
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
from sightline.gad._controls import Control
from sightline.methods import Method

LEVEL = 0.05
"""Of the verdicts: the probability of a false gain or loss among the comparisons of a cell, at most."""
FIGURES = (("area", "pixels"), ("rs", "pixels"), ("rs", "area"), ("rs pair", "pixels"), ("rs pair", "area"))
"""What GAD is compared in, and what a control is made to agree in: the number of pixels, or their hull's area."""
OWN = ("gad", "clipped", "shuffled")
"""Arms of a size of their own."""


@dataclass(frozen=True, eq=False)
class Evaluation(Compared):
    """Regions and what occluding them does, and what follows.

    Attributes:
        rows: a row for each image, method, class, reading, arm and fill: `pixels`, the hull's `area`, `rc` (that area
            over the original's; NaN where a hull is degenerate), whether it is `degenerate`, the `change` in the
            class's logit when it is occluded, `rs` (per pixel of the hull), `rs pair` (the same of the difference of
            both logits), the share of `new` pixels, and the `question`. Arms: `original`, `gad`, `supplementary` (the
            original's hull without GAD's), `clipped` and `shuffled` as large as they are, and each control at GAD's
            number of pixels and at GAD's hull area; see `Control`.
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

        `wins` counts RC < 1, `ties` RC = 1, `loses` RC > 1; the paper counts ties for the original. Images in which a
        hull is degenerate are counted apart. `by construction` says where no hull of GAD can be larger, so that its
        wins are no finding.
        """
        found = []
        for key, group in self._cells():
            once = group.drop_duplicates(["image", "arm"])
            ratios = once.pivot(index="image", columns="arm", values="rc")
            entry = {**key, "by construction": self.readings[key["reading"]].nested}
            for arm in [*OWN, *_matched("pixels")]:
                if arm not in ratios:
                    continue
                ratio = ratios[arm]
                entry |= {f"{arm} wins": int((ratio < 1).sum()), f"{arm} loses": int((ratio > 1).sum())}
                entry[f"{arm} ties"] = int((ratio == 1).sum())
                entry[f"{arm} degenerate"] = int(ratio.isna().sum())
                entry[f"{arm} RC"] = float(ratio.mean())
            found.append(entry)
        return pd.DataFrame(found)

    @property
    def sensitivity(self) -> pd.DataFrame:
        """The paper's table 2: mean RS x 100 of the supplementary region and of GAD's, also for each control."""
        found = []
        for key, group in self._cells("fill"):
            rs = group.pivot_table("rs", "image", "arm", aggfunc="first")
            arms = ["supplementary", "original", *OWN, *_matched("pixels"), *_matched("area")]
            found.append({**key, **{arm: 100 * float(rs[arm].mean()) for arm in arms if arm in rs}})
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
            tables = {name: group.pivot_table(name, "image", "arm", aggfunc="first") for name, _ in FIGURES}
            flat = group.pivot_table("degenerate", "image", "arm", aggfunc="first").astype(bool)
            size = float(group["size"].iloc[0])
            for figure, matched in FIGURES:
                values, scale = tables[figure], 1 / size if figure == "area" else 100.0
                rows = []
                for control in Control:
                    arm = f"{control.value} at equal {matched}"
                    # Networks on shuffled labels belong to every verdict; other controls are not there for all methods.
                    if arm not in flat and control is not Control.SHUFFLED:
                        continue
                    difference = np.empty(0)
                    if arm in values and arm in flat and "gad" in values:
                        known = ~(flat["gad"] | flat[arm])
                        difference = (scale * (values["gad"] - values[arm]))[known].dropna().to_numpy()
                    said = sign_flips(difference)
                    rows.append(
                        {**key, "control": control.value, "figure": figure, "matched": matched}
                        | {"images": len(difference), "gain": said.mean}
                        | {"low": said.low, "high": said.high, "p": said.p}
                    )
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


_KEYS = ("reading", "question", "method", "class")


def _matched(what: str) -> list[str]:
    return [f"{control.value} at equal {what}" for control in Control]
