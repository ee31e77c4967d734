"""The commands `sightline gad reproduce` and `tables`: the paper's tables and figures."""

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from sightline._common.words import readable
from sightline.cli._console import console, interruptible, progress
from sightline.cli._model import check_places
from sightline.errors import InputError
from sightline.gad import PAPER_LIKE, Evaluation, paper_methods
from sightline.gad.reproduction import NAMES, Scale, Tuning
from sightline.gad.reproduction import reproduce as reproduce_tables
from sightline.methods import Method
from sightline.models import device_named, load_model
from sightline.options import ReproduceOptions, TablesOptions
from sightline.rendering import VERDICTS, titled, write_page, write_tables


def reproduce(asked: ReproduceOptions) -> None:
    """From a data folder to the paper's tables and figures: fine-tune a classifier, fit GAD, evaluate."""
    out = asked.out
    check_places([str(asked.data)], out)
    check_folder(out)
    spec = asked.arch if ":" in asked.arch else f"torchvision:{asked.arch}"
    place = device_named(asked.device)
    network = load_model(spec, weights=asked.weights, pretrained=not asked.scratch, device=place)
    tuning = Tuning(
        rate=asked.tuning_rate,
        epochs=asked.tuning_epochs,
        steps=asked.steps,
        batch_size=asked.batch_size,
        seed=asked.seed,
        # On a GPU in mixed precision, as is usual there.
        autocast=place.startswith("cuda"),
    )
    scale = Scale(
        size=asked.size,
        images=asked.images,
        training=asked.training,
        epochs=asked.epochs,
        steps=asked.steps,
        batch_size=asked.batch_size,
        rate=asked.rate,
        mode=asked.mode,
        methods=() if asked.methods == ("paper",) else asked.methods,
    )
    kept = f"What is done is kept in {out}; the same command goes on from there."
    with interruptible(kept), progress("starting") as advance:
        found = reproduce_tables(
            asked.dataset,
            asked.data,
            network,
            out,
            scale=scale,
            tuning=tuning,
            architecture=asked.arch,
            progress=lambda words, done, of: advance(done, of, words),
        )
    print_verdicts(found, NAMES[asked.dataset], out)


def tables(asked: TablesOptions) -> None:
    """Print the paper's Tables 1 and 2 in its layout from finished evaluations."""
    printed = write_tables(list(asked.folders), asked.out, asked.reading or PAPER_LIKE.name)
    console.print(printed, soft_wrap=True, highlight=False, markup=False)
    console.print(f"The tables are in {escape(readable(asked.out))}.", soft_wrap=True)


def paper_or(methods: tuple[str, ...]) -> Sequence[str | Method]:
    """The methods that were named, or the paper's with its settings."""
    return paper_methods() if methods == ("paper",) else methods


def check_folder(out: Path) -> None:
    """Refuse a folder in which weights cannot be kept.

    Raises:
        InputError: its name is not valid UTF-8.
    """
    if readable(out) != out.as_posix():
        raise InputError(
            f"--out {readable(out)} is not valid UTF-8, and weights cannot be kept in such a folder. Name another one."
        )


def print_verdicts(found: Evaluation, names: tuple[str, str], out: Path) -> None:
    """Print the verdicts of an evaluation, and where the rest is."""
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
