"""What becomes of a run whose pictures are replaced, or whose files are damaged."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageOps

import sightline as sl
from helpers.runs import picture, recipe, tree


def whole(place: Path) -> Path:
    sl.run(recipe(place, methods=["gradient", "grad_cam"], targets=["predicted"], chunk=6))
    return place / "out"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "turned"])
def test_each_damaged_file_is_found_and_made_again(place: Path, damage: str) -> None:
    folder = whole(place)
    before = tree(folder)
    for name, content in before.items():
        file = folder / name
        if name == ".lock":
            continue
        if damage == "removed":
            file.unlink()
        elif damage == "turned":
            middle = len(content) // 2
            file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        else:
            file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
        if name == "manifest.json" and damage != "removed":
            # What decides the maps is not guessed.
            with pytest.raises(sl.InputError, match=r"manifest\.json is damaged.*Remove it"):
                sl.run(place / "recipe.toml")
            file.unlink()
        sl.run(place / "recipe.toml")
        assert tree(folder) == before, name


@pytest.mark.slow
def test_each_damaged_file_of_an_audit_beside_is_found_and_made_again(place: Path) -> None:
    more = '[audit]\nimages = 4\ntests = ["class_sensitivity"]\n'
    sl.run(recipe(place, more, methods=["gradient"], targets=["predicted"], chunk=6))
    before = tree(place / "out" / "audit")
    for number, name in enumerate(before):
        file = place / "out" / "audit" / name
        if number % 2:
            file.unlink()
        else:
            file.write_bytes(before[name][: len(before[name]) // 2])
        sl.run(place / "recipe.toml")
        assert tree(place / "out" / "audit") == before, name


def test_other_pictures_of_the_same_names_and_sizes_are_refused(place: Path) -> None:
    file = place / "photos" / "cat" / "03.bmp"
    picture(99).save(file)
    folder = whole(place)
    before, stamp = tree(folder), file.stat()
    ImageOps.invert(picture(99)).save(file)
    assert file.stat().st_size == stamp.st_size
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(sl.InputError, match=r"1 of 12 have another content.*03\.bmp"):
        sl.run(place / "recipe.toml")
    assert tree(folder) == before
    # Also where what the run was made of is not known any more: nothing of it is taken.
    (folder / "manifest.json").unlink()
    found = sl.run(place / "recipe.toml")
    model = sl.load_model(f"{place / 'net.py'}:build")
    own = sl.explain(model, sl.load_images(place / "photos", model), "gradient").heatmap("gradient")
    assert abs(found.heatmap("gradient", range(12)) - own.numpy()).max() < 1e-6


def test_damaged_results_are_told_when_they_are_read(place: Path) -> None:
    folder = whole(place)
    run = sl.open_run(folder)
    (folder / "maps/predicted/gradient/c/0/0/0").write_bytes(b"torn")
    next((folder / "scores").iterdir()).write_bytes(b"torn")
    (folder / "images.parquet").write_bytes(b"")
    for read in (lambda: run.heatmap("gradient", 0), lambda: run.scores, lambda: run.images):
        with pytest.raises(sl.InputError, match=r"damaged.*again"):
            read()


def test_results_that_are_not_those_written_are_not_read(place: Path) -> None:
    folder = whole(place)
    maps = [folder / f"maps/predicted/gradient/c/{chunk}/0/0" for chunk in (0, 1)]
    scores = sorted((folder / "scores").iterdir())
    for first, second in (maps, scores):
        content = first.read_bytes()
        middle = len(content) // 2
        turned = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for other in (turned, second.read_bytes()):
            first.write_bytes(other)
            run = sl.open_run(folder)
            with pytest.raises(sl.InputError, match=r"damaged.*again"):
                run.heatmap("gradient", 0) if first in maps else run.scores
        first.write_bytes(content)
    maps[0].unlink()
    run = sl.open_run(folder)
    with pytest.raises(sl.InputError, match=r"damaged.*again"):
        run.heatmap("gradient", [0, 6])
    # Those of the other chunk can be read, and of one that is not done there are none.
    assert np.isfinite(run.heatmap("gradient", [6, 7])).all()
    next((folder / "sums").glob("000000.*")).unlink()
    assert np.isnan(sl.open_run(folder).heatmap("gradient", 0)).all()
