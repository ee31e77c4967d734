"""The command `sightline audit`, as a user or a CI job calls it."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.command_line import Done, sightline

FACTORY = """
import torch
from torch import nn
from sightline import Preprocessing

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)
    )

build.preprocessing = Preprocessing(size=(16, 16), resize="stretch")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audit")
    (root / "net.py").write_text(FACTORY)
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    for i in range(22):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / "photos" / f"{i:02d}.png")
    (root / "photos" / "broken.png").write_bytes(b"no picture")
    return root


def run(folder: Path, *words: str) -> Done:
    return sightline(folder, "audit", "net.py:build", "photos", *words)


@pytest.mark.slow
def test_an_audit_is_written_and_repeated(place: Path) -> None:
    words = ("--methods", "gradient,expected_gradients", "--stages", "3", "--out", "a")
    done = run(place, *words)
    assert done.returncode == 0, done.stderr
    assert "gradient" in done.stdout
    assert "broken.png" in done.stderr
    assert "refused" in done.stderr
    record = json.loads((place / "a" / "audit.json").read_text())
    assert record["images"] == [f"{i:02d}.png" for i in range(22)]
    assert record["verdicts"]["gradient"]["parameter_randomization"] == "pass"
    assert record["verdicts"]["control: edges"]["overall"] == "fail"
    assert "expected_gradients" in record["refused"]
    with Image.open(place / "a" / "audit.png") as page:
        assert page.width > 1000
    table = pd.read_csv(place / "a" / "table.csv")
    assert len(table.query("test == 'parameter_randomization' and method == 'gradient'")) == 3 * 7
    text = (place / "a" / "scores.csv").read_text()
    again = run(place, *words)
    assert again.returncode == 0, again.stderr
    assert (place / "a" / "scores.csv").read_text() == text
    other = run(place, *words, "--seed", "1")
    assert other.returncode == 2
    assert "holds another audit" in " ".join(other.stderr.split())


@pytest.mark.slow
def test_it_fails_on_request_and_tells_what_got_worse(place: Path) -> None:
    done = run(place, "--methods", "gradient", "--stages", "2", "--out", "b", "--fail-on", "overall,stability")
    assert done.returncode == 0, done.stderr
    record = json.loads((place / "b" / "audit.json").read_text())
    baseline = {"verdicts": {"gradient": dict.fromkeys(record["verdicts"]["gradient"], "pass")}}
    (place / "good.json").write_text(json.dumps(baseline))
    weak = ("--methods", "guided_backprop", "--stages", "2", "--tests", "class_sensitivity", "--out", "c")
    failing = run(place, *weak, "--fail-on", "class_sensitivity")
    verdicts = json.loads((place / "c" / "audit.json").read_text())["verdicts"]["guided_backprop"]
    # Two layers of rectifiers do not lose the class everywhere; what is asked is that the exit says what was found.
    assert failing.returncode == (1 if verdicts["class_sensitivity"] == "fail" else 0)
    assert ("guided_backprop fails class_sensitivity" in failing.stderr) == (verdicts["class_sensitivity"] == "fail")
    few = run(place, "--methods", "gradient", "--stages", "2", "--out", "d", "--baseline", "good.json")
    assert few.returncode == 0
    assert "worse" not in few.stderr
    (place / "bad.json").write_text('{"verdicts": {"control: edges": {"class_sensitivity": "pass"}}}')
    worse = run(
        place, "--methods", "gradient", "--stages", "2", "--out", "b", "--baseline", "bad.json", "--fail-on", "overall"
    )
    assert worse.returncode == 1
    assert re.search(r"control: edges.*class_sensitivity.*pass.*fail", " ".join(worse.stderr.split()))


@pytest.mark.slow
def test_a_gate_that_checked_nothing_does_not_pass(place: Path) -> None:
    (place / "few").mkdir(exist_ok=True)
    for name in ("00.png", "01.png", "02.png"):
        (place / "few" / name).write_bytes((place / "photos" / name).read_bytes())
    words = (
        "audit",
        "net.py:build",
        "few",
        "--methods",
        "gradient",
        "--tests",
        "class_sensitivity",
        "--out",
        "few-out",
    )
    # Three images decide nothing.
    for wanted in ("overall", "class_sensitivity"):
        done = sightline(place, *words, "--fail-on", wanted)
        assert done.returncode == 4, done.stderr
        told = " ".join(done.stderr.split())
        assert re.search(rf"checked nothing for {wanted}.*at least 20 images.*--allow-undecided", told)
    accepted = sightline(place, *words, "--fail-on", "overall", "--allow-undecided")
    assert accepted.returncode == 0
    assert "checked nothing" in accepted.stderr
    assert sightline(place, *words).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tests", "colour"], "no test colour.*class_sensitivity"),
        (["--methods", "grad_kam"], "grad_cam"),
        (["--order", "sideways"], "output, input, alone, whole"),
        (["--fail-on", "everything"], "--fail-on.*names everything.*--tests asks only"),
        (["--fail-on", "stability", "--tests", "completeness"], "stability.*--tests asks only completeness"),
        (["--baseline", "absent.json"], r"--baseline.*absent\.json.*\baudit\.json"),
        (["--baseline", "net.py"], r"--baseline.*net\.py.*\baudit\.json"),
        (["--out", "photos/audit"], "photos/audit.*image folder"),
    ],
)
def test_mistakes_end_in_a_sentence(place: Path, words: list[str], said: str) -> None:
    done = run(place, *words)
    assert done.returncode == 2, done.stderr
    assert re.search(said, " ".join(done.stderr.split()))
    assert "Traceback" not in done.stderr
