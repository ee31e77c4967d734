"""The command `sightline audit`: verdicts on methods, for use by people and in CI."""

import json
from pathlib import Path

import typer
from rich.markup import escape

from sightline._common.checksums import fits
from sightline._common.words import readable
from sightline.auditing import CONTROLS, TESTS, Audit, Question, Randomisation, groups_of, questions_of, verdict_table
from sightline.auditing import audit as audited
from sightline.cli._console import console, interruptible, progress, say, say_refused
from sightline.cli._images import read_images
from sightline.cli._model import check_places, loaded
from sightline.errors import InputError
from sightline.evaluation import FEWEST
from sightline.methods import catalogue
from sightline.options import AuditOptions, ModelOptions
from sightline.rendering import write_page

FAILED, UNDECIDED = 1, 4


def audit(model: ModelOptions, asked: AuditOptions) -> None:
    """Ask of methods whether their maps explain this model at all: figures, intervals and verdicts."""
    check_places([*asked.images, *(asked.references or ())], asked.out)
    tests = questions_of(TESTS if asked.tests is None else asked.tests, masked=False)
    _check_fail_on(asked.fail_on, tests)
    before = _stored(asked.baseline)
    network = loaded(model)
    batch, compared = read_images(network, asked, asked.references)
    chosen = list(catalogue()) if asked.methods == ("all",) else list(asked.methods)
    how = Randomisation(asked.order, asked.stages, seed=asked.seed, networks=asked.networks)
    grouped = groups_of(batch, asked.groups) if asked.groups else None
    if asked.dry_run:
        forecast = audited(
            network, batch, chosen, tests,
            randomisation=how, references=compared, groups=grouped, seed=asked.seed, dry_run=True,
        )  # fmt: skip
        console.print(escape(str(forecast)), soft_wrap=True, highlight=False)
        return
    kept = f"What is done is kept in {asked.out}; the same command goes on from there."
    with interruptible(kept), progress("auditing") as advance:
        found = audited(
            network,
            batch,
            chosen,
            tests,
            randomisation=how,
            references=compared,
            groups=grouped,
            seed=asked.seed,
            folder=asked.out,
            progress=lambda words, done, of: advance(done, of, words),
        )
    found.save(asked.out)
    page = write_page(asked.out)
    console.print(verdict_table(found))
    say_refused(found.refused)
    console.print(escape(found.advice), soft_wrap=True, highlight=False)
    look = f"Wrote {escape(readable(asked.out / 'audit.png'))} and {escape(readable(page))}, to open in a browser"
    console.print(f"{look}; all figures are in {escape(readable(asked.out))}.", soft_wrap=True)
    _exit(asked, before, found)


def _check_fail_on(wanted: tuple[str, ...], questions: list[Question]) -> None:
    tests = [question.name for question in questions]
    if unasked := [name for name in wanted if name not in {*tests, "overall"}]:
        raise InputError(
            f"--fail-on takes overall or a test that is asked; it names {', '.join(unasked)}, but --tests asks only "
            f"{','.join(tests)}. Add it there."
        )


def _exit(asked: AuditOptions, before: dict[str, dict[str, str]], found: Audit) -> None:
    """Say what got worse, what failed and what was not decided, and leave with the code of the first of these.

    Raises:
        Exit: something failed that was asked about, or nothing was decided of it.
    """
    wanted = asked.fail_on
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
        remedy = "" if asked.allow_undecided else ", or accept it with --allow-undecided"
        say(
            "undecided",
            f"--fail-on has checked nothing for {', '.join(unchecked)}: there is no method with a pass or a fail. The "
            f"reasons are in {asked.out / 'reasons.csv'}; a verdict needs at least {FEWEST} images. Give more{remedy}.",
        )
        if not asked.allow_undecided:
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
