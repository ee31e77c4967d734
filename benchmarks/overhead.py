"""What the interception costs: plain torch and a pass of ours, in pairs within one process.

Prints, for each network and batch size, the median ratio of paired runs with a 95 % bootstrap interval, and writes
`benchmarks/RESULTS.md`. Run on a quiet machine: `make bench`.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sightline.operations import INPUT, Kind, Tape
from sightline.propagation import GRADIENT


def declare_missing_operators() -> None:
    """A torchvision built for CUDA lacks two operators beside a CPU-only torch; no classifier calls them."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library  # the declaration lives as long as the library object


def plain(model: nn.Module, images: Tensor) -> Tensor:
    """Input gradient without weight gradients, the fairest form of bare torch."""
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    return gradient


def ours(model: nn.Module, images: Tensor, ruled: tuple[Kind, ...] = ()) -> Tensor:
    """The same through a tape, with the walk that checks it where something is ruled."""
    tape = Tape(model, ruled)
    output = tape.record(images.clone().requires_grad_())
    values = tape.select(lambda scores: scores[:, 0], output)
    if ruled:
        tape.walk(values)
    found = tape.pull_back(values, GRADIENT, [INPUT], keep_graph=False)[INPUT]
    assert found is not None
    return found


def paired(first: Callable[[], object], second: Callable[[], object], pairs: int) -> tuple[float, float, float, float]:
    """Median seconds of `first`, and the median ratio second / first with its 95 % bootstrap interval."""
    for run in (first, second) * 2:
        run()
    ratios, base = [], []
    for number in range(pairs):
        taken = {}
        # Alternate which comes first, so that a drift of the machine favours neither.
        for name, run in [("a", first), ("b", second)][:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            run()
            taken[name] = time.perf_counter() - start
        base.append(taken["a"])
        ratios.append(taken["b"] / taken["a"])
    draws = np.random.default_rng(0).choice(ratios, (2000, pairs))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return statistics.median(base), statistics.median(ratios), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    options = parser.parse_args()
    declare_missing_operators()
    import torchvision

    lines = [
        "# Measurements",
        "",
        f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; "
        f"`benchmarks/overhead.py --pairs {options.pairs}`.",
        "",
        "## The interception against bare torch, input gradient at 224 px",
        "",
        "Bare torch runs with the weights' `requires_grad` as the model has it, and with it switched off, which users",
        "seldom do, and which saves torch from keeping activations for weight gradients, as ours does by itself.",
        "",
        "| network | batch | bare, s | ours / bare | ours / bare, frozen | with rectifier nodes / bare, frozen |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("resnet18", "mobilenet_v2"):
        for batch in (1, 8):
            torch.manual_seed(0)
            model = torchvision.models.get_model(name, weights=None).eval()
            images = torch.randn(batch, 3, 224, 224)
            assert torch.equal(plain(model, images), ours(model, images))
            pairs = options.pairs if batch == 1 else max(10, options.pairs // 2)
            bare = partial(plain, model, images)
            base, *as_is = paired(bare, partial(ours, model, images), pairs)
            model.requires_grad_(False)
            _, *frozen = paired(bare, partial(ours, model, images), pairs)
            _, *ruled = paired(bare, partial(ours, model, images, (Kind.RECTIFIER,)), pairs)
            cells = [f"{ratio:.3f} [{low:.3f}, {high:.3f}]" for ratio, low, high in (as_is, frozen, ruled)]
            lines.append(f"| {name} | {batch} | {base:.3f} | {' | '.join(cells)} |")
            print(lines[-1])
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
