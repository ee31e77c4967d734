"""The paper's Tables 1 and 2 in its layout, from two networks and two data sets at a size that runs on a laptop.

Creatures (64 pixels; two classes that differ in the tail) and cats and dogs of CIFAR-10 (32 pixels), each explained in
a residual network (the demo's, and a ResNet-20) and in one that ends in dense layers as VGG does. Makes the data and
the networks, then calls `sightline gad fit`, `evaluate` and `tables` as a user would, and draws the paper's figures 3,
5 and 6 with both networks of CIFAR. What is there already is not made again.
Pictures and weights are looked for in `../shared/data`, or where the environment variable SIGHTLINE_DATA says.

    python benchmarks/gad_tables.py --folder gad-tables
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from torch import nn

import sightline as sl

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SIGHTLINE_DATA", ROOT.parent / "shared" / "data"))
HELPERS = ROOT / "tests" / "helpers" / "networks.py"
TAILS = ("forked", "plain")
MEAN, STD = (128.0,) * 3, (64.0,) * 3
CREATURES = sl.Preprocessing(size=(64, 64), resize=None, mean=MEAN, std=STD, value_range=(0.0, 255.0))
CIFAR = sl.Preprocessing(size=(32, 32), resize=None)


# Networks, as `FILE.py:FACTORY` on the command line


def resnet_creatures() -> nn.Module:
    from sightline.demo._small_resnet import SmallResNet

    return SmallResNet(4)


def vgg_creatures() -> nn.Module:
    return vgg(64)


def vgg_cifar() -> nn.Module:
    return vgg(32)


def vgg(side: int) -> nn.Module:
    """Convolutions and pooling, then dense layers with dropout; no batch norm."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for width in (16, 32, 64) if side == 32 else (16, 32, 64, 64):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    head = [nn.Flatten(), nn.Linear(channels * 16, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 2)]
    return nn.Sequential(*layers, *head).eval()


resnet_creatures.preprocessing = vgg_creatures.preprocessing = CREATURES
vgg_cifar.preprocessing = CIFAR


# Data and weights


def draw_creatures(folder: Path, training: int, held_out: int) -> Path:
    """Pictures of the two classes that differ in the tail alone, in folders by class."""
    from sightline.demo.creatures import Creatures

    for part, count, seed in (("train", training, 2_000_000), ("val", held_out, 1_000_000)):
        if (folder / part).is_dir():
            continue
        drawn = Creatures(count, seed=seed)
        for name in TAILS:
            (folder / f"{part}.part" / name).mkdir(parents=True, exist_ok=True)
        for number, (pixels, label) in enumerate(zip(drawn.pixels, drawn.labels.tolist(), strict=True)):
            if label < 2:
                place = folder / f"{part}.part" / TAILS[label] / f"{number:05}.png"
                Image.fromarray(pixels.numpy()).save(place)
        (folder / f"{part}.part").replace(folder / part)
    return folder


def train_vgg(start: nn.Module, encoding: sl.Preprocessing, data: Path, names: tuple[str, str], out: Path) -> Path:
    from sightline.arrays import labelled_pictures, store_pictures
    from sightline.gad._samples import samples_of
    from sightline.gad.reproduction import FILE, Tuning, accuracy, fine_tuned

    training, held_out = (
        samples_of(store_pictures(labelled_pictures(data / part).of(names), encoding, out / part), (0, 1), names)
        for part in ("train", "val")
    )
    network = fine_tuned(start, training, Tuning(rate=1e-3, epochs=8, batch_size=64), out)
    print(f"{out.name}: {accuracy(network, held_out, 128):.1%} of held-out pictures", file=sys.stderr, flush=True)
    return out / FILE


def train_resnet(file: Path) -> Path:
    from sightline.demo._small_resnet import train_on
    from sightline.demo.creatures import Creatures

    if not file.is_file():
        torch.save(train_on(Creatures(12_000, seed=0), seed=0).state_dict(), file)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("gad-tables"))
    parser.add_argument("--images", type=int, default=24, help="of each class, evaluated")
    parser.add_argument("--steps", type=int, default=150, help="of each support network")
    options = parser.parse_args()
    out = options.folder
    out.mkdir(parents=True, exist_ok=True)
    creatures, pets = draw_creatures(out / "creatures", 4000, 800), DATA / "images" / "cifar10"
    here, cat_dog = Path(__file__).resolve(), ("cat", "dog")
    weights = {
        "creatures-resnet": train_resnet(out / "resnet.pt"),
        "creatures-vgg": train_vgg(vgg_creatures(), CREATURES, creatures, TAILS, out / "creatures-vgg-classifier"),
        "cifar-resnet": DATA / "weights" / "resnet20_cifar10.pt",
        "cifar-vgg": train_vgg(vgg_cifar(), CIFAR, pets, cat_dog, out / "cifar-vgg-classifier"),
    }
    subjects = {
        "creatures-resnet": ("Creatures:ResNet", f"{here}:resnet_creatures", creatures, "0,1", TAILS, "4e-4"),
        "creatures-vgg": ("Creatures:VGG", f"{here}:vgg_creatures", creatures, "0,1", TAILS, "4e-4"),
        "cifar-resnet": ("Cat x Dog:ResNet", f"{HELPERS}:resnet20_cifar", pets, "3,5", cat_dog, "4e-5"),
        "cifar-vgg": ("Cat x Dog:VGG", f"{here}:vgg_cifar", pets, "0,1", cat_dog, "4e-5"),
    }
    places = []
    for name, (title, model, data, classes, names, rate) in subjects.items():
        place, fit = out / name, out / f"{name}-gad"
        common = [model, str(data), "--weights", str(weights[name]), "--labels", ",".join(names)]
        if not (place / "report.md").is_file():
            started = time.perf_counter()
            command("fit", *common, "--classes", classes, "--mode", "train", "--rate", rate, "--batch-size", "32",
                    "--steps", str(options.steps), "--no-controls", "--out", str(fit))  # fmt: skip
            command("evaluate", *common, "--gad", str(fit), "--reading", "paper_like",
                    "--images", str(options.images), "--out", str(place))  # fmt: skip
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        places.append(f"{title}={place}")
    command("tables", *places, "--out", str(out / "tables"))
    draw(out, weights, subjects)


def command(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sightline", "gad", *words], check=True)  # noqa: S603


def draw(out: Path, weights: dict[str, Path], subjects: dict[str, tuple]) -> None:
    """Figures 5 and 6 with both networks of CIFAR side by side, and figure 3 of each."""
    from sightline.arrays import first_of_each, labelled_pictures, store_pictures
    from sightline.gad import PAPER_LIKE, paper_methods
    from sightline.models import model_info
    from sightline.rendering import _gad_figures as figures
    from sightline.rendering._gad_report import least_activated, misclassified

    shown, clues = {}, {}
    for name in ("cifar-resnet", "cifar-vgg"):
        title, spec, data, classes, names, _ = subjects[name]
        model = sl.load_model(spec, weights=weights[name])
        gad = sl.GAD.load(out / f"{name}-gad", model)
        pictures = labelled_pictures(data / "val").of(names)
        store = store_pictures(pictures, model_info(model).preprocessing, out / f"{name}-pictures")
        images = store.batch(first_of_each(store.labels, names, 64))
        before, _ = gad.outputs(images, names=names)
        pair = tuple(int(c) for c in classes.split(","))
        labels = [names.index(str(label)) for label in images.labels]
        network = title.split(":")[1]

        def explained(rows: list[int], gad: sl.GAD = gad, images: sl.ImageBatch = images) -> list[sl.GADExplanation]:
            return gad.explain_each(images[rows], paper_methods(), reading=PAPER_LIKE, question="class")

        shown[network] = explained(first_of_each(images.labels, names, 2))[0]
        least = least_activated(before, pair)
        clues[network] = figures.Clues(explained(least), [labels[i] for i in least])
        wrong, words = misclassified(before, pair, names)
        print(name, wrong, words, file=sys.stderr)
        one = explained([0 if wrong is None else wrong])
        figures.per_alpha(one, "integrated_gradients", 0, names).savefig(out / f"figure3-{name}.png", dpi=110)
    figures.side_by_side(shown).savefig(out / "figure5.png", dpi=110)
    figures.visual_clues(clues, (0, 1), ("cat", "dog"), 3).savefig(out / "figure6.png", dpi=110)


if __name__ == "__main__":
    main()
