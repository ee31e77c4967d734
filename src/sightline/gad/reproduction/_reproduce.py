"""From a data folder to the paper's tables and figures: a classifier, its support networks, an evaluation."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sightline._common.renderers import render
from sightline._common.seeds import seed_of
from sightline._common.written import write_text
from sightline.arrays import Labelled, first_of_each, labelled_pictures, store_pictures
from sightline.errors import InputError
from sightline.gad._consistency import PAPER_LIKE, Consistency
from sightline.gad._distancing import GAD
from sightline.gad._evaluation import Evaluation
from sightline.gad._paper import paper_methods
from sightline.gad._samples import samples_of
from sightline.gad._settings import Mode
from sightline.gad._training import check_norms
from sightline.gad.reproduction._classifier import FILE, Tuning, accuracy, fine_tuned
from sightline.gad.reproduction._published import published
from sightline.models import ModelInfo, model_info

NAMES = {"cats_dogs": ("cat", "dog"), "cub": ("sparrow", "warbler")}
SPECIES = 21
"""Of CUB: sparrows 113 to 133 and warblers 158 to 178, as in the authors' neighbouring code; the paper says 20."""
HELD_OUT = 0.2

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Scale:
    """How much of the paper's experiment is done.

    Attributes:
        size: side of the pictures in pixels.
        images: pictures of each class that are evaluated; the paper has 256.
        training: pictures of each class to train on; by default all.
        epochs: of each support network.
        steps: optimiser steps of each support network, instead of epochs.
        batch_size: pictures of a step.
        rate: Adam's learning rate for the support networks.
        mode: of the support networks; see `GAD`.
        methods: what is evaluated; by default the paper's five, with its settings.
        readings: what "stays important" means.
    """

    size: int = 224
    images: int = 256
    training: int | None = None
    epochs: int = 10
    steps: int | None = None
    batch_size: int = 32
    rate: float = 4e-5
    mode: Mode = "train"
    methods: tuple[str, ...] = ()
    readings: tuple[Consistency, ...] = (PAPER_LIKE,)


def reproduce(
    dataset: str,
    data: str | Path,
    model: nn.Module,
    out: str | Path,
    *,
    scale: Scale | None = None,
    tuning: Tuning | None = None,
    architecture: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Fine-tune a classifier, fit GAD, evaluate and write the report; each part is read back where it is done already.

    Pictures are stretched to a square and normalised as ImageNet's. Of a data set without a split of its own a fifth is
    held out, by file name.

    Args:
        dataset: `cats_dogs` or `cub`.
        data: its folder; see `labelled_pictures` for layouts.
        model: the network to start from; its last layer is exchanged for one of two outputs.
        out: where everything is written.
        scale: how much is done.
        tuning: how the classifier is trained.
        architecture: what the network is called, to find the paper's own figures.
        progress: called with what is done, and the steps done and in all.

    Raises:
        InputError: the data set, its folder or the network cannot be used.
        RefusalError: the support networks would be trained in train mode, and the network cannot be.
    """
    scale, tuning = scale or Scale(), tuning or Tuning()
    if dataset not in NAMES:
        raise InputError(f"The data set is cats_dogs or cub; got {dataset!r}.")
    names, out = NAMES[dataset], Path(out)
    check_norms(model, scale.mode)
    tell = progress or (lambda *_: None)
    pictures = labelled_pictures(data, species=SPECIES).of(names)
    preprocessing = replace(
        model_info(model).preprocessing, size=(scale.size, scale.size), resize="stretch", source="gad reproduce"
    )
    stores = [
        store_pictures(part, preprocessing, out / name, progress=lambda n, of: tell("reading pictures", n, of))
        for name, part in zip(("training", "held-out"), split(pictures, names, scale), strict=True)
    ]
    training, held_out = stores
    samples = samples_of(training, (0, 1), names)
    classifier = fine_tuned(model, samples, tuning, out, progress=lambda n, of, _: tell("classifier", n, of))
    classifier.sightline_info = ModelInfo(  # type: ignore[assignment] # a plain attribute, not a sub-module
        spec=architecture or type(model).__name__,
        preprocessing=preprocessing,
        class_names=names,
        output="classes",
        weights=f"{FILE}, fine-tuned",
    )
    right = accuracy(classifier, samples_of(held_out, (0, 1), names), scale.batch_size)
    gad = GAD(
        classifier,
        (0, 1),
        mode=scale.mode,
        rate=scale.rate,
        epochs=scale.epochs,
        steps=scale.steps,
        batch_size=scale.batch_size,
        seed=tuning.seed,
        autocast=tuning.autocast,
        folder=out / "gad",
    )
    gad.fit(training, names=names, progress=lambda stage: tell(stage.network, stage.step, stage.steps))
    batch = held_out.batch(first_of_each(held_out.labels, names, scale.images))
    found = gad.evaluate(
        batch,
        scale.methods or paper_methods(),
        scale.readings,
        seed=tuning.seed,
        progress=lambda done, of: tell("evaluating", done, of),
    )
    beside = published(dataset, architecture.removeprefix("torchvision:"))
    render(found, "report", gad, batch, names, out, beside=beside)
    record = {
        "dataset": dataset,
        "architecture": architecture,
        "held-out accuracy": right,
        "pictures": {"training": len(training), "held out": len(held_out), "evaluated": len(batch)},
        "skipped": [*training.failures, *held_out.failures],
        "scale": asdict(scale),
        "tuning": asdict(tuning),
        "device": str(next(classifier.parameters()).device),
        "torch": torch.__version__,
    }
    write_text(out / "reproduction.json", json.dumps(record, indent=2) + "\n")
    return found


def split(pictures: Labelled, names: tuple[str, str], scale: Scale) -> tuple[Labelled, Labelled]:
    """What is trained on and what is held out, as many of each class as asked for."""
    training: list[int] = []
    held_out: list[int] = []
    for name in names:
        rows = [i for i, label in enumerate(pictures.labels) if label == name]
        own = [i for i in rows if pictures.training[i] is False]
        if not own and any(pictures.training[i] is None for i in rows):
            # By the file's own name, so that more pictures do not move others across.
            own = [i for i in rows if seed_of("held out", pictures.paths[i].name) / 2**63 < HELD_OUT]
        rest = [i for i in rows if i not in set(own)]
        if not own or not rest:
            raise InputError(
                f"Pictures of {name} are needed both to train on and to hold out; there are {len(rest)} and {len(own)}."
            )
        training += rest[: scale.training]
        held_out += own[: scale.images]
    return pictures[training], pictures[held_out]
