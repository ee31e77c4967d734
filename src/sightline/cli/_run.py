"""`sightline run`: a whole data set, from a recipe."""

import shlex
from pathlib import Path

import typer
from rich.markup import escape

from sightline._common.words import counted
from sightline.cli._console import console, interruptible, progress, say, say_refused
from sightline.cli._images import say_skipped
from sightline.errors import InputError, install
from sightline.options import RunOptions

try:
    from sightline.runs import estimate, read_recipe
    from sightline.runs import run as carry_out
except ModuleNotFoundError as error:
    raise InputError(f"Runs need {error.name}: {install('runs')}.") from error

FAILED = 1


def run(asked: RunOptions) -> None:
    """Explain a whole data set, or go on where an earlier sitting ended."""
    read = read_recipe(asked.recipe)
    if asked.engine is not None:
        read = read.model_copy(update={"engine": read.engine.model_copy(update={"name": asked.engine})})
    if asked.out is not None:
        place = asked.out if "://" in asked.out else str(Path(asked.out).resolve())
        read = read.model_copy(update={"output": read.output.model_copy(update={"folder": place})})
    if asked.dry_run:
        cost = estimate(read)
        say_refused(cost.refused)
        for sentence in cost.warnings:
            say("warning", sentence)
        console.print(
            f"{counted(cost.images, 'image')}, {counted(len(read.methods) - len(cost.refused), 'method')}, "
            f"{counted(len(read.targets), 'target')}; "
            f"judged by {cost.sample} of them, on this machine:\n"
            f"passes  {cost.passes:.1f} forward passes' worth of operations for each image\n"
            f"time    {_duration(cost.seconds)}; reading, which goes on beside, {_duration(cost.reading)}\n"
            f"disk    {_size(cost.bytes)} of maps, compressed",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
        return
    with interruptible("What is done is kept; the same command goes on from there."), progress("explaining") as advance:
        found = carry_out(read, progress=advance, warn=lambda sentence: say("warning", sentence))
    for own in found.refused.values():
        say_refused(own)
    say_skipped([reason for _, reason in found.settings["skipped"]])
    if ignored := found.settings.get("ignored"):
        say("ignored", ignored)
    failures = found.failures
    for row in failures.head(10).to_dict("records"):
        method = f", {row['method']}" if row["method"] else ""
        say("failed", f"{row['name']}{method}: {row['reason']}")
    if len(failures) > 10:
        say("failed", f"and {len(failures) - 10} more; see `failures` of open_run.")
    place = escape(found.place)
    console.print(
        f"{counted(len(found), 'image')}, {counted(len(found.methods), 'method')}, "
        f"{counted(len(found.targets), 'target')}, {counted(len(failures), 'failure')}: sightline.open_run({place!r}); "
        f"for a page of them: sightline report {escape(shlex.quote(found.place))}",
        soft_wrap=True,
    )
    if asked.strict and (len(failures) or found.settings["skipped"]):
        say("failed", "Not all could be done, as said above, and --strict was given; what was done is kept.")
        raise typer.Exit(FAILED)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _size(count: int) -> str:
    for unit, length in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count / 1000:.1f} kB"
