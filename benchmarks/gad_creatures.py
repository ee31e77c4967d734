"""Gradient Artificial Distancing against known truth: does it find the deciding part better than matched controls?

On Creatures, two classes that differ in one part alone. Of the pixels that stay important, the share that lies on
that part, beside as many pixels from the original map cut higher, from distancing with shuffled labels, and from a
random part of the original's; paired by picture, three networks. Readings are chosen on pictures not reported.

    python benchmarks/gad_creatures.py --folder gad-creatures
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measure import conditions
from torch import nn

import sightline as sl
from sightline._common.seeds import seed_of
from sightline.demo._small_resnet import SmallResNet, train_on
from sightline.demo.creatures import Creatures, passes_twin_test
from sightline.gad import Consistency
from sightline.gad.reproduction import gains_on_truth, on_truth

METHODS = ["saliency", "input_x_gradient", "guided_backprop", "integrated_gradients"]
READINGS = {
    f"{reading} {share:g}" + (" with new" if new else ""): Consistency(reading, share, new)
    for reading in ("nested", "mean", "rank")
    for share in ((0.1, 0.3, 0.5) if reading != "rank" else (0.05, 0.2, 0.5))
    for new in ((False, True) if reading == "mean" else (False,))
}
PAIRS = {"tail": (0, 1), "ears": (0, 2)}


def trained(seed: int, folder: Path) -> nn.Module:
    file = folder / f"network-{seed}.pt"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(train_on(Creatures(12_000, seed=seed), seed=seed).state_dict(), file)
    model = SmallResNet(4)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def examine(seed: int, part: str, mode: str, options: argparse.Namespace) -> pd.DataFrame:
    model, classes = trained(seed, options.folder), PAIRS[part]
    drawn = Creatures(options.training, seed=seed + 2_000_000)
    rows = [i for i, label in enumerate(drawn.labels.tolist()) if label in classes]
    folder = options.folder / f"{seed}-{part}-{mode}"
    gad = sl.GAD(model, classes, (2, 4, 6, 8), mode=mode, rate=options.rate, epochs=options.epochs, folder=folder)
    started = time.perf_counter()
    gad.fit((drawn.images[rows], drawn.labels[rows]))
    print(f"seed {seed}, {part}, {mode}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    gad.report.assign(seed=seed, part=part, mode=mode).to_csv(folder / "fit.csv", index=False)
    held_out = Creatures(options.pictures * 4, seed=seed + 1_000_000)
    passed = passes_twin_test(model, held_out)
    chosen = [i for i, label in enumerate(held_out.labels.tolist()) if label in classes and passed[i]][
        : options.pictures
    ]
    images, truth = held_out.images[chosen], held_out.part_masks(part)[chosen]
    labels = held_out.labels[chosen].tolist()
    # The last one: what the original network itself says of why one class and not the other, without any training.
    (found,), (control,), (rather,), *_ = gad.explain_with_controls(images, METHODS, [labels], question="class")
    made = []
    for method in METHODS:
        stack, beside, pair = found.stacks[method], control.stacks[method], rather.heatmap(method)
        for name, reading in READINGS.items():
            seeds = [seed_of(seed, i, method) for i in range(len(chosen))]
            rows = on_truth(stack, beside, truth, reading, seeds, pair)
            use = np.where(np.arange(len(rows)) % 2, "choosing", "reported")
            about = {"seed": seed, "part": part, "mode": mode, "method": method, "reading": name}
            made.append(rows.assign(**about, use=use))
    return pd.concat(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("gad-creatures"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--training", type=int, default=4000, help="pictures of all four classes")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--pictures", type=int, default=200)
    options = parser.parse_args()
    print(conditions(), file=sys.stderr)
    frames = []
    for seed in range(options.seeds):
        for part in PAIRS:
            for mode in ("eval", "train"):
                frames.append(examine(seed, part, mode, options))
                pd.concat(frames).to_csv(options.folder / "hits.csv", index=False, float_format="%.5g")
    table = summary(pd.concat(frames))
    table.to_csv(options.folder / "summary.csv", index=False, float_format="%.4g")
    print(table.to_string(float_format="%.3f"))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    keys = ["mode", "method", "reading", "use"]
    return pd.concat(
        {key: gains_on_truth(group) for key, group in rows.groupby(keys, sort=False)}, names=keys
    ).reset_index()


if __name__ == "__main__":
    main()
