"""Gradient Artificial Distancing on real networks: does it help, beyond what can be had without it?

Support networks in both modes and by both strategies, three readings of "stays in all maps", and controls. Fits are
kept in a folder and go on after an interruption. Writes tables to a folder, one for each subject.
The pictures and weights are looked for in `../shared/data`, or where the environment variable SIGHTLINE_DATA says.

    python benchmarks/gad.py cifar --folder gad-study
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from measure import conditions, declare_missing_operators
from torch import Tensor, nn

import sightline as sl
from sightline.gad import Consistency

declare_missing_operators()

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SIGHTLINE_DATA", ROOT.parent / "shared" / "data"))
NETWORKS = ROOT / "tests" / "helpers" / "networks.py"
METHODS = ["saliency", "input_x_gradient", "guided_backprop", "integrated_gradients"]
READINGS = [
    Consistency("nested", 0.5),
    Consistency("mean", 0.5),
    Consistency("mean", 0.5, allow_new=True),
    Consistency("rank", 0.5),
    Consistency("nested", 0.1),
    Consistency("mean", 0.1),
]
FITS = {"eval": ("trained", "interpolated"), "train": ("trained",)}


@dataclass(frozen=True)
class Subject:
    """A network, two of its classes, and pictures to train on, to choose by and to report."""

    model: nn.Module
    classes: tuple[int, int]
    names: tuple[str, str]
    training: sl.ImageBatch
    choosing: sl.ImageBatch
    reported: sl.ImageBatch
    batch_size: int = 128


def cifar() -> Subject:
    """Run 1: the CIFAR ResNet-20, cats and dogs, 10,000 training images, 128 + 128 to choose by and to report."""
    model = sl.load_model(f"{NETWORKS}:resnet20_cifar", weights=DATA / "weights" / "resnet20_cifar10.pt")
    held_out = sl.load_images(DATA / "images/cifar10/val", model)
    labelled = {name: [i for i, label in enumerate(held_out.labels) if label == name] for name in ("cat", "dog")}
    halves = [sorted(labelled["cat"][part] + labelled["dog"][part]) for part in (slice(0, 128), slice(128, 256))]
    training = sl.load_images(DATA / "images/cifar10/train", model)
    return Subject(model, (3, 5), ("cat", "dog"), training, held_out[halves[0]], held_out[halves[1]])


SUBJECTS: dict[str, Callable[[], Subject]] = {"cifar": cifar}


def fitted(subject: Subject, mode: str, strategy: str, folder: Path, epochs: int) -> sl.GAD:
    """A fit; networks that are in the folder already are not trained again."""
    gad = sl.GAD(
        subject.model, subject.classes, (2, 4, 6, 8), mode=mode, strategy=strategy, epochs=epochs,
        batch_size=subject.batch_size, folder=folder,
    )  # fmt: skip
    started = time.perf_counter()

    def progress(stage: object) -> None:
        if stage.step % 50 == 0 or stage.step == stage.steps:
            print(
                f"{mode} {strategy}: {stage.network}, {stage.step}/{stage.steps}, error {stage.loss:.3f}",
                file=sys.stderr,
                flush=True,
            )

    gad.fit(subject.training, names=subject.names, progress=progress)
    print(f"{mode} {strategy}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return gad


def presence(trained: dict[str, Tensor], interpolated: dict[str, Tensor]) -> pd.DataFrame:
    """How alike the pixels are that are present (> 0) in all maps, and how alike without any distancing at all."""

    def alike(first: Tensor, second: Tensor) -> float:
        both, either = (first & second).flatten(2).sum(2), (first | second).flatten(2).sum(2)
        return float((both / either.clamp(min=1)).mean())

    rows = []
    for method, stack in trained.items():
        present, other = (maps.gt(0).all(1) for maps in (stack, interpolated[method]))
        found, floor = alike(present, other), alike(present, stack[:, 0] > 0)
        # A map that is nowhere negative is present everywhere, and says nothing.
        above = (found - floor) / (1 - floor) if floor < 1 else float("nan")
        rows.append({"method": method, "IoU": found, "floor": floor, "above the floor": above})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=sorted(SUBJECTS))
    parser.add_argument("--folder", type=Path, default=Path("gad-study"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--modes", default="eval,train", help="of training, with a comma")
    parser.add_argument("--fit-only", action="store_true")
    parser.add_argument("--images", type=int, help="of those held out, in place of all")
    parser.add_argument(
        "--uses",
        default="choosing,reported",
        help="which of the pictures are evaluated, with a comma; none: only how alike both strategies are",
    )
    parser.add_argument("--tables", type=Path, help="where tables are written; by default beside the fits")
    options = parser.parse_args()
    torch.manual_seed(0)
    subject, folder = SUBJECTS[options.subject](), options.folder / options.subject
    out = options.tables or folder
    print(conditions(), file=sys.stderr)
    tables: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("fit", "fidelity", "complexity", "sensitivity", "gains")
    }
    kept: dict[tuple[str, str], dict[str, Tensor]] = {}
    fits = [(mode, strategy) for mode in options.modes.split(",") for strategy in FITS[mode]]
    for mode, strategy in fits:
        gad = fitted(subject, mode, strategy, folder / mode, options.epochs)
        if options.fit_only:
            continue
        about = {"mode": mode, "strategy": strategy}
        tables["fit"].append(gad.report.assign(**about))
        tables["fidelity"].append(gad.fidelity(subject.reported, names=subject.names).reset_index().assign(**about))
        for use in filter(None, options.uses.split(",")):
            images = getattr(subject, use)
            chosen = images if options.images is None else images[:: max(1, len(images) // options.images)]
            found = gad.evaluate(chosen, METHODS, READINGS)
            for name in ("complexity", "sensitivity", "gains"):
                tables[name].append(getattr(found, name).assign(**about, use=use))
        write(tables, out)
        if mode == "eval":
            explained = gad.explain_each(subject.reported, METHODS)
            kept[strategy, mode] = {m: torch.stack([one.stacks[m] for one in explained]) for m in METHODS}
    if ("interpolated", "eval") in kept and ("trained", "eval") in kept:
        table = presence(kept["trained", "eval"], kept["interpolated", "eval"])
        table.to_csv(out / "presence.csv", index=False, float_format="%.4g")


def write(tables: dict[str, list[pd.DataFrame]], folder: Path) -> None:
    """What is known so far."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in tables.items():
        if parts:
            pd.concat(parts).to_csv(folder / f"{name}.csv", index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
