"""The command `sightline`: parses, calls, prints; no arithmetic."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from torch import nn

from sightline import __version__, explaining
from sightline._common.interrupt import imported
from sightline._common.words import counted, readable
from sightline.arrays._load import MAX_PIXELS
from sightline.cli._audit import audit_command
from sightline.cli._console import console, interruptible, print_any_name, progress, say, say_refused
from sightline.cli._gad import app as gad
from sightline.cli._images import MaxPixels, Strict, read_images, say_replaced
from sightline.cli._options import PageSide, check_places, listed, with_model
from sightline.cli._run import run as run_command
from sightline.cli._study import app as study
from sightline.cli._targets import save_each, targets_of
from sightline.errors import RefusalError, SightlineError
from sightline.explaining._explanation import Explanation
from sightline.methods import as_method, card, catalogue, choices, unusable
from sightline.models import model_info
from sightline.rendering._writing import write_page

app = typer.Typer(
    name="sightline",
    help="Saliency maps of image classifiers: computed right, tested, and sharpened until a person can read them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(gad, name="gad")
app.add_typer(study, name="study")
app.command("run")(run_command)
app.command("audit")(audit_command)

USER_ERROR, REFUSED = 2, 3


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sightline {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    del version


@app.command()
@with_model
def explain(
    network: nn.Module,
    images: Annotated[list[str], typer.Argument(help="Image files, folders, or folders of class folders.")],
    methods: Annotated[
        str,
        typer.Option(
            help="Names from `sightline methods`, with commas, or all; NAME@LAYER reads another layer, by its name or "
            "as early, middle, late."
        ),
    ] = "gradient,integrated_gradients,guided_backprop,grad_cam",
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="One or several, with commas or repeated: predicted; all; top-2; a class by number or name; a pair, "
            "cat-dog: why cat and not dog; unit:LAYER:CHANNEL; per-image:1,5,7, a class for each image. By default the "
            "predicted class, or each output where these are up to 8 labels or values."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for maps.safetensors, manifest.json, montage.png and report.html.")
    ] = Path("out"),
    references: Annotated[
        list[str] | None, typer.Option(help="Images to compare with, for expected_gradients: a file or a folder.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Base of all randomness.")] = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    strict: Strict = False,
    page_side: PageSide = None,
) -> None:
    """Explain images: write raw maps, a manifest and a montage to look at."""
    check_places([*images, *(references or [])], out)
    say_replaced(out)
    info = model_info(network)
    preparation = info.preprocessing
    height, width = preparation.size
    say("model", f"{info.spec}; weights {info.weights}; pictures at {width} x {height} px, {preparation.source}")
    for note in info.notes:
        say("note", note)
    names = list(catalogue()) if methods.strip() == "all" else listed(methods)
    nothing = f"Nothing was written to {readable(out)}."
    with interruptible(nothing):
        batch, compared = read_images(network, images, references, max_pixels=max_pixels, strict=strict)
        targets = targets_of(network, batch, target)
    with interruptible(nothing), progress("explaining") as advance:
        found = explaining.explain(
            network,
            batch,
            names,
            targets=targets,
            references=compared,
            seed=seed,
            on_refusal="record",
            progress=advance,
        )
    folders = save_each(found, targets, out)
    page = write_page(out, side=page_side)
    _summary(found, batch.warnings)
    result, several = found[0], f", {len(found)} targets" if len(found) > 1 else ""
    skipped = f" ({len(batch.failures)} not used)" if batch.failures else ""
    montages = ", ".join(readable(folder / "montage.png") for folder in folders[:3])
    montages += ", ..." if len(folders) > 3 else ""
    console.print(
        f"{counted(len(result), 'image')}{skipped}, {counted(len(result.maps), 'method')}{several}: "
        f"{escape(montages)}; to look closer open {escape(readable(page))} in a browser",
        soft_wrap=True,
    )


@app.command()
def report(
    folder: Annotated[
        str,
        typer.Argument(
            help="What `sightline explain`, `audit`, `gad`, `run` or `demo` has written; a run also by its address."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write; by default report.html in the folder, or in the current one where the run is not "
            "on this machine."
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(help="How many images of a run are shown, spread evenly over it; by default 24, at most 1000."),
    ] = None,
    page_side: PageSide = None,
) -> None:
    """Write one HTML page of all that a folder holds: verdicts, a gallery, curves, tables; it needs no network.

    Of a run it shows a sample of images with their maps and scores, a summary of each method, and what failed; of one
    that is not finished, what is there.
    """
    page = write_page(folder, out, side=page_side, images=images)
    console.print(f"Wrote {escape(readable(page))}.", soft_wrap=True)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="A method, for its card; without one, the table of all.")] = None,
) -> None:
    """Print the table of methods, or the card of one."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0), show_header=name is None)
    if name is not None:
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for heading, text in card(as_method(name)).rows:
            table.add_row(heading, Text(text))
    else:
        table.add_column("method", no_wrap=True)
        table.add_column("formula; sampling x propagation x aggregation; source")
        table.add_column("forward passes", justify="right")
        for title, row in catalogue().items():
            cost = "" if row.cost is None else f"{row.cost:g}"
            table.add_row(title, Text(f"{row.formula}\n{choices(row)}\n{row.source}"), cost)
    console.print(table)
    if name is None:
        for title, reason in unusable().items():
            say("not usable", f"{title}: {reason}")


@app.command("app")
@with_model
def app_command(
    network: nn.Module,
    support: Annotated[
        Path | None, typer.Option("--gad", help="The folder that `gad fit` wrote, to show what stays important.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own asks for a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
) -> None:
    """Serve an app in the browser: drop photographs, choose, look. The password comes from SIGHTLINE_PASSWORD."""
    from sightline.app import check_host, serve
    from sightline.gad import GAD

    password = os.environ.get("SIGHTLINE_PASSWORD")
    check_host(host, password)
    distanced = None if support is None else GAD.load(support, network)
    console.print(f"Open http://{host}:{port} in a browser; Ctrl-C stops it.", soft_wrap=True)
    serve(network, gad=distanced, host=host, port=port, password=password)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the table.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Base of all randomness.")] = 0,
) -> None:
    """The whole story on drawn pictures, where the part that decides the class is known."""
    from sightline.demo._demo import run_demo

    run_demo(out, seed, console)


def main() -> None:
    """Run the command line; mistakes end in one sentence and an exit code, never in a traceback.

    Exit codes: 0 done; 1 `audit --fail-on` found a failure; 2 the request cannot be carried out as given; 3 refused,
    because the answer would be wrong; 4 `audit --fail-on` had nothing decided to check; 130 interrupted.
    """
    imported()
    print_any_name()
    try:
        app(standalone_mode=True)
    except RefusalError as error:
        say("refused", str(error))
        sys.exit(REFUSED)
    except SightlineError as error:
        say("error", str(error))
        sys.exit(USER_ERROR)
    except torch.OutOfMemoryError:
        say("error", "The device ran out of memory. Use --device cpu, a smaller --size, or fewer images.")
        sys.exit(USER_ERROR)
    except OSError as error:
        say("error", f"The system refused: {error.strerror or error}.")
        sys.exit(USER_ERROR)


def _summary(found: Sequence[Explanation], said: Sequence[str]) -> None:
    """What a reader should know; of several targets everything that is said once."""
    say_refused({name: why for one in found for name, why in one.refused.items()})
    for note in dict.fromkeys(note for one in found for note in one.checks.notes):
        if note not in said:
            of = [one.targets[0] for one in found if note in one.checks.notes]
            say("note", note if len(of) == len(found) else f"{', '.join(of)}: {note}")
    for one in found:
        head = f"{one.targets[0]}, " if len(found) > 1 else ""
        for line in _sums(one):
            console.print(escape(head + line), soft_wrap=True, highlight=False)


def _sums(result: Explanation) -> Iterator[str]:
    for name, residual in result.checks.completeness.items():
        if name not in result.checks.decomposition and name not in result.checks.conservation:
            worst = float(residual.abs().max())
            yield f"{name}: its sum misses the change in value from the baseline by at most {worst:.2g}"
    for name, parts in result.checks.decomposition.items():
        worst, left = float(parts.residual.abs().max()), float(parts.remainder.abs().max())
        yield f"{name}: its parts sum to the value but for {worst:.2g}; biases without a place in the map: {left:.2g}"
    for name, kept in result.checks.conservation.items():
        shares = kept.lost
        lost = ", ".join(f"{shares[where]:.2g} {said}" for where, said in _LOST.items() if abs(shares[where]) >= 0.005)
        gone = f"; the rest went {lost}" if lost else ""
        yield f"{name}: {shares['arrived']:.2g} of the explained value arrives{gone}"


_LOST = {"constants": "to biases", "stabiliser": "in sums of nearly zero", "elsewhere": "elsewhere"}


if __name__ == "__main__":
    main()
