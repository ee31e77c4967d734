"""Faults on purpose: twenty kills at random moments, corrupt pictures, a full disk, a folder that cannot be written.

CIFAR-10's photographs and ResNet-20, looked for in `../shared/data`, or where the environment variable SIGHTLINE_DATA
says. Each study ends with an assertion of what must hold. A small file system is mounted for the last two, which needs
root.

    python benchmarks/runs_faults.py kills
    python benchmarks/runs_faults.py corrupt
    python benchmarks/runs_faults.py disk
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import conditions

import sightline as sl

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SIGHTLINE_DATA", ROOT.parent / "shared" / "data"))
METHODS = ["gradient", "grad_cam", "lrp_epsilon", "guided_backprop"]


def recipe(folder: Path, images: Path, limit: int) -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        f'methods = {METHODS}\ntargets = ["predicted", "top-2"]\n'
        f'[model]\nspec = "{ROOT}/tests/helpers/networks.py:resnet20_cifar"\n'
        f'weights = "{DATA}/weights/resnet20_cifar10.pt"\ndevice = "cpu"\n'
        f'[data]\nimages = ["{images}"]\nlimit = {limit}\n[output]\nfolder = "out"\nchunk = 32\n'
    )
    return path


def start(path: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "sightline", "run", str(path), "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(path: Path, out: Path) -> tuple[int, str]:
    with start(path, out) as running:
        _, said = running.communicate()
    return running.returncode, said


def tree(folder: Path) -> dict[str, bytes]:
    kept = (file for file in folder.rglob("*") if file.is_file() and file.name not in {"manifest.json", ".lock"})
    return {str(file.relative_to(folder)): file.read_bytes() for file in kept}


def kills(images: int, count: int) -> None:
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = recipe(folder, DATA / "images/cifar10/val", images)
        began = time.perf_counter()
        code, said = finished(path, folder / "whole")
        assert code == 0, said
        alone = time.perf_counter() - began
        whole = tree(folder / "whole")
        killed, restarts = 0, 0
        while killed < count:
            if (folder / "out" / "manifest.json").exists() and sl.open_run(folder / "out").complete:
                # Twenty kills are more than one run offers.
                assert tree(folder / "out") == whole
                shutil.rmtree(folder / "out")
                restarts += 1
            with start(path, folder / "out") as running:
                wait = generator.uniform(0, alone)
                try:
                    running.communicate(timeout=wait)
                except subprocess.TimeoutExpired:
                    running.send_signal(signal.SIGKILL)
                    killed += 1
                    running.communicate()
        code, said = finished(path, folder / "out")
        assert code == 0, said
        assert tree(folder / "out") == whole
    print(
        f"{conditions()}; {images} photographs: {killed} kills over {restarts + 1} run(s), each ending with the "
        f"{len(whole)} files of an undisturbed one, byte for byte"
    )


def corrupt(images: int, share: int) -> None:
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = sorted((DATA / "images/cifar10/train").rglob("*.jpg"))[:images]
        for file in files:
            place = folder / "photos" / file.parent.name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
        path = recipe(folder, folder / "photos", images)
        assert finished(path, folder / "clean")[0] == 0
        kept = sorted((folder / "photos").rglob("*.jpg"))
        broken = sorted(generator.sample(range(images), share))
        for number in broken:
            content = kept[number].read_bytes()
            kept[number].write_bytes(
                generator.choice([b"", b"<svg/>", content[: len(content) // 2], generator.randbytes(len(content))])
            )
        code, said = finished(path, folder / "out")
        assert code == 0, said
        clean, found = sl.open_run(folder / "clean"), sl.open_run(folder / "out")
        assert found.failures["image"].tolist() == broken
        good = sorted(set(range(images)) - set(broken))
        worst = 0.0
        for method in METHODS:
            for target in found.targets:
                a, b = clean.heatmap(method, good, target), found.heatmap(method, good, target)
                assert np.isnan(found.heatmap(method, broken, target)).all()
                most = np.abs(a).max((1, 2), keepdims=True)
                worst = max(worst, float((np.abs(a - b) / np.where(most > 0, most, 1)).max()))
    print(
        f"{conditions()}; {images} photographs, {share} of them empty, cut, noise or no picture: those are the rows of "
        f"failures, and no map of the others changes by more than {worst:.1e} of its largest value"
    )


def disk(images: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = recipe(folder, DATA / "images/cifar10/val", images)
        assert finished(path, folder / "whole")[0] == 0
        whole = tree(folder / "whole")
        small = folder / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], check=True)  # noqa: S603, S607
        try:
            code, said = finished(path, small / "out")
            assert code == 2, said
            assert "Traceback" not in said
            print(said.strip())
            done = len(list((small / "out" / "scores").glob("*.parquet")))
            subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)  # noqa: S603, S607
            assert finished(path, small / "out")[0] == 0
            assert tree(small / "out") == whole
            subprocess.run(["mount", "-o", "remount,ro", small], check=True)  # noqa: S603, S607
            code, said = finished(path, small / "other")
            assert code == 2, said
            assert "Traceback" not in said
            print(said.strip())
        finally:
            subprocess.run(["umount", small], check=True)  # noqa: S603, S607
    print(
        f"{conditions()}; {images} photographs on a disk of 4 MB: a sentence, {done} chunks kept; with more room the "
        "same command ends with the files of an undisturbed run, byte for byte"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "corrupt", "disk"])
    options = parser.parse_args()
    match options.what:
        case "kills":
            kills(900, 20)
        case "corrupt":
            corrupt(1000, 50)
        case "disk":
            disk(300)


if __name__ == "__main__":
    main()
