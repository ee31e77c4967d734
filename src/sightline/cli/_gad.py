"""The commands `sightline gad fit`, `explain` and `evaluate`: GAD from a folder of labelled images."""

from typing import cast

import torch
from rich.markup import escape
from torch import nn

from sightline._common.words import counted, readable
from sightline.arrays import PictureStore, first_of_each, labelled_pictures, store_pictures
from sightline.cli._console import console, interruptible, progress, say, say_refused
from sightline.cli._images import read_images, say_replaced, say_skipped
from sightline.cli._model import check_places, loaded
from sightline.cli._reproduce import check_folder, paper_or, print_verdicts
from sightline.errors import InputError, SightlineError
from sightline.explaining import class_number, split_targets
from sightline.gad import GAD, PAPER_LIKE, Consistency, Kind, Question, Reading, Stage
from sightline.models import ask, model_info
from sightline.options import DistancedOptions, EvaluateOptions, FitOptions, ModelOptions, listed
from sightline.rendering import FIT, write_evaluation, write_page


def fit(model: ModelOptions, asked: FitOptions) -> None:
    """Train the support networks."""
    out = asked.out
    check_places([str(asked.data)], out)
    check_folder(out)
    network = loaded(model)
    pair, names = _pair(network, asked.classes, asked.labels)
    store = _store(asked, network, names, training=True)
    gad = GAD(
        network,
        pair,
        asked.alphas,
        mode=asked.mode,
        strategy=asked.strategy,
        rate=asked.rate,
        epochs=asked.epochs,
        steps=asked.steps,
        batch_size=asked.batch_size,
        seed=asked.seed,
        folder=out,
    )
    trained: list[tuple[Kind, bool]] = [("shuffled", asked.controls), ("tuned", asked.tuned)]
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


def explain(model: ModelOptions, asked: DistancedOptions) -> None:
    """Explain images by what stays important in all networks."""
    out = asked.out
    check_places(asked.images, out)
    network = loaded(model)
    say_replaced(out)
    support = GAD.load(asked.gad, network)
    batch, _ = read_images(network, asked)
    with interruptible(f"Nothing was written to {out}."), progress("explaining") as advance:
        found = support.explain(
            batch,
            asked.methods,
            None if asked.target.strip() == "likelier" else asked.target,
            reading=_reading(asked),
            question=_question(asked),
            seed=asked.seed,
            on_refusal="record",
            progress=advance,
        )
    folder = found.save(out)
    page = write_page(folder, side=asked.page_side)
    say_refused(found.refused)
    for note in found.notes:
        if note not in batch.warnings:
            say("note", note)
    console.print(
        f"{counted(len(found), 'image')}, {counted(len(found.stacks), 'method')}: "
        f"{escape(readable(folder / 'gad.png'))}; to look closer open {escape(readable(page))} in a browser",
        soft_wrap=True,
    )


def evaluate(model: ModelOptions, asked: EvaluateOptions) -> None:
    """Measure regions and what occluding them does, beside controls."""
    out = asked.out
    check_places([str(asked.data)], out)
    network = loaded(model)
    support = GAD.load(asked.gad, network)
    names = _names(support, network, asked.labels)
    store = _store(asked, network, names, training=False)
    batch = store.batch(first_of_each(store.labels, names, asked.images))
    with interruptible(f"Nothing of the evaluation was written to {out}."), progress("evaluating") as advance:
        found = support.evaluate(
            batch,
            paper_or(asked.methods),
            [_reading(asked)],
            question=_question(asked),
            controls="all" if asked.controls == ("all",) else asked.controls or None,
            blur=asked.blur,
            fills=[asked.fill],
            per_component=asked.per_component,
            seed=asked.seed,
            progress=advance,
        )
    say_refused(found.refused)
    write_evaluation(found, support, batch, names, out)
    for note in support.notes:
        say("note", note)
    print_verdicts(found, names, out)


def _names(support: GAD, network: nn.Module, labels: str | None) -> tuple[str, str]:
    """How the pictures of the two classes are labelled: as in the fit, or as said."""
    known = support.names
    names = known if labels is None and known else _pair(network, ",".join(map(str, support.classes)), labels)[1]
    if known is not None and tuple(names) != known:
        raise InputError(f"The networks were fitted with the labels {','.join(known)}; got --labels {labels}.")
    return names


def _store(
    asked: FitOptions | EvaluateOptions, network: nn.Module, names: tuple[str, str], *, training: bool
) -> PictureStore:
    """The pair's pictures; those that the data set sets apart for training, or those it does not."""
    pictures = labelled_pictures(asked.data).of(names)
    part = [i for i, split in enumerate(pictures.training) if split is None or split == training]
    if not part:
        say(
            "note",
            f"{asked.data} sets no pictures apart {'to train on' if training else 'to evaluate'}; all are taken.",
        )
    pictures = (pictures[part] if part else pictures).of(names)
    with progress("reading pictures") as advance:
        store = store_pictures(
            pictures,
            model_info(network).preprocessing,
            asked.out,
            max_pixels=asked.max_pixels,
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
        named = list(listed(labels))
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


def _reading(asked: DistancedOptions | EvaluateOptions) -> Consistency:
    return PAPER_LIKE if asked.reading == "paper_like" else Consistency(cast("Reading", asked.reading), asked.share)


def _question(asked: DistancedOptions | EvaluateOptions) -> Question | None:
    return asked.question or ("class" if asked.reading == "paper_like" else None)
