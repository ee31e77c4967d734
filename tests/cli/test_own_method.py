"""A test of the architecture: a method of a user's own, one file, on every command that takes methods."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sightline as sl
from helpers.command_line import sightline

MINE = """
import sightline as sl
from sightline.aggregation import InputSignal, Sign

SIZE = sl.Method(aggregation=InputSignal(Sign.ABSOLUTE), formula="|dz/dx|", source="this file")
"""
NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    (place / "mine.py").write_text(MINE)
    (place / "net.py").write_text(NETWORK)
    (place / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(place / "photos" / f"{name}.png")
    return place


def expected(folder: Path) -> torch.Tensor:
    model = sl.load_model(f"{folder / 'net.py'}:build", size=16)
    images = sl.load_images(folder / "photos", model).tensor.requires_grad_()
    scores = model(images)
    return torch.autograd.grad(scores.amax(1).sum(), images)[0].abs()


def test_its_card_is_printed(folder: Path) -> None:
    done = sightline(folder, "methods", "mine.py:SIZE")
    assert done.returncode == 0, done.stderr
    assert "SIZE" in done.stdout
    assert "this file" in done.stdout


def test_it_is_explained_and_shown_on_a_page(folder: Path) -> None:
    done = sightline(
        folder, "explain", "net.py:build", "photos", "--size", "16", "--methods", "mine.py:SIZE,gradient",
        "--out", "maps", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert torch.equal(load_file(folder / "maps" / "maps.safetensors")["SIZE"], expected(folder))
    page = (folder / "maps" / "report.html").read_text()
    assert "SIZE" in page
    assert "this file" in page


def test_it_is_audited(folder: Path) -> None:
    done = sightline(
        folder, "audit", "net.py:build", "photos", "--size", "16", "--methods", "mine.py:SIZE", "--tests",
        "class_sensitivity", "--out", "audit", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "SIZE" in (folder / "audit" / "verdicts.csv").read_text()


def test_it_is_studied(folder: Path) -> None:
    done = sightline(
        folder, "study", "claims", "net.py:build", "photos", "--size", "16", "--methods", "mine.py:SIZE,gradient",
        "--parts", "aggregation", "--networks", "1", "--out", "study", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "SIZE" in (folder / "study" / "aggregation.csv").read_text()


def test_a_recipe_finds_it_beside_itself(folder: Path) -> None:
    pytest.importorskip("zarr")
    (folder / "recipe.toml").write_text(
        'methods = ["mine.py:SIZE", "gradient"]\n[model]\nspec = "net.py:build"\nsize = 16\ndevice = "cpu"\n'
        '[data]\nimages = ["photos"]\n[output]\nfolder = "run"\nchannels = true\n'
    )
    done = sightline(folder.parent, "run", str(folder / "recipe.toml"))
    assert done.returncode == 0, done.stderr
    run = sl.open_run(folder / "run")
    assert run.methods == ["SIZE", "gradient"]
    assert np.array_equal(run.array("SIZE")[:], expected(folder).numpy())


def test_a_recipe_with_a_file_that_has_no_such_method_says_so(folder: Path) -> None:
    (folder / "wrong.toml").write_text(
        'methods = ["mine.py:SIZES"]\n[model]\nspec = "net.py:build"\n[data]\nimages = ["photos"]\n'
        '[output]\nfolder = "run"\n'
    )
    done = sightline(folder, "run", "wrong.toml")
    assert done.returncode == 2
    assert "line 1, methods" in done.stderr
    assert "Did you mean SIZE?" in done.stderr
