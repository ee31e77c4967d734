"""How often the verdicts of GAD's evaluation say gain or loss where there is neither.

Three sources of pictures on which GAD and its controls do not differ: log-normal arms with exact zeros that share a
level by picture; the same with equal pixels in some arms, so that many differences are exactly 0; and real differences
of an evaluation (a `regions.csv`), each picture's with a sign drawn at random, the same for all controls. The former
rule (95 % BCa intervals of the mean, no correction) stands beside.

    python benchmarks/gad_verdicts.py --regions evaluation/regions.csv
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sightline.evaluation._intervals import holm, mean_interval
from sightline.evaluation._paired import sign_flips
from sightline.gad._controls import Control
from sightline.gad._evaluation import LEVEL

CONTROLS = 5
SIZES = (20, 48, 128)
Differences = NDArray[np.float64]
"""Shape (control, picture)."""


def log_normal(rng: np.random.Generator, count: int, ties: float) -> Differences:
    """GAD's RS less that of each control, all drawn alike; a share of the controls' figures is GAD's own."""
    level = rng.normal(size=count)
    arms = np.exp(level + rng.normal(size=(1 + CONTROLS, count)))
    arms[rng.random(arms.shape) < 0.15] = 0
    gad, controls = arms[0], arms[1:]
    return gad - np.where(rng.random(controls.shape) < ties, gad, controls)


def flipped(rng: np.random.Generator, count: int, real: Differences) -> Differences:
    rows = rng.integers(0, real.shape[1], count)
    return real[:, rows] * rng.choice([-1, 1], count)


def said(differences: Differences) -> str:
    tests = [sign_flips(own) for own in differences]
    adjusted = holm([test.p for test in tests])
    if all(p <= LEVEL and test.mean > 0 for p, test in zip(adjusted, tests, strict=True)):
        return "gain"
    return "loss" if any(p <= LEVEL and test.mean < 0 for p, test in zip(adjusted, tests, strict=True)) else ""


def said_before(differences: Differences) -> str:
    ends = [mean_interval(own) for own in differences]
    return "gain" if all(low > 0 for low, _ in ends) else "loss" if any(high < 0 for _, high in ends) else ""


def real_cells(regions: Path) -> list[Differences]:
    """RS of GAD less each control's at equal pixels, by reading, method, class and fill; pictures with all of them."""
    found = []
    gad, arms = ("gad", "own"), [(control.value, "pixels") for control in Control]
    frame = pd.read_csv(regions)
    for _, group in frame.groupby(["reading", "question", "method", "class", "fill"]):
        rs = group.pivot_table("rs", "image", ["arm", "matched"], aggfunc="first")
        own = [arm for arm in arms if arm in rs]
        rs = rs[[gad, *own]].dropna()
        if len(rs) >= min(SIZES):
            found.append((rs[[gad]].to_numpy() - rs[own].to_numpy()).T)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=Path, help="of an evaluation; without it only simulated pictures")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--before", type=int, default=200, help="draws for the former rule, which is slower")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sources = {
        "log-normal, 15 % zeros": lambda rng, n: log_normal(rng, n, 0.0),
        "log-normal, half of them equal": lambda rng, n: log_normal(rng, n, 0.5),
    }
    if options.regions is not None:
        real = real_cells(options.regions)
        sources["real, signs flipped"] = lambda rng, n: flipped(rng, n, real[rng.integers(len(real))])
    print("| pictures | source | draws | gain | loss | former rule: gain | loss |\n|---|---|---|---|---|---|---|")
    for name, draw in sources.items():
        for count in SIZES:
            rng = np.random.default_rng([options.seed, count])
            drawn = [draw(rng, count) for _ in range(options.draws)]
            now, then = [said(one) for one in drawn], [said_before(one) for one in drawn[: options.before]]
            shares = [words.count(word) / max(1, len(words)) for words in (now, then) for word in ("gain", "loss")]
            print(f"| {count} | {name} | {len(now)} | {' | '.join(f'{share:.1%}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
