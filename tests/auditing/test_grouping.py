"""Which images belong together, by folder or by a table."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline as sl
from sightline.auditing._grouping import groups_of


@pytest.fixture
def batch(tmp_path: Path) -> sl.ImageBatch:
    for patient in ("a", "b"):
        for number in range(2):
            place = tmp_path / patient / f"{number}.png"
            place.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 40 * number, dtype=np.uint8)).save(place)
    return sl.load_images(tmp_path, preprocessing=sl.Preprocessing(size=(8, 8)))


def test_images_of_a_folder_belong_together(batch: sl.ImageBatch) -> None:
    assert [Path(one).name for one in groups_of(batch, "folder")] == ["a", "a", "b", "b"]


def test_a_table_names_groups_by_the_end_of_paths(batch: sl.ImageBatch, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("\ufeffimage,group\n0.png,first\na/1.png,second\nb/1.png,third\n", encoding="utf-8")
    assert groups_of(batch, str(table)) == ["first", "second", "first", "third"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,patient\n", "columns image and group; got name, patient"),
        ("image,group\n0.png,x\n0.png,y\n", "0.png twice"),
        ("image,group\n0.png,x\n", "no group for 2 images of 4, first 1.png"),
        ("image,group\n0.png,x\n1.png,\n", "no group for 2 images of 4, first 1.png"),
        ("", "got none"),
    ],
)
def test_a_table_that_cannot_be_used_is_said(batch: sl.ImageBatch, tmp_path: Path, text: str, said: str) -> None:
    table = tmp_path / "groups.csv"
    table.write_text(text)
    with pytest.raises(sl.InputError, match=said):
        groups_of(batch, str(table))


def test_a_table_that_is_not_there_is_said(batch: sl.ImageBatch) -> None:
    with pytest.raises(sl.InputError, match="cannot be read as a CSV"):
        groups_of(batch, "nowhere.csv")
