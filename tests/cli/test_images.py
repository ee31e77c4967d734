"""Image files on the command line: deep pictures, files that are not read, names that are not text, strictness."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sightline as sl
from helpers.command_line import sightline
from sightline.cli import _console as cli_console

FACTORY = """
import torch
from torch import nn

def grey():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = grey()
    def forward(self, x):
        import time
        print("begun", flush=True)
        time.sleep(30)
        return self.net(x)
"""
FILM = np.linspace(0, 1967, 256).round().astype(np.uint16).reshape(16, 16)
GREY = ("--size", "16", "--resize", "none")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(FACTORY)
    (tmp_path / "films").mkdir()
    Image.fromarray(FILM).save(tmp_path / "films" / "a.png")
    return tmp_path


def test_a_film_and_a_network_of_one_channel_in_one_call(folder: Path) -> None:
    done = sightline(folder, "explain", "net.py:grey", "films", *GREY, "--values", "0,4095", "--methods", "gradient")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    model = sl.load_model(f"{folder / 'net.py'}:grey")
    # ImageNet's mean and standard deviation, averaged over its channels.
    image = ((torch.from_numpy(FILM / 4095).float() - 0.449) / 0.226)[None, None].requires_grad_()
    (right,) = torch.autograd.grad(model(image).max(), image)
    assert torch.allclose(load_file(folder / "out" / "maps.safetensors")["gradient"], right, atol=1e-7)
    shown = load_file(folder / "out" / "pictures.safetensors")["pictures"][0, ..., 0].numpy()
    assert np.abs(shown - FILM * (255 / 4095)).max() <= 0.51


def test_without_a_range_the_terminal_the_manifest_and_the_page_warn(folder: Path) -> None:
    done = sightline(folder, "explain", "net.py:grey", "films", *GREY, "--methods", "gradient")
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "--values 0,4095" in line]
    assert said.startswith("warning:")
    notes = json.loads((folder / "out" / "manifest.json").read_text())["notes"]
    assert said.removeprefix("warning: ") in notes
    assert "--values 0,4095" in (folder / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    "options", [("--mean", "0.5,", "--std", "0.25"), ("--channels", "1", "--mean", "0.5", "--std", "0.25")]
)
def test_spellings_of_one_channel(folder: Path, options: tuple[str, ...]) -> None:
    done = sightline(folder, "explain", "net.py:grey", "films", *GREY, *options, "--methods", "gradient")
    assert done.returncode == 0, done.stderr
    settings = json.loads((folder / "out" / "manifest.json").read_text())["settings"]["preprocessing"]
    assert (settings["channels"], settings["mean"], settings["std"]) == (1, [0.5], [0.25])


def test_files_that_are_not_read_are_named(folder: Path) -> None:
    films = folder / "films"
    (films / "b.dcm").write_bytes(b"x")
    (films / "IM0001").write_bytes(bytes(128) + b"DICM")
    np.save(films / "c.npy", FILM)
    (films / "d.nii.gz").write_bytes(b"x")
    (films / "e.heic").write_bytes(b"x")
    (films / "notes.txt").write_text("x")
    (films / ".hidden").write_text("x")
    done = sightline(folder, "explain", "net.py:grey", "films", *GREY, "--methods", "gradient")
    assert done.returncode == 0, done.stderr
    assert "1 image (5 not used), 1 method" in done.stdout
    skipped = [line for line in done.stderr.splitlines() if line.startswith("skipped")]
    for name, fact in {
        "b.dcm": "DICOM",
        "IM0001": "DICOM",
        "c.npy": "NumPy",
        "d.nii.gz": "NIfTI",
        "e.heic": "HEIF",
    }.items():
        assert any(name in line and fact in line for line in skipped)
    assert sum("torch.from_numpy" in line for line in skipped) == 4
    assert "notes.txt" in next(line for line in done.stderr.splitlines() if line.startswith("ignored"))
    assert ".hidden" not in done.stderr


def test_an_array_named_alone_is_an_error_with_a_way_out(folder: Path) -> None:
    np.save(folder / "c.npy", FILM)
    done = sightline(folder, "explain", "net.py:grey", "c.npy")
    assert done.returncode == 2
    assert "torch.from_numpy" in done.stderr


@pytest.mark.parametrize("command", [("explain",), ("audit",)])
@pytest.mark.parametrize("bad", ["nopath", "broken.png", "c.npy"])
def test_strict_stops_before_the_work(folder: Path, command: tuple[str, ...], bad: str) -> None:
    (folder / "broken.png").write_bytes(b"x")
    np.save(folder / "c.npy", FILM)
    done = sightline(folder, *command, "net.py:grey", "films", bad, *GREY, "--strict")
    assert done.returncode == 2
    assert bad in done.stderr
    assert not (folder / "out").exists()
    assert not (folder / "audit").exists()


def test_strict_has_nothing_against_a_text_beside_the_pictures(folder: Path) -> None:
    (folder / "films" / "notes.txt").write_text("x")
    done = sightline(folder, "explain", "net.py:grey", "films", *GREY, "--methods", "gradient", "--strict")
    assert done.returncode == 0, done.stderr


def test_a_strict_run_keeps_its_results(folder: Path) -> None:
    (folder / "films" / "broken.png").write_bytes(b"x")
    (folder / "r.toml").write_text(
        'methods = ["gradient"]\n[model]\nspec = "net.py:grey"\nsize = 16\nresize = "none"\nchannels = 1\n'
        'values = [0, 4095]\n[data]\nimages = ["films"]\n[output]\nfolder = "maps"\n'
    )
    assert sightline(folder, "run", "r.toml").returncode == 0
    done = sightline(folder, "run", "r.toml", "--strict")
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    model = sl.load_model(f"{folder / 'net.py'}:grey", size=16, resize="none", values=(0, 4095))
    expected = sl.explain(model, sl.load_images(folder / "films" / "a.png", model), "gradient").heatmap("gradient")
    run = sl.open_run(folder / "maps")
    assert np.allclose(run.heatmap("gradient", 0), expected[0], atol=1e-7)


def test_a_run_warns_of_values_before_it_begins(folder: Path) -> None:
    (folder / "r.toml").write_text(
        'methods = ["gradient"]\n[model]\nspec = "net.py:grey"\nsize = 16\nresize = "none"\n'
        '[data]\nimages = ["films"]\n[output]\nfolder = "maps"\n'
    )
    for words in (("run", "r.toml"), ("run", "r.toml", "--dry-run")):
        assert "values = [0, 4095]" in sightline(folder, *words).stderr


LATIN = os.fsdecode(b"caf\xe9")


def test_names_that_are_not_text_end_nothing(folder: Path) -> None:
    place = folder / LATIN / LATIN
    try:
        place.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes valid names only")
    Image.fromarray(FILM).save(place / f"{LATIN}.png")
    Image.fromarray(FILM.T.copy()).save(place / "b.png")
    out = f"out-{LATIN}"
    done = sightline(folder, "explain", "net.py:grey", LATIN, *GREY, "--methods", "gradient", "--out", out)
    assert done.returncode == 0, done.stderr
    loaded = sl.Explanation.load(folder / out)
    assert loaded.names == ["caf\\xe9/b.png", "caf\\xe9/caf\\xe9.png"]
    assert r"caf\\xe9.png" in (folder / out / "report.html").read_text()
    done = sightline(folder, "audit", "net.py:grey", LATIN, *GREY, "--methods", "gradient", "--tests", "completeness",
                     "--out", f"audit-{LATIN}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "r.toml").write_text(
        'methods = ["gradient"]\n[model]\nspec = "net.py:grey"\nsize = 16\n[data]\nimages = ["*/*/*.png"]\n'
        '[output]\nfolder = "maps"\n'
    )
    done = sightline(folder, "run", "r.toml", "--out", f"run-{LATIN}")
    assert done.returncode == 0, done.stderr


def test_earlier_results_are_spoken_of(folder: Path) -> None:
    words = ("explain", "net.py:grey", "films", *GREY, "--methods", "gradient")
    assert "earlier results" not in sightline(folder, *words).stderr
    assert "out holds earlier results" in sightline(folder, *words).stderr
    assert "out holds earlier results" in sightline(folder, *words, "--target", "0,1").stderr
    assert not (folder / "out" / "manifest.json").exists()
    assert "out holds earlier results" in sightline(folder, *words).stderr
    assert not list((folder / "out").glob("target*"))


def test_earlier_results_stay_where_new_ones_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("explain", "net.py:grey", "films", *GREY, "--methods", "gradient")
    assert sightline(folder, *words, "--target", "0,1").returncode == 0
    maps = sorted((folder / "out").glob("*/maps.safetensors"))
    before = [path.read_bytes() for path in maps]

    def full(*_: object) -> None:
        raise sl.InputError("no space left")

    monkeypatch.setattr(sl.Explanation, "save", full)
    assert sightline(folder, *words, "--target", "2").returncode == 2
    assert len(before) == 2
    assert [path.read_bytes() for path in maps] == before


def test_a_note_of_some_targets_names_them(folder: Path) -> None:
    """With a bias alone, target 1 has no gradient anywhere, and target 0 has one."""
    (folder / "half.py").write_text(
        "import torch\nfrom torch import nn\n\ndef net():\n"
        "    head = nn.Linear(256, 2)\n    head.weight.data = torch.ones(2, 256) * torch.tensor([[1.0], [0.0]])\n"
        "    model = nn.Sequential(nn.Flatten(), head)\n    model.output = 'values'\n    return model\n"
    )
    done = sightline(folder, "explain", "half.py:net", "films", *GREY, "--channels", "1", "--methods", "gradient")
    assert "note: output 1: gradient is zero everywhere" in done.stderr
    assert "output 0: gradient is zero" not in done.stderr


def test_the_limit_of_pixels(folder: Path) -> None:
    done = sightline(folder, "explain", "net.py:grey", "films", *GREY, "--max-pixels", "255")
    assert done.returncode == 2
    assert "--max-pixels" in done.stderr


def test_progress_in_a_log_is_a_line_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_console, "FIRST", 0.0)
    done = sightline(folder, "explain", "net.py:grey", "films", *GREY, "--methods", "gradient")
    lines = [line for line in done.stderr.splitlines() if line.startswith("progress: explaining: ")]
    assert len(lines) == 1  # the next would come a minute later


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [(("explain", "--methods", "gradient"), "Nothing was written to out"), (("audit",), "kept in audit")],
)
def test_ctrl_c_says_what_is_kept(folder: Path, words: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "sightline", words[0], "net.py:Slow", "films", "--channels", "1", *words[1:]]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_ctrl_c_during_imports_is_a_sentence(folder: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "sightline", "methods"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            # A part of torch has been imported, so that torch is being imported now.
            if line.rpartition("|")[2].strip().startswith("torch."):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: nothing was done yet" in err
    assert "Traceback" not in err
