"""Parts that decide the class, painted in the colour that the network's input encodes as zero: who still sees them?

On Creatures the deciding parts are known, and some are grey or black. One trained network is asked in two encodings of
the same function, in which grey is zero and in which black is; each method with and without its factor of the input.

    python benchmarks/null_parts.py --network network.pt
"""

import argparse
import sys
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from measure import conditions
from torch import Tensor, nn

from sightline.demo._small_resnet import SmallResNet, train_on
from sightline.demo.creatures import Creatures, passes_twin_test
from sightline.evaluation._encoding import shifted
from sightline.evaluation._intervals import mean_interval
from sightline.evaluation._localisation import rank_accuracy
from sightline.explaining import explain
from sightline.methods import catalogue

METHODS = ["gradient", "input_x_gradient", "integrated_gradients", "rect_grad", "lrp_epsilon", "lrp_epsilon_plus",
           "lrp_alpha1_beta0", "lrp_z_plus", "guided_backprop", "grad_cam"]  # fmt: skip
# Creatures are encoded from -1 to 1.
ENCODINGS = {"grey is zero": 0.0, "black is zero": 1.0}


def trained(file: Path) -> nn.Module:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(train_on(Creatures(12_000, seed=0), seed=0).state_dict(), file)
    model = SmallResNet(4)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval().requires_grad_(False)


def pictures(model: nn.Module, count: int) -> tuple[Creatures, dict[str, list[int]]]:
    """Pictures of the three kinds that the network decides by the parts alone."""
    kinds: dict[str, list[int]] = {"grey": [], "black": []}
    drawn = Creatures(6 * count, seed=1_000_000, null_share=0.8)
    passed = passes_twin_test(model, drawn).tolist()
    for number, creature in enumerate(drawn.creatures):
        if passed[number]:
            kinds.setdefault(creature.null or "coloured", []).append(number)
    return drawn, {kind: rows[:count] for kind, rows in kinds.items()}


def hits(model: nn.Module, images: Tensor, labels: list[int], deciding: Tensor) -> dict[str, Tensor]:
    rows = catalogue()
    asked = [rows[name] for name in METHODS]
    asked += [found for one in asked if (found := one.without_input) is not None]
    (found,) = explain(model, images, asked, targets=[labels])
    return {one.name: rank_accuracy(found.heatmap(one.name), deciding) for one in asked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, default=Path("null-parts/network.pt"), help="trained where missing")
    parser.add_argument("--pictures", type=int, default=100, help="of each kind")
    options = parser.parse_args()
    print(conditions(), file=sys.stderr)
    model = trained(options.network)
    drawn, kinds = pictures(model, options.pictures)
    table = []
    for (encoding, shift), (kind, rows) in product(ENCODINGS.items(), kinds.items()):
        network, images = shifted(model, drawn.images[rows], shift)
        for method, values in hits(network, images, drawn.labels[rows].tolist(), drawn.deciding[rows]).items():
            low, high = mean_interval(values.double().numpy())
            table.append((method, encoding, kind, f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"))
    columns = ["method", "encoding", "parts", "hits"]
    wide = pd.DataFrame(table, columns=columns).pivot_table(
        index="method", columns=["encoding", "parts"], values="hits", aggfunc="first", sort=False
    )
    counts = ", ".join(f"{len(rows)} {kind}" for kind, rows in kinds.items())
    print(f"Share of the K highest pixels that lie on the K of the deciding parts; pictures: {counts}.\n")
    print("| " + " | ".join(["method", *(f"{encoding}, {parts}" for encoding, parts in wide.columns)]) + " |")
    print("|---" * (1 + len(wide.columns)) + "|")
    for method, row in wide.iterrows():
        print("| " + " | ".join([str(method), *row]) + " |")


if __name__ == "__main__":
    main()
