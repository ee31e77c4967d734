"""What Gradient Artificial Distancing costs: the fit beside a bare training loop, both strategies, explaining, memory.

Writes its section of `benchmarks/RESULTS.md`. Run on a quiet machine.
"""

import argparse
import copy
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from measure import RESULTS, conditions, declare_missing_operators, operations, paired, peak_mib, write_section
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

declare_missing_operators()

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from torchvision.models import resnet18  # noqa: E402

import sightline as sl  # noqa: E402
from helpers.networks import resnet20_cifar  # noqa: E402
from sightline.gad._samples import samples_of  # noqa: E402
from sightline.gad._settings import Training  # noqa: E402
from sightline.gad._training import Checkpoints, Task, train  # noqa: E402

ALPHAS = (2, 4, 6, 8)
METHODS = ["input_x_gradient", "guided_backprop"]


def scene(name: str, images: int) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = resnet20_cifar() if name == "resnet20_cifar" else resnet18(num_classes=10)
    size = 32 if name == "resnet20_cifar" else 128
    return model.eval(), torch.randn(images, 3, size, size), torch.arange(images) % 2


def bare(model: nn.Module, images: Tensor, targets: Tensor, steps: int, batch: int) -> None:
    network = copy.deepcopy(model)
    optimiser = torch.optim.Adam(network.parameters(), lr=4e-5)
    order, done = torch.randperm(len(images)), 0
    while done < steps:
        for rows in order.split(batch):
            if done == steps:
                break
            loss = F.mse_loss(network(images[rows]), targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1


def ours(model: nn.Module, images: Tensor, labels: Tensor, targets: Tensor, steps: int, batch: int) -> None:
    network = copy.deepcopy(model)
    samples = samples_of((images, labels), (0, 1))
    with tempfile.TemporaryDirectory() as folder:
        task = Task("it", samples, torch.arange(len(images)), targets)
        train(network, task, Training(steps=steps, batch_size=batch), Checkpoints(Path(folder) / "c"))


def throughput(name: str, batch: int, pairs: int) -> str:
    # Checkpoints fall where epochs end, as in a fit: one in ten steps here, where real epochs are longer.
    model, images, labels = scene(name, 10 * batch)
    with torch.no_grad():
        targets = torch.cat([model(part) for part in images.split(batch)])
    steps = 20
    times = paired(
        lambda: bare(model, images, targets, steps, batch),
        lambda: ours(model, images, labels, targets, steps, batch),
        pairs,
    )
    share = f"{1 / times.ratio:.3f} [{1 / times.high:.3f}, {1 / times.low:.3f}]"
    return f"| {name} | {batch} | {steps / times.first:.2f} | {steps / times.second:.2f} | {share} |"


def fit(name: str, strategy: str, images: int, epochs: int, alphas: tuple[int, ...] = ALPHAS) -> sl.GAD:
    model, pictures, labels = scene(name, images)
    gad = sl.GAD(model, (0, 1), alphas, strategy=strategy, epochs=epochs, batch_size=32)
    return gad.fit((pictures, labels), controls=False)


def strategies() -> list[str]:
    """Counted on images as many as a report looks at, and ten epochs, as in the study; then what 10,000 come to."""
    counts = {s: operations(lambda s=s: fit("resnet20_cifar", s, 64, 10)) for s in ("trained", "interpolated")}
    started, seconds = time.perf_counter(), {}
    for strategy in counts:
        fit("resnet20_cifar", strategy, 640, 3)
        seconds[strategy] = time.perf_counter() - started
        started = time.perf_counter()
    # In forward passes over the training images: the targets, ten epochs a network, and the report's look at a part.
    looked = 1024 / 10_000
    exact = [1 + 3 * 10 * trained + 4 * looked for trained in (4, 1)]
    return [
        f"- arithmetic, counted, 64 images, 10 epochs: {counts['interpolated'] / counts['trained']:.3f} of `trained`",
        f"- arithmetic for 10,000 images, 10 epochs: {exact[1]:.1f} against {exact[0]:.1f} passes, "
        f"{exact[1] / exact[0]:.3f}",
        f"- seconds, 640 images, 3 epochs, one run each: {seconds['interpolated'] / seconds['trained']:.3f}",
    ]


def explaining(pairs: int) -> list[str]:
    gad = fit("resnet18", "interpolated", 32, 1)
    lines = []
    for count in (8, 32):
        images = scene("resnet18", count)[1]
        once = lambda images=images: sl.explain(gad.model, images, METHODS, 0)  # noqa: E731
        times = paired(once, lambda images=images: gad.explain(images, METHODS, 0), pairs)
        counted = operations(lambda images=images: gad.explain(images, METHODS, 0)) / operations(once)
        lines.append(f"- {count} images, five networks against one `explain`: arithmetic {counted:.3f}, time {times}")
    return lines


def peak(alphas: int) -> float:
    torch.set_num_threads(1)

    def run() -> None:
        fit("resnet18", "trained", 32, 1, tuple(range(1, alphas + 1)))

    # Once for the code itself, and for what the allocator keeps.
    fit("resnet18", "trained", 32, 1, (1,))
    return peak_mib(run)


def memory() -> list[str]:
    fresh = multiprocessing.get_context("spawn")
    lines = []
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        for alphas in (1, 2, 4, 8):
            lines.append(f"| {alphas} | {pool.submit(peak, alphas).result():.0f} |")  # noqa: PERF401 - one by one
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()

    def said(make: Callable[[], list[str]]) -> list[str]:
        lines = make()
        print("\n".join(lines), file=sys.stderr, flush=True)
        return lines

    lines = [
        f"{conditions()}; `benchmarks/gad_cost.py --pairs {options.pairs}`, random weights and images.",
        "",
        "Training a support network against a bare loop of the same steps, paired runs; checkpoints included.",
        "",
        "| network | batch | bare, steps a second | ours | ours / bare |",
        "|---|---|---|---|---|",
        *said(lambda: [throughput("resnet20_cifar", 128, options.pairs), throughput("resnet18", 16, options.pairs)]),
        "",
        "`interpolated` against `trained`, four distances:",
        "",
        *said(strategies),
        "",
        "Explaining, ResNet-18, 128 px, input x gradient and Guided Backprop; weights are read anew at each call:",
        "",
        *said(lambda: explaining(options.pairs)),
        "",
        "Peak memory of `fit`, ResNet-18 at 128 px, batches of 32, in a process of its own:",
        "",
        "| distances | MiB |",
        "|---|---|",
        *said(memory),
    ]
    write_section(options.out, "Gradient Artificial Distancing: what it costs", lines)


if __name__ == "__main__":
    main()
