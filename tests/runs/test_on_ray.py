"""Runs on Ray: the same maps, whatever dies on the way."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

import sightline as sl
from helpers.runs import METHODS, TARGETS, recipe, tree_of

pytest.importorskip("ray")

from sightline.runs._work import threads

pytestmark = pytest.mark.slow
ENGINE = '[engine]\nname = "ray"\nworkers = 2\n'
ONE = ENGINE.replace("2", "1")


def command(path: Path, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [word for name, value in more.items() for word in (f"--{name}", value)]
    return subprocess.Popen(
        [sys.executable, "-m", "sightline", "run", str(path), *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def alone(path: Path, out: Path) -> None:
    """The same by the local engine, with as many threads as a worker has."""
    read = sl.read_recipe(path)
    changes = {
        "engine": read.engine.model_copy(update={"name": "local"}),
        "output": read.output.model_copy(update={"folder": str(out)}),
    }
    with threads(1):
        sl.run(read.model_copy(update=changes))


def test_maps_are_those_of_the_local_engine_and_a_killed_worker_changes_nothing(place: Path) -> None:
    path = recipe(place, ENGINE, chunk=1)
    alone(path, place / "whole")
    scores = place / "out" / "scores"
    killed = 0
    with command(path) as running:
        while running.poll() is None:
            if len(list(scores.glob("*"))) >= 2 and not killed:
                for process in psutil.Process(running.pid).children(recursive=True):
                    if "MapWorker" in " ".join(process.cmdline()):
                        process.send_signal(signal.SIGKILL)
                        killed += 1
                        break
            time.sleep(0.005)
        _, said = running.communicate()
    assert running.returncode == 0, said
    assert "Traceback" not in said
    assert killed == 1
    # One thread each, and so the same digits.
    assert tree_of(sl.open_run(place / "out"), place / "out") == tree_of(sl.open_run(place / "whole"), place / "whole")
    found = sl.open_run(place / "out")
    assert (found.methods, found.targets) == (METHODS, TARGETS)
    assert np.isfinite(found.heatmap("gradient", range(11))).all()


def test_an_audit_s_randomised_networks_are_seen_to_by_workers(place: Path) -> None:
    # One block, and so the randomised networks are asked by the second worker.
    tests = '["class_sensitivity", "parameter_randomization"]'
    more = f"[audit]\nimages = 11\nblock = 11\nstages = 2\ntests = {tests}\n"
    path = recipe(place, more + ENGINE, methods=["gradient", "grad_cam"], targets=["0"])
    alone(path, place / "alone")
    with command(path) as running:
        _, said = running.communicate(timeout=600)
    assert running.returncode == 0, said
    whole, spread = (tree_of(sl.open_run(place / name), place / name) for name in ("alone", "out"))
    scores = [name for name in whole if name.startswith("audit/scores/") and name.endswith(".csv")]
    # Its references, the classes, the network of the first stage, and five with all layers random.
    assert len(scores) == 8
    assert all(spread[name] == whole[name] for name in [*scores, "audit/table.csv", "audit/reasons.csv"])


def test_support_networks_are_trained_by_workers(place: Path) -> None:
    more = (
        '[gad]\nclasses = [0, 1]\nimages = "photos"\nlabels = ["cat", "dog"]\nalphas = [1.0, [2.0, 3.0]]\n'
        "steps = 3\nbatch_size = 4\nrate = 0.01\n"
    )
    path = recipe(place, more + ENGINE, methods=["gradient"], targets=["0"])
    alone(path, place / "alone")
    with command(path) as running:
        _, said = running.communicate(timeout=600)
    assert running.returncode == 0, said
    weights = sorted(file.name for file in (place / "alone" / "gad").glob("*.safetensors"))
    assert len(weights) == 4
    for name in weights:
        # The order of a file's words is not fixed, so tensors are compared.
        whole, spread = (load_file(place / folder / "gad" / name) for folder in ("alone", "out"))
        assert all(torch.equal(whole[key], spread[key]) for key in whole)
    assert not (place / "out" / "gad" / "tasks").exists()
    model = sl.load_model(f"{place / 'net.py'}:build")
    reports = [sl.GAD.load(place / name / "gad", model).report.drop(columns="seconds") for name in ("alone", "out")]
    pd.testing.assert_frame_equal(*reports)


def test_what_ends_every_worker_that_takes_it_is_not_tried_for_ever(place: Path) -> None:
    path = recipe(place, ONE)
    # This process explains one image to learn of refusals, and is no worker.
    deadly = """
    def forward(self, x):
        import os, sys
        if "default_worker" in sys.argv[0]:
            os._exit(1)
        return super().forward(x)
"""
    text = (place / "net.py").read_text().replace("def build", f"class Deadly(nn.Sequential):{deadly}\n\ndef build")
    (place / "net.py").write_text(text.replace("return nn.Sequential", "return Deadly"))
    with command(path) as running:
        _, said = running.communicate(timeout=600)
    assert running.returncode == 2
    assert re.search(r"\b3 workers died.*\bimages \d", said)
    assert "Traceback" not in said
    # The folder is as usable as before: with a network that lives, all is made.
    assert sl.open_run(place / "out").missing == 3


def test_a_worker_that_cannot_write_says_so(place: Path) -> None:
    path = recipe(place, ONE)
    sl.run(sl.read_recipe(recipe(place)))
    path = recipe(place, ONE)
    (lost,) = (place / "out" / "scores").glob("000001.*")
    lost.unlink()
    shutil.rmtree(place / "out" / "maps" / "0" / "gradient" / "c")
    (place / "out" / "maps" / "0" / "gradient" / "c").write_text("in the way")
    with command(path) as running:
        _, said = running.communicate(timeout=600)
    assert running.returncode == 2
    # No chunk is whole, since all have lost their maps.
    assert re.search(r"error: .*refused to write.*\b0 of 3 chunks", said, re.DOTALL)
    assert "Traceback" not in said


def test_a_worker_with_another_model_is_refused(place: Path) -> None:
    path = recipe(place, ONE)
    # Each process draws other weights.
    (place / "net.py").write_text((place / "net.py").read_text().replace("torch.manual_seed(0)", "torch.seed()"))
    with command(path) as running:
        _, said = running.communicate(timeout=600)
    assert running.returncode == 2
    assert re.search(r"worker.*else.*: model\.", said)
    assert "Traceback" not in said
