"""Runs over whole data sets: what is stored is what `explain` finds, and nothing is lost or done twice."""

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from torch import nn

import sightline as sl
from helpers.command_line import Done, sightline
from helpers.runs import METHODS, NETWORK, TARGETS, WITHOUT, expected, picture, recipe, tree, tree_of

pytest.importorskip("zarr", reason="the extra 'runs' is not installed")

from sightline.runs import _running as module
from sightline.runs import estimate
from sightline.runs._place import Place
from sightline.runs._work import Worker


def test_what_is_stored_is_what_explain_finds(place: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    found = sl.run(recipe(place), progress=lambda *told: seen.append(told))
    assert seen[-1] == (11, 11, "explaining")
    assert found.complete
    assert found.methods == METHODS
    assert found.targets == TARGETS
    assert found.images["label"].tolist() == ["cat"] * 5 + ["dog"] * 6
    assert found.failures.empty
    scores = found.scores
    assert len(scores) == 11 * len(METHODS) * len(TARGETS)
    for target in TARGETS:
        alone = expected(place, target)
        for method in METHODS:
            kept = found.array(method, target)
            assert kept.shards[0] == 4
            np.testing.assert_allclose(
                found.heatmap(method, range(11), target), alone.heatmap(method), rtol=1e-4, atol=1e-6
            )
            rows = scores[(scores["target"] == target) & (scores["method"] == method)]
            assert rows["name"].tolist() == alone.names
            np.testing.assert_allclose(rows["value"], alone.values, rtol=1e-5)
            assert rows["predicted"].tolist() == alone.predicted.tolist()
        np.testing.assert_array_equal(found.heatmap("gradient", 3, target), found.heatmap("gradient", [3], target)[0])
    second = scores[scores["target"] == "top-2"].drop_duplicates("image")
    assert not second["explained"].str.startswith("predicted").any()
    residual = scores[(scores["method"] == "lrp_epsilon") & (scores["target"] == "0")]["completeness"]
    assert residual.isna().all() == ("lrp_epsilon" not in expected(place, "0").checks.completeness)


def test_nothing_is_done_twice_and_what_is_new_is_added(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sl.run(recipe(place, methods=["gradient"], targets=["predicted"]))
    before = tree(place / "out")
    done: list[tuple[int, str]] = []
    work = Worker.work
    monkeypatch.setattr(
        Worker, "work", lambda self, number, tag, images: done.append((number, tag)) or work(self, number, tag, images)
    )
    sl.run(recipe(place, methods=["gradient"], targets=["predicted"]))
    assert done == []
    assert tree(place / "out") == before
    found = sl.run(recipe(place, methods=["gradient", "grad_cam"], targets=["predicted", "0"]))
    assert len(done) == 3
    assert {(row.target, row.method) for row in found.scores.itertuples()} == {
        (target, method) for target in ("predicted", "0") for method in ("gradient", "grad_cam")
    }
    after = tree(place / "out")
    assert all(after[name] == content for name, content in before.items() if name != "manifest.json")
    np.testing.assert_allclose(
        found.heatmap("grad_cam", range(11), "0"), expected(place, "0").heatmap("grad_cam"), atol=1e-6
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [("seed", "seed"), ("image", "images"), ("chunk", "chunk"), ("network", "model"), ("precision", "precision")],
)
def test_another_run_is_not_mixed_in(place: Path, more: str, said: str) -> None:
    path = recipe(place, methods=["gradient"])
    sl.run(path)
    before = tree(place / "out")
    if more == "seed":
        path.write_text("seed = 1\n" + path.read_text())
    elif more == "image":
        picture(99).save(place / "photos" / "dog" / "99.png")
    elif more == "chunk":
        recipe(place, methods=["gradient"], chunk=2)
    elif more == "network":
        (place / "net.py").write_text(NETWORK.replace("manual_seed(0)", "manual_seed(1)"))
    else:
        recipe(place, 'precision = "float16"\n', methods=["gradient"])
    with pytest.raises(sl.InputError, match=f"something else: {said}"):
        sl.run(path)
    assert tree(place / "out") == before


def test_faults_are_rows_and_others_go_on(place: Path) -> None:
    (place / "net.py").write_text(WITHOUT)
    methods = ["gradient", "grad_cam", "smooth_grad"]
    clean = sl.run(recipe(place, folder="clean", methods=methods))
    good = {number: clean.heatmap("gradient", number) for number in range(11)}
    photos = place / "photos" / "dog"
    (photos / "06.png").write_bytes(b"no picture")
    (photos / "07.png").write_bytes(b"")
    Image.new("RGB", (14, 16)).save(photos / "08.png")
    found = sl.run(recipe(place, methods=methods))
    failures = found.failures.drop_duplicates("image")
    assert failures["name"].tolist() == ["dog/06.png", "dog/07.png", "dog/08.png"]
    for reason, fact in zip(failures["reason"], ("not a picture", "empty", "not finite"), strict=True):
        assert fact in reason
    for number in range(11):
        kept = found.heatmap("gradient", number)
        if number in {6, 7, 8}:
            assert np.isnan(kept).all()
        else:
            # Other images of its pass were others, no more.
            np.testing.assert_allclose(kept, good[number], rtol=1e-4, atol=1e-6)
    assert set(found.scores["image"]) == set(range(11)) - {6, 7, 8}


def test_short_memory_splits_a_chunk(place: Path) -> None:
    methods = ["gradient", "grad_cam", "lrp_epsilon"]
    whole = sl.run(recipe(place, folder="whole"))
    total = psutil.virtual_memory().total
    try:
        torch.empty(total * 6 // 5, dtype=torch.uint8)
    except RuntimeError:
        pass
    else:
        pytest.skip("this machine promises more memory than it has")
    # A pass of two images finds room, one of three does not, and a black picture asks for more than there is.
    greedy = f"""
class Greedy(nn.Sequential):
    def forward(self, x):
        share = 1.2 if bool((x < -1.9).flatten(1).all(1).any()) else 0.4 * len(x)
        torch.empty(int(share * {total}), dtype=torch.uint8)
        return super().forward(x)


def build"""
    text = NETWORK.replace("def build", greedy).replace("return nn.Sequential", "return Greedy")
    (place / "net.py").write_text(text)
    # What the first image lacks, the others need not.
    (place / "photos" / "ant").mkdir()
    Image.new("RGB", (16, 14)).save(place / "photos" / "ant" / "99.png")
    found = sl.run(recipe(place, methods=methods))
    # What takes many rows for an image is found out before, and has fewer of them in a pass.
    rows = sl.run(recipe(place, methods=["smooth_grad"], folder="rows"))
    assert rows.settings["identity"]["memory"] < found.settings["identity"]["memory"]
    assert found.settings["identity"]["memory"] > 1 << 20
    for one in (found, rows):
        assert set(one.failures["image"]) == {0}
        assert one.failures["reason"].str.contains("can't allocate memory").all()
        assert len(one.failures) == len(one.methods) * len(TARGETS)
        for method in one.methods:
            np.testing.assert_allclose(
                one.heatmap(method, range(1, 12)), whole.heatmap(method, range(11)), rtol=1e-4, atol=1e-6
            )


def test_memory_that_is_short_between_passes_is_a_clean_stop(place: Path) -> None:
    path = recipe(place)
    with pytest.raises(sl.InputError, match=r"Memory ran out.*\b1 of 3 chunks"):
        sl.run(path, progress=lambda done, *_: done and torch.empty(1 << 60))
    assert sl.run(path).complete


def test_half_precision_and_fewer_pixels(place: Path) -> None:
    found = sl.run(recipe(place, 'precision = "float16"\nside = 6\n', targets=["0"]))
    alone = expected(place, "0")
    for method in METHODS:
        maps = alone.heatmap(method).numpy()
        if maps.shape[-1] == 12:
            maps = maps.reshape(11, 6, 2, 6, 2).mean((2, 4))
        assert found.array(method, "0").dtype == np.float16
        kept = found.heatmap(method, range(11), "0")
        most = np.abs(maps).max((1, 2), keepdims=True)
        # Half precision has eleven binary digits.
        assert (np.abs(kept - maps) <= 2.0**-11 * most + 1e-7).all()
    wide = sl.run(recipe(place, "channels = true\n", folder="wide", targets=["0"]))
    np.testing.assert_allclose(wide.heatmap("gradient", range(11)), alone["gradient"], rtol=1e-4, atol=1e-7)


def test_tables_and_data_sets(place: Path) -> None:
    files = sorted((place / "photos").rglob("*.png"))
    table = pd.DataFrame({"file": [str(f.relative_to(place)) for f in files], "label": ["a", None] * 5 + ["b"]})
    table.to_csv(place / "list.csv", index=False)
    table.to_parquet(place / "list.parquet")
    alone = expected(place, "predicted")
    for name in ("list.csv", "list.parquet"):
        found = sl.run(recipe(place, folder=f"out-{name}", data=f'table = "{name}"\npath = "file"'))
        np.testing.assert_allclose(
            found.heatmap("gradient", range(11)), alone.heatmap("gradient"), rtol=1e-4, atol=1e-6
        )
        assert found.images["label"].fillna("").tolist() == [*["a", ""] * 5, "b"]
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = datasets.Dataset.from_dict({"image": [str(f) for f in files], "label": [0] * 5 + [1] * 6}, features=features)
    rows.save_to_disk(place / "rows")
    found = sl.run(recipe(place, folder="out-rows", data='dataset = "rows"'))
    np.testing.assert_allclose(found.heatmap("gradient", range(11)), alone.heatmap("gradient"), rtol=1e-4, atol=1e-6)
    assert found.images["label"].tolist() == ["cat"] * 5 + ["dog"] * 6
    with pytest.raises(sl.InputError, match=r"no column 'picture'.*image, label"):
        sl.run(recipe(place, folder="x", data='dataset = "rows"\nimage = "picture"'))
    with pytest.raises(sl.InputError, match=r"no column 'path'.*file, label"):
        sl.run(recipe(place, folder="x", data='table = "list.csv"'))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('methods = ["gradient"', 'methods = ["gradent"', r"line 1, methods.*gradent"),
        ("chunk = 4", "chnk = 4", r"line 9, output\.chnk\b.*\bchunk\b"),
        ("chunk = 4", "chunk = 0", r"line 9, output\.chunk\b.*\b1\b.*\b0\b"),
        ('folder = "out"', "", r"line 7, output\.folder\b.*missing"),
        ('images = ["photos"]', "", r"line 5, data\b.*images, table and dataset"),
        ('"2-1"', '"2-2"', r"line 2, targets\b.*'2-2'"),
        ("[model]", "[model", r"TOML.*\bline 3\b"),
        ('spec = "net.py:build"', 'spec = "net.py:build"\nsize = "big"', r"line 5, model\.size\b"),
    ],
)  # fmt: skip
def test_mistakes_in_a_recipe_name_line_and_remedy(place: Path, old: str, new: str, said: str) -> None:
    path = recipe(place)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(sl.InputError, match=said):
        sl.read_recipe(path)


def test_a_dry_run_counts_and_writes_nothing(place: Path) -> None:
    cost = estimate(sl.read_recipe(recipe(place, methods=["gradient"], targets=["0"])))
    # So small that all are explained to find out.
    assert (cost.images, cost.sample) == (11, 11)
    # One forward, and as much again but for the first layer's weights, whose gradient nobody asks for.
    model = sl.load_model(f"{place / 'net.py'}:build")
    assert cost.passes == pytest.approx(2, rel=0.01)
    assert not (place / "out").exists()
    found = sl.run(recipe(place, methods=["gradient"], targets=["0"]))
    size = sum(file.stat().st_size for file in (place / "out" / "maps").rglob("c/*/*/*"))
    assert cost.bytes == pytest.approx(size, rel=0.2)
    assert len(found) == 11
    del model


def test_a_second_process_is_refused(place: Path) -> None:
    path = recipe(place)
    with Place(place / "out").alone(), pytest.raises(sl.InputError, match="Another process"):
        sl.run(path)
    remote, other = Place("memory://held"), Place("memory://held")
    with remote.alone(), pytest.raises(sl.InputError, match=r"remove lease\.json there"), other.alone():
        pass
    with other.alone():
        pass


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A store whose errors are its own, as those of S3 and its like are."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    left: ClassVar[float] = math.inf

    class NoConnectionError(Exception):
        pass

    def pipe_file(self, path: str, value: bytes, **more: Any) -> None:
        type(self).left -= 1
        if self.left < 0:
            raise self.NoConnectionError("no connection")
        super().pipe_file(path, value, **more)


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 3, 9, 20])
def test_a_remote_folder_that_cannot_be_reached_is_a_clean_stop(place: Path, left: int) -> None:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.left, Flaky.store = left, {}
    path = recipe(place, folder="flaky://run", chunk=2)
    with pytest.raises(sl.InputError, match="NoConnectionError: no connection"):
        sl.run(path)
    Flaky.left = math.inf
    Flaky.store.pop("/run/lease.json", None)
    found, here = sl.run(path), sl.run(recipe(place, chunk=2))
    np.testing.assert_array_equal(found.heatmap("gradient", range(11)), here.heatmap("gradient", range(11)))


def test_who_holds_a_remote_folder_gives_signs_while_a_chunk_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.runs._place.LEASE", 0.5)
    one, other = Place("memory://long"), Place("memory://long")
    with one.alone():
        time.sleep(1.2)
        with pytest.raises(sl.InputError, match="Another process"), other.alone():
            pass
    # Who died gives none.
    one.sign()
    time.sleep(0.6)
    with other.alone():
        pass


def test_a_remote_folder_is_as_good_as_one_here(place: Path) -> None:
    here = sl.run(recipe(place))
    there = sl.run(recipe(place, folder="memory://run"))
    assert there.complete
    for method in METHODS:
        for target in TARGETS:
            np.testing.assert_array_equal(
                there.heatmap(method, range(11), target), here.heatmap(method, range(11), target)
            )
    pd.testing.assert_frame_equal(there.scores, here.scores)
    assert sl.open_run("memory://run").complete


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk with next to no room."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", folder], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_and_one_that_cannot_be_written(place: Path, small: Path) -> None:
    whole = tree_of(sl.run(recipe(place, folder="whole", chunk=1)), place / "whole")
    path = recipe(place, folder=str(small / "out"), chunk=1)
    with pytest.raises(sl.InputError, match=r"no room left.*\d of \d+ chunks"):
        sl.run(path)
    subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
    assert tree_of(sl.run(path), small / "out") == whole
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(sl.InputError, match=r"new.*Read-only file system"):
        sl.run(recipe(place, folder=str(small / "new")))
    with pytest.raises(sl.InputError, match="cannot be written"):
        sl.run(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said(place: Path) -> None:
    (place / "out").mkdir(mode=0o500)
    with pytest.raises(sl.InputError, match=r"out.*Permission denied"):
        sl.run(recipe(place))


def test_a_full_disk_is_a_clean_stop(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tree_of(sl.run(recipe(place, folder="whole")), place / "whole")
    write = Place.write
    room = 3

    def full(self: Place, name: str, content: bytes) -> None:
        nonlocal room
        if name.startswith("scores/"):
            room -= 1
            if room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        write(self, name, content)

    monkeypatch.setattr(Place, "write", full)
    with pytest.raises(sl.InputError, match=r"no room left.*\b2 of 3 chunks"):
        sl.run(recipe(place))
    monkeypatch.undo()
    assert sl.open_run(place / "out").missing == 1
    assert tree_of(sl.run(recipe(place)), place / "out") == whole


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_if_nothing_had_happened(place: Path) -> None:
    path = recipe(place, chunk=1)
    command = [sys.executable, "-m", "sightline", "run", str(path)]
    # The last sitting is in this process, and computes with as many threads as the first did.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", str(place / "whole")], env=environment, check=True, capture_output=True)
    undisturbed = tree_of(sl.open_run(place / "whole"), place / "whole")
    generator = torch.Generator().manual_seed(0)
    kills = 0
    for _ in range(6):
        running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        scores = place / "out" / "scores"
        before = len(list(scores.glob("*"))) if scores.exists() else 0
        while running.poll() is None and (len(list(scores.glob("*"))) if scores.exists() else 0) <= before:
            time.sleep(0.001)
        time.sleep(float(torch.rand(1, generator=generator)) * 0.03)
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
            kills += 1
        running.wait()
        if sl.open_run(place / "out").complete:
            break
    assert kills >= 2
    assert tree_of(sl.run(path), place / "out") == undisturbed


QUESTION = """
from sightline import Question

class Sums(Question):
    name = "sums"
    def scores(self, block, on_progress):
        for method, maps in block.base.items():
            yield from block.each(self.name, "all", method, "sum", maps.sum((1, 2)))
"""


def test_an_audit_beside_with_a_question_in_the_recipe_s_folder(place: Path) -> None:
    (place / "mine.py").write_text(QUESTION)
    tests = '[audit]\nimages = 6\ntests = ["class_sensitivity", "mine.py:Sums"]\n'
    sl.run(recipe(place, tests, methods=["gradient"], targets=["0"]))
    record = json.loads((place / "out" / "audit" / "audit.json").read_text())
    model = sl.load_model(f"{place / 'net.py'}:build")
    asked = ["class_sensitivity", f"{place / 'mine.py'}:Sums"]
    alone = sl.audit(model, sl.load_images(place / "photos", model)[:6], ["gradient"], asked)
    assert record["verdicts"]["gradient"]["sums"] == "reported"
    assert record["verdicts"] == json.loads(alone.verdicts.to_json(orient="index"))


def test_at_the_command_line(place: Path) -> None:
    path = recipe(place, methods=["gradient"])
    (place / "photos" / "dog" / "06.png").write_bytes(b"no picture")

    def command(*words: str) -> Done:
        return sightline(place, "run", str(path), *words)

    dry = command("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "forward passes" in dry.stdout
    done = command("--out", str(place / "elsewhere"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"failed: dog/06\.png.*not a picture", done.stderr)
    assert re.search(r"(?s)\b11 image.*\b1 method.*\b4 target.*\b1 failure", done.stdout)
    assert sl.open_run(place / "elsewhere").complete
    path.write_text(path.read_text().replace("chunk", "chnk"))
    wrong = command()
    assert wrong.returncode == 2
    assert re.search(r"(?s)\bchnk\b.*\bchunk\b", wrong.stderr)
    assert "Traceback" not in wrong.stderr
    with pytest.raises(sl.InputError, match="holds no run"):
        sl.open_run(place / "photos")


def test_maps_that_are_not_there_are_said(place: Path) -> None:
    found = sl.run(recipe(place, methods=["gradient"], targets=["0"]))
    with pytest.raises(sl.InputError, match=r"no maps.*\bgrad_cam\b.*\b0\b"):
        found.array("grad_cam")
    with pytest.raises(sl.InputError, match=r"\b0 to 10\b.*\b11\b"):
        found.heatmap("gradient", [0, 11])
    assert module.folder_of(sl.read_recipe(place / "recipe.toml")) == str(place / "out")


def test_a_refusal_for_one_target_says_nothing_of_another(place: Path) -> None:
    """Excitation Backprop explains no pair; whichever target comes first, the other one has its maps."""
    methods = ["gradient", "excitation_backprop"]
    alone = sl.run(recipe(place, folder="alone", methods=methods, targets=["0"])).heatmap(
        "excitation_backprop", range(11)
    )
    for number, targets in enumerate((["2-1", "0"], ["0", "2-1"])):
        found = sl.run(recipe(place, folder=f"both{number}", methods=methods, targets=targets))
        np.testing.assert_array_equal(found.heatmap("excitation_backprop", range(11), "0"), alone)
        assert list(found.refused) == ["2-1"]
        with pytest.raises(sl.RefusalError, match="excitation_backprop was refused"):
            found.array("excitation_backprop", "2-1")
        assert found.failures.empty
    sl.run(recipe(place, folder="later", methods=methods, targets=["2-1"]))
    later = sl.run(recipe(place, folder="later", methods=methods, targets=["2-1", "0"]))
    np.testing.assert_array_equal(later.heatmap("excitation_backprop", range(11), "0"), alone)


def test_one_method_that_fails_leaves_the_others_their_maps(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sl.run(recipe(place, folder="whole"))
    from sightline.runs import _work as work

    explain = work.explain

    def failing(network: nn.Module, images: Any, methods: list[sl.Method], *given: Any, **settings: Any) -> Any:
        if any(one.name == "grad_cam" for one in methods) and "dog/07.png" in images.names:
            raise RuntimeError("something is wrong with this one")
        return explain(network, images, methods, *given, **settings)

    monkeypatch.setattr(work, "explain", failing)
    found = sl.run(recipe(place))
    rows = found.failures
    assert rows["method"].unique().tolist() == ["grad_cam"]
    assert rows["image"].unique().tolist() == [7]
    assert sorted(rows["target"]) == sorted(TARGETS)
    np.testing.assert_allclose(found.heatmap("gradient", 7), whole.heatmap("gradient", 7), rtol=1e-4, atol=1e-6)
    assert np.isnan(found.heatmap("grad_cam", 7)).all()


def test_failures_of_a_try_that_came_to_nothing_are_gone(place: Path) -> None:
    undisturbed = tree_of(sl.run(recipe(place, folder="whole")), place / "whole")
    path = recipe(place)
    found = sl.run(path)
    (scores,) = (place / "out" / "scores").glob("000001.*")
    # As if the process had died between the failures and the scores of a chunk.
    stale = place / "out" / "failures" / scores.name
    stale.parent.mkdir()
    stale.write_bytes(scores.read_bytes())
    scores.unlink()
    assert sl.open_run(place / "out").failures.empty
    found = sl.run(path)
    assert found.failures.empty
    assert tree_of(found, place / "out") == undisturbed


def test_files_of_others_are_left_alone(place: Path) -> None:
    for name in ("mine.half", "maps/mine.partial"):
        (place / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "out" / name).write_text("mine")
    with pytest.raises(sl.InputError, match=r"Class 7\b"):
        sl.run(recipe(place, targets=["7"]))
    assert (place / "out" / "mine.half").exists()
    assert (place / "out" / "maps" / "mine.partial").exists()


@pytest.mark.slow
def test_methods_that_are_added_are_audited_by_themselves(place: Path) -> None:
    more = '[audit]\nimages = 6\ntests = ["class_sensitivity"]\n'
    sl.run(recipe(place, more, methods=["gradient"], targets=["0"]))
    first = (place / "out" / "audit" / "audit.json").read_bytes()
    for _ in range(2):
        sl.run(recipe(place, more, methods=["gradient", "grad_cam"], targets=["0", "1"]))
    assert (place / "out" / "audit" / "audit.json").read_bytes() == first
    (added,) = (place / "out").glob("audit-*")
    record = json.loads((added / "audit.json").read_text())
    model = sl.load_model(f"{place / 'net.py'}:build")
    alone = sl.audit(model, sl.load_images(place / "photos", model)[:6], ["grad_cam"], ["class_sensitivity"])
    assert record["verdicts"] == json.loads(alone.verdicts.to_json(orient="index"))
    with pytest.raises(sl.InputError, match="holds another audit"):
        sl.run(recipe(place, more.replace("6", "7"), methods=["gradient"], targets=["0"]))


def test_what_is_wrong_with_the_audit_or_gad_is_said_first(place: Path) -> None:
    for more, said in (
        ('[audit]\ntests = ["nothing"]\n', "no test nothing.*class_sensitivity"),
        ('[gad]\nclasses = [0, 0]\nimages = "photos"\nlabels = ["cat", "dog"]\n', "two different outputs"),
        ('[gad]\nclasses = [0, 1]\nimages = "nowhere"\nlabels = ["cat", "dog"]\n', "nowhere"),
    ):
        with pytest.raises(sl.InputError, match=said):
            sl.run(recipe(place, more, methods=["gradient"], targets=["0"]))
        assert not (place / "out" / "scores").exists()


def test_numbers_in_tables_are_names(place: Path) -> None:
    picture(0).save(place / "007", format="PNG")
    picture(1).save(place / "NA", format="PNG")
    (place / "list.csv").write_text("path,label\n007,01\nNA,NA\n")
    found = sl.run(recipe(place, data='table = "list.csv"'))
    assert found.failures.empty
    assert found.images.values.tolist() == [["007", "01"], ["NA", "NA"]]


def test_a_dry_run_passes_over_images_that_cannot_be_explained(place: Path) -> None:
    (place / "net.py").write_text(WITHOUT)
    Image.new("RGB", (14, 16)).save(place / "photos" / "cat" / "00.png")
    cost = estimate(sl.read_recipe(recipe(place, methods=["gradient", "grad_cam"])))
    assert (cost.images, cost.sample) == (11, 10)


def test_a_class_that_the_model_lacks_is_said_after_a_few_images(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    explain = module.explain
    monkeypatch.setattr(module, "explain", lambda *given, **more: tried.append(1) or explain(*given, **more))
    with pytest.raises(sl.InputError, match=r"Class 7\b"):
        sl.run(recipe(place, targets=["7"]))
    assert len(tried) == 3


def test_a_first_image_that_fails_is_a_row(place: Path) -> None:
    (place / "net.py").write_text(WITHOUT)
    Image.new("RGB", (14, 16)).save(place / "photos" / "cat" / "00.png")
    found = sl.run(recipe(place, methods=["gradient"], targets=["0"]))
    assert found.failures["name"].tolist() == ["cat/00.png"]
    assert set(found.scores["image"]) == set(range(1, 11))


def test_what_a_killed_process_left_half_written_is_swept(place: Path) -> None:
    path = recipe(place)
    whole = tree_of(sl.run(path), place / "out")
    left = [place / "out" / "maps" / "0" / "gradient" / "c" / "0" / "0" / "0.1f.partial",
            place / "out" / "scores" / "000000.x.parquet.half"]  # fmt: skip
    for file in left:
        file.write_bytes(b"half")
    assert tree_of(sl.run(path), place / "out") == whole
