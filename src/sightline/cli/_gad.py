"""The commands `sightline gad ...`: Gradient Artificial Distancing from a folder of labelled pictures."""

from pathlib import Path
from typing import Annotated, cast

import torch
import typer
from rich.markup import escape
from rich.table import Table
from torch import nn

from sightline._common.words import counted, readable
from sightline.arrays import PictureStore, first_of_each, labelled_pictures, store_pictures
from sightline.arrays._load import MAX_PIXELS
from sightline.cli._console import console, interruptible, progress, say, say_refused
from sightline.cli._images import MaxPixels, Strict, read_images, say_replaced, say_skipped
from sightline.cli._options import PageSide, check_places, listed, with_model
from sightline.errors import InputError, SightlineError
from sightline.explaining._target_names import class_number, split_targets
from sightline.gad import (
    GAD,
    PAPER_LIKE,
    Alpha,
    Consistency,
    Evaluation,
    Kind,
    Mode,
    Question,
    Reading,
    Stage,
    Strategy,
    paper_methods,
)
from sightline.gad.reproduction import NAMES, Scale, Tuning
from sightline.gad.reproduction import reproduce as reproduce_tables
from sightline.models import load_model, model_info
from sightline.models._asking import ask
from sightline.models._device import device_named
from sightline.rendering._gad_printed import write_tables
from sightline.rendering._gad_report import FIT, VERDICTS, titled, write_evaluation
from sightline.rendering._writing import write_page

app = typer.Typer(
    help="Gradient Artificial Distancing: keep what stays important when two classes are pushed apart.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Data = Annotated[
    Path, typer.Argument(help="Labelled pictures: a folder for each class, names as cat.0.jpg, or CUB-200-2011.")
]
Classes = Annotated[
    str,
    typer.Option(help="The two classes: names that the model knows (cat,dog), or numbers of its outputs (281,207)."),
]
Labels = Annotated[
    str | None, typer.Option(help="How the pictures of the two classes are labelled, where it is not by their names.")
]
Support = Annotated[Path, typer.Option("--gad", help="The folder that `gad fit` wrote.")]
Methods = Annotated[str, typer.Option(help="Names from `sightline methods`, with commas.")]
PaperMethods = Annotated[
    str, typer.Option("--methods", help="Names from `sightline methods`, with commas; or paper: its five.")
]
ReadingName = Annotated[
    str, typer.Option(help='What "stays important" means: nested, mean, rank, minmax, positive; or paper_like.')
]
Share = Annotated[
    float, typer.Option(help="Of the maximum, from which a pixel is important; for rank, of all pixels.", min=0, max=1)
]
Asks = Annotated[
    str | None,
    typer.Option(
        "--question",
        help="pair: why a class and not the other; class: what speaks for it, as published. By default pair, and class "
        "with --reading paper_like.",
    ),
]
Seed = Annotated[int, typer.Option(help="Base of all randomness.")]


@app.command()
@with_model
def fit(
    network: nn.Module,
    data: Data,
    classes: Classes,
    labels: Labels = None,
    alphas: Annotated[
        str,
        typer.Option(
            help="The distances, with commas (0 is the original); 2:3 pushes the second class farther than the first."
        ),
    ] = "2,4,6,8",
    mode: Annotated[
        str, typer.Option(help="eval leaves batch statistics as they are; train is ordinary training.")
    ] = "eval",
    strategy: Annotated[
        str, typer.Option(help="trained: a network for each distance; interpolated: only for the last.")
    ] = "trained",
    rate: Annotated[float, typer.Option(help="Adam's learning rate.")] = 4e-5,
    epochs: Annotated[int, typer.Option(min=1, help="How often each picture is seen.")] = 10,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps for each network, instead of epochs.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of a step.")] = 64,
    controls: Annotated[bool, typer.Option(help="Train as many networks on shuffled labels, to compare with.")] = True,
    tuned: Annotated[
        bool, typer.Option(help="Train as many networks on as the classifier they are, without distancing.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for the support networks; an interrupted fit goes on there.")
    ] = Path("gad"),
    seed: Seed = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Train the support networks."""
    check_places([str(data)], out)
    _check_folder(out)
    pair, names = _pair(network, classes, labels)
    store = _store(data, network, names, out, training=True, max_pixels=max_pixels)
    gad = GAD(
        network,
        pair,
        _alphas(alphas),
        mode=cast("Mode", mode),
        strategy=cast("Strategy", strategy),
        rate=rate,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        folder=out,
    )
    trained: list[tuple[Kind, bool]] = [("shuffled", controls), ("tuned", tuned)]
    kinds = [kind for kind, wanted in trained if wanted]
    kept = f"What is trained is kept in {out}; the same command goes on from there."
    with interruptible(kept), progress("training") as advance:

        def told(stage: Stage) -> None:
            words = f"{stage.network}, error {stage.loss:.3g}, shift {stage.shift[0]:.2g} and {stage.shift[1]:.2g}"
            advance(stage.step, stage.steps, words)

        gad.fit(store, names=names, controls=kinds, progress=told)
    console.print(
        gad.report.drop(columns=["alpha 1", "alpha 2"]).to_string(index=False, float_format="%.3g"), soft_wrap=True
    )
    console.print(f"Class 1 is {escape(gad.titles[0])}, class 2 {escape(gad.titles[1])}.", soft_wrap=True)
    for line in FIT:
        console.print(f"  {line}", soft_wrap=True, highlight=False)
    for note in gad.notes:
        say("note", note)
    console.print(f"The support networks are in {escape(readable(out))}.", soft_wrap=True)


@app.command()
@with_model
def explain(
    network: nn.Module,
    images: Annotated[list[str], typer.Argument(help="Image files, folders, or folders of class folders.")],
    gad: Support = Path("gad"),
    methods: Methods = "input_x_gradient,integrated_gradients",
    target: Annotated[
        str,
        typer.Option(help="likelier: the likelier of the two classes, for each image; or a class by number or name."),
    ] = "likelier",
    reading: ReadingName = "nested",
    share: Share = 0.3,
    question: Asks = None,
    out: Annotated[Path, typer.Option(help="Folder for maps.safetensors, manifest.json and gad.png.")] = Path(
        "gad-maps"
    ),
    seed: Seed = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    strict: Strict = False,
    page_side: PageSide = None,
) -> None:
    """Explain images by what stays important in all networks."""
    check_places(images, out)
    say_replaced(out)
    support = GAD.load(gad, network)
    batch, _ = read_images(network, images, max_pixels=max_pixels, strict=strict)
    with interruptible(f"Nothing was written to {out}."), progress("explaining") as advance:
        found = support.explain(
            batch,
            listed(methods),
            _target(target),
            reading=_reading(reading, share),
            question=_question(question, reading),
            seed=seed,
            on_refusal="record",
            progress=advance,
        )
    folder = found.save(out)
    page = write_page(folder, side=page_side)
    say_refused(found.refused)
    for note in found.notes:
        if note not in batch.warnings:
            say("note", note)
    console.print(
        f"{counted(len(found), 'image')}, {counted(len(found.stacks), 'method')}: "
        f"{escape(readable(folder / 'gad.png'))}; to look closer open {escape(readable(page))} in a browser",
        soft_wrap=True,
    )


@app.command()
@with_model
def evaluate(
    network: nn.Module,
    data: Data,
    gad: Support = Path("gad"),
    labels: Labels = None,
    methods: PaperMethods = "paper",
    reading: ReadingName = "nested",
    share: Share = 0.3,
    question: Asks = None,
    fill: Annotated[str, typer.Option(help="Of an occluded region: black, mean, blur or inpainting.")] = "black",
    images: Annotated[int, typer.Option(min=1, help="How many pictures of each class.")] = 256,
    controls: Annotated[
        str, typer.Option(help="Further controls: noise, tuned, hirescam, lrp, with commas; or all.")
    ] = "",
    blur: Annotated[float, typer.Option(min=0, help="Width in pixels by which all maps are blurred first.")] = 0.0,
    per_component: Annotated[bool, typer.Option(help="A hull for each group of pixels that touch.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the tables and pictures.")] = Path("gad-evaluation"),
    seed: Seed = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Measure regions and what occluding them does, beside controls."""
    check_places([str(data)], out)
    support = GAD.load(gad, network)
    names = _names(support, network, labels)
    store = _store(data, network, names, out, training=False, max_pixels=max_pixels)
    chosen = first_of_each(store.labels, names, images)
    batch = store.batch(chosen)
    with interruptible(f"Nothing of the evaluation was written to {out}."), progress("evaluating") as advance:
        found = support.evaluate(
            batch,
            paper_methods() if methods.strip() == "paper" else listed(methods),
            [_reading(reading, share)],
            question=_question(question, reading),
            controls="all" if controls.strip() == "all" else listed(controls) if controls.strip() else None,
            blur=blur,
            fills=[fill],
            per_component=per_component,
            seed=seed,
            progress=advance,
        )
    say_refused(found.refused)
    write_evaluation(found, support, batch, names, out)
    for note in support.notes:
        say("note", note)
    _verdicts(found, names, out)


@app.command()
def reproduce(
    dataset: Annotated[str, typer.Option(help="cats_dogs (Kaggle's, flat or in class folders) or cub (CUB-200-2011).")],
    data: Annotated[Path, typer.Option(help="Its folder.")],
    arch: Annotated[
        str, typer.Option(help="vgg16, resnet18, another name of torchvision, or a model as other commands take it.")
    ] = "resnet18",
    weights: Annotated[
        Path | None, typer.Option(help="A file of weights to start from, where they cannot be fetched.")
    ] = None,
    scratch: Annotated[bool, typer.Option(help="Start from random weights instead.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for all that is made; a second call goes on there.")] = Path(
        "gad-reproduction"
    ),
    size: Annotated[int, typer.Option(min=1, help="Side of the pictures in pixels.")] = 224,
    images: Annotated[int, typer.Option(min=1, help="Pictures of each class to evaluate.")] = 256,
    training: Annotated[
        int | None, typer.Option(min=1, help="Pictures of each class to train on; by default all.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimiser steps of the classifier and of each network, instead of epochs."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of each support network.")] = 10,
    tuning_epochs: Annotated[int, typer.Option(min=1, help="Of the classifier.")] = 3,
    tuning_rate: Annotated[float, typer.Option(help="The classifier's learning rate.")] = 1e-4,
    rate: Annotated[float, typer.Option(help="The support networks' learning rate.")] = 4e-5,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of a step.")] = 32,
    mode: Annotated[str, typer.Option(help="Of the support networks: eval or train.")] = "train",
    methods: PaperMethods = "paper",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    seed: Seed = 0,
) -> None:
    """From a data folder to the paper's tables and figures: fine-tune a classifier, fit GAD, evaluate."""
    check_places([str(data)], out)
    _check_folder(out)
    spec = arch if ":" in arch else f"torchvision:{arch}"
    place = device_named(device)
    network = load_model(spec, weights=weights, pretrained=not scratch, device=place)
    # On a GPU in mixed precision, as is usual there.
    tuning = Tuning(
        rate=tuning_rate,
        epochs=tuning_epochs,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        autocast=place.startswith("cuda"),
    )
    scale = Scale(
        size=size,
        images=images,
        training=training,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        rate=rate,
        mode=cast("Mode", mode),
        methods=() if methods.strip() == "paper" else tuple(listed(methods)),
    )
    kept = f"What is done is kept in {out}; the same command goes on from there."
    with interruptible(kept), progress("starting") as advance:
        found = reproduce_tables(
            dataset,
            data,
            network,
            out,
            scale=scale,
            tuning=tuning,
            architecture=arch,
            progress=lambda words, done, of: advance(done, of, words),
        )
    _verdicts(found, NAMES[dataset], out)


@app.command()
def tables(
    folders: Annotated[
        list[str],
        typer.Argument(help="Folders of `gad evaluate` or `gad reproduce`, or with names Birds:ResNet=FOLDER."),
    ],
    reading: Annotated[str, typer.Option(help="The reading that is shown, as its tables name it.")] = PAPER_LIKE.name,
    out: Annotated[Path, typer.Option(help="Folder for tables.md, tables.tex, table1.csv, table2.csv.")] = Path(
        "gad-tables"
    ),
) -> None:
    """Print the paper's Tables 1 and 2 in its layout from finished evaluations."""
    console.print(write_tables(folders, out, reading), soft_wrap=True, highlight=False, markup=False)
    console.print(f"The tables are in {escape(readable(out))}.", soft_wrap=True)


def _check_folder(out: Path) -> None:
    if readable(out) != out.as_posix():
        raise InputError(
            f"--out {readable(out)} is not valid UTF-8, and weights cannot be kept in such a folder. Name another one."
        )


def _verdicts(found: Evaluation, names: tuple[str, str], out: Path) -> None:
    table = Table(title="Does GAD gain over every control?", title_justify="left", box=None)
    verdicts = titled(found.verdicts, names)
    for heading in verdicts.columns:
        table.add_column(str(heading))
    for row in verdicts.itertuples(index=False):
        table.add_row(*map(str, row))
    console.print(table)
    for line in VERDICTS:
        console.print(f"  {line}", soft_wrap=True, highlight=False)
    page = write_page(out)
    console.print(
        f"Tables, controls and pictures: {escape(readable(out / 'report.md'))}, or in a browser "
        f"{escape(readable(page))}",
        soft_wrap=True,
    )


def _names(support: GAD, network: nn.Module, labels: str | None) -> tuple[str, str]:
    """How the pictures of the two classes are labelled: as in the fit, or as said."""
    known = support.names
    names = known if labels is None and known else _pair(network, ",".join(map(str, support.classes)), labels)[1]
    if known is not None and tuple(names) != known:
        raise InputError(f"The networks were fitted with the labels {','.join(known)}; got --labels {labels}.")
    return names


def _store(
    data: Path, network: nn.Module, names: tuple[str, str], out: Path, *, training: bool, max_pixels: int
) -> PictureStore:
    """The pair's pictures; those that the data set sets apart for training, or those it does not."""
    pictures = labelled_pictures(data).of(names)
    part = [i for i, split in enumerate(pictures.training) if split is None or split == training]
    if not part:
        say("note", f"{data} sets no pictures apart {'to train on' if training else 'to evaluate'}; all are taken.")
    pictures = (pictures[part] if part else pictures).of(names)
    with progress("reading pictures") as advance:
        store = store_pictures(
            pictures,
            model_info(network).preprocessing,
            out,
            max_pixels=max_pixels,
            progress=advance,
        )
    say_skipped(store.failures)
    for sentence in store.warnings:
        say("warning", sentence)
    return store


def _pair(network: nn.Module, classes: str, labels: str | None) -> tuple[tuple[int, int], tuple[str, str]]:
    """The two outputs, and how their pictures are labelled."""
    known = model_info(network).class_names or ()
    words = split_targets([classes], known, 0)
    if len(words) != 2:
        raise InputError(f"--classes takes two classes with a comma, as in cat,dog or 281,207; got {classes!r}.")
    numbers = [class_number(word, known) for word in words]
    outputs = _outputs(network)
    if outputs is not None and max(numbers) >= outputs:
        raise InputError(
            f"The model has {outputs} outputs, numbered from 0 to {outputs - 1}, and no class {max(numbers)}; got "
            f"--classes {classes}."
        )
    if labels is None:
        if any(number >= len(known) for number in numbers):
            raise InputError(
                "How the pictures of the two classes are labelled is not known; say so, as in --labels cat,dog."
            )
        named = [known[number] for number in numbers]
    else:
        named = listed(labels)
    if len(named) != 2:
        raise InputError(f"--labels takes two labels with a comma, as in cat,dog; got {labels!r}.")
    return (numbers[0], numbers[1]), (named[0], named[1])


def _outputs(network: nn.Module) -> int | None:
    """How many outputs the model has, as it says of an empty picture; None where that fails."""
    encoding = model_info(network).preprocessing
    try:
        return ask(network, torch.zeros(1, encoding.channels, *encoding.size), 1).shape[1]
    except (SightlineError, RuntimeError, ValueError):
        return None


def _alphas(text: str) -> list[Alpha]:
    try:
        numbers = [tuple(float(number) for number in part.split(":")) for part in listed(text)]
        return [(first, second) for first, second in (pair * 2 if len(pair) == 1 else pair for pair in numbers)]
    except ValueError:
        raise InputError(
            f"--alphas takes rising numbers with commas, as in 2,4,6,8 or 2:1,4:2; got {text!r}."
        ) from None


def _reading(name: str, share: float) -> Consistency:
    return PAPER_LIKE if name == "paper_like" else Consistency(cast("Reading", name), share)


def _question(name: str | None, reading: str) -> Question | None:
    return cast("Question | None", name) if name or reading != "paper_like" else "class"


def _target(text: str) -> str | None:
    return None if text.strip() == "likelier" else text
