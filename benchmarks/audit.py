"""Parameter randomisation of eight methods in one audit, against Quantus, which drives other libraries one by one.

The cascade from the output, ResNet-18 with random weights: the figures mean nothing, their cost does. Ours is the whole
public path, `sl.audit` with that one test: floors, ceilings, controls, all its measures and verdicts included. Quantus
is asked for nothing but the rank correlation, of maps that it neither scales nor makes positive, and each library
makes them in its fastest form. Both explain the same networks, which are ours; with `--stages 0` both go layer by
layer, and Quantus randomises by itself. Needs the extra `bench`; prints its tables. Run on a quiet machine.
"""

import argparse
import copy
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from captum import attr as captum
from catalogue import CUT, FROZEN, PEERS, Prepare, Scene, captum_input, entry, table
from measure import conditions, operations, peak_mib
from peers import Run, canonizers
from quantus import MPRT
from quantus.helpers import asserts
from quantus.helpers.model.pytorch_model import PyTorchModel
from torch import Tensor, nn
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlus

import sightline as sl
from sightline.auditing.questions._subjects import Subjects
from sightline.evaluation._layers import layers_of
from sightline.evaluation._randomisation import Stage

METHODS = ["gradient", "input_x_gradient", "grad_cam", "grad_cam_plus_plus", "full_grad"]
METHODS += ["guided_backprop", "rect_grad", "lrp_epsilon_plus"]
TEST = "parameter_randomization"


def zennit_lrp(model: nn.Module, images: Tensor, classes: list[int]) -> Run:
    """Merged and hooked for each call, since the weights are others each time."""
    chosen = torch.tensor(classes)[:, None]
    composite = EpsilonPlus(canonizers=canonizers(model.requires_grad_(False)))

    def start(scores: Tensor) -> Tensor:
        return torch.zeros_like(scores).scatter(1, chosen, scores.gather(1, chosen))

    def run() -> Tensor:
        with Gradient(model, composite, start) as peer:
            return peer(images.clone())[1].detach()

    return run


DRIVEN: dict[str, Prepare] = {
    "gradient": PEERS["gradient"]["Captum"],
    "input_x_gradient": PEERS["input_x_gradient"]["Captum"],
    "guided_backprop": partial(captum_input, captum.GuidedBackprop),
    "grad_cam": PEERS["grad_cam"][CUT],
    "grad_cam_plus_plus": PEERS["grad_cam_plus_plus"][CUT],
    "full_grad": PEERS["full_grad"][FROZEN],
    "lrp_epsilon_plus": zennit_lrp,
}


class Taken(NamedTuple):
    """Seconds of a run, those of them in which maps were made, and the mean likeness at each stage, by method."""

    seconds: float
    maps: float
    means: dict[str, list[float]]


class Watch:
    """A function, and the seconds spent in it."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *args: object, **kwargs: object) -> object:
        start = time.perf_counter()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - start


def audited(scene: Scene, methods: Sequence[str], stages: int) -> sl.Audit:
    return sl.audit(scene.model, scene.images, methods, [TEST], randomisation=sl.Randomisation(stages=stages))


def ours(methods: Sequence[str], scene: Scene, stages: int) -> Taken:
    maps = Watch(Subjects.maps)
    with mock.patch.object(Subjects, "maps", autospec=True, side_effect=maps):
        start = time.perf_counter()
        found = audited(scene, methods, stages).table
        seconds = time.perf_counter() - start
    rows = found[(found["test"] == TEST) & (found["measure"] == "spearman")]
    return Taken(seconds, maps.seconds, {name: rows[rows["method"] == name]["mean"].tolist() for name in methods})


def driven(method: str, scene: Scene, stages: int, *, alike: bool = True) -> Taken:
    """One method by Quantus; `alike`: at our networks."""
    model, how = copy.deepcopy(scene.model), sl.Randomisation(stages=stages)
    plan: list[Stage] = how.plan(model, scene.images[:1])

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        found = DRIVEN[method](model, torch.from_numpy(inputs), targets.tolist())()
        return found.mean(1, keepdim=True).numpy()

    def networks(self: PyTorchModel, **_: object) -> Iterator[tuple[str, nn.Module]]:
        return ((stage.name, network) for stage, network in how.cascade(self.model, plan))

    walk = networks if alike else PyTorchModel.get_random_layer_generator
    metric = MPRT(layer_order="top_down", abs=False, normalise=False, disable_warnings=True)
    maps = Watch(explain)
    images, classes = scene.images.numpy(), np.array(scene.classes)
    with (
        mock.patch.object(PyTorchModel, "get_random_layer_generator", walk),
        # Quantus stops at maps that are zero everywhere, as a random network's Grad-CAM may be; unchecked it goes on.
        mock.patch.object(asserts, "assert_attributions"),
    ):
        start = time.perf_counter()
        found = metric(model, images, classes, explain_func=maps, batch_size=len(images))
        seconds = time.perf_counter() - start
    means = [float(np.mean(values)) for stage, values in found.items() if stage != "original"]
    assert len(means) == len(plan)
    return Taken(seconds, maps.seconds, {method: means})


class Case(NamedTuple):
    """Methods that are audited together, and those of them that Quantus is asked for."""

    name: str
    methods: list[str]
    theirs: list[str]


WITHOUT = [method for method in DRIVEN if method != "full_grad"]
CASES = [
    Case(f"the {len(DRIVEN)} that Quantus can drive", list(DRIVEN), list(DRIVEN)),
    Case("the same without full_grad", WITHOUT, WITHOUT),
    Case("with rect_grad, which it cannot", METHODS, list(DRIVEN)),
]


def timed(scene: Scene, stages: int, count: int, *, alike: bool) -> dict[str, list[Taken]]:
    calls: dict[str, Callable[..., Taken]] = {case.name: partial(ours, case.methods) for case in CASES}
    calls |= {method: partial(driven, method, alike=alike) for method in DRIVEN}
    small = Scene.of(len(scene.images), 64)
    for call in calls.values():
        # What is loaded and made at a first call is no part of the work.
        call(scene=small, stages=stages if not alike else 1)
    found: dict[str, list[Taken]] = {name: [] for name in calls}
    for number in range(count):
        # Alternate which comes first, so that a drift of the machine favours neither.
        for name, call in list(calls.items())[:: -1 if number % 2 else 1]:
            found[name].append(call(scene=scene, stages=stages))
    return found


def spread(values: np.ndarray, digits: int = 2) -> str:
    low, middle, high = (f"{value:.{digits}f}" for value in np.percentile(values, [0, 50, 100]))
    return f"{middle} [{low}, {high}]"


def together(found: dict[str, list[Taken]], per: int) -> list[str]:
    lines = table(
        "methods", "ours, s", "of it maps, s", "Quantus, s", "of it maps, s", "Quantus / ours", "of maps alone",
        "ours, ms a stage, image and method", "Quantus, ms",
    )  # fmt: skip
    for name, methods, theirs in CASES:
        mine = np.array([run[:2] for run in found[name]])
        peer = np.sum([[run[:2] for run in found[method]] for method in theirs], 0)
        (all_mine, maps_mine), (all_peer, maps_peer) = np.median(mine, 0), np.median(peer, 0)
        seconds = [f"{value:.1f}" for value in (all_mine, maps_mine, all_peer, maps_peer)]
        ratios = [spread(column) for column in (peer / mine).T]
        units = [f"{1000 * all_mine / per / len(methods):.1f}", f"{1000 * all_peer / per / len(theirs):.1f}"]
        lines.append(entry(name, *seconds, *ratios, *units))
    return lines


def by_method(found: dict[str, list[Taken]], *, alike: bool) -> list[str]:
    lines = table("method", "Quantus, s", "of it maps, s", "largest difference of a stage's mean")
    for method in DRIVEN:
        seconds, maps = np.median([run[:2] for run in found[method]], 0)
        mine, peer = found[CASES[0].name][0].means[method], found[method][0].means[method]
        apart = f"{np.abs(np.subtract(mine, peer)).max():.0e}" if alike else ""
        lines.append(entry(method, f"{seconds:.1f}", f"{maps:.1f}", apart))
    return lines


def arithmetic(size: int, stages: int) -> list[str]:
    scene = Scene.of(1, size)
    forward = operations(lambda: scene.model(scene.images))

    def units(run: Callable[[], object]) -> float:
        return operations(run) / forward

    def explained(methods: Sequence[str]) -> float:
        return units(lambda: sl.explain(scene.model, scene.images, methods, scene.classes))

    alone = {name: explained([name]) for name in METHODS}
    each, together = sum(alone.values()), explained(METHODS)
    whole = units(lambda: audited(scene, METHODS, stages))
    # An audit of one stage makes the maps of one network more than an audit without any.
    stage = (whole - units(lambda: audited(scene, METHODS, 1)) + together) / stages
    return [
        *table("what", "forward passes", "/ each alone"),
        entry("the 8 each alone", f"{each:.2f}", ", ".join(f"{name} {value:.2f}" for name, value in alone.items())),
        entry("the 8 together", f"{together:.2f}", f"{together / each:.3f}"),
        entry(f"the mean stage of {stages}", f"{stage:.2f}", f"{stage / each:.3f}"),
        entry(f"the audit of {stages} stages", f"{whole:.1f}", ""),
    ]


PASS, AUDIT = "the 8 in one pass", "the audit"
FEW, MANY = 4, 16


def memory(size: int) -> list[str]:
    """In three fresh processes each, since what the allocator holds differs from one to the next.

    An audit cuts many images into blocks of its own, which are smaller than the pass that `explain` makes of them.
    """
    lines = table("images", "what", "peak, MiB", "/ one pass")
    found: dict[str, np.ndarray] = {}
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        for batch, what in product((FEW, MANY), (PASS, AUDIT)):
            found[what] = np.array([pool.submit(peak, what, batch, size).result() for _ in range(3)])
            ratio = np.median(found[what]) / np.median(found[PASS])
            lines.append(entry(f"{batch}", what, spread(found[what], 0), f"{ratio:.2f}"))
    return lines


def peak(what: str, batch: int, size: int) -> float:
    """Of an audit of two stages, of which each takes the place of the one before."""
    warnings.simplefilter("ignore")

    def run(scene: Scene) -> object:
        if what == AUDIT:
            return audited(scene, METHODS, 2)
        return sl.explain(scene.model, scene.images, METHODS, scene.classes, chunk=batch)

    # A small run first, so that code loaded by the first call is not counted.
    run(Scene.of(2, 64))
    return peak_mib(partial(run, Scene.of(batch, size)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--stages", type=int, default=10, help="0: every layer, by Quantus's own walk")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--no-time", action="store_true", help="leave out Quantus, which takes longest")
    parser.add_argument("--quick", action="store_true", help="small pictures and one round, to see that it runs")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    size, rounds = (64, 1) if options.quick else (224, options.rounds)
    scene = Scene.of(options.images, size)
    alike = options.stages > 0
    stages = options.stages or len(layers_of(scene.model, scene.images[:1]))
    lines = [
        f"{conditions()}; ResNet-18, {size} px, random weights, {options.images} images, {stages} stages, "
        f"{rounds} rounds.",
    ]
    if not options.no_time:
        found = timed(scene, stages, rounds, alike=alike)
        lines += ["", *together(found, stages * options.images), "", *by_method(found, alike=alike)]
    lines += ["", *arithmetic(size, stages)]
    if not options.no_memory:
        lines += ["", *memory(size)]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
