"""The catalogue on ResNet-18: many methods at once and each alone, against the libraries that have them.

Counted arithmetic, paired times, the share of what is not the passes themselves, and peak memory. Ours is the whole
public path, with class activation maps brought to the image's size as the peers bring theirs. A peer is run in every
form that its interface allows, and the fastest counts. Writes sections of `benchmarks/RESULTS.md` and `catalogue.png`
beside it. Run on a quiet machine, with the extra `bench` installed.
"""

import argparse
import copy
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from measure import RESULTS, Paired, conditions, declare_missing_operators, operations, paired, peak_mib, write_section
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import CAM, InputSignal, InputTimesSignal, _full_grad

declare_missing_operators()

import pytorch_grad_cam as grad_cam  # noqa: E402
from captum import attr as captum  # noqa: E402
from peers import Run, network, pictures  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402

NETWORK = "resnet18"
SHARED = ["gradient", "input_x_gradient", "grad_cam", "grad_cam_plus_plus", "x_grad_cam", "hi_res_cam", "layer_cam"]
SHARED += ["full_grad"]
OURS_ONLY = ["grad_cam_positive", "full_grad_positive", "full_grad_signed", "simple_full_grad"]
TWELVE = SHARED + OURS_ONLY
RULED = ["guided_backprop", "deconvnet", "rect_grad", "rect_grad_no_input"]
SAMPLED = ["integrated_gradients", "smooth_grad"]
ALONE = TWELVE + RULED + [*SAMPLED, "smooth_full_grad"]
POINTS = {"integrated_gradients": 50, "smooth_grad": 25, "smooth_full_grad": 25}
ROWS = 16  # of a peer's pass, where it can be told; ours takes as many by itself

Prepare = Callable[[nn.Module, Tensor, list[int]], Run]  # what it does itself is not timed


def ours(methods: Sequence[str], model: nn.Module, images: Tensor, classes: list[int]) -> Run:
    """All methods in one call; what is of a layer's size is brought to the image's, as the peers do."""

    def run() -> Tensor:
        found = sl.explain(model, images, list(methods), classes)
        made = [found[m] if found[m].shape[2:] == images.shape[2:] else found.heatmap(m)[:, None] for m in methods]
        return made[-1].detach()

    return run


def frozen_below(model: nn.Module) -> None:
    """Let gradients flow from the scores to the last layer with height and width, and no further."""
    model.requires_grad_(False)
    model.layer4[-1].bn2.weight.requires_grad_(True)


def grad_cams(kind: type, form: str, model: nn.Module, images: Tensor, classes: list[int]) -> Run:
    """As its README calls it; the weights' flags are what a user may set."""
    if form == "frozen":
        model.requires_grad_(False)
    if form == "cut":
        frozen_below(model)
    layers = [] if kind is grad_cam.FullGrad else [model.layer4[-1]]
    peer, targets = kind(model, layers), [ClassifierOutputTarget(label) for label in classes]
    # FullGrad takes gradients at the input by itself.
    needs = form == "frozen" and bool(layers)
    return lambda: torch.from_numpy(peer(images.clone().requires_grad_(needs), targets))[:, None]


def captum_input(kind: type, model: nn.Module, images: Tensor, classes: list[int], **settings: bool) -> Run:
    peer = kind(model.requires_grad_(False))
    return lambda: peer.attribute(images.clone().requires_grad_(), classes, **settings).detach()


def captum_grad_cam(model: nn.Module, images: Tensor, classes: list[int]) -> Run:
    frozen_below(model)
    peer, size = captum.LayerGradCam(model, model.layer4[-1]), tuple(images.shape[2:])

    def run() -> Tensor:
        found = peer.attribute(images, classes, relu_attributions=True)
        return captum.LayerAttribution.interpolate(found, size, "bilinear").detach()

    return run


def captum_path(rows: int | None, model: nn.Module, images: Tensor, classes: list[int]) -> Run:
    peer = captum.IntegratedGradients(model.requires_grad_(False))

    def run() -> Tensor:
        found, _ = peer.attribute(
            images, target=classes, n_steps=50, internal_batch_size=rows, return_convergence_delta=True
        )
        return found.detach()

    return run


def captum_noise(rows: int | None, model: nn.Module, images: Tensor, classes: list[int]) -> Run:
    """The deviation is one for all images there; here it is the one that ours has for the first."""
    peer = captum.NoiseTunnel(captum.Saliency(model.requires_grad_(False)))
    settings = {"nt_samples": 25, "stdevs": 0.15 * float(images[0].max() - images[0].min()), "abs": False}
    settings["nt_samples_batch_size"] = rows and max(1, rows // len(images))
    return lambda: peer.attribute(images.clone().requires_grad_(), target=classes, **settings).detach()


AS_CALLED, FROZEN, CUT = "pytorch-grad-cam", "pytorch-grad-cam, frozen", "pytorch-grad-cam, frozen below the layer"


def cam(kind: type) -> dict[str, Prepare]:
    forms = {AS_CALLED: "as is", FROZEN: "frozen", CUT: "cut"}
    return {name: partial(grad_cams, kind, form) for name, form in forms.items()}


PEERS: dict[str, dict[str, Prepare]] = {
    "gradient": {"Captum": partial(captum_input, captum.Saliency, abs=False)},
    "input_x_gradient": {"Captum": partial(captum_input, captum.InputXGradient)},
    "grad_cam": cam(grad_cam.GradCAM) | {"Captum": captum_grad_cam},
    "grad_cam_plus_plus": cam(grad_cam.GradCAMPlusPlus),
    "x_grad_cam": cam(grad_cam.XGradCAM),
    "hi_res_cam": cam(grad_cam.HiResCAM),
    "layer_cam": cam(grad_cam.LayerCAM),
    "full_grad": {name: form for name, form in cam(grad_cam.FullGrad).items() if name != CUT},
    "integrated_gradients": {f"Captum, {ROWS} rows a pass": partial(captum_path, ROWS)},
    "smooth_grad": {f"Captum, {ROWS} rows a pass": partial(captum_noise, ROWS)},
}
# All samples in one pass, as Captum does unless told otherwise; of eight images they would take tens of gigabytes.
ONE_IMAGE_ONLY: dict[str, dict[str, Prepare]] = {
    "integrated_gradients": {"Captum": partial(captum_path, None)},
    "smooth_grad": {"Captum": partial(captum_noise, None)},
}


def peers_of(method: str, batch: int) -> dict[str, Prepare]:
    return PEERS.get(method, {}) | (ONE_IMAGE_ONLY.get(method, {}) if batch == 1 else {})


class Scene(NamedTuple):
    """What is explained: a network, images, and the class predicted for each."""

    model: nn.Module
    images: Tensor
    classes: list[int]

    @classmethod
    def of(cls, batch: int, size: int) -> "Scene":
        model, images = network(NETWORK), pictures(batch, size)
        with torch.no_grad():
            return cls(model, images, model(images).argmax(1).tolist())

    def ours(self, methods: Sequence[str]) -> Run:
        return ours(methods, self.model, self.images, self.classes)

    def peer(self, prepare: Prepare) -> Run:
        """Each works on a model of its own, since hooks and flags stay."""
        return prepare(copy.deepcopy(self.model), self.images, self.classes)

    def one_by_one(self, forms: dict[str, Prepare]) -> Run:
        runs = [self.peer(prepare) for prepare in forms.values()]
        return lambda: [run() for run in runs]  # type: ignore[return-value]

    def bare(self) -> Run:
        """Forward and backward to the input, in plain torch, on weights that need no gradient."""
        model = copy.deepcopy(self.model).requires_grad_(False)
        chosen = torch.tensor(self.classes)[:, None]

        def run() -> Tensor:
            x = self.images.clone().requires_grad_()
            (found,) = torch.autograd.grad(model(x).gather(1, chosen).sum(), x)
            return found

        return run


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def table(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]


def entry(*cells: str) -> str:
    line = f"| {' | '.join(cells)} |"
    say(line)
    return line


def first_forms() -> dict[str, Prepare]:
    """Each peer as it is called without further thought, for the methods that all have."""
    return {method: next(iter(PEERS[method].values())) for method in SHARED}


def arithmetic(size: int, units: dict[str, tuple[float, float]]) -> list[str]:
    scene = Scene.of(1, size)
    forward = operations(lambda: scene.model(scene.images))

    def count(run: Run) -> float:
        return operations(run) / forward

    def said(number: float) -> str:
        return f"{number:.2f}" if number < 20 else f"{number:.1f}"

    lines = table("methods", "ours", "peers")
    best = {method: min(count(scene.peer(form)) for form in PEERS[method].values()) for method in SHARED}
    least, usual = sum(best.values()), count(scene.one_by_one(first_forms()))
    for name, methods, peers in (
        ("the 12 together", TWELVE, f"8 of them: {least:.2f} in the best forms, {usual:.2f} as called"),
        ("the 8 that peers have", SHARED, f"{least:.2f} in the best forms, {usual:.2f} as called"),
        (f"the 12 and {', '.join(RULED)}", TWELVE + RULED, "not all"),
    ):
        units[name] = (count(scene.ours(methods)), least)
        lines.append(entry(name, said(units[name][0]), peers))
    for method in ALONE:
        theirs = {name: count(scene.peer(form)) for name, form in PEERS.get(method, {}).items()}
        units[method] = (count(scene.ours([method])), min(theirs.values(), default=float("nan")))
        peers = ", ".join(f"{name} {said(number)}" for name, number in theirs.items()) or "none"
        lines.append(entry(method, said(units[method][0]), peers))
    return lines


def correlation(mine: Tensor, theirs: Tensor) -> float:
    """The least correlation over the images; peers bring class activation maps to 0..1, which it does not see."""
    pairs = zip(mine.flatten(1).numpy(), theirs.flatten(1).numpy(), strict=True)
    with np.errstate(invalid="ignore"):
        return float(min(np.corrcoef(a, b)[0, 1] for a, b in pairs))


class Fastest(NamedTuple):
    """The fastest form of the peers that have a method."""

    name: str
    prepare: Prepare
    times: Paired


def alone(batch: int, size: int, pairs: int, fastest: dict[str, Fastest]) -> list[str]:
    scene, lines = Scene.of(batch, size), []
    for method in PEERS:
        mine, repeats = scene.ours([method]), repetitions(method, batch, pairs)
        found = {}
        for name, prepare in peers_of(method, batch).items():
            theirs = scene.peer(prepare)
            times = paired(theirs, mine, repeats)
            found[name] = Fastest(name, prepare, times)
            alike = f"{correlation(mine(), theirs()):.4f}"
            lines.append(entry(method, str(batch), *seconds(times.second, times.first), name, str(times), alike))
        fastest[method] = min(found.values(), key=lambda form: form.times.first)
    return lines


def repetitions(method: str, batch: int, pairs: int) -> int:
    """Fewer where one call takes many passes."""
    return max(2, pairs // ((1 if method not in POINTS else 5) * (1 if batch == 1 else 2)))


def seconds(*values: float) -> list[str]:
    return [f"{value:.3f}" for value in values]


def together(batch: int, size: int, pairs: int, fastest: dict[str, Fastest]) -> tuple[list[str], dict[str, Paired]]:
    scene, lines, found = Scene.of(batch, size), [], {}
    chains = {
        "in their fastest forms": {method: fastest[method].prepare for method in SHARED},
        "as called": first_forms(),
    }
    for name, methods in (("the 12", TWELVE), ("the 8 that peers have", SHARED)):
        for form, chain in chains.items():
            times = paired(scene.ours(methods), scene.one_by_one(chain), max(2, pairs // (1 if batch == 1 else 2)))
            found[f"{name}, {form}"] = times
            mine, theirs = seconds(times.first, times.second)
            lines.append(entry(name, str(batch), mine, f"the 8, {form}", theirs, str(times)))
    return lines, found


@contextmanager
def clocked() -> Iterator[Callable[[], float]]:
    """Seconds spent in what makes maps of signals, wherever it is called from."""
    spent, depth = 0.0, 0

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        @wraps(function)
        def run(*args: object, **kwargs: object) -> object:
            nonlocal spent, depth
            depth, start = depth + 1, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                depth -= 1
                spent += 0 if depth else time.perf_counter() - start

        return run

    made_by = {
        CAM: ("__call__", "coincidences"),
        InputSignal: ("__call__",),
        InputTimesSignal: ("__call__",),
        _full_grad._Reader: ("map", "_hear"),
    }
    with ExitStack() as stack:
        for kind, names in made_by.items():
            for name in names:
                stack.enter_context(mock.patch.object(kind, name, timed(getattr(kind, name))))
        yield lambda: spent


def shares(batch: int, size: int, pairs: int) -> list[str]:
    """What of a call is not the passes."""
    scene = Scene.of(batch, size)

    def explain(methods: list[str]) -> sl.Explanation:
        return sl.explain(scene.model, scene.images, methods, scene.classes)

    def display(found: sl.Explanation) -> None:
        for name in TWELVE:
            heat = found.heatmap(name).numpy()
            for values in heat:
                scale = float(np.percentile(np.abs(values), 98)) or 1.0
                np.clip(values / scale, -1, 1)

    bare = scene.bare()
    one = paired(bare, lambda: explain(["gradient"]), pairs)
    inside = paired(bare, lambda: explain(TWELVE), pairs)
    whole = paired(bare, lambda: display(explain(TWELVE)), pairs)
    found, direct, shown = explain(TWELVE), [], []
    for _ in range(max(3, pairs)):
        with clocked() as spent:
            explain(TWELVE)
        direct.append(spent())
        start = time.perf_counter()
        display(found)
        shown.append(time.perf_counter() - start)
    aggregation, drawing = float(np.median(direct)), float(np.median(shown))

    def row(what: str, value: float, spread: str = "") -> str:
        return entry(what, str(batch), f"{value:.4f}", f"{value / inside.first:.1%}", spread)

    def above(times: Paired) -> str:
        return f"{times.ratio - 1:.1%} [{times.low - 1:.1%}, {times.high - 1:.1%}]"

    return [
        row("bare forward and backward to the input", inside.first),
        row("`explain`, gradient alone, less bare", one.second - one.first, above(one)),
        row("`explain`, the 12, less bare", inside.second - inside.first, above(inside)),
        row("the same with display", whole.second - whole.first, above(whole)),
        row("aggregation, timed within `explain`", aggregation),
        row("display, timed by itself: 12 heatmaps, 98th percentiles, scaling", drawing),
        row("aggregation and display", aggregation + drawing),
    ]


REMEMBERED = ["the 12 together", "full_grad", "grad_cam", *SAMPLED, "smooth_full_grad"]


def memory(batch: int, size: int) -> list[str]:
    lines = table("methods", "batch", "ours, MiB", "peers, MiB")
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        for what in REMEMBERED:
            forms = ["the 8, as called"] if what == REMEMBERED[0] else list(PEERS.get(what, {}))
            found = {form: pool.submit(peak, what, form, batch, size).result() for form in ("ours", *forms)}
            mine = found.pop("ours")
            peers = ", ".join(f"{form} {mib:.0f}" for form, mib in found.items()) or "none"
            lines.append(entry(what, str(batch), f"{mine:.0f}", peers))
    return lines


def peak(what: str, form: str, batch: int, size: int) -> float:
    """In a process of its own."""
    warnings.simplefilter("ignore")

    def prepared(scene: Scene) -> Run:
        if form == "ours":
            return scene.ours(TWELVE if what == REMEMBERED[0] else [what])
        return scene.one_by_one(first_forms()) if what == REMEMBERED[0] else scene.peer(PEERS[what][form])

    # A small run first, so that code loaded by the first call is not counted.
    prepared(Scene.of(1, 64))()
    return peak_mib(prepared(Scene.of(batch, size)))


def draw(
    path: Path,
    units: dict[str, tuple[float, float]],
    fastest: dict[int, dict[str, Fastest]],
    chains: dict[int, dict[str, Paired]],
    bare: dict[int, float],
) -> None:
    """Arithmetic and time, ours against the fastest peer; what takes several points is divided by their number."""
    rows = ["the 12 together", *PEERS]
    labels = [f"{name} / {POINTS[name]}" if name in POINTS else name for name in rows]
    labels[0] = "the 12 together\n(peers: 8 of them)"
    panels = {"arithmetic, forward passes": [units[row] for row in rows]}
    for batch, forms in fastest.items():
        both = {method: (form.times.second, form.times.first) for method, form in forms.items()}
        both[rows[0]] = chains[batch]["the 12, in their fastest forms"][:2]
        title = f"time, bare forward and backward = 1, batch {batch}"
        # What was not measured has no bar.
        panels[title] = [tuple(value / bare[batch] for value in both.get(row, (np.nan, np.nan))) for row in rows]
    figure = Figure(figsize=(12, 5.2), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    places = np.arange(len(rows))
    panes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, values) in zip(panes, panels.items(), strict=True):
        sides = [("ours", "#0072B2", 0), ("fastest peer", "#E69F00", 1)]
        divided = np.array([[v / POINTS.get(row, 1) for v in both] for row, both in zip(rows, values, strict=True)])
        for name, colour, side in sides:
            bars = axes.barh(places + (side - 0.5) * 0.4, divided[:, side], 0.38, color=colour, label=name)
            written = ["" if np.isnan(value) else f"{value:.2f}" for value in divided[:, side]]
            axes.bar_label(bars, written, fontsize=7, padding=2)
        axes.set_title(title, fontsize=9)
        axes.set_yticks(places, labels, fontsize=8)
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20, help="for one image; fewer for batches and many passes")
    parser.add_argument("--batches", default="1,8", help="how many images at once, with commas")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--quick", action="store_true", help="small pictures and two pairs, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    size, pairs, batches = (
        (64, 2, [1, 2])
        if options.quick
        else (
            224,
            options.pairs,
            [int(batch) for batch in options.batches.split(",")],
        )
    )
    about = f"{conditions()}; `benchmarks/catalogue.py --pairs {pairs}`, ResNet-18, {size} px, random weights."
    picture = options.out.with_name("catalogue.png")
    units: dict[str, tuple[float, float]] = {}
    write_section(
        options.out,
        "The catalogue on ResNet-18: counted arithmetic",
        [
            about,
            "",
            "In forward passes of the network, one image. The 12 are the methods that read the plain gradient:",
            f"{', '.join(TWELVE)}. Integrated Gradients is with its residual.",
            "",
            *arithmetic(size, units),
        ],
    )
    fastest: dict[int, dict[str, Fastest]] = {batch: {} for batch in batches}
    chains: dict[int, dict[str, Paired]] = {}
    of_chains = table("ours", "batch", "ours, s", "peers one by one", "peers, s", "peers / ours")
    of_each = table("method", "batch", "ours, s", "peer, s", "peer", "ours / peer", "least correlation of the maps")
    for batch in batches:
        of_each += alone(batch, size, pairs, fastest[batch])
        lines, chains[batch] = together(batch, size, pairs, fastest[batch])
        of_chains += lines
    write_section(
        options.out,
        "The catalogue on ResNet-18: time against the peers",
        [
            about,
            "",
            "Pairs of runs within one process, in alternating order; 95 % bootstrap interval of the median ratio.",
            f"Without a peer, and therefore not in the peers' time: {', '.join(OURS_ONLY)}.",
            "",
            *of_chains,
            "",
            "pytorch-grad-cam is timed by its `__call__`, which ends on the CPU in numpy and OpenCV: each map is",
            "brought to the image's size and to 0..1. Ours therefore brings class activation maps to that size too.",
            "Frozen: the weights need no gradient, the input does. Frozen below the layer: only the last norm's weight",
            "needs one, so that the backward ends there. Captum's weights are frozen; its noise has one deviation for",
            "all images and numbers of its own. pytorch-grad-cam's FullGrad scales each channel by itself, which is",
            "another map, and with its epsilon Grad-CAM++ depends on the scale of the score.",
            "",
            *of_each,
            "",
            f"![Ours against the fastest peer]({picture.name})",
        ],
    )
    of_shares = table("what", "batch", "seconds", "share of bare", "median of pairs")
    write_section(
        options.out,
        "The catalogue on ResNet-18: what is not the passes",
        [about, "", *of_shares, *[line for batch in batches for line in shares(batch, size, pairs)]],
    )
    bare = {batch: paired(run := Scene.of(batch, size).bare(), run, pairs).first for batch in batches}
    draw(picture, units, fastest, chains, bare)
    if not options.no_memory:
        lines = memory(batches[-1], size)
        write_section(
            options.out,
            "The catalogue on ResNet-18: peak memory",
            [about, "", "Of a call, each in a process of its own.", "", *lines],
        )


if __name__ == "__main__":
    main()
