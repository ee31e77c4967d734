"""Gradient Artificial Distancing on photographs of cats and dogs, at 128 pixels: the paper's tables, with controls.

A network that ends in an average (MobileNetV2) and one that ends in dense layers as VGG does (SqueezeNet's features
under VGG's head, since no trained VGG is at hand), both started from ImageNet's weights. Classifier and support
networks are kept in the folder, and an interrupted run goes on.
Pictures and weights are looked for in `../shared/data`, or where the environment variable SIGHTLINE_DATA says.

    python benchmarks/gad_photographs.py mobilenet --folder gad-photographs
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from measure import conditions, declare_missing_operators
from torch import nn

import sightline as sl
from sightline.gad import Consistency
from sightline.gad.reproduction import Scale, Tuning, reproduce

declare_missing_operators()

ROOT = Path(__file__).parents[1]
NETWORKS = ROOT / "tests" / "helpers" / "networks.py"
DATA = Path(os.environ.get("SIGHTLINE_DATA", ROOT.parent / "shared" / "data"))
READINGS = (
    Consistency("nested", 0.5),
    Consistency("nested", 0.3),
    Consistency("mean", 0.5),
    Consistency("mean", 0.5, allow_new=True),
    Consistency("rank", 0.5),
)


def mobilenet() -> nn.Module:
    return sl.load_model(
        f"{NETWORKS}:mobilenet_v2_same",
        weights=DATA / "weights/mobilenet_v2_imagenet_fp16.pt",
    )


def dense() -> nn.Module:
    """SqueezeNet's features (512 x 7 x 7 of a picture of 128 pixels, as VGG has of 224) under three dense layers."""
    trunk = sl.load_model(
        f"{NETWORKS}:squeezenet1_1",
        weights=DATA / "weights/squeezenet1_1_imagenet_fp16.pt",
    )
    torch.manual_seed(0)
    head = [nn.Flatten(), nn.Linear(512 * 7 * 7, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 256), nn.ReLU()]
    model = nn.Sequential(trunk.features, *head, nn.Dropout(), nn.Linear(256, 2)).eval().requires_grad_(False)
    model.sightline_info = trunk.sightline_info
    return model


STARTS = {"mobilenet": mobilenet, "dense": dense}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(STARTS))
    parser.add_argument("--folder", type=Path, default=Path("gad-photographs"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--images", type=int, default=32, help="of each class, evaluated")
    parser.add_argument("--mode", choices=["train", "eval"], default="train")
    parser.add_argument("--rate", type=float, default=4e-5)
    options = parser.parse_args()
    print(conditions(), file=sys.stderr)
    scale = Scale(
        128, options.images, steps=options.steps, rate=options.rate, mode=options.mode, readings=READINGS
    )  # fmt: skip
    started, last = time.perf_counter(), ""

    def progress(what: str, done: int, of: int) -> None:
        nonlocal last
        if what != last or done == of:
            print(f"{time.perf_counter() - started:6.0f} s  {what}, {done}/{of}", file=sys.stderr, flush=True)
        last = what

    out = options.folder / f"{options.network}-{options.mode}"
    found = reproduce(
        "cats_dogs", DATA / "images" / "cats_and_dogs", STARTS[options.network](), out,
        scale=scale, tuning=Tuning(epochs=3), architecture=options.network, progress=progress,
    )  # fmt: skip
    print(found.verdicts.to_string())


if __name__ == "__main__":
    main()
