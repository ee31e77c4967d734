"""Runs over whole data sets: throughput beside the bare loop, memory by size, what the store takes, Ray beside local.

CIFAR-10's photographs and ResNet-20, looked for in `../shared/data`, or where the environment variable SIGHTLINE_DATA
says. The bare loop explains the same images from a tensor in memory, in the same chunks, and keeps nothing; rounds of
both alternate in one process.

    python benchmarks/runs.py local
    python benchmarks/runs.py memory
    python benchmarks/runs.py ray
    python benchmarks/runs.py rates
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import conditions, declare_missing_operators
from torch.utils.flop_counter import FlopCounterMode

import sightline as sl
from sightline.runs import Recipe
from sightline.runs._source import open_source, read
from sightline.runs._store import Store
from sightline.runs._work import Worker

declare_missing_operators()

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SIGHTLINE_DATA", ROOT.parent / "shared" / "data"))
TWELVE = ["gradient", "saliency", "input_x_gradient", "grad_cam", "grad_cam_plus_plus", "layer_cam", "guided_backprop",
          "full_grad", "lrp_epsilon", "lrp_epsilon_plus", "rect_grad", "excitation_backprop"]  # fmt: skip


def recipe(folder: Path, images: int, methods: list[str], chunk: int = 64, **engine: Any) -> Recipe:
    return Recipe(
        methods=methods, targets=["predicted"],
        model={"spec": f"{ROOT}/tests/helpers/networks.py:resnet20_cifar",
               "weights": str(DATA / "weights/resnet20_cifar10.pt"), "device": "cpu"},
        data={"images": [str(DATA / "images/cifar10/train")], "limit": images},
        output={"folder": str(folder), "chunk": chunk},
        engine=engine,
    )  # fmt: skip


def spent(owner: type, name: str, total: dict[str, float]) -> Callable[[], None]:
    """Add up the seconds of a method's calls; the function returned stops that."""
    own = getattr(owner, name)

    def timed(*given: Any, **settings: Any) -> Any:
        start = time.perf_counter()
        try:
            return own(*given, **settings)
        finally:
            total[name] = total.get(name, 0.0) + time.perf_counter() - start

    setattr(owner, name, timed)
    return lambda: setattr(owner, name, own)


def clock(times: list[float]) -> Callable[[int, int, str], None]:
    """Write down when each chunk was done."""
    return lambda *_: times.append(time.perf_counter())


def bare(asked: Recipe) -> Callable[[], float]:
    """Seconds of explaining images that are in memory, in the same chunks."""
    network = asked.network()
    source = open_source(asked.data, asked.folder)
    batch = read(source, range(len(source.names)), sl.model_info(network).preprocessing, asked.data.max_pixels).batch
    assert batch is not None
    size = asked.output.chunk

    def loop() -> float:
        start = time.perf_counter()
        for first in range(0, len(batch), size):
            part = batch.tensor[first : first + size]
            sl.explain(network, part, list(asked.methods), on_refusal="record")
        return time.perf_counter() - start

    return loop


def local(images: int, rounds: int) -> None:
    ratios, whole, shares = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        asked = recipe(Path(folder) / "out", images, TWELVE)
        loop = bare(asked)
        loop()
        for number in range(rounds):
            # Whichever comes first has the machine as it is then.
            alone = loop() if number % 2 else 0.0
            total: dict[str, float] = {}
            stops = [spent(Worker, "write", total)]
            began: list[float] = []
            shutil.rmtree(asked.output.folder, ignore_errors=True)
            start = time.perf_counter()
            sl.run(asked, progress=clock(began))
            end = time.perf_counter()
            for stop in stops:
                stop()
            alone = alone or loop()
            # The first word is said when model and images are ready.
            ratios.append(alone / (end - began[0]))
            whole.append(alone / (end - start))
            shares.append(total["write"] / (end - began[0]))
    print(
        f"{conditions()}; {images} photographs, 12 methods, {rounds} rounds: throughput of the bare loop kept "
        f"{spread(ratios)}, start-up included {spread(whole)}; writing takes {spread(shares)} of the time, beside"
    )


def memory(small: int, large: int) -> None:
    """Peak resident memory, each in a process of its own."""
    peaks = {}
    for images in (small, large):
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, __file__, "peak", "--images", str(images), "--folder", folder]
            done = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603
            peaks[images] = float(done.stdout)
    print(
        f"{conditions()}; peak of {small} images {peaks[small]:.0f} MiB, of {large} {peaks[large]:.0f} MiB, "
        f"ratio {peaks[large] / peaks[small]:.3f}"
    )


def peak(folder: Path, images: int) -> None:
    sl.run(recipe(folder / "out", images, ["gradient", "grad_cam", "lrp_epsilon"]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def ray(images: int, rounds: int) -> None:
    """Two workers of a thread each, beside the local engine with two threads; both warm."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            seconds = {}
            for name in ("local", "ray"):
                place = Path(folder) / f"{name}{number}"
                times: list[float] = []
                asked = recipe(place, images, TWELVE, 32, name=name, workers=2, threads=1)
                sl.run(asked, progress=clock(times))
                # Warm is from the fourth chunk that is done to the last one, by which time both workers are at work.
                seconds[name] = (times[-1] - times[4]) / (len(times) - 5)
            ratios.append(seconds["local"] / seconds["ray"])
            print(json.dumps(seconds), file=sys.stderr)
    print(f"{conditions()}; {images} photographs, 12 methods, {rounds} rounds: Ray / local throughput {spread(ratios)}")


def rates() -> None:
    """What an estimate for a larger data set rests on: operations of ResNet-50, milliseconds of reading and writing."""
    large = sl.load_model("torchvision:resnet50", pretrained=False)
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    counts = []
    for targets in ([], [None], [None, 3]):
        with FlopCounterMode(display=False) as counter:
            if targets:
                sl.explain(large, image, TWELVE, targets=targets)
            else:
                large(image)
        counts.append(counter.get_total_flops())
    once, one, two = counts
    print(
        f"ResNet-50 at 224: {once / 1e9:.2f} GFLOP a pass; 12 methods {one / once:.2f} passes, for two targets "
        f"{two / once:.2f}"
    )
    network = sl.load_model(f"{ROOT}/tests/helpers/networks.py:mobilenet_v2", pretrained=False)
    source = open_source(recipe(Path(), 1, TWELVE).data.model_copy(
        update={"images": [str(DATA / "images/imagenet")], "limit": 100}), Path())  # fmt: skip
    start = time.perf_counter()
    read(source, range(100), sl.model_info(network).preprocessing, 10**8)
    print(f"{conditions()}; reading a photograph of 256 pixels: {10 * (time.perf_counter() - start):.2f} ms")
    for side, precision in ((224, "float32"), (224, "float16"), (56, "float16")):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(folder)
            store.manifest = {"identity": {"chunk": 64, "precision": precision}, "count": 256}
            maps = torch.randn(64, side, side, generator=torch.Generator().manual_seed(0)).numpy().astype(precision)
            for name in TWELVE:
                store.create("predicted", name, (side, side), {})
            times = []
            for number in range(4):
                start = time.perf_counter()
                store.write(number, "rates", {("predicted", name): maps for name in TWELVE}, [], [])
                times.append((time.perf_counter() - start) / 64 * 1000)
            size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 256
            print(f"twelve maps of {side} x {side} in {precision}: {spread(times)} ms, {size / 1e6:.2f} MB an image")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["local", "memory", "peak", "ray", "rates"])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    options = parser.parse_args()
    match options.what:
        case "local":
            local(options.images, options.rounds)
        case "memory":
            memory(1000, 10_000)
        case "peak":
            peak(options.folder, options.images)
        case "rates":
            rates()
        case "ray":
            ray(options.images, options.rounds)


if __name__ == "__main__":
    main()
