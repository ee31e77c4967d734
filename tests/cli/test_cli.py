"""The command line as a person meets it: what it writes, and a sentence with an exit code for every mistake."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sightline as sl
from helpers.command_line import sightline

FACTORY = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def gelu():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def nan():
    net = build()
    net[0].weight.data[0] = float("nan")
    return net

def leaves():
    raise SystemExit(0)

def needs_neighbour():
    from neighbour import width
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, width))

def training():
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.Linear(144, 3))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(FACTORY)
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "neighbour.py").write_text("width = 3\n")
    (tmp_path / "names.txt").write_text("cat\n\ndog\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b <i>$\\frac$[bold]\n.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(photos / name)
    (photos / "broken.jpg").write_bytes(b"not a picture")
    return tmp_path


def test_explaining_writes_what_the_library_gives(folder: Path) -> None:
    done = sightline(
        folder, "explain", "net.py:build", "photos", "--size", "16", "--methods",
        "gradient,smooth_grad,grad_cam@0", "--target", "2-1", "--seed", "3", "--out", "maps", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "skipped: " in done.stderr
    assert "broken.jpg" in done.stderr
    assert "2 images (1 not used), 3 methods" in done.stdout
    model = sl.load_model(f"{folder / 'net.py'}:build", size=16)
    images = sl.load_images(folder / "photos", model)
    expected = sl.explain(model, images, ["gradient", "smooth_grad", "grad_cam@0"], sl.Pair(2, 1), seed=3)
    found = load_file(folder / "maps" / "maps.safetensors")
    assert found.keys() == expected.maps.keys()
    for name in found:
        assert torch.equal(found[name], expected[name])
    manifest = json.loads((folder / "maps" / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["images"]] == ["a.png", "b <i>$\\frac$[bold]\n.png"]
    # Short side 20 of 30 x 20; the crop shows 16 / 18 of it, which is 17.8 pixels about the centre.
    shown = 20 * 16 / 18
    box = [15 - shown / 2, 10 - shown / 2, 15 + shown / 2, 10 + shown / 2]
    assert manifest["images"][0]["box"] == pytest.approx(box, abs=0.6)
    with Image.open(folder / "maps" / "montage.png") as montage:
        assert montage.format == "PNG"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["explain", "net.py:build", "photos", "--methods", "gradint"], 2, r"gradint\b.*\bgradient\b"),
        (["explain", "net.py:nothing", "photos"], 2, "nothing"),
        (["explain", "absent.py:build", "photos"], 2, "absent.py"),
        (["explain", "net.py:build", "absent"], 2, "absent"),
        (["explain", "net.py:build", "photos", "--target", "7"], 2, r"class 7\b.*\b3 outputs"),
        (["explain", "net.py:build", "photos", "--target", "cat"], 2, r"no class named 'cat'.*--class-names"),
        (["explain", "net.py:build", "photos", "--target", ""], 2, r"target is empty"),
        (["explain", "net.py:build", "photos", "--target", "-1"], 2, r"0 or above.*got -1\b"),
        (["explain", "net.py:build", "photos", "--output", "regression"], 2, r'--output.*write "values"'),
        (["explain", "net.py:build", "photos", "--target", "per-image:0,1,2"], 2, r"\b2 image.*\b3 class"),
        (["explain", "net.py:build", "photos", "--size", "2"], 2, r"fails in 0\b"),
        (["explain", "net.py:build", "photos", "--mean", "red"], 2, r"--mean.*\bred\b"),
        (["explain", "net.py:build", "photos", "--range", "1,0"], 2, "--range.*rising.*1,0"),
        (["explain", "net.py:build", "photos", "--device", "tpu"], 2, "--device.*tpu"),
        (["explain", "net.py:build", "photos", "--device", "mps"], 2, "no such device"),
        (["explain", "net.py:build", "photos/broken.jpg"], 2, "broken.jpg"),
        (["explain", "net.py:build", "photos", "--out", "net.py/maps"], 2, "cannot be written"),
        (["explain", "net.py:build", "photos", "--weights", "net.py"], 2, "net.py"),
        (["explain", "exits.py:build", "photos"], 2, "SystemExit"),
        (["explain", "net.py:leaves", "photos"], 2, "SystemExit"),
        (["explain", "net.py:build", ""], 2, "path is empty"),
        (["explain", "net.py:build", "photos", "--out", ""], 2, "path is empty"),
        (["explain", "net.py:build", "photos", "--out", "photos/maps"], 2, "photos/maps.*image folder"),
        (
            ["explain", "net.py:build", "photos/a.png", "--references", "photos", "--out", "photos/maps"],
            2,
            "photos/maps.*image folder",
        ),
        (["explain", "net.py:build", "photos", "--class-names", "names.txt"], 2, r"line 2\b.*names\.txt.*empty"),
        (["explain", "net.py:build", "photos", "--target", "9" * 30], 2, r"integers.*\b0\b.*9{30}"),
        (["explain", "net.py:build", "photos", "--resize", "big"], 2, "--resize.*big"),
        (["explain", "net.py:build", "photos", "--size", "1000000"], 2, "1000000.*memory.*smaller size"),
        (["explain", "net.py:nan", "photos"], 3, "explained value.*not finite"),
        (["explain", "net.py:gelu", "photos", "--methods", "guided_backprop"], 3, "gelu in 1"),
        (["explain", "net.py:training", "photos", "--size", "8"], 3, r"batch_norm in 1\b.*running statistics"),
    ],
)
def test_mistakes_end_in_a_sentence(folder: Path, words: list[str], code: int, message: str) -> None:
    done = sightline(folder, *words, *([] if "--size" in words else ["--size", "16"]))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(message, done.stderr, re.IGNORECASE | re.DOTALL)


def test_one_refused_method_does_not_lose_the_others(folder: Path) -> None:
    done = sightline(
        folder, "explain", "net.py:gelu", "photos", "--size", "16", "--methods", "guided_backprop,gradient"
    )
    assert done.returncode == 0
    assert "refused: guided_backprop" in done.stderr
    assert set(load_file(folder / "out" / "maps.safetensors")) == {"gradient"}
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert "gelu" in manifest["methods"]["guided_backprop"]["refused"]


def test_the_table_of_methods_names_them_all(folder: Path) -> None:
    done = sightline(folder, "methods")
    assert done.returncode == 0
    assert all(name in done.stdout for name in sl.catalogue())


def test_a_card_is_printed_by_name_and_close_names_are_offered(folder: Path) -> None:
    card = sightline(folder, "methods", "smooth_full_grad")
    assert card.returncode == 0
    assert "samples = 25, sd = 0.15" in " ".join(card.stdout.split())
    wrong = sightline(folder, "methods", "grad_kam", process=True)
    assert wrong.returncode == 2
    assert "grad_cam" in wrong.stderr


def test_version(folder: Path) -> None:
    assert sightline(folder, "--version", process=True).stdout.strip() == f"sightline {sl.__version__}"


def test_a_factory_finds_its_neighbours_and_wrong_names_are_not_used(folder: Path) -> None:
    (folder / "two.txt").write_text("cat\ndog\n")
    done = sightline(
        folder, "explain", "net.py:needs_neighbour", "photos", "--size", "16", "--methods", "gradient",
        "--class-names", "two.txt",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"\b2 class names.*\b3 output", done.stderr)


def test_the_manifest_tells_how_to_repeat_the_run(folder: Path) -> None:
    done = sightline(
        folder, "explain", "net.py:build", "photos", "--size", "16", "--resize", "stretch", "--std", "0.5",
        "--methods", "gradient,saliency",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    preparation = manifest["settings"]["preprocessing"]
    assert (preparation["size"], preparation["resize"], preparation["std"]) == ([16, 16], "stretch", [0.5] * 3)
    assert manifest["methods"]["gradient"]["aggregation"]["sign"] == "signed"
    assert manifest["methods"]["saliency"]["aggregation"]["sign"] == "absolute"
    assert manifest["images"][0]["file"] == str(Path("photos/a.png"))
    assert any("broken.jpg" in reason for reason in manifest["settings"]["skipped"])
    assert manifest["images"][0]["box"] == [0, 0, 30, 20]
