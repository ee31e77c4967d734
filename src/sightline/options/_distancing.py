"""The options of `sightline gad ...`, and of the part [gad] of a recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sightline._common.options import Flag, option, required
from sightline.options._reading import distances
from sightline.options._shared import STRICT, ImageOptions, PageOptions, PixelOptions, SeedOptions

_PAPER_METHODS = "Names from `sightline methods`, with commas; or paper: its five."
Distance = float | tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How support networks are trained, on the command line and in a recipe; see `sightline.GAD`."""

    alphas: tuple[Distance, ...] = option(
        (2.0, 4.0, 6.0, 8.0),
        "The distances, with commas (0 is the original); 2:3 pushes the second class farther than the first.",
        Flag(read=distances, shown="2,4,6,8"),
    )
    mode: Literal["eval", "train"] = option(
        "eval", "eval leaves batch statistics as they are; train is ordinary training."
    )
    strategy: Literal["trained", "interpolated"] = option(
        "trained", "trained: a network for each distance; interpolated: only for the last."
    )
    rate: float = option(4e-5, "Adam's learning rate.")
    epochs: int = option(10, "How often each image is seen.", least=1)
    steps: int | None = option(None, "Optimiser steps for each network, instead of epochs.", least=1)
    batch_size: int = option(64, "Images of a step.", least=1)
    controls: bool = option(True, "Train as many networks on shuffled labels, to compare with.")


@dataclass(frozen=True, kw_only=True)
class GADPart(Fitting):
    """Support networks of two classes, trained beside a run: the part [gad] of a recipe."""

    __pydantic_config__ = STRICT

    classes: tuple[int | str, int | str] = required("The two classes.")
    images: str = required("A folder of labelled images.")
    labels: tuple[str, str] = required("How the images of the two classes are labelled.")


@dataclass(frozen=True, kw_only=True)
class LabelledOptions(PixelOptions, SeedOptions):
    """Labelled images of two classes."""

    data: Path = required(
        "Labelled images: a folder for each class, names as cat.0.jpg, or CUB-200-2011.", Flag(argument=True)
    )
    labels: str | None = option(None, "How the images of the two classes are labelled, where it is not by their names.")


@dataclass(frozen=True, kw_only=True)
class FitOptions(Fitting, LabelledOptions):
    """The options of `sightline gad fit`; see `sightline.GAD`."""

    classes: str = required(
        "The two classes: names that the model knows (cat,dog), or numbers of its outputs (281,207)."
    )
    tuned: bool = option(False, "Train as many networks on as the classifier they are, without distancing.")
    out: Path = option(Path("gad"), "Folder for the support networks; an interrupted fit goes on there.")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What "stays important" means; see `sightline.Consistency`."""

    gad: Path = option(Path("gad"), "The folder that `gad fit` wrote.")
    reading: str = option(
        "nested", 'What "stays important" means: nested, mean, rank, minmax, positive; or paper_like.'
    )
    share: float = option(
        0.3, "Of the maximum, from which a pixel is important; for rank, of all pixels.", least=0, most=1
    )
    question: Literal["pair", "class"] | None = option(
        None,
        "pair: why a class and not the other; class: what speaks for it, as published. By default pair, and class with "
        "--reading paper_like.",
    )


@dataclass(frozen=True, kw_only=True)
class DistancedOptions(Reading, PageOptions, SeedOptions, ImageOptions):
    """The options of `sightline gad explain`; see `sightline.GAD.explain`."""

    methods: tuple[str, ...] = option(
        ("input_x_gradient", "integrated_gradients"), "Names from `sightline methods`, with commas."
    )
    target: str = option(
        "likelier", "likelier: the likelier of the two classes, for each image; or a class by number or name."
    )
    out: Path = option(Path("gad-maps"), "Folder for maps.safetensors, manifest.json and gad.png.")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Reading, LabelledOptions):
    """The options of `sightline gad evaluate`; see `sightline.GAD.evaluate`."""

    methods: tuple[str, ...] = option(("paper",), _PAPER_METHODS)
    fill: str = option("black", "Of an occluded region: black, mean, blur or inpainting.")
    images: int = option(256, "How many images of each class.", least=1)
    controls: tuple[str, ...] = option((), "Further controls: noise, tuned, hirescam, lrp, with commas; or all.")
    blur: float = option(0.0, "Width in pixels by which all maps are blurred first.", least=0)
    per_component: bool = option(False, "A hull for each group of pixels that touch.")
    out: Path = option(Path("gad-evaluation"), "Folder for the tables and figures.")


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(SeedOptions):
    """The options of `sightline gad reproduce`, with the settings of the paper."""

    dataset: str = required("cats_dogs (Kaggle's, flat or in class folders) or cub (CUB-200-2011).")
    data: Path = required("Its folder.")
    arch: str = option(
        "resnet18", "vgg16, resnet18, another name of torchvision, or a model as other commands take it."
    )
    weights: Path | None = option(None, "A file of weights to start from, where they cannot be fetched.")
    scratch: bool = option(False, "Start from random weights instead.")
    out: Path = option(Path("gad-reproduction"), "Folder for all that is made; a second call goes on there.")
    size: int = option(224, "Side of the images in pixels.", least=1)
    images: int = option(256, "Images of each class to evaluate.", least=1)
    training: int | None = option(None, "Images of each class to train on; by default all.", least=1)
    steps: int | None = option(
        None, "Optimiser steps of the classifier and of each network, instead of epochs.", least=1
    )
    epochs: int = option(10, "Of each support network.", least=1)
    tuning_epochs: int = option(3, "Of the classifier.", least=1)
    tuning_rate: float = option(1e-4, "The classifier's learning rate.")
    rate: float = option(4e-5, "The support networks' learning rate.")
    batch_size: int = option(32, "Images of a step.", least=1)
    mode: Literal["eval", "train"] = option("train", "Of the support networks: eval or train.")
    methods: tuple[str, ...] = option(("paper",), _PAPER_METHODS)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps.")


@dataclass(frozen=True, kw_only=True)
class TablesOptions:
    """The options of `sightline gad tables`."""

    folders: tuple[str, ...] = required(
        "Folders of `gad evaluate` or `gad reproduce`, or with names Birds:ResNet=FOLDER.", Flag(argument=True)
    )
    reading: str | None = option(None, "The reading that is shown, as its tables name it; by default the paper's.")
    out: Path = option(Path("gad-tables"), "Folder for tables.md, tables.tex, table1.csv, table2.csv.")
