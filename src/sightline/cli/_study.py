"""The command `sightline study`: claims of the literature, tested on a network."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from torch import nn

from sightline._common.words import readable
from sightline.arrays._load import MAX_PIXELS
from sightline.cli._console import console, interruptible, progress, say, say_refused
from sightline.cli._images import MaxPixels, Strict, read_images
from sightline.cli._options import check_places, listed, with_model
from sightline.study import PARTS
from sightline.study import claims as study_claims

app = typer.Typer(
    help="Studies of saliency methods on a network of yours.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _several() -> None:
    """Studies of saliency methods on a network of yours."""


@app.command()
@with_model
def claims(
    network: nn.Module,
    images: Annotated[list[str], typer.Argument(help="Image files, folders, or folders of class folders.")],
    parts: Annotated[str, typer.Option(help="With commas: " + ", ".join(PARTS) + ".")] = ",".join(PARTS),
    methods: Annotated[
        str | None,
        typer.Option(help="For aggregation and propagation: names from `sightline methods`, with commas."),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--images", min=1, help="Take so many, spread evenly; by default all.")
    ] = None,
    networks: Annotated[int, typer.Option(min=1, help="Random networks; a verdict needs at least 5.")] = 5,
    stages: Annotated[
        int, typer.Option(min=1, help="1: all layers become random at once; else in so many steps from the output.")
    ] = 1,
    out: Annotated[
        Path, typer.Option(help="Folder for study.md, study.json and the tables; an interrupted audit goes on there.")
    ] = Path("study"),
    seed: Annotated[int, typer.Option(help="Base of all randomness.")] = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    strict: Strict = False,
) -> None:
    """Test what the literature claims of saliency methods: positive forms, settings, input bias."""
    check_places(images, out)
    batch, _ = read_images(network, images, max_pixels=max_pixels, strict=strict)
    kept = f"What is done is kept in {out}; the same command goes on from there."
    with interruptible(kept), progress("studying") as advance:
        found = study_claims(
            network,
            batch,
            None if methods is None else listed(methods),
            listed(parts),
            folder=out,
            count=count,
            networks=networks,
            stages=stages,
            seed=seed,
            progress=lambda words, done, of: advance(done, of, words),
        )
    table = Table("claim", "answer", box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for claim, answer in found.answers.items():
        table.add_row(escape(claim), answer)
    console.print(table)
    for name, part in found.parts.items():
        say_refused(part.refused)
        for note in part.notes:
            say("note", f"{name}: {note}")
    console.print(f"Wrote {escape(readable(out / 'study.md'))}.", soft_wrap=True)
