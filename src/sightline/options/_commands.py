"""The options of `sightline explain`, `audit`, `study`, `run`, `report`, `methods`, `app` and `demo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sightline._common.options import Flag, option, required
from sightline.options._shared import STRICT, ImageOptions, PageOptions, SeedOptions

_REFERENCES = "Images to compare with, for expected_gradients: a file or a folder."
PARTS = ("aggregation", "propagation", "survey", "encoding")
"""Of a study of claims."""


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(PageOptions, SeedOptions, ImageOptions):
    """The options of `sightline explain`; see `sightline.explain`."""

    methods: tuple[str, ...] = option(
        ("gradient", "grad_cam"),
        "Names from `sightline methods`, with commas, or all; FILE.py:NAME for one of your own; NAME@LAYER reads "
        "another layer, by its name or as early, middle, late.",
    )
    target: tuple[str, ...] | None = option(
        None,
        "One or several, with commas or repeated: predicted; all; top-2; a class by number or name; a pair, cat-dog: "
        "why cat and not dog; unit:LAYER:CHANNEL; per-image:1,5,7, a class for each image. By default the predicted "
        "class, or each output where these are up to 8 labels or values.",
        Flag(many=True),
    )
    out: Path = option(Path("out"), "Folder for maps.safetensors, manifest.json, montage.png and report.html.")
    references: tuple[str, ...] | None = option(None, _REFERENCES, Flag(many=True))


@dataclass(frozen=True, kw_only=True)
class AuditTests:
    """What an audit asks, on the command line and in the part [audit] of a recipe."""

    tests: tuple[str, ...] | None = option(
        None,
        "With commas: class_sensitivity, image_sensitivity, parameter_randomization, input_bias, completeness, "
        "stability, by default all of these; convergence, faithfulness; or FILE.py:NAME for one of your own.",
    )
    stages: int = option(10, "Layers lose their weights in at most so many steps.", least=1)
    networks: int = option(5, "Networks with all layers random; a verdict on them needs at least five.", least=1)
    groups: str | None = option(
        None,
        "What images belong together, such as slices of one patient: folder, for images of one folder, or a CSV file "
        "with the columns image and group.",
    )


@dataclass(frozen=True, kw_only=True)
class AuditPart(AuditTests):
    """An audit of the first images of a run: the part [audit] of a recipe."""

    __pydantic_config__ = STRICT

    images: int = option(32, "So many of the first images.", least=1)
    block: int | None = option(
        None, "Images that are processed together; by default as many as fit a fixed share of memory.", least=1
    )


@dataclass(frozen=True, kw_only=True)
class AuditOptions(AuditTests, SeedOptions, ImageOptions):
    """The options of `sightline audit`; see `sightline.audit`."""

    methods: tuple[str, ...] = option(
        ("gradient", "input_x_gradient", "guided_backprop", "grad_cam"),
        "Names from `sightline methods`, with commas, or all; FILE.py:NAME for one of your own.",
    )
    order: Literal["output", "input", "alone", "whole"] = option(
        "output", "Layers lose their weights from the output, from the input, alone, or whole."
    )
    references: tuple[str, ...] | None = option(None, _REFERENCES, Flag(many=True))
    out: Path = option(Path("audit"), "Folder for all that is found; an interrupted audit goes on there.")
    fail_on: tuple[str, ...] = option(
        (),
        "Exit with 1 where a method fails one of these, with commas: tests, or overall; with 4 where one of these "
        "gives no method a pass or a fail, so that nothing was checked.",
    )
    allow_undecided: bool = option(
        False, "With --fail-on: exit with 0 where nothing was decided.", Flag("--allow-undecided")
    )
    baseline: Path | None = option(None, "The audit.json of an earlier audit; verdicts that got worse are listed.")
    dry_run: bool = option(
        False,
        "Only say how many images and networks a verdict will need, and how long it will take.",
        Flag("--dry-run"),
    )


@dataclass(frozen=True, kw_only=True)
class ClaimsOptions(SeedOptions, ImageOptions):
    """The options of `sightline study claims`; see `sightline.study.claims`."""

    parts: tuple[str, ...] = option(PARTS, f"With commas: {', '.join(PARTS)}.")
    methods: tuple[str, ...] | None = option(
        None, "For aggregation and propagation: names from `sightline methods`, with commas."
    )
    tests: tuple[str, ...] = option(
        ("class_sensitivity", "image_sensitivity", "parameter_randomization"),
        "For aggregation and propagation: tests of `sightline audit`, with commas; or FILE.py:NAME for your own.",
    )
    count: int | None = option(None, "Take so many, spread evenly; by default all.", Flag("--images"), least=1)
    networks: int = option(5, "Random networks; a verdict needs at least 5.", least=1)
    stages: int = option(1, "1: all layers become random at once; else in so many steps from the output.", least=1)
    out: Path = option(
        Path("study"), "Folder for study.md, study.json and the tables; an interrupted audit goes on there."
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of `sightline run`; see `sightline.run`."""

    recipe: Path = required("A TOML file: model, data, methods, targets, output.", Flag(argument=True))
    dry_run: bool = option(False, "Estimate the cost, and stop.", Flag("--dry-run"))
    engine: Literal["local", "ray"] | None = option(None, "What does the work, instead of what the recipe says.")
    out: str | None = option(None, "Where results go, instead of what the recipe says.")
    strict: bool = option(
        False, "Exit with 1 where an image was skipped or failed; results are kept.", Flag("--strict")
    )


@dataclass(frozen=True, kw_only=True)
class ReportOptions(PageOptions):
    """The options of `sightline report`."""

    folder: str = required(
        "What `sightline explain`, `audit`, `gad`, `run` or `demo` has written; a run also by its address.",
        Flag(argument=True),
    )
    out: Path | None = option(
        None,
        "The file to write; by default report.html in the folder, or in the current one where the run is not on this "
        "machine.",
    )
    images: int | None = option(
        None, "How many images of a run are shown, spread evenly over it; by default 24, at most 1000."
    )


@dataclass(frozen=True, kw_only=True)
class MethodsOptions:
    """The options of `sightline methods`."""

    name: str | None = option(
        None, "A method, or FILE.py:NAME for one of your own, for its card; without one, the table of all.",
        Flag(argument=True),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AppOptions:
    """The options of `sightline app`."""

    support: Path | None = option(None, "The folder that `gad fit` wrote, to show what stays important.", Flag("--gad"))
    host: str = option("127.0.0.1", "Address to listen on; any but this machine's own asks for a password.")
    port: int = option(7860, "Port to listen on.", least=1, most=65535)


@dataclass(frozen=True, kw_only=True)
class DemoOptions(SeedOptions):
    """The options of `sightline demo`."""

    out: Path = option(Path("demo-out"), "Folder for the images and the table.")
