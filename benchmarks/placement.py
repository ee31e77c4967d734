"""Where Grad-CAM's cells lie on timm's families, against the gradient at the input: an oracle that knows no layout.

For the smallest variant of every timm module, with random weights and a batch of two pictures that are not square where
the network allows it: the feature map that Grad-CAM reads by itself; for a dozen of its cells, the centroid of the top
one percent of the energy of the cell's gradient at the pixels. Their correlation, along each axis, with where the
layout says the cells lie is 1 where it is right, and falls at once where axes are swapped, windows misread or cells
flipped.

    python benchmarks/placement.py [MODULE ...] > placement.csv
"""

import math
import re
import sys
import time
import warnings

import numpy as np
import torch
from measure import declare_missing_operators
from torch import Tensor, nn

declare_missing_operators()

import timm  # noqa: E402

from sightline.errors import SightlineError  # noqa: E402
from sightline.operations import LAST_SPATIAL, Grid, Tape  # noqa: E402

SMALL = ("test_", "atto", "femto", "pico", "nano", "xxs", "xx_small", "xxtiny", "zepto", "xs", "_tiny", "_ti", "_t0",
         "_t_", "mini", "small", "_s0", "_s_", "_b0", "_m0", "_0", "18", "26", "50")  # fmt: skip
CELLS = 12


def smallest(module: str) -> str:
    """The variant of a module whose name sounds smallest."""
    names = timm.list_models(module=module)
    return min(names, key=lambda name: next((i for i, word in enumerate(SMALL) if word in name), len(SMALL)))


def settled(model: nn.Module) -> nn.Module:
    """Random weights nowhere zero, so that every part has a say."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                # Layer scales and last layers may start at zero.
                if float(parameter.std()) < 1e-3:
                    nn.init.normal_(parameter, 0, 0.05)
            elif re.search(r"gamma|scale|ls\d", name) and float(parameter.abs().max()) < 0.1:
                parameter.fill_(0.5)
    for block in model.modules():
        if isinstance(block, nn.BatchNorm2d):
            nn.init.uniform_(block.running_var, 0.5, 1.5)
            if float(block.weight.detach().abs().max()) < 0.1:
                nn.init.ones_(block.weight)
        biases = getattr(block, "attention_biases", None)
        if isinstance(biases, Tensor):
            # LeViT and its kin: with random weights each cell would look at the whole image, and its centroid at no
            # place of its own. One bias for each distance, rows times columns.
            distances = torch.arange(biases.shape[1])
            width = math.isqrt(biases.shape[1])
            biases.data.copy_((-8.0 * (distances // width + distances % width)).expand_as(biases))
    return model


def centroid(energy: Tensor) -> np.ndarray:
    """Row and column of the middle of the largest hundredth of an energy."""
    flat = energy.flatten()
    kept = torch.where(flat >= flat.kthvalue(int(0.99 * flat.numel())).values, flat, 0).view_as(energy)
    total = float(kept.sum())
    return np.array([float((kept.sum(1 - axis) * torch.arange(energy.shape[axis])).sum()) / total for axis in (0, 1)])


def measure(name: str) -> dict[str, object]:
    """One network."""
    started = time.perf_counter()
    model = timm.create_model(name, pretrained=False, num_classes=8)
    size = model.pretrained_cfg["input_size"][1:]
    model = settled(model).eval()
    for shape in ((size[0], size[1] + 64), tuple(size)):
        images = torch.randn(2, 3, *shape)
        try:
            with torch.no_grad():
                model(images)
        except Exception:  # noqa: BLE001, S112 - it takes squares only
            continue
        break
    row: dict[str, object] = {"model": name, "image": "x".join(map(str, shape))}
    try:
        tape = Tape(model, (), [LAST_SPATIAL])
        inputs = images.requires_grad_()
        output = tape.record(inputs)
        value = tape.select(lambda z: (z[0] if isinstance(z, tuple | list) else z)[:, 1], output)
        place = tape.seen_from(value)[LAST_SPATIAL]
    except SightlineError as error:
        return row | {"outcome": "refused", "why": str(error)[:160], "seconds": time.perf_counter() - started}
    grid = place.grid
    assert isinstance(grid, Grid)
    # The result itself, as it stands in the graph.
    shape_of = place.values.shape
    generator = np.random.default_rng(0)
    said, found = [], []
    weights = torch.randn(1, place.channels_first().shape[1], generator=torch.Generator().manual_seed(1))
    for _ in range(CELLS):
        cell = [int(generator.integers(n)) for n in grid.sizes]
        signal = torch.zeros(shape_of, requires_grad=True)
        read = grid.read(signal)[:1, :, cell[0], cell[1]]
        (start,) = torch.autograd.grad((read * weights).sum(), signal)
        (at_input,) = torch.autograd.grad(
            outputs=[place.edge], inputs=[inputs], grad_outputs=[start], retain_graph=True
        )
        found.append(centroid(at_input[0].square().sum(0)))
        said.append([(s.low + s.high) / 2 + t * i for s, t, i in zip(grid.spans, grid.steps, cell, strict=True)])
    said_at, found_at = np.array(said), np.array(found)
    rows, columns = (float(np.corrcoef(said_at[:, a], found_at[:, a])[0, 1]) for a in (0, 1))
    return row | {
        "outcome": "read", "where": place.where, "cells": "x".join(map(str, grid.sizes)),
        "step": "x".join(f"{step:g}" for step in grid.steps),
        "first": " ".join(f"{s.low:g}..{s.high:g}" if s.low != s.high else f"{s.low:g}" for s in grid.spans),
        "rows": round(rows, 4), "columns": round(columns, 4),
        "off": round(float(np.median(np.abs(said_at - found_at))), 2), "seconds": time.perf_counter() - started,
    }  # fmt: skip


def main() -> None:
    """A line for each network."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    columns = (
        "model",
        "image",
        "outcome",
        "rows",
        "columns",
        "off",
        "cells",
        "step",
        "first",
        "where",
        "why",
        "seconds",
    )
    print(",".join(columns), flush=True)
    for module in sys.argv[1:] or timm.list_modules():
        name = smallest(module) if module in timm.list_modules() else module
        try:
            found = measure(name)
        except Exception as error:  # noqa: BLE001 - one network is one line
            found = {"model": name, "outcome": "failed", "why": f"{type(error).__name__}: {error}"[:160]}
        print(
            ",".join(str(found.get(column, "")).replace(",", ";").replace("\n", " ") for column in columns), flush=True
        )


if __name__ == "__main__":
    main()
