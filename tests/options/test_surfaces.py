"""Python, the command line and recipes say the same: every option where it applies, with one default."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
import typer

import sightline as sl
from sightline import options
from sightline._common.options import flag_of
from sightline.auditing import TESTS, AuditOptions, Randomisation
from sightline.cli._main import app
from sightline.gad import GAD, Consistency
from sightline.runs import Recipe, read_recipe
from sightline.study import claims

# The flags of each command, which scripts rely on.
MODEL = (
    "--weights --class-names --output --multi-label --no-multi-label --size --mean --std --resize --channels --values "
    "--range --pretrained --no-pretrained --device"
)
FLAGS = {
    "explain": f"{MODEL} --methods --target --out --references --seed --max-pixels --strict --page-side",
    "audit": f"{MODEL} --methods --tests --order --stages --networks --groups --references --out --fail-on "
    "--allow-undecided --baseline --dry-run --seed --max-pixels --strict",
    "run": "--dry-run --engine --out --strict",
    "report": "--out --images --page-side",
    "methods": "",
    "app": f"{MODEL} --gad --host --port",
    "demo": "--out --seed",
    "gad fit": f"{MODEL} --classes --labels --alphas --mode --strategy --rate --epochs --steps --batch-size --controls "
    "--no-controls --tuned --no-tuned --out --seed --max-pixels",
    "gad explain": f"{MODEL} --gad --methods --target --reading --share --question --out --seed --max-pixels --strict "
    "--page-side",
    "gad evaluate": f"{MODEL} --gad --labels --methods --reading --share --question --fill --images --controls --blur "
    "--per-component --no-per-component --out --seed --max-pixels",
    "gad reproduce": "--dataset --data --arch --weights --scratch --no-scratch --out --size --images --training "
    "--steps --epochs --tuning-epochs --tuning-rate --rate --batch-size --mode --methods --device --seed",
    "gad tables": "--reading --out",
    "study claims": f"{MODEL} --parts --methods --tests --images --networks --stages --out --seed --max-pixels "
    "--strict",
}
ARGUMENTS = {
    "explain": "model images", "audit": "model images", "run": "recipe", "report": "folder", "methods": "name",
    "app": "model", "demo": "", "gad fit": "model data", "gad explain": "model images", "gad evaluate": "model data",
    "gad reproduce": "", "gad tables": "folders", "study claims": "model images",
}  # fmt: skip
COMMANDS = {
    "explain": options.ExplainOptions, "audit": options.AuditOptions, "run": options.RunOptions,
    "report": options.ReportOptions, "methods": options.MethodsOptions, "app": options.AppOptions,
    "demo": options.DemoOptions, "gad fit": options.FitOptions, "gad explain": options.DistancedOptions,
    "gad evaluate": options.EvaluateOptions, "gad reproduce": options.ReproduceOptions,
    "gad tables": options.TablesOptions, "study claims": options.ClaimsOptions,
}  # fmt: skip


def parameters(name: str) -> dict[str, Any]:
    """The parameters of a command by the field that they come from."""
    command = typer.main.get_command(app)
    for word in name.split():
        command = command.commands[word]
    return {one.name: one for one in command.params if one.name != "help"}


def taken(name: str) -> list["Field[Any]"]:
    owner = COMMANDS[name]
    model = [] if "model" not in ARGUMENTS[name].split() else fields(options.ModelOptions)
    return [*model, *fields(owner)]


@pytest.mark.parametrize("name", FLAGS)
def test_flags_and_arguments_keep_their_names(name: str) -> None:
    found = parameters(name).values()
    flags = [flag for one in found if one.param_type_name == "option" for flag in (*one.opts, *one.secondary_opts)]
    assert sorted(flags) == sorted(FLAGS[name].split())
    assert [one.name for one in found if one.param_type_name == "argument"] == ARGUMENTS[name].split()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_has_every_option_with_its_help_and_default(name: str) -> None:
    found = list(parameters(name).values())
    assert len(found) == len(taken(name))
    for one in taken(name):
        (same,) = [each for each in found if each.help == one.metadata["description"] and _is(each, one)]
        assert same.required == (one.default is MISSING)
        if not same.required:
            default = one.default if flag_of(one).shown is None else flag_of(one).shown
            assert same.default == (",".join(default) if isinstance(default, tuple) else default)


def _is(parameter: Any, one: "Field[Any]") -> bool:
    names = {word.removeprefix("--").replace("-", "_") for word in parameter.opts}
    return bool({one.name, flag_of(one).name.removeprefix("--").replace("-", "_")} & names)


# What a call leaves to another one: images are loaded before, results are saved after, and several targets have a list.
ELSEWHERE = {"images", "data", "max_pixels", "strict", "page_side", "out", "target", "labels", "classes"}
PYTHON: list[tuple[type, list[Callable[..., Any]], set[str]]] = [
    # A script puts its model where its tensors are; a command has no tensors.
    (options.ModelOptions, [sl.load_model], {"device"}),
    (options.ExplainOptions, [sl.explain], set()),
    (options.AuditOptions, [sl.audit, Randomisation], {"fail_on", "allow_undecided", "baseline", "dry_run"}),
    (options.ClaimsOptions, [claims], set()),
    # None lets a data loader say it, and is 64 for everything else; Python names `tuned` among `controls`.
    (options.FitOptions, [GAD, GAD.fit], {"batch_size", "tuned"}),
    (options.DistancedOptions, [GAD.explain, Consistency], {"gad"}),
]


@pytest.mark.parametrize(("owner", "calls", "others"), PYTHON, ids=lambda one: getattr(one, "__name__", ""))
def test_a_python_call_has_every_option_with_the_same_default(
    owner: type, calls: list[Callable[..., Any]], others: set[str]
) -> None:
    given = {name: one.default for call in calls for name, one in inspect.signature(call).parameters.items()}
    if owner is options.AuditOptions:
        # None is what Python says by the names of the usual tests, which register themselves.
        assert given["tests"] == TESTS
        given["tests"] = None
    for one in fields(owner):
        if one.name in others or (one.name in ELSEWHERE and owner is not options.ModelOptions):
            continue
        assert one.name in given, f"{owner.__name__}.{one.name}"
        expected = inspect.Parameter.empty if one.default is MISSING else one.default
        default = tuple(given[one.name]) if isinstance(given[one.name], list | tuple) else given[one.name]
        assert default == expected, f"{owner.__name__}.{one.name}"


KEYS = {
    "model": "spec weights classes output multi_label size mean std resize channels values range pretrained device",
    "audit": "images tests stages networks groups block",
    "gad": "classes images labels alphas mode strategy rate epochs steps batch_size controls",
}


def written(folder: Path, more: str = "") -> Recipe:
    (folder / "r.toml").write_text(
        f'methods = ["gradient"]\n[model]\nspec = "net.py:build"\n{more}[data]\nimages = ["a"]\n'
        '[output]\nfolder = "o"\n'
        '[audit]\n[gad]\nclasses = [0, 1]\nimages = "b"\nlabels = ["cat", "dog"]\n'
    )
    return read_recipe(folder / "r.toml")


def test_recipes_keep_their_keys_and_have_the_same_defaults(tmp_path: Path) -> None:
    recipe = written(tmp_path)
    record = recipe.record()
    for part, keys in KEYS.items():
        assert sorted(record[part]) == sorted(keys.split())
    assert recipe.model == options.ModelOptions(spec="net.py:build")
    assert recipe.audit == options.AuditPart()
    for name in ("tests", "stages", "networks", "groups"):
        assert getattr(recipe.audit, name) == getattr(options.AuditOptions, name)
    for one in fields(options.Fitting):
        assert getattr(recipe.gad, one.name) == getattr(options.FitOptions, one.name)
    assert recipe.seed == options.SeedOptions.seed
    assert recipe.data.max_pixels == options.PixelOptions.max_pixels


def test_a_recipe_reads_its_own_record(tmp_path: Path) -> None:
    recipe = written(tmp_path, "mean = [0.5, 0.25, 0.5]\nrange = [-1, 1]\nsize = [8, 9]\n")
    assert recipe.model.mean == (0.5, 0.25, 0.5)
    assert recipe.model.value_range == (-1, 1)
    assert Recipe.of(recipe.record(), recipe.folder) == recipe


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rang = [0, 1]", "line 4, model.rang: there is no such key; did you mean range"),
        ("value_range = [0, 1]", "there is no such key"),
        ("size = 0", "line 2, model: the size of the input is in pixels, at least 1; got 0"),
        ('size = "8"', "line 4, model.size"),
        ("channels = 2", "1 or 3; got 2"),
        ('output = "numbers"', "'classes', 'labels' or 'values'"),
        ("mean = 1979-05-27", "line 4|not understood"),
    ],
)
def test_mistakes_in_a_recipe_are_told_with_their_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(sl.InputError, match=said):
        written(tmp_path, f"{line}\n")


def test_help_names_the_tests_that_there_are() -> None:
    (tests,) = [one for one in fields(options.AuditTests) if one.name == "tests"]
    usual, _, further = tests.metadata["description"].partition(", by default all of these; ")
    assert usual.removeprefix("With commas: ").split(", ") == list(TESTS)
    assert "convergence, faithfulness" in further
    assert AuditOptions.tests == TESTS
