"""What the benchmarks share: paired times, peak memory, counted arithmetic, and sections of one file of results."""

import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

RESULTS = Path(__file__).with_name("RESULTS.md")


def declare_missing_operators() -> None:
    """A torchvision built for CUDA lacks two operators beside a CPU-only torch; no classifier calls them."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library  # the declaration lives as long as the library object


def conditions() -> str:
    """On what the figures were taken."""
    return f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


class Paired(NamedTuple):
    """Median seconds of both, and the median ratio second / first with its 95 % bootstrap interval."""

    first: float
    second: float
    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"


def paired(first: Callable[[], object], second: Callable[[], object], pairs: int) -> Paired:
    """Two calls in turn, so that what the machine does meanwhile meets both."""
    for run in (first, second) * 2:
        run()
    firsts, seconds = [], []
    for number in range(pairs):
        taken = {}
        # Alternate which comes first, so that a drift of the machine favours neither.
        for name, run in [("a", first), ("b", second)][:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            run()
            taken[name] = time.perf_counter() - start
        firsts.append(taken["a"])
        seconds.append(taken["b"])
    ratios = np.array(seconds) / np.array(firsts)
    draws = np.random.default_rng(0).choice(ratios, (2000, pairs))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return Paired(*(float(value) for value in (np.median(firsts), np.median(seconds), np.median(ratios), low, high)))


class Counter(TorchDispatchMode):
    """`FlopCounterMode` without its tracking of modules, which refuses `autograd.grad` where weights need gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=found)
        return found


def operations(run: Callable[[], object]) -> int:
    """Floating point operations of a call, counted."""
    with Counter() as counter:
        run()
    return counter.total


def peak_mib(run: Callable[[], object]) -> float:
    """How far the resident memory of this process rises during a call. Linux only; a fresh process each, please."""
    # The kernel's own peak, set back first: the one of `getrusage` remembers what came before the call, and even the
    # process that started this one.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - before) / 1024


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


def write_section(path: Path, title: str, lines: list[str]) -> None:
    """Put a section into a file of results, in place of the one of that title; the others stay."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Measurements\n"
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    kept = {section.splitlines()[0]: section for section in sections}
    kept[title] = "\n".join([title, "", *lines])
    path.write_text("\n\n".join([head.strip(), *(f"## {s.strip()}" for s in kept.values())]) + "\n", encoding="utf-8")
