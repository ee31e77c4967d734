"""What is imported, and when: libraries that take seconds only by what needs them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sightline as sl

HEAVY = {"torch", "pandas", "scipy", "skimage", "matplotlib", "PIL", "torchvision", "timm", "transformers"}


def imported_by(program: str) -> set[str]:
    """Which of the heavy libraries a program leaves imported, in a process of its own."""
    program += f"\nimport sys\nprint(*({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_package_itself_imports_no_library():
    assert imported_by("import sightline as sl; dir(sl); sl.InputError; sl.__version__") == set()


def test_public_names_are_listed_once_and_are_all_there():
    assert sorted(sl._HOME) == sorted(sl.__all__)
    for name in sl.__all__:
        assert getattr(sl, name).__name__ == name
    assert set(sl.__all__) <= set(dir(sl))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'explains'"):
        sl.explains  # noqa: B018


@pytest.mark.parametrize(
    "words",
    ["--version", "--help", *(f"{name} --help" for name in (
        "explain", "audit", "run", "report", "methods", "app", "demo", "gad fit", "gad explain", "gad evaluate",
        "gad reproduce", "gad tables", "study claims",
    ))],
)  # fmt: skip
def test_help_imports_no_library(words: str):
    program = (
        f"import sys\nsys.argv = ['sightline', *{words.split()}]\nfrom sightline.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert imported_by(program) == set()


@pytest.mark.slow
def test_explaining_an_array_imports_what_it_needs():
    program = (
        "import torch, sightline as sl\n"
        "from torch import nn\n"
        "model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()\n"
        "sl.explain(model, torch.rand(1, 3, 4, 4), ['gradient', 'grad_cam', 'lrp_epsilon', 'smooth_grad'])"
    )
    assert imported_by(program) <= {"torch", "PIL"}


def test_commands_import_their_libraries_before_they_begin():
    """Until a command's module is imported Ctrl-C is a sentence; imports in its functions would come after that."""
    late = [
        f"{path.name}: {function.name}"
        for path in (Path(sl.__file__).parent / "cli").glob("_*.py")
        if path.stem not in {"_main", "_command"}
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        and any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(function))
    ]
    assert late == []
