"""Labelled pictures in three layouts, drawn here, and their store."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.arrays import labelled_pictures, store_pictures
from sightline.models import Preprocessing


def picture(path: Path, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (value, 0, 0)).save(path)
    return path


def cub(root: Path, species: list[str], each: int = 2) -> Path:
    """CUB-200-2011's own files, with 1-based numbers, as its README has them."""
    images, labels, split = [], [], []
    number = 0
    for place, title in enumerate(species, 1):
        for i in range(each):
            number += 1
            name = f"{place:03d}.{title}/{title}_{i:04d}.jpg"
            picture(root / "images" / name)
            images.append(f"{number} {name}")
            labels.append(f"{number} {place}")
            split.append(f"{number} {i % 2}")
    (root / "images.txt").write_text("\n".join(images) + "\n")
    (root / "image_class_labels.txt").write_text("\n".join(labels) + "\n")
    (root / "train_test_split.txt").write_text("\n".join(split) + "\n")
    (root / "classes.txt").write_text("\n".join(f"{n} {n:03d}.{t}" for n, t in enumerate(species, 1)) + "\n")
    return root


def test_class_folders(tmp_path: Path) -> None:
    for name in ("dog/b.png", "cat/a.png", "cat/c.JPG", "bird/x.png"):
        picture(tmp_path / name)
    found = labelled_pictures(tmp_path)
    assert [(p.name, label) for p, label in zip(found.paths, found.labels, strict=True)] == [
        ("x.png", "bird"),
        ("a.png", "cat"),
        ("c.JPG", "cat"),
        ("b.png", "dog"),
    ]
    assert found.training == (None,) * 4
    assert set(found.of(["cat", "dog"]).labels) == {"cat", "dog"}
    with pytest.raises(sl.InputError, match=r"'fish'.*bird, cat, dog"):
        found.of(["cat", "fish"])


def test_class_folders_within_splits(tmp_path: Path) -> None:
    for name in ("train/dog/b.png", "train/cat/a.png", "val/cat/c.png"):
        picture(tmp_path / name)
    found = labelled_pictures(tmp_path)
    assert [(label, split) for label, split in zip(found.labels, found.training, strict=True)] == [
        ("cat", True),
        ("dog", True),
        ("cat", False),
    ]


@pytest.mark.parametrize("place", [".", "train"])
def test_flat_names(tmp_path: Path, place: str) -> None:
    for name in ("cat.0.jpg", "cat.10.jpg", "dog.3.jpg"):
        picture(tmp_path / place / name)
    (tmp_path / place / "notes.0.txt").write_text("no picture")
    found = labelled_pictures(tmp_path)
    assert found.labels == ("cat", "cat", "dog")


def test_cub_groups_species_by_name(tmp_path: Path) -> None:
    root = cub(tmp_path, ["Song_Sparrow", "Crow", "House_Sparrow", "Palm_Warbler", "Sparrowhawk"])
    found = labelled_pictures(root)
    assert sorted(set(zip((p.parent.name for p in found.paths), found.labels, strict=True))) == [
        ("001.Song_Sparrow", "sparrow"),
        ("003.House_Sparrow", "sparrow"),
        ("004.Palm_Warbler", "warbler"),
    ]
    # The second picture of each species is for training, as the split file says.
    assert found.training == (False, True) * 3
    assert {p.parent.name for p in labelled_pictures(root, species=1).paths} == {"001.Song_Sparrow", "004.Palm_Warbler"}


@pytest.mark.parametrize("name", ["images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    root = cub(tmp_path, ["Song_Sparrow", "Palm_Warbler"])
    (root / name).unlink()
    with pytest.raises(sl.InputError, match=name):
        labelled_pictures(root)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    root = cub(tmp_path, ["Song_Sparrow", "Palm_Warbler"])
    (root / "images/002.Palm_Warbler/Palm_Warbler_0001.jpg").unlink()
    with pytest.raises(sl.InputError, match=r"1 picture\(s\).*Palm_Warbler_0001.jpg"):
        labelled_pictures(root)


def test_what_has_no_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sl.InputError, match="not a folder"):
        labelled_pictures(tmp_path / "absent")
    with pytest.raises(sl.InputError, match="no labelled pictures"):
        labelled_pictures(tmp_path)
    picture(tmp_path / "cat/a.png")
    picture(tmp_path / "stray.png")
    with pytest.raises(sl.InputError, match=r"stray\.png.*class folders"):
        labelled_pictures(tmp_path)


def test_the_store_gives_what_load_images_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat/a.png", "cat/b.png", "dog/c.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (14, 9, 3), dtype=np.uint8)).save(tmp_path / "data" / name)
    (tmp_path / "data/dog/broken.png").write_bytes(b"no picture")
    preprocessing = Preprocessing(size=(8, 8))
    pictures = labelled_pictures(tmp_path / "data")
    store = store_pictures(pictures, preprocessing, tmp_path / "store")
    expected = sl.load_images(tmp_path / "data", preprocessing=preprocessing)
    for found in (store, store_pictures(pictures, preprocessing, tmp_path / "store")):
        batch = found.batch([2, 0, 1])
        assert torch.equal(batch.tensor, expected.tensor[[2, 0, 1]])
        assert batch.labels == ["dog", "cat", "cat"]
        assert batch.boxes == [expected.boxes[i] for i in (2, 0, 1)]
        assert len(found.failures) == 1
        assert "broken.png" in found.failures[0]
    before = store.pixels[0].copy()
    Image.new("RGB", (9, 14), "blue").save(tmp_path / "data/cat/a.png")
    again = store_pictures(pictures, preprocessing, tmp_path / "store")
    # A picture replaced under its name is read anew; who holds the old file keeps its pictures.
    assert not np.array_equal(again.pixels[0], before)
    assert np.array_equal(store.pixels[0], before)
    (tmp_path / "store" / "pictures.json").write_text("{")
    assert len(store_pictures(pictures, preprocessing, tmp_path / "store")) == 3
    # Other settings are not read from what is there.
    other = store_pictures(pictures, Preprocessing(size=(6, 6)), tmp_path / "store")
    assert other.pixels.shape[1:] == (6, 6, 3)
