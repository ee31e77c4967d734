"""What the literature says of saliency methods, tested on real networks: `sightline study claims` for each of them.

Pictures and weights are looked for in `../shared/data`, or where the environment variable SIGHTLINE_DATA says; the
network with dense layers is the classifier that `gad_photographs.py dense` has trained. A study that was interrupted
goes on in its folder; `all` joins the studies that are finished in one Markdown table.

    python benchmarks/claims.py resnet20 --folder claims --images 200
    python benchmarks/claims.py all --folder claims
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from gad_photographs import dense
from measure import conditions, declare_missing_operators
from torch import nn

import sightline as sl
from sightline._common.checksums import unsealed
from sightline.gad.reproduction import with_outputs
from sightline.models import load_weights
from sightline.study import PARTS, claims
from sightline.study._part import table_lines

declare_missing_operators()

ROOT = Path(__file__).parents[1]
FACTORIES = ROOT / "tests" / "helpers" / "networks.py"
DATA = Path(os.environ.get("SIGHTLINE_DATA", ROOT.parent / "shared" / "data"))
Made = tuple[nn.Module, sl.ImageBatch]


def resnet20() -> Made:
    """CIFAR's ResNet-20 and its held-out pictures."""
    model = sl.load_model(f"{FACTORIES}:resnet20_cifar", weights=DATA / "weights/resnet20_cifar10.pt")
    return model, sl.load_images(DATA / "images/cifar10/val", model)


def squeezenet() -> Made:
    """SqueezeNet, whose head is a convolution under an average, and photographs of ImageNet's classes."""
    model = sl.load_model(f"{FACTORIES}:squeezenet1_1", weights=DATA / "weights/squeezenet1_1_imagenet_fp16.pt")
    return model, sl.load_images(DATA / "images/imagenet", model)


def classifier(folder: Path) -> Made:
    """SqueezeNet's features under dense layers, trained to tell cats from dogs, and held-out photographs."""
    start = dense()
    info = start.sightline_info
    model = with_outputs(start, 2).eval().requires_grad_(False)
    load_weights(model, folder / "classifier.safetensors")
    preprocessing = replace(info.preprocessing, size=(128, 128), resize="stretch")
    model.sightline_info = replace(info, preprocessing=preprocessing, class_names=("cat", "dog"))
    return model, sl.load_images(DATA / "images/cats_and_dogs/val", model)


def vit() -> Made:
    """A vision transformer that tells cats, dogs and others apart, and held-out photographs."""
    import timm

    model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=3, img_size=224)
    load_weights(model, DATA / "weights/vit_small_patch14_cat_dog_other_fp16.safetensors")
    model = model.float().eval().requires_grad_(False)
    preprocessing = sl.Preprocessing(size=(224, 224), resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    info = sl.ModelInfo("timm:vit_small_patch14_dinov2", preprocessing, class_names=("cat", "dog", "neither"))
    model.sightline_info = info
    return model, sl.load_images(DATA / "images/cats_and_dogs/val", model)


NAMES = ("resnet20", "squeezenet", "dense", "vit")


def together(folder: Path) -> str:
    """The answers of all finished studies, and the verdicts of their audits, side by side."""
    places = [name for name in NAMES if (folder / name / "study.json").exists()]
    if not places:
        return f"There is no finished study in {folder}."
    answers = {name: unsealed((folder / name / "study.json").read_bytes())["answers"] for name in places}
    frame = pd.DataFrame(answers).rename_axis("claim").reset_index().fillna("")
    lines = [*table_lines(frame), ""]
    for part in PARTS[:2]:
        columns = {}
        for name in places:
            if not (path := folder / name / f"{part}.csv").exists() or path.stat().st_size < 2:
                continue
            rows = pd.read_csv(path).fillna({"verdict": ""})
            for test, own in rows.groupby("test", sort=False):
                cells = [
                    f"{said} {scaled:.2f} [{low:.2f}, {high:.2f}], raw {raw:.2f}" if scaled == scaled else said
                    for said, scaled, low, high, raw in zip(
                        own["verdict"], own["scaled"], own["low"], own["high"], own["raw likeness"], strict=True
                    )
                ]
                columns[f"{test.replace('_', ' ')}, {name}"] = pd.Series(cells, index=own["method"])
        if columns:
            ordered = dict(sorted(columns.items(), key=lambda item: item[0].partition(",")[0]))
            lines += [*table_lines(pd.DataFrame(ordered).fillna("").rename_axis("method").reset_index()), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=[*NAMES, "all"], help="all: one table of what is there")
    parser.add_argument("--folder", type=Path, default=Path("claims"))
    parser.add_argument("--classifier", type=Path, default=Path("gad-photographs/dense-train"))
    parser.add_argument("--images", type=int, default=200, help="a quarter of them for settings and input bias")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas")
    parser.add_argument("--networks", type=int, default=5, help="random networks")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(conditions(), file=sys.stderr)
    if options.network == "all":
        print(together(options.folder))
        return
    made: dict[str, Callable[[], Made]] = {
        "resnet20": resnet20, "squeezenet": squeezenet, "dense": lambda: classifier(options.classifier), "vit": vit,
    }  # fmt: skip
    model, batch = made[options.network]()
    started = time.perf_counter()

    def tell(words: str, done: int, of: int) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {done}/{of}: {words}", file=sys.stderr, flush=True)

    found = claims(
        model,
        batch,
        parts=options.parts.split(","),
        folder=options.folder / options.network,
        count=options.images,
        networks=options.networks,
        seed=options.seed,
        progress=tell,
    )
    print(found.markdown())


if __name__ == "__main__":
    main()
