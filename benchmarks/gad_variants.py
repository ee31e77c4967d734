"""Variants of GAD beside controls that need no distancing: does any find the deciding part better?

*Creatures*, both tasks (tail, ears), three trained networks, pictures that pass the twin test. The score of a map is
the share of its K best pixels that lie on the deciding part, K being the size of that part. Settings of each arm (how
the networks' maps become one, and how the result is smoothed) are chosen on one half of the pictures and reported on
the other. Networks and scores of each picture are kept in the folder, so an interrupted run goes on.

    python benchmarks/gad_variants.py --folder gad-variants
"""

import argparse
import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measure import conditions
from scipy import stats
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from sightline.demo._small_resnet import SmallResNet, train_on
from sightline.demo.creatures import Creatures, passes_twin_test
from sightline.explaining import Pair, explain
from sightline.gad._consistency import Consistency
from sightline.gad._samples import samples_of
from sightline.gad._settings import Training
from sightline.gad._targets import distanced, shuffled
from sightline.gad._training import Task, train
from sightline.methods import as_method

TASKS = {"tail": (0, 1), "ears": (0, 2)}
ALPHAS = (2, 4, 6, 8)  # only the last is trained; the weights of the others lie on the line to it
BEHIND = ("layer2", "layer3", "fc")  # what comes after the depth `middle`, the result of `layer1`
RANK = 4
STEPS, BATCH, RATE, LOW_RANK_RATE = 60, 64, 4e-4, 4e-3
NOISE = 0.1

CAM, LRP = "hi_res_cam@middle", "lrp_gamma"
_CAM = as_method("hi_res_cam")
METHODS = {
    # Signed, so that maps of two networks can be subtracted; its absolute value is taken when it is drawn.
    "saliency": as_method("gradient"),
    "input_x_gradient": as_method("input_x_gradient"),
    "guided_backprop": as_method("guided_backprop"),
    LRP: as_method("lrp_gamma"),
    CAM: replace(_CAM, aggregation=replace(_CAM.aggregation, relu=False, layer="middle")),
}
BASE = ("saliency", "input_x_gradient", "guided_backprop")
BLURS = (1.0, 1.5, 3.0)

VARIANTS = ("distanced", "twins", "antisymmetric", "behind middle", "low rank")
"""How the support networks are trained. Each is also trained with shuffled labels."""
CONTROLS = ("weight noise", "fine-tuned")
QUESTIONS = {
    "class": ("min", "mean", "average", "last"),
    "pair": ("min", "mean", "average", "last"),
    "change": ("last",),  # of the other class: original less distanced
    "change of pair": ("last",),  # distanced less original
    "pair x consistency": ("ratio",),
    "pair x change": ("last",),
}


class Cell(NamedTuple):
    """One network and one task, with the pictures to score: the twin test passed, every second one for choosing."""

    seed: int
    task: str
    images: Tensor
    truth: Tensor
    labels: list[int]

    @property
    def name(self) -> str:
        return f"{self.seed}-{self.task}"

    @property
    def others(self) -> list[int]:
        classes = TASKS[self.task]
        return [classes[1 - classes.index(label)] for label in self.labels]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("gad-variants"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="of the networks")
    parser.add_argument("--pictures", type=int, default=120, help="of each network and task, both halves together")
    parser.add_argument("--training", type=int, default=3000, help="pictures of all four classes")
    parser.add_argument("--kinds", nargs="*", help="networks to train and score; by default all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(conditions(), file=sys.stderr)
    kinds = options.kinds or [*CONTROLS, *(k for v in VARIANTS for k in (v, f"{v}, shuffled"))]
    for kind in kinds:
        for seed in options.seeds:
            for task in TASKS:
                file = options.folder / "scores" / f"{kind}-{seed}-{task}.pt"
                if not file.exists():
                    started = time.perf_counter()
                    file.parent.mkdir(parents=True, exist_ok=True)
                    torch.save(scores(kind, seed, task, options), part := file.with_suffix(".part"))
                    part.replace(file)
                    print(f"{file.stem}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    table = "\n".join(tables(options.folder / "scores", kinds, options.seeds))
    (options.folder / "table.md").write_text(table + "\n", encoding="utf-8")
    print(table)


# Networks


@cache
def base(seed: int, folder: Path) -> nn.Module:
    file = folder / "networks" / f"{seed}.pt"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(train_on(Creatures(12_000, seed=seed), seed=seed).state_dict(), file)
    model = SmallResNet(4)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval().requires_grad_(False)


class Update(nn.Module):
    """A network with a trained update of some of its weights, which starts at zero: full, or of low rank."""

    def __init__(self, model: nn.Module, names: list[str], rank: int | None = None, seed: int = 0) -> None:
        super().__init__()
        # In a tuple, so that the weights of the model are not trained.
        self.model, self.names, self.rank = (model,), names, rank
        self.shapes = [model.get_parameter(name).shape for name in names]
        draw = torch.Generator().manual_seed(seed)
        self.parts, self.left = nn.ParameterList(), nn.ParameterList()
        for shape in self.shapes:
            if rank is None:
                self.parts.append(torch.zeros(shape))
            else:
                self.left.append(torch.randn(shape[0], rank, generator=draw) / rank**0.5)
                self.parts.append(torch.zeros(rank, shape[1:].numel()))

    def weights(self) -> dict[str, Tensor]:
        updates = self.parts if self.rank is None else [a @ b for a, b in zip(self.left, self.parts, strict=True)]
        given = zip(self.names, updates, self.shapes, strict=True)
        return {name: self.model[0].get_parameter(name) + update.view(shape) for name, update, shape in given}

    def forward(self, images: Tensor) -> Tensor:
        return functional_call(self.model[0], self.weights(), (images,))


@cache
def drawn(seed: int, count: int, task: str) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures to train on, of the two classes of a task, their twins, and their labels."""
    pictures, classes = Creatures(count, seed=seed + 2_000_000), TASKS[task]
    rows = [i for i, label in enumerate(pictures.labels.tolist()) if label in classes]
    return pictures.images[rows], pictures.twins(task).images[rows], pictures.labels[rows]


def trained(kind: str, seed: int, task: str, options: argparse.Namespace, run: int = 0) -> dict[str, Tensor]:
    """The weights that training changed, kept in the folder."""
    file = options.folder / "networks" / f"{kind}-{run}-{seed}-{task}.pt"
    if file.exists():
        return torch.load(file, weights_only=True)
    model, classes = base(seed, options.folder), TASKS[task]
    images, twins, labels = drawn(seed, options.training, task)
    variant, _, without_classes = kind.partition(", ")
    taken = shuffled(labels, seed) if without_classes else labels
    if variant == "twins":
        # The twin shows the other class, so that nothing but the part tells which logit is lowered.
        images, taken = torch.cat([images, twins]), torch.cat([taken, sum(classes) - taken])
    with torch.no_grad():
        logits = torch.cat([model(some) for some in images.split(256)])
    names = [name for name, _ in model.named_parameters()]
    rank, rate, loss = None, RATE, F.mse_loss
    if variant == "fine-tuned":
        targets, loss = labels, F.cross_entropy
    elif variant == "antisymmetric":
        half = ALPHAS[-1] / 2
        targets = distanced(logits, taken, classes, (half, half))
        targets[torch.arange(len(taken)), taken] += half
    else:
        targets = distanced(logits, taken, classes, (ALPHAS[-1], ALPHAS[-1]))
    if variant == "behind middle":
        names = [name for name in names if name.startswith(BEHIND)]
    if variant == "low rank":
        rank, rate = RANK, LOW_RANK_RATE
        names = [name for name in names if model.get_parameter(name).dim() > 1]
    update = Update(model, names, rank)
    training = Training("eval", rate, steps=STEPS, batch_size=BATCH, seed=seed * 10 + run)
    samples = samples_of((images, taken), classes)
    train(update, Task(kind, samples, torch.arange(len(images)), targets, loss), training)
    weights = {name: weight.detach() for name, weight in update.weights().items()}
    torch.save(weights, file)
    return weights


def supports(kind: str, cell: Cell, options: argparse.Namespace) -> Iterator[nn.Module]:
    """The networks whose maps are joined with the original's, as many for every kind."""
    model = base(cell.seed, options.folder)
    for run, alpha in enumerate(ALPHAS):
        network = copy.deepcopy(model)
        with torch.no_grad():
            if kind == "weight noise":
                draw = torch.Generator().manual_seed(1000 * cell.seed + run)
                for weight in network.parameters():
                    weight *= 1 + NOISE * torch.randn(weight.shape, generator=draw)
            else:
                tuned = kind == "fine-tuned"
                weights = trained(kind, cell.seed, cell.task, options, run if tuned else 0)
                for name, weight in weights.items():
                    network.get_parameter(name).lerp_(weight, 1 if tuned else alpha / ALPHAS[-1])
        yield network


# Scores


@cache
def held_out(seed: int, folder: Path, count: int) -> tuple[Creatures, Tensor]:
    pictures = Creatures(count * 4, seed=seed + 1_000_000)
    return pictures, passes_twin_test(base(seed, folder), pictures)


@cache
def cell_of(seed: int, task: str, folder: Path, count: int) -> tuple[Cell, dict[str, dict[str, Tensor]]]:
    """The pictures of a network and a task, and the original network's maps of them."""
    pictures, passed = held_out(seed, folder, count)
    labels = pictures.labels.tolist()
    rows = [i for i, label in enumerate(labels) if label in TASKS[task] and passed[i]][:count]
    if len(rows) < count:
        raise SystemExit(f"Only {len(rows)} of {count} pictures passed the twin test; draw more.")
    truth = pictures.part_masks(task)[rows]
    cell = Cell(seed, task, pictures.images[rows], truth, [labels[i] for i in rows])
    return cell, maps(base(seed, folder), cell)


def maps(network: nn.Module, cell: Cell) -> dict[str, dict[str, Tensor]]:
    """Maps of the picture's class, of the other one, and of the pair: by question and method."""
    targets = [cell.labels, cell.others, Pair(cell.labels, cell.others)]
    found = explain(network, cell.images, list(METHODS.values()), targets=targets)
    return {
        question: {
            # The gradient of each channel is kept, since its absolute value is taken after subtraction.
            name: one["gradient"] if name == "saliency" else one.heatmap(method.name)[:, None]
            for name, method in METHODS.items()
        }
        for question, one in zip(("class", "other", "pair"), found, strict=True)
    }


def heatmaps(method: str, values: Tensor) -> Tensor:
    return values.abs().amax(-3) if method == "saliency" else values.squeeze(-3)


def orderings(stack: dict[str, Tensor], method: str) -> Iterator[tuple[str, str, Tensor]]:
    """Maps made from those of the original network (first) and of the support networks: question, reading, map."""
    for question in ("class", "pair"):
        shown = heatmaps(method, stack[question])
        yield question, "min", Consistency("nested").scores(shown)
        yield question, "mean", Consistency("mean").scores(shown)
        yield question, "average", shown.mean(0)
        yield question, "last", shown[-1]
    change = heatmaps(method, stack["other"][0] - stack["other"][-1])
    yield "change", "last", change
    yield "change of pair", "last", heatmaps(method, stack["pair"][-1] - stack["pair"][0])
    shown = heatmaps(method, stack["pair"]).clamp(min=0)
    normalised = shown / shown.amax((2, 3), keepdim=True).clamp(min=1e-30)
    yield "pair x consistency", "ratio", shown[0] * normalised.amin(0) / normalised.amax(0).clamp(min=1e-30)
    yield "pair x change", "last", shown[0] * change.clamp(min=0)


def treated(heatmap: Tensor, guides: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The same smoothing for every arm; `min` and `mean` have no negative values, so the others lose theirs too."""
    yield "none", heatmap
    yield "signed, blur 1.5", blurred(heatmap, 1.5)
    positive = heatmap.clamp(min=0)
    for blur in BLURS:
        yield f"blur {blur:g}", blurred(positive, blur)
    for name, guide in guides.items():
        yield f"x {name}", positive * guide


def blurred(heatmap: Tensor, pixels: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(heatmap.numpy(), (0, pixels, pixels), mode="nearest"))


def scores(kind: str, seed: int, task: str, options: argparse.Namespace) -> dict[tuple[str, ...], Tensor]:
    """For each method, question, reading and treatment, the score of each picture; the pair's of the original too."""
    cell, original = cell_of(seed, task, options.folder, options.pictures)
    asked, said = [original], []
    for network in supports(kind, cell, options):
        asked.append(maps(network, cell))
        said.append(logits_of(network, cell))
    moved = said[-1] - logits_of(base(seed, options.folder), cell)
    guides = {name: heatmaps(name, original["pair"][name]).clamp(min=0) for name in (CAM, LRP)}
    found = {("logit", who, "", ""): moved[:, place] for place, who in enumerate(("class", "other"))}
    for method in METHODS:
        stack = {question: torch.stack([one[question][method] for one in asked]) for question in original}
        alone = heatmaps(method, original["pair"][method])
        for question, reading, heatmap in [*orderings(stack, method), ("original pair", "alone", alone)]:
            for treatment, final in treated(heatmap, guides):
                found[method, question, reading, treatment] = shares(final, cell.truth)
    return found


@torch.no_grad()
def logits_of(network: nn.Module, cell: Cell) -> Tensor:
    """The logits of the picture's class and of the other one."""
    return network(cell.images).gather(1, torch.tensor([cell.labels, cell.others]).T)


def shares(heatmap: Tensor, truth: Tensor) -> Tensor:
    """Of the K highest pixels, the share on the truth, K being its size; equal pixels are taken at random."""
    order = torch.randperm(truth[0].numel(), generator=torch.Generator().manual_seed(0))
    size = truth.flatten(1).sum(1)
    highest = heatmap.flatten(1)[:, order].topk(int(size.max()), dim=1).indices
    hits = truth.flatten(1)[:, order].gather(1, highest) & (torch.arange(highest.shape[1]) < size[:, None])
    return hits.sum(1) / size


# Tables


class Gain(NamedTuple):
    """A mean difference in points: over pictures within these networks, and over networks (two degrees of freedom)."""

    mean: float
    pictures: float  # half the 95 % interval
    networks: float  # the same
    p: float  # two-sided, over pictures

    def __str__(self) -> str:
        low, high = self.mean - self.pictures, self.mean + self.pictures
        least, most = self.mean - self.networks, self.mean + self.networks
        return f"{self.mean:+.1f} [{low:+.1f}, {high:+.1f}] ({least:+.1f}, {most:+.1f})"


Scores = dict[tuple[str, ...], np.ndarray]


def gain(first: np.ndarray, second: np.ndarray) -> Gain:
    """Of two arrays of shape (network, task, picture)."""
    points = 100 * (first - second)
    error = np.sqrt((points.var(2, ddof=1) / points.shape[2]).sum()) / points[..., 0].size
    by_network = points.mean((1, 2))
    count = len(by_network)
    spread = stats.t.ppf(0.975, count - 1) * by_network.std(ddof=1) / count**0.5 if count > 1 else np.inf
    mean = float(points.mean())
    p = 2 * stats.norm.sf(abs(mean) / error) if error else float(mean == 0)
    return Gain(mean, 1.96 * error, spread, float(p))


def holm(p: list[float]) -> np.ndarray:
    order = np.argsort(p)
    corrected = np.maximum.accumulate(np.array(p)[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected[np.argsort(order)]


def read(folder: Path, kinds: list[str], seeds: list[int]) -> dict[str, Scores]:
    """The scores of each kind that is done for all networks and tasks, each of shape (network, task, picture)."""
    found = {}
    for kind in kinds:
        files = [[folder / f"{kind}-{seed}-{task}.pt" for task in TASKS] for seed in seeds]
        if all(file.exists() for row in files for file in row):
            parts = [[torch.load(file, weights_only=True) for file in row] for row in files]
            keys = parts[0][0]
            found[kind] = {k: np.stack([[part[k].numpy() for part in row] for row in parts]) for k in keys}
    return found


def tables(folder: Path, kinds: list[str], seeds: list[int]) -> list[str]:
    data = read(folder, kinds, seeds)
    if not data:
        return ["Nothing is done for all networks and tasks yet."]
    original = {key: values for key, values in next(iter(data.values())).items() if key[1] == "original pair"}
    pictures = next(iter(original.values())).shape[2]
    choosing, reported = slice(1, None, 2), slice(0, None, 2)
    lines = [
        f"{len(seeds)} networks, 2 tasks, {len(range(pictures)[reported])} pictures of each reported and as many for "
        f"choosing. Points over `pair` of the same method with the same treatment (first row: shares in %), [95 % over "
        f"pictures within these networks] (95 % t interval over {len(seeds)} networks).",
        "",
    ]
    lines += [*fixed(data, original, reported), *chosen(data, original, choosing, reported), ""]
    lines += ["| networks | class's logit | other logit |", "|---|---|---|"]
    for kind, scores in data.items():
        moved = [f"{scores['logit', who, '', ''].mean():+.1f}" for who in ("class", "other")]
        lines.append(f"| {kind} | {' | '.join(moved)} |")
    return lines


def fixed(data: dict[str, Scores], original: Scores, half: slice) -> list[str]:
    """Every arm at one reading, as it is and blurred by 1.5 px."""
    lines = []
    for treatment in ("none", "blur 1.5"):
        lines += [f"Treatment: {treatment}.", "", f"| arm | {' | '.join(BASE)} |", "|---|" + "---|" * len(BASE)]
        pair = {m: original[m, "original pair", "alone", treatment][..., half] for m in METHODS}
        lines.append(f"| pair, share in % | {' | '.join(f'{100 * pair[m].mean():.1f}' for m in BASE)} |")
        rows: dict[str, dict[str, np.ndarray]] = {f"{m} of the pair": dict.fromkeys(BASE, pair[m]) for m in (CAM, LRP)}
        for guide in (CAM, LRP) if treatment == "none" else ():
            name = f"x {guide}"
            rows[f"pair {name}"] = {m: original[m, "original pair", "alone", name][..., half] for m in BASE}
        for kind, scores in data.items():
            asked = (
                [("pair", "average")] if kind in CONTROLS else [(q, readings[0]) for q, readings in QUESTIONS.items()]
            )
            # Of the networks alone, which shuffled labels change as far.
            asked += [] if kind in CONTROLS else [("pair", "last")]
            for question, reading in asked:
                rows[f"{kind}: {question}, {reading}"] = {
                    m: scores[m, question, reading, treatment][..., half] for m in BASE
                }
        lines += [
            f"| {name} | {' | '.join(str(gain(row[m], pair[m])) for m in BASE)} |" for name, row in rows.items()
        ] + [""]
    return lines


def chosen(data: dict[str, Scores], original: Scores, choosing: slice, half: slice) -> list[str]:
    """Every arm and every control at the reading and treatment that were best on the choosing half."""

    def best(scores: Scores, method: str, question: str) -> tuple[str, np.ndarray]:
        keys = [key for key in scores if key[:2] == (method, question)]
        key = max(keys, key=lambda k: scores[k][..., choosing].mean())
        return f"{key[2]}, {key[3]}", scores[key][..., half]

    lines = [
        "Reading and treatment chosen on the other half, for arms and controls alike. `p` is the largest over all "
        "controls (over pictures), corrected by Holm over the arms of a method.",
        "",
        "| method | arm | setting | share, % | over the best control | which | over shuffled, same question "
        "| over shuffled, pair | p, Holm |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        controls = {
            f"{m} of the pair": best(original, m, "original pair")[1] for m in dict.fromkeys((method, CAM, LRP))
        }
        controls |= {kind: best(data[kind], method, "pair")[1] for kind in CONTROLS if kind in data}
        for name, values in controls.items():
            lines.append(f"| {method} | *{name}* |  | {100 * values.mean():.1f} |  |  |  |  |  |")
        rows, worst = [], []
        for kind in (k for k in VARIANTS if k in data and f"{k}, shuffled" in data):
            for question in QUESTIONS:
                setting, values = best(data[kind], method, question)
                beside, pair = (best(data[f"{kind}, shuffled"], method, q)[1] for q in (question, "pair"))
                shuffles = {"shuffled": beside, "shuffled pair": pair}
                gains = {name: gain(values, other) for name, other in (controls | shuffles).items()}
                # Not better than a control is no evidence, however small the two-sided figure.
                worst.append(max(g.p if g.mean > 0 else 1.0 for g in gains.values()))
                over_shuffled, over_pair = (gains.pop(name) for name in shuffles)
                least = min(gains, key=lambda name: gains[name].mean)
                rows.append(
                    f"| {method} | {kind}: {question} | {setting} | {100 * values.mean():.1f} "
                    f"| {gains[least]} | {least} | {over_shuffled} | {over_pair} |"
                )
        lines += [f"{row} {p:.2g} |" for row, p in zip(rows, holm(worst) if worst else [], strict=True)]
    return lines


if __name__ == "__main__":
    main()
