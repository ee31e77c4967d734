"""The command `sightline`: its commands with their options, and how mistakes end."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from sightline._common.interrupt import imported
from sightline._common.version import __version__
from sightline.cli._command import command
from sightline.cli._console import print_any_name, say
from sightline.errors import RefusalError, SightlineError
from sightline.options import (
    AppOptions,
    AuditOptions,
    ClaimsOptions,
    DemoOptions,
    DistancedOptions,
    EvaluateOptions,
    ExplainOptions,
    FitOptions,
    MethodsOptions,
    ModelOptions,
    ReportOptions,
    ReproduceOptions,
    RunOptions,
    TablesOptions,
)

USER_ERROR, REFUSED = 2, 3

_CORE = {
    "explain": command(
        "sightline.cli._explain:explain",
        "Explain images: write raw maps, a manifest and a montage to look at.",
        ModelOptions,
        ExplainOptions,
    ),
    "audit": command(
        "sightline.cli._audit:audit",
        "Ask of methods whether their maps explain this model at all: figures, intervals and verdicts.",
        ModelOptions,
        AuditOptions,
    ),
    "run": command(
        "sightline.cli._run:run", "Explain a whole data set, or go on where an earlier sitting ended.", RunOptions
    ),
    "report": command(
        "sightline.cli._report:report",
        "Write one HTML page of all that a folder holds: verdicts, a gallery, curves, tables; it needs no network.\n\n"
        "Of a run it shows a sample of images with their maps and scores, a summary of each method, and what failed; "
        "of one that is not finished, what is there.",
        ReportOptions,
    ),
    "methods": command(
        "sightline.cli._report:methods", "Print the table of methods, or the card of one.", MethodsOptions
    ),
    "app": command(
        "sightline.cli._app:app",
        "Serve an app in the browser: drop photographs, choose, look. The password comes from SIGHTLINE_PASSWORD.",
        ModelOptions,
        AppOptions,
    ),
    "demo": command(
        "sightline.cli._demo:demo",
        "The whole story on drawn images, where the part that decides the class is known.",
        DemoOptions,
    ),
}
_GAD = {
    "fit": command("sightline.cli._gad:fit", "Train the support networks.", ModelOptions, FitOptions),
    "explain": command(
        "sightline.cli._gad:explain",
        "Explain images by what stays important in all networks.",
        ModelOptions,
        DistancedOptions,
    ),
    "evaluate": command(
        "sightline.cli._gad:evaluate",
        "Measure regions and what occluding them does, beside controls.",
        ModelOptions,
        EvaluateOptions,
    ),
    "reproduce": command(
        "sightline.cli._reproduce:reproduce",
        "From a data folder to the paper's tables and figures: fine-tune a classifier, fit GAD, evaluate.",
        ReproduceOptions,
    ),
    "tables": command(
        "sightline.cli._reproduce:tables",
        "Print the paper's Tables 1 and 2 in its layout from finished evaluations.",
        TablesOptions,
    ),
}
_STUDY = {
    "claims": command(
        "sightline.cli._study:claims",
        "Test what the literature claims of saliency methods: positive forms, settings, input bias.",
        ModelOptions,
        ClaimsOptions,
    )
}


def _group(commands: dict[str, Callable[..., None]], words: str, name: str | None = None) -> typer.Typer:
    group = typer.Typer(
        name=name,
        help=words,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for own, one in commands.items():
        group.command(own)(one)
    return group


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sightline {__version__}")
        raise typer.Exit


app = _group(
    _CORE, "Saliency maps of image classifiers: computed right, tested, and sharpened until a person can read them."
)
_GAD_WORDS = "Gradient Artificial Distancing: keep what stays important when two classes are pushed apart."
_STUDY_WORDS = "Studies of saliency methods on a network of yours."
app.add_typer(_group(_GAD, _GAD_WORDS), name="gad")
app.add_typer(_group(_STUDY, _STUDY_WORDS), name="study")


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line; mistakes end in one sentence and an exit code, never in a traceback.

    Exit codes: 0 done; 1 `audit --fail-on` found a failure; 2 the request cannot be carried out as given; 3 refused,
    because the answer would be wrong; 4 `audit --fail-on` had nothing decided to check; 130 interrupted.
    """
    print_any_name()
    try:
        app(standalone_mode=True)
    except RefusalError as error:
        say("refused", str(error))
        sys.exit(REFUSED)
    except SightlineError as error:
        say("error", str(error))
        sys.exit(USER_ERROR)
    except OSError as error:
        say("error", f"The system refused: {error.strerror or error}.")
        sys.exit(USER_ERROR)
    except RuntimeError as error:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(error, torch.OutOfMemoryError):
            raise
        say("error", "The device ran out of memory. Use --device cpu, a smaller --size, or fewer images.")
        sys.exit(USER_ERROR)
    finally:
        imported()
