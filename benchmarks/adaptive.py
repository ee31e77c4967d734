"""Integrated Gradients to a requested residual, against 50 points: what it costs, and what the map is worth.

Trained networks on photographs. For each image the residual of 50 Gauss-Legendre points is asked of the adaptive path;
some maps are then compared with converged ones, for a residual may also be small by luck. Writes its section of
`benchmarks/RESULTS.md` and `adaptive.png` beside it. The pictures are looked for in `../shared/data`, or where the
environment variable SIGHTLINE_DATA says. Run on a quiet machine: ten minutes on two cores.
"""

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from measure import RESULTS, conditions, declare_missing_operators, write_section
from scipy.stats import spearmanr
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import InputTimesSignal
from sightline.sampling import AdaptivePath, Sampling
from sightline.sampling import Path as StraightPath
from sightline.sampling import _adaptive as adaptive
from sightline.sampling._base import Answer, Row

declare_missing_operators()

ROOT = Path(__file__).parents[1]
STEPS = 50
MOST = 1024
LIMIT = 128  # where counting stops for tolerances that the 50 points need not have reached
TOLERANCES = (0.05, 0.02, 0.01, 0.005)
SUM, MAGNITUDES = "abs(sum e)", "sum abs(e)"


class Network(NamedTuple):
    """A network of `tests/helpers/networks.py`, its weights, and the photographs it was trained for."""

    title: str
    factory: str
    weights: str
    folder: str
    compared: int  # of how many images the map is held against the converged one
    colour: str
    marker: str


NETWORKS = [
    Network("SqueezeNet 1.1", "squeezenet1_1", "squeezenet1_1_imagenet_fp16.pt", "imagenet", 5, "#0072B2", "o"),
    Network("MobileNetV2", "mobilenet_v2_same", "mobilenet_v2_imagenet_fp16.pt", "imagenet", 5, "#D55E00", "s"),
    Network("CIFAR ResNet-20", "resnet20_cifar", "resnet20_cifar10.pt", "cifar10/val", 20, "#009E73", "^"),
]


class Magnitudes(adaptive._Line):
    """The experiment: errors of the steps may not cancel, so that it stops at the sum of |e| instead of |sum of e|."""

    def _steps(self) -> list[adaptive._Step]:
        return [step._replace(errors=tuple(map(abs, step.errors))) for step in super()._steps()]


@contextmanager
def stopping_by(rule: str) -> Iterator[None]:
    with mock.patch.object(adaptive, "_Line", Magnitudes) if rule == MAGNITUDES else nullcontext():
        yield


class Way:
    """What a network says on the way from zero to an image, in plain torch; each point is asked once."""

    def __init__(self, model: nn.Module, image: Tensor, label: int) -> None:
        self._model, self._image, self._label = model, image, label
        self._known: dict[float, Answer] = {}

    def gradients(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        x = (shares.to(self._image).view(-1, 1, 1, 1) * self._image).contiguous(memory_format=torch.channels_last)
        values = self._model(x.requires_grad_())[:, self._label]
        return values.detach(), torch.autograd.grad(values.sum(), x)[0]

    def answers(self, rows: list[Row]) -> list[Answer]:
        new = [row.sample for row in rows if row.sample not in self._known]
        if new:
            values, gradients = self.gradients(torch.tensor(new, dtype=torch.float64))
            sums = (gradients * self._image).flatten(1).sum(1)
            for share, value, total in zip(new, values.tolist(), sums.tolist(), strict=True):
                self._known[share] = Answer((value,), (total,))
        return [self._known[row.sample] for row in rows]

    def evaluations(self, tolerance: float) -> int:
        """How often an adaptive path asks."""
        rounds, asked = AdaptivePath(tolerance, LIMIT).rounds(1), 0
        rows = next(rounds)
        while True:
            asked += len(rows)
            try:
                rows = rounds.send(self.answers(rows))
            except StopIteration:
                return asked

    def converged(self, points: int, chunk: int = 40) -> Tensor:
        """The map by the midpoint rule."""
        shares = (torch.arange(points, dtype=torch.float64) + 0.5) / points
        total = torch.zeros_like(self._image, dtype=torch.float64)
        for part in shares.split(chunk):
            total += self.gradients(part)[1].sum(0, dtype=torch.float64)
        return self._image * total / points


class Answered(NamedTuple):
    """One map, its residual as a share of the change in value, its evaluations and its seconds."""

    map: Tensor
    residual: float
    evaluations: int
    seconds: float


class Subject:
    """One image, the class that the network sees in it, and how much of its score comes in on the way from zero."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        self.model, self.image = model, image
        with torch.no_grad():
            scores, nothing = model(image)[0], model(torch.zeros_like(image))[0]
        self.label = int(scores.argmax())
        self.change = float(scores[self.label] - nothing[self.label])

    def ask(self, sampling: Sampling) -> Answered:
        method = sl.Method(sampling=sampling, aggregation=InputTimesSignal(), name="it")
        start = time.perf_counter()
        found = sl.explain(self.model, self.image, method, self.label)
        seconds = time.perf_counter() - start
        counted = found.checks.evaluations.get("it")
        return Answered(
            found["it"],
            abs(float(found.checks.completeness["it"]) / self.change),
            len(sampling.weights) if counted is None else int(counted),
            seconds,
        )


@dataclass
class Found:
    """What one network gave, by image; of the compared maps, by image for each way to make them."""

    network: Network
    fixed: list[Answered] = field(default_factory=list)
    steered: list[Answered] = field(default_factory=list)
    counts: dict[tuple[str, float], list[int]] = field(default_factory=dict)
    compared: dict[str, list["Distance"]] = field(default_factory=dict)
    references: list[float] = field(default_factory=list)


class Distance(NamedTuple):
    """How far a map is from the converged one."""

    evaluations: int
    residual: float
    relative: float
    spearman: float


FIXED, STEERED = f"{STEPS} points", "adaptive, to the residual of 50 points"
SAME_COST = "as many points as that adaptive path"


def distance(answered: Answered, reference: Tensor) -> Distance:
    apart = (answered.map.double() - reference).norm() / reference.norm()
    rank = spearmanr(answered.map.flatten().numpy(), reference.flatten().numpy()).statistic
    return Distance(answered.evaluations, answered.residual, float(apart), float(rank))


def spread(some: int, of: int) -> list[int]:
    """Some places, evenly spread."""
    return np.linspace(0, of - 1, min(some, of)).round().astype(int).tolist()


def examine(network: Network, data: Path, images: int, reference: int) -> Found:
    factory = f"{ROOT / 'tests' / 'helpers' / 'networks.py'}:{network.factory}"
    model = sl.load_model(factory, weights=data / "weights" / network.weights)
    # Photographs by class in their names' order, the pictures of CIFAR-10 in folders.
    files = sorted((data / "images" / network.folder).rglob("*.jpg"))
    pictures = sl.load_images([files[place] for place in spread(images, len(files))], model).tensor
    quick = copy.deepcopy(model).requires_grad_(False).to(memory_format=torch.channels_last)
    Subject(model, pictures[:1]).ask(StraightPath(2))  # so that no first call is timed
    found = Found(network)
    chosen = spread(network.compared, len(pictures))
    for number in range(len(pictures)):
        subject = Subject(model, pictures[number : number + 1])
        fixed = subject.ask(StraightPath(STEPS))
        steered = subject.ask(AdaptivePath(fixed.residual, MOST))
        way = Way(quick, subject.image, subject.label)
        for rule in (SUM, MAGNITUDES):
            with stopping_by(rule):
                # The experiment costs most where it is asked for most.
                asked = TOLERANCES if rule == SUM else TOLERANCES[:2]
                for tolerance in asked:
                    found.counts.setdefault((rule, tolerance), []).append(way.evaluations(tolerance))
                if rule == MAGNITUDES:
                    found.counts.setdefault((rule, 0.0), []).append(way.evaluations(fixed.residual))
        if number in chosen:
            compare(found, subject, way.converged(reference), fixed, steered)
        # Only the figures are kept: a map of each picture would take the memory of a pass.
        found.fixed.append(fixed._replace(map=torch.empty(0)))
        found.steered.append(steered._replace(map=torch.empty(0)))
        print(
            f"{network.title} {number + 1}/{len(pictures)}: residual {fixed.residual:.4f}, "
            f"{steered.evaluations} points instead of {STEPS}, {steered.seconds:.2f} s instead of {fixed.seconds:.2f}",
            file=sys.stderr,
            flush=True,
        )
    return found


def compare(found: Found, subject: Subject, reference: Tensor, fixed: Answered, steered: Answered) -> None:
    found.references.append(abs(float(reference.sum()) / subject.change - 1))

    def magnitudes() -> Answered:
        with stopping_by(MAGNITUDES):
            return subject.ask(AdaptivePath(fixed.residual, LIMIT))

    makers: dict[str, Callable[[], Answered]] = {
        "25 points": lambda: subject.ask(StraightPath(25)),
        FIXED: lambda: fixed,
        "100 points": lambda: subject.ask(StraightPath(100)),
        STEERED: lambda: steered,
        SAME_COST: lambda: subject.ask(StraightPath(steered.evaluations)),
        f"adaptive, to the residual of 50 points by {MAGNITUDES}": magnitudes,
        "adaptive, tolerance 0.05": lambda: subject.ask(AdaptivePath(0.05, LIMIT)),
        "adaptive, tolerance 0.005": lambda: subject.ask(AdaptivePath(0.005, LIMIT)),
    }
    for name, make in makers.items():
        found.compared.setdefault(name, []).append(distance(make(), reference))


def percentiles(values: list[float] | list[int], form: str) -> list[str]:
    return [format(float(value), form) for value in np.percentile(values, (0, 25, 50, 75, 90, 100))]


def counted(counts: list[int], limit: int) -> list[str]:
    """The distribution of evaluations, and the share below 50."""
    cells = [cell if float(cell) < limit else f"≥ {limit}" for cell in percentiles(counts, ".0f")]
    return [*cells, f"{np.mean(np.array(counts) < STEPS):.0%}"]


def report(all_found: list[Found], picture: Path) -> list[str]:
    head = "| min | 25 % | median | 75 % | 90 % | max |"
    lines = ["How often an adaptive path asks, by image:", ""]
    lines += [f"| network | tolerance | stops by {head} fewer than {STEPS} |", "|" + "---|" * 10]
    for found in all_found:
        title = found.network.title
        rows = [("residual of 50 points", SUM, [a.evaluations for a in found.steered], MOST)]
        for (rule, tolerance), counts in found.counts.items():
            rows.append((f"{tolerance}" if tolerance else "residual of 50 points", rule, counts, LIMIT))
        lines += [f"| {' | '.join([title, name, rule, *counted(c, limit)])} |" for name, rule, c, limit in rows]
    lines += ["", f"The residual of {STEPS} Gauss-Legendre points, as a share of the change in value:", ""]
    lines += [f"| network | images {head} seconds, {STEPS} points | seconds, adaptive |", "|" + "---|" * 10]
    for found in all_found:
        residuals = percentiles([a.residual for a in found.fixed], ".4f")
        seconds = [f"{np.mean([a.seconds for a in answers]):.2f}" for answers in (found.fixed, found.steered)]
        lines.append(f"| {' | '.join([found.network.title, str(len(found.fixed)), *residuals, *seconds])} |")
    lines += [
        "",
        "Seconds are means over the images. How far maps are from converged ones (medians over some of the images):",
        "",
        "| network | map | points asked | residual | relative L2 distance | Spearman | closer than 50 points |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in all_found:
        for name, distances in found.compared.items():
            asked, residual, apart, rank = (float(np.median(column)) for column in zip(*distances, strict=True))
            closer = sum(a.relative < b.relative for a, b in zip(distances, found.compared[FIXED], strict=True))
            cells = [found.network.title, name, f"{asked:.0f}", f"{residual:.4f}", f"{apart:.3f}", f"{rank:.3f}"]
            lines.append(f"| {' | '.join([*cells, '' if name == FIXED else f'{closer} of {len(distances)}'])} |")
    lines += ["", f"Is the map at the stop as close to the converged one as that of {STEPS} points?", ""]
    lines += answer(all_found)
    residuals = ", ".join(f"{f.network.title} {max(f.references):.5f}" for f in all_found)
    lines += ["", f"The converged maps' own largest residuals: {residuals}."]
    return [*lines, "", f"![Evaluations and distances]({picture.name})"]


def answer(all_found: list[Found]) -> list[str]:
    said = []
    for found in all_found:
        fixed, steered, same = (found.compared[name] for name in (FIXED, STEERED, SAME_COST))

        def closer(others: list[Distance], mine: list[Distance] = steered) -> int:
            return sum(a.relative <= b.relative for a, b in zip(mine, others, strict=True))

        ratio = float(np.median([a.relative / b.relative for a, b in zip(steered, fixed, strict=True)]))
        said.append(
            f"- {found.network.title}: in {closer(fixed)} of {len(fixed)} images, at a median {ratio:.1f} times its "
            f"distance; closer than Gauss-Legendre with as many points in {closer(same)}."
        )
    return said


def plain_ticks(axis: Axis, ticks: tuple[float, ...]) -> None:
    """Numbers written out on a logarithmic axis."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def draw(all_found: list[Found], path: Path) -> None:
    figure = Figure(figsize=(10, 4.2), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    styles = ("-", "--", "-.")
    distances = []
    for found, style in zip(all_found, styles, strict=True):
        network = found.network
        left.ecdf([a.evaluations for a in found.steered], color=network.colour, linestyle=style, label=network.title)
        pairs = [(a.relative, b.relative) for a, b in zip(found.compared[FIXED], found.compared[STEERED], strict=True)]
        right.scatter(*zip(*pairs, strict=True), color=network.colour, marker=network.marker, label=network.title)
        distances += [value for pair in pairs for value in pair]
    left.axvline(STEPS, color="#555555", linewidth=1)
    left.annotate(f"{STEPS} points", (STEPS, 0.03), xytext=(4, 0), textcoords="offset points", fontsize=8)
    left.set(
        ylim=(0, 1.02), xlabel="points asked for the residual of 50 points", ylabel="share of images", title="Cost"
    )
    ends = (min(distances) / 1.5, max(distances) * 1.5)
    right.plot(ends, ends, color="#555555", linewidth=1)
    right.annotate("equal", ends[:1] * 2, xytext=(10, 3), textcoords="offset points", fontsize=8)
    left.set_xscale("log")
    right.loglog()
    plain_ticks(left.xaxis, (5, 10, 20, 50, 100, 200, 500, 1000))
    for axis in (right.xaxis, right.yaxis):
        plain_ticks(axis, (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1))
    right.set(xlim=ends, ylim=ends, title="Distance from the converged map, relative L2")
    right.set(xlabel=f"map of {STEPS} points", ylabel="map of the adaptive path, same residual")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40, help="photographs for each network of ImageNet")
    parser.add_argument("--small", type=int, default=100, help="pictures of CIFAR-10")
    parser.add_argument("--reference", type=int, default=2000, help="points of the converged maps")
    parser.add_argument("--quick", action="store_true", help="few images and points, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    data = Path(os.environ.get("SIGHTLINE_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "weights").is_dir():
        sys.exit(f"There are no photographs and weights at {data}; name the folder in SIGHTLINE_DATA.")
    images, small, reference = (1, 3, 100) if options.quick else (options.images, options.small, options.reference)
    found = [
        examine(network, data, small if network.folder.startswith("cifar") else images, reference)
        for network in NETWORKS
    ]
    picture = options.out.with_name("adaptive.png")
    draw(found, picture)
    lines = [
        f"{conditions()}; `benchmarks/adaptive.py --images {images} --small {small} --reference {reference}`.",
        "",
        f"For each image, Integrated Gradients from zero for the predicted class with {STEPS} Gauss-Legendre points,",
        "and an adaptive path asked for the residual that they left; `e` is a step's part of the residual.",
        f"Counting stops at {LIMIT} points (at {MOST} for the residual of {STEPS} points by {SUM}). The converged maps",
        f"are by the midpoint rule with {reference} points.",
        "",
        *report(found, picture),
    ]
    write_section(options.out, "Integrated Gradients to a residual against 50 points", lines)


if __name__ == "__main__":
    main()
