"""What the interception costs: plain torch and a pass of ours, in pairs within one process.

Prints, for each network and batch size, the median ratio of paired runs with a 95 % bootstrap interval, and writes
its section of `benchmarks/RESULTS.md`. Run on a quiet machine: `make bench`.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from measure import RESULTS, conditions, declare_missing_operators, paired, write_section
from torch import Tensor, nn

from sightline.operations import INPUT, Kind, Tape, kinds
from sightline.propagation import GRADIENT


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
    found = tape.pull_back(values, GRADIENT, [INPUT], keep_graph=False)[0][INPUT]
    assert found is not None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    declare_missing_operators()
    import torchvision

    lines = [
        f"{conditions()}; `benchmarks/overhead.py --pairs {options.pairs}`.",
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
            as_is = paired(bare, partial(ours, model, images), pairs)
            model.requires_grad_(False)
            frozen = paired(bare, partial(ours, model, images), pairs)
            ruled = paired(bare, partial(ours, model, images, (kinds.RECTIFIER,)), pairs)
            lines.append(f"| {name} | {batch} | {as_is.first:.3f} | {as_is} | {frozen} | {ruled} |")
            print(lines[-1])
    write_section(options.out, "The interception against bare torch, input gradient at 224 px", lines)


if __name__ == "__main__":
    main()
