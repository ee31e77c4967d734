"""`sightline gad ...` on tiny data sets drawn here, in all three layouts."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

import sightline as sl
from helpers.command_line import Done, sightline

FACTORY = """
import torch
from torch import nn
from sightline import Preprocessing

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3),
    )

build.preprocessing = Preprocessing(size=(16, 16), resize="stretch")
build.class_names = ("fish", "cat", "dog")

def unnamed():
    return build()

unnamed.preprocessing = build.preprocessing
"""


def paint(path: Path, label: str, rng: np.random.Generator) -> None:
    """Cats have a bright square to the left, dogs to the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 120, (20, 20, 3), dtype=np.uint8)
    left = 3 if label in {"cat", "sparrow"} else 12
    pixels[7:13, left : left + 6] = 230
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gad")
    (root / "net.py").write_text(FACTORY)
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        for i in range(16):
            paint(root / "folders" / label / f"{i}.png", label, rng)
            paint(root / "flat" / "train" / f"{label}.{i}.jpg", label, rng)
    (root / "folders" / "dog" / "broken.png").write_bytes(b"no picture")
    images, labels, split = [], [], []
    for species, title in enumerate(("Song_Sparrow", "Palm_Warbler"), 1):
        for i in range(16):
            name = f"{species:03d}.{title}/{i}.jpg"
            paint(root / "cub" / "images" / name, title.split("_")[1].lower(), rng)
            number = len(images) + 1
            images.append(f"{number} {name}")
            labels.append(f"{number} {species}")
            split.append(f"{number} {int(i < 10)}")
    for name, lines in (
        ("images", images),
        ("image_class_labels", labels),
        ("train_test_split", split),
        ("classes", ["1 001.Song_Sparrow", "2 002.Palm_Warbler"]),
    ):
        (root / "cub" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def run(folder: Path, *words: str) -> Done:
    return sightline(folder, "gad", *words)


@pytest.mark.slow
def test_fit_explain_evaluate(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = run(
        place, "fit", "net.py:build", "folders", "--classes", "cat,dog", "--alphas", "1,2", "--steps", "4", "--tuned",
        "--out", "g",
    )  # fmt: skip
    assert fit.returncode == 0, fit.stderr
    assert "broken.png" in fit.stderr
    assert "hardly moved" in fit.stderr
    model = sl.load_model(f"{place / 'net.py'}:build")
    gad = sl.GAD.load(place / "g", model)
    assert gad.classes == (1, 2)
    assert gad.alphas == ((1.0, 1.0), (2.0, 2.0))
    # The same fit through the library.
    images = sl.load_images([place / "folders"], model)
    expected = sl.GAD(model, (1, 2), (1, 2), steps=4).fit(images, controls=["shuffled", "tuned"])
    assert gad.report["kind"].tolist() == ["distanced"] * 2 + ["shuffled"] * 2 + ["tuned"] * 2
    pd.testing.assert_frame_equal(
        gad.report.drop(columns="seconds"), expected.report.drop(columns="seconds"), rtol=1e-4, atol=1e-6
    )

    with monkeypatch.context() as patch:
        patch.setattr("sightline.cli._console.FIRST", 0.0)
        explain = run(
            place, "explain", "net.py:build", "folders/cat", "--gad", "g", "--methods", "gradient", "--out", "m"
        )
    assert explain.returncode == 0, explain.stderr
    # Sixteen images in three networks.
    assert re.search(r"progress: explaining: \d+ of 48\b", explain.stderr)
    found = load_file(place / "m" / "maps.safetensors")
    assert found["gradient"].shape == (16, 1, 16, 16)
    assert (place / "m" / "gad.png").exists()

    evaluate = run(
        place, "evaluate", "net.py:build", "folders", "--gad", "g", "--methods", "gradient,saliency", "--images", "6",
        "--share", "0.2", "--fill", "mean", "--controls", "tuned", "--out", "e",
    )  # fmt: skip
    assert evaluate.returncode == 0, evaluate.stderr
    rows = pd.read_csv(place / "e" / "regions.csv")
    # Both classes of twelve pictures, two methods, and these arms: the original, GAD, what is left of the original,
    # the original clipped, shuffled labels, and four controls at two matches (networks trained on without distancing
    # are one); asked about the pair, its own map is the threshold.
    assert len(rows) == 12 * 2 * 2 * (5 + 8)
    assert set(rows["fill"]) == {"mean"}
    swapped = run(place, "evaluate", "net.py:build", "folders", "--gad", "g", "--labels", "dog,cat", "--out", "s")
    assert swapped.returncode == 2
    assert re.search(r"labels cat,dog\b.*--labels dog,cat", " ".join(swapped.stderr.split()))
    text = (place / "e" / "report.md").read_text()
    for said in (
        "Class 1 is cat (output 1), class 2 dog (output 2).",
        "shift 1, shift 2: ",
        "rs pair: ",
        "Complexity (table 1)",
        "Sensitivity (table 2)",
        "Verdicts",
        "by construction",
        "![Original and GAD](gad.png)",
    ):
        assert said in text
    page = html.unescape((place / "e" / "report.html").read_text())
    assert re.search(r"\bcat \(class 1\) and dog \(class 2\).*\b12 images", page)
    # Two methods, two classes, five comparisons; twenty images are the fewest for a verdict.
    assert re.search(r"\b20 comparisons.*\b0 neither.*\b20 have too few", page)
    for name in ("logits", "maps", "alphas", "hulls", "gad", "clues"):
        assert (place / "e" / f"{name}.png").stat().st_size > 2000


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "layout"), [("cats_dogs", "folders"), ("cats_dogs", "flat"), ("cub", "cub")])
def test_reproduction_from_each_layout(place: Path, dataset: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if layout != "folders":
        # Drawn once; a layout is about which pictures are read.
        monkeypatch.setattr("sightline.rendering._gad_report._draw", lambda *_: {})
    out = f"r-{layout}"
    words = [
        "reproduce", "--dataset", dataset, "--data", layout, "--arch", "net.py:build", "--size", "16", "--steps", "6",
        "--images", "16", "--batch-size", "8", "--methods", "saliency,integrated_gradients", "--out", out,
    ]  # fmt: skip
    done = run(place, *words)
    assert done.returncode == 0, done.stderr
    record = json.loads((place / out / "reproduction.json").read_text())
    assert record["pictures"]["training"] + record["pictures"]["held out"] == 32
    if layout == "cub":
        assert record["pictures"] == {"training": 20, "held out": 12, "evaluated": 12}
    assert len(record["skipped"]) == (1 if layout == "folders" else 0)
    tables = {name: (place / out / f"{name}.csv").read_text() for name in ("complexity", "gains", "regions")}
    made = (place / out / "classifier.safetensors").stat().st_mtime_ns
    monkeypatch.setattr("sightline.rendering._gad_report._draw", lambda *_: {})
    again = run(place, *words)
    assert again.returncode == 0, again.stderr
    assert (place / out / "classifier.safetensors").stat().st_mtime_ns == made
    for name, text in tables.items():
        assert (place / out / f"{name}.csv").read_text() == text
    assert json.loads((place / out / "gad" / "gad.json").read_text())["training"]["seed"] == 0
    other = run(place, *words, "--seed", "5")
    assert other.returncode == 2
    assert re.search(r"classifier\.safetensors.*other weights", " ".join(other.stderr.split()))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["fit", "net.py:build", "folders", "--classes", "cat"], 2, "--classes.*two classes"),
        (["fit", "net.py:build", "folders", "--classes", "cat,bird"], 2, "no class named 'bird'"),
        (["fit", "net.py:build", "folders", "--classes", "cat,cat"], 2, "two different outputs"),
        (["fit", "net.py:build", "folders", "--classes", "fish,dog"], 2, "labelled 'fish'"),
        (["fit", "net.py:build", "folders", "--classes", "1,7"], 2, "3 outputs.*no class 7"),
        (["fit", "net.py:unnamed", "folders", "--classes", "1,7"], 2, "3 outputs.*no class 7"),
        (["fit", "net.py:unnamed", "folders", "--classes", "1,2"], 2, "--labels cat,dog"),
        (["fit", "net.py:build", "folders", "--classes", "1,7", "--labels", "cat,dog", "--out", "g7"], 2, "no class 7"),
        (["fit", "net.py:build", "folders", "--classes", "cat,dog", "--alphas", "2,1"], 2, "rise"),
        (["fit", "net.py:build", "folders", "--classes", "cat,dog", "--alphas", "1:2:3"], 2, "--alphas.*1:2:3"),
        (["fit", "net.py:build", "folders", "--classes", "cat,dog", "--mode", "test"], 2, "mode.*eval.*train.*test"),
        (
            ["fit", "net.py:build", "folders", "--classes", "cat,dog", "--out", "folders/gad"],
            2,
            "folders/gad.*image folder",
        ),
        (
            ["fit", "net.py:build", "folders", "--classes", "cat,dog", "--mode", "train", "--strategy", "interpolated"],
            3,
            "train mode",
        ),
        (["fit", "net.py:build", "absent", "--classes", "cat,dog"], 2, "not a folder"),
        (["explain", "net.py:build", "folders/cat", "--gad", "absent"], 2, r"absent.*\bfit\b"),
        (["evaluate", "net.py:build", "folders", "--images", "-1"], 2, "--images"),
        (["reproduce", "--dataset", "mnist", "--data", "flat", "--arch", "net.py:build"], 2, "cats_dogs.*cub.*mnist"),
        (["reproduce", "--dataset", "cub", "--data", "flat", "--arch", "net.py:build"], 2, "'sparrow'"),
    ],
)
def test_mistakes_end_in_a_sentence(place: Path, words: list[str], code: int, said: str) -> None:
    done = run(place, *words)
    assert done.returncode == code, done.stderr
    assert re.search(said, " ".join(done.stderr.split()))
    assert "Traceback" not in done.stderr
