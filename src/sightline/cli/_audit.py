"""The command `sightline audit`: verdicts on methods, for use by people and in CI."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from torch import nn

from sightline._common.checksums import fits
from sightline._common.words import readable
from sightline.arrays._load import MAX_PIXELS
from sightline.auditing import Audit, Randomisation
from sightline.auditing._auditing import FURTHER, audit
from sightline.auditing._grouping import groups_of
from sightline.auditing._options import TESTS
from sightline.auditing._subjects import CONTROLS
from sightline.auditing._verdict_table import verdict_table
from sightline.cli._console import console, interruptible, progress, say, say_refused
from sightline.cli._images import MaxPixels, Strict, read_images
from sightline.cli._options import check_places, listed, with_model
from sightline.errors import InputError
from sightline.evaluation._intervals import FEWEST
from sightline.methods import catalogue
from sightline.rendering._writing import write_page

FAILED, UNDECIDED = 1, 4


@with_model
def audit_command(
    network: nn.Module,
    images: Annotated[list[str], typer.Argument(help="Image files, folders, or folders of class folders.")],
    methods: Annotated[
        str, typer.Option(help="Names from `sightline methods`, with commas, or all.")
    ] = "gradient,input_x_gradient,guided_backprop,grad_cam",
    tests: Annotated[str, typer.Option(help="With commas: " + ", ".join((*TESTS, *FURTHER[:2])) + ".")] = ",".join(
        TESTS
    ),
    order: Annotated[
        str, typer.Option(help="Layers lose their weights from the output, from the input, alone, or whole.")
    ] = "output",
    stages: Annotated[int, typer.Option(min=1, help="In at most so many steps.")] = 10,
    networks: Annotated[
        int, typer.Option(min=1, help="Networks with all layers random; a verdict on them needs at least five.")
    ] = 5,
    groups: Annotated[
        str,
        typer.Option(
            help="What images belong together, such as slices of one patient: folder, for images of one folder, or a "
            "CSV file with the columns image and group."
        ),
    ] = "",
    references: Annotated[
        list[str] | None, typer.Option(help="Images to compare with, for expected_gradients: a file or a folder.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for all that is found; an interrupted audit goes on there.")] = Path(
        "audit"
    ),
    fail_on: Annotated[
        str,
        typer.Option(
            help="Exit with 1 where a method fails one of these, with commas: tests, or overall; with 4 where one of "
            "these gives no method a pass or a fail, so that nothing was checked."
        ),
    ] = "",
    allow_undecided: Annotated[
        bool, typer.Option("--allow-undecided", help="With --fail-on: exit with 0 where nothing was decided.")
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option(help="The audit.json of an earlier audit; verdicts that got worse are told.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say how many images and networks a verdict will need, and how long it will take."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Base of all randomness.")] = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    strict: Strict = False,
) -> None:
    """Ask of methods whether their maps explain this model at all: figures, intervals and verdicts."""
    check_places([*images, *(references or [])], out)
    names, wanted = listed(methods), listed(fail_on)
    unknown = [name for name in wanted if name not in {*TESTS, "overall"}]
    if unknown:
        raise InputError(f"--fail-on takes {', '.join(TESTS)} or overall; got {', '.join(unknown)}.")
    if unasked := [name for name in wanted if name not in {*listed(tests), "overall"}]:
        raise InputError(f"--fail-on names {', '.join(unasked)}, but --tests asks only {tests}. Add it there.")
    before = _stored(baseline)
    batch, compared = read_images(network, images, references, max_pixels=max_pixels, strict=strict)
    chosen = list(catalogue()) if names == ["all"] else names
    how = Randomisation(order, stages, seed=seed, networks=networks)
    grouped = groups_of(batch, groups) if groups else None
    if dry_run:
        forecast = audit(
            network, batch, chosen, listed(tests),
            randomisation=how, references=compared, groups=grouped, seed=seed, dry_run=True,
        )  # fmt: skip
        console.print(escape(str(forecast)), soft_wrap=True, highlight=False)
        return
    kept = f"What is done is kept in {out}; the same command goes on from there."
    with interruptible(kept), progress("auditing") as advance:
        found = audit(
            network,
            batch,
            chosen,
            listed(tests),
            randomisation=how,
            references=compared,
            groups=grouped,
            seed=seed,
            folder=out,
            progress=lambda words, done, of: advance(done, of, words),
        )
    found.save(out)
    page = write_page(out)
    console.print(verdict_table(found))
    say_refused(found.refused)
    console.print(escape(found.advice), soft_wrap=True, highlight=False)
    look = f"Wrote {escape(readable(out / 'audit.png'))} and {escape(readable(page))}, to open in a browser"
    console.print(f"{look}; all figures are in {escape(readable(out))}.", soft_wrap=True)
    worse = _worse(before, found)
    for sentence in worse:
        say("worse", sentence)
    verdicts = found.verdicts.drop(index=list(CONTROLS), errors="ignore")
    failed = [
        f"{method} fails {test}" for test in wanted for method in verdicts.index[verdicts.get(test, "") == "fail"]
    ]
    for sentence in failed:
        say("failed", f"{sentence}.")
    unchecked = [test for test in wanted if not set(verdicts.get(test, ())) & {"pass", "fail"}]
    for test in wanted:
        if test not in unchecked and (names := list(verdicts.index[verdicts[test] == "undecided"])):
            say("undecided", f"{test} gives no verdict for {', '.join(names)}, so --fail-on does not check these.")
    if failed or (worse and wanted):
        raise typer.Exit(FAILED)
    if unchecked:
        remedy = "" if allow_undecided else ", or accept it with --allow-undecided"
        say(
            "undecided",
            f"--fail-on has checked nothing for {', '.join(unchecked)}: there is no method with a pass or a fail. The "
            f"reasons are in {out / 'reasons.csv'}; a verdict needs at least {FEWEST} images. Give more{remedy}.",
        )
        if not allow_undecided:
            raise typer.Exit(UNDECIDED)


def _stored(path: Path | None) -> dict[str, dict[str, str]]:
    if path is None:
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not fits(record):
            raise ValueError("its checksum does not fit its content")  # noqa: TRY301
        verdicts = record["verdicts"]
        return {str(method): {str(t): str(v) for t, v in said.items()} for method, said in verdicts.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"--baseline {path} cannot be read as the audit.json of an audit ({error}).") from error


def _worse(before: dict[str, dict[str, str]], found: Audit) -> list[str]:
    """Verdicts that were a pass and are none any more, or that are a fail and were none."""
    said = []
    for method, row in found.verdicts.iterrows():
        for test, now in row.items():
            then = before.get(str(method), {}).get(str(test))
            if then not in {None, now, "fail"} and (now == "fail" or (then, now) == ("pass", "undecided")):
                said.append(f"{method}, {test}: was {then}, is {now}.")
    return said
