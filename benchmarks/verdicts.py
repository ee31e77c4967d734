"""Whether verdicts hold when they are repeated, and how often they are false.

`repeat` audits ResNet-20 or SqueezeNet several times, each time with another seed (of random weights, classes, pairs
and noise) and with the files in another order, and counts verdicts that change. `simulate` draws numbers whose true
figures lie on the bounds, judges them as an audit does, and counts how many audits have any verdict that is not
undecided: each of these is false. Pictures and weights are looked for in `../shared/data`, or where the environment
variable SIGHTLINE_DATA says.

    python benchmarks/verdicts.py repeat resnet20 --folder verdicts
    python benchmarks/verdicts.py repeat squeezenet --images 42 --folder verdicts
    python benchmarks/verdicts.py simulate
"""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from claims import resnet20, squeezenet
from measure import conditions

import sightline as sl
from sightline.auditing._verdicts import Evidence, corrected, judge
from sightline.auditing.questions._rule import Rule, Said
from sightline.auditing.questions._subjects import CONTROLS

METHODS = [
    "gradient", "saliency", "input_x_gradient", "guided_backprop", "deconvnet", "rect_grad", "grad_cam",
    "grad_cam@early", "grad_cam_plus_plus", "grad_cam_positive@middle", "layer_cam@early", "full_grad",
    "full_grad_signed", "lrp_epsilon", "lrp_z_plus", "lrp_alpha2_beta1", "deep_taylor", "lrp_gamma",
]  # fmt: skip
TESTS = (
    "class_sensitivity", "image_sensitivity", "parameter_randomization", "input_bias", "completeness", "stability",
)  # fmt: skip


def repeat(name: str, folder: Path, images: int, audits: Sequence[int], tests: Sequence[str]) -> str:
    """The verdicts of each audit, and how many of them change from one to another."""
    model, batch = {"resnet20": resnet20, "squeezenet": squeezenet}[name]()
    rng = np.random.default_rng(0)
    chosen = np.linspace(0, len(batch) - 1, min(images, len(batch))).round().astype(int)
    orders = [rng.permutation(chosen).tolist() for _ in range(max(audits) + 1)]
    for number in audits:
        started = time.perf_counter()
        out = folder / name / str(number)
        found = sl.audit(
            model, batch[orders[number]], METHODS, tests, seed=number,
            randomisation=sl.Randomisation("whole", seed=number), folder=out,
        )  # fmt: skip
        found.save(out)
        print(f"{name}, audit {number}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return changes(folder / name)


def changes(folder: Path) -> str:
    """A row for each verdict with its figures in all audits, and the counts of changes between any two audits."""
    reasons = [pd.read_csv(place) for place in sorted(folder.glob("[0-9]*/reasons.csv"))]
    every = pd.concat([one.assign(audit=number) for number, one in enumerate(reasons)])
    every = every[~every["method"].isin(CONTROLS)]
    every = every[every["said"].isin(["pass", "fail", "undecided"])]
    lines = []
    for said in ("alone", "said"):
        words = every.pivot_table(index=["test", "method"], columns="audit", values=said, aggfunc="first")
        turned = one_sided = total = 0
        for a, b in combinations(words.columns, 2):
            pairs = words[[a, b]].to_numpy()
            total += len(pairs)
            turned += sum({*pair} == {"pass", "fail"} for pair in pairs)
            one_sided += sum(len({*pair}) == 2 and "undecided" in pair for pair in pairs)
        what = "before correction" if said == "alone" else "after Holm's correction"
        lines.append(
            f"{what}: of {total} pairs of verdicts {turned} turn from pass to fail or back, {one_sided} "
            f"({one_sided / total:.1%}) to or from undecided"
        )
    figures = every.pivot_table(index=["test", "method"], columns="audit", values="figure", aggfunc="first")
    lines += ["", f"| test | method | figures of {len(reasons)} audits | verdicts |", "|---|---|---|---|"]
    letters = {"pass": "P", "fail": "F", "undecided": "-"}
    for key in words.index:
        cells = " ".join(f"{value:.2f}" for value in figures.loc[key]) if key in figures.index else ""
        lines.append(f"| {key[0]} | {key[1]} | {cells} | {' '.join(letters[word] for word in words.loc[key])} |")
    return "\n".join(lines)


def simulate(repetitions: int, seed: int = 0) -> str:
    """The share of audits with any false verdict, of arms whose true figure is the bound.

    Each audit has 12 methods in 4 tests. Kinds of arms: `normal`: images, their pairs and networks all vary;
    `skewed`: likeness near one, with a tail of images where it is small; `heavy`: a few images rule the mean;
    `duplicates`: methods that repeat each other, so that verdicts depend on each other; `rescaled`: the same arms in
    other units; `exchangeable`: the value of each image is its floor or its ceiling by the toss of a coin;
    `identical images`: each picture is there twice; `noise`: maps without any image, whose likeness is that of noise.
    """
    rng = np.random.default_rng(seed)
    lines = [
        "| arms | images | verdicts before correction that are false | audits with any false verdict |",
        "|---|---|---|---|",
    ]
    rules = [
        Rule(f"test {i}", "case", "likeness", bound, True, "the rule", networks=i == 1)
        for i, bound in enumerate((0.7, 0.5, 0.7, 0.5))
    ]
    for kind in ("normal", "skewed", "heavy", "duplicates", "rescaled", "exchangeable", "identical images", "noise"):
        for images in (20, 48, 200):
            false = alone = verdicts = 0
            for _ in range(repetitions):
                findings = {}
                for rule in rules:
                    repeated = arms(rng, kind, images, rule)
                    for method in range(12):
                        evidence = repeated if kind == "duplicates" else arms(rng, kind, images, rule)
                        findings[rule.test, str(method)] = judge(rule, evidence)
                told = corrected(findings)
                verdicts += len(told)
                alone += sum(one.alone in {Said.PASS, Said.FAIL} for one in told.values())
                false += any(one.said in {Said.PASS, Said.FAIL} for one in told.values())
            lines.append(f"| {kind} | {images} | {alone / verdicts:.1%} | {false / repetitions:.1%} |")
    return "\n".join(lines)


def arms(rng: np.random.Generator, kind: str, images: int, rule: Rule) -> Evidence:
    """Numbers whose true figure is the bound of the rule."""
    networks = 5 if rule.networks else 1
    count = images // 2 if kind == "identical images" else images
    own = rng.standard_normal(count)
    partners = np.roll(np.arange(count), 1)
    if kind == "noise":
        floor, ceiling, value = (np.abs(rng.normal(0, 0.03, (count, k))) for k in (1, 1, networks))
        return Evidence(value, floor[:, 0], ceiling[:, 0], floor_partners=partners)
    floor = 0.2 + 0.08 * (own + own[partners] + rng.standard_normal(count))
    ceiling = 0.9 + 0.05 * rng.standard_normal(count)
    target = 0.2 + rule.bound * 0.7
    noise = own[:, None] * 0.7 + 0.7 * rng.standard_normal((count, networks))
    if kind == "skewed":
        value = target + 0.15 * (1 - rng.exponential(size=(count, 1))) + 0.05 * noise
    elif kind == "heavy":
        value = target + 0.1 * rng.standard_t(3, (count, 1)) + 0.05 * noise
    elif kind == "exchangeable":
        value = np.where(rng.random((count, networks)) < rule.bound, ceiling[:, None], floor[:, None])
    else:
        value = target + 0.2 * noise
    if networks > 1:
        value = value + 0.05 * rng.standard_normal(networks)
    if kind == "rescaled":
        value, floor, ceiling = value * 3, floor * 3, ceiling * 3
    if kind == "identical images":
        again = np.arange(count).repeat(2)
        return Evidence(value[again], floor[again], ceiling[again], again, floor_partners=2 * partners[again])
    return Evidence(value, floor, ceiling, floor_partners=partners)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["repeat", "changes", "simulate"])
    parser.add_argument("network", nargs="?", choices=["resnet20", "squeezenet"], default="resnet20")
    parser.add_argument("--folder", type=Path, default=Path("verdicts"))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument(
        "--audits", type=int, nargs="+", default=range(5), help="numbers, so that several processes share"
    )
    parser.add_argument("--tests", nargs="+", choices=TESTS, default=TESTS)
    parser.add_argument("--repetitions", type=int, default=400)
    options = parser.parse_args()
    print(conditions(), file=sys.stderr)
    if options.what == "simulate":
        print(simulate(options.repetitions))
    elif options.what == "changes":
        print(changes(options.folder / options.network))
    else:
        print(repeat(options.network, options.folder, options.images, options.audits, options.tests))


if __name__ == "__main__":
    main()
