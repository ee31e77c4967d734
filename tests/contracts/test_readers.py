"""Readers of image files: what each makes of files that are right, damaged, too large or not finite."""

import copy
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from sightline import InputError, Preprocessing, load_images
from sightline.arrays import READERS, Raster
from sightline.arrays._load import MAX_PIXELS, prepared
from sightline.arrays._readers import reader_of

VALUES = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
PLAIN = Preprocessing(
    size=(6, 8), resize=None, mean=(0.0,), std=(1.0,), channels=1, value_range=(0.0, 255.0), values=(0, 255)
)


@dataclass(frozen=True)
class Declared:
    """A reader: the name of its registration, the suffix of an example, and how a file is made of values."""

    name: str
    suffix: str
    write: Callable[[NDArray[Any], Path], object]
    floats: bool = False


PARTS = [
    Declared("pictures", ".png", lambda values, path: Image.fromarray(values).save(path)),
    Declared("pictures", ".tif", lambda values, path: tifffile.imwrite(path, values), floats=True),
    Declared("pictures", ".pgm", lambda values, path: Image.fromarray(values).save(path)),
]


@pytest.fixture(params=PARTS, ids=[f"{one.name} {one.suffix}" for one in PARTS])
def part(request: pytest.FixtureRequest) -> Declared:
    return request.param


def test_every_reader_is_declared() -> None:
    missing = sorted(set(READERS) - {one.name for one in PARTS})
    assert not missing, f"declare {', '.join(missing)}, so that the contract is tested"


def test_suffixes_are_endings_in_lower_case(part: Declared) -> None:
    suffixes = READERS[part.name].suffixes
    assert part.suffix in suffixes
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
    assert len(set(suffixes)) == len(suffixes)


def test_values_are_those_of_the_file(part: Declared, tmp_path: Path) -> None:
    part.write(VALUES, tmp_path / f"a{part.suffix}")
    part.write(255 - VALUES, tmp_path / f"b{part.suffix.upper()}")
    batch = load_images(tmp_path, preprocessing=PLAIN)
    assert [batch.tensor[row, 0].numpy() for row in (0, 1)] == [pytest.approx(VALUES), pytest.approx(255 - VALUES)]
    turned = load_images([*reversed(batch.paths)], preprocessing=PLAIN)
    assert torch.equal(turned.tensor, batch.tensor.flip(0))


def test_bytes_and_copies_read_the_same(part: Declared, tmp_path: Path) -> None:
    path = tmp_path / f"a{part.suffix}"
    part.write(VALUES, path)
    found = prepared(path, PLAIN, MAX_PIXELS)
    assert np.array_equal(prepared(path.read_bytes(), PLAIN, MAX_PIXELS).pixels, found.pixels)
    reader = READERS[part.name]
    for copied in (copy.deepcopy(reader), pickle.loads(pickle.dumps(reader))):  # noqa: S301 - our own
        raster = copied.read(io.BytesIO(path.read_bytes()), MAX_PIXELS)
        assert isinstance(raster, Raster)
        assert np.array_equal(raster.values[..., 0], VALUES)


def test_a_damaged_file_is_told_and_others_are_kept(part: Declared, tmp_path: Path) -> None:
    good, short = tmp_path / f"good{part.suffix}", tmp_path / f"short{part.suffix}"
    part.write(VALUES, good)
    short.write_bytes(good.read_bytes()[: len(good.read_bytes()) * 2 // 3])
    batch = load_images(tmp_path, preprocessing=PLAIN)
    assert batch.paths == [good]
    ((path, reason),) = batch.failures
    assert path == short
    assert str(short) in reason


def test_the_limit_of_pixels(part: Declared, tmp_path: Path) -> None:
    part.write(VALUES, tmp_path / f"a{part.suffix}")
    with pytest.raises(InputError, match="8 x 6 pixels, more than max_pixels=47"):
        load_images(tmp_path, preprocessing=PLAIN, max_pixels=47)


def test_values_that_are_not_finite_are_counted(part: Declared, tmp_path: Path) -> None:
    if not part.floats:
        pytest.skip("a format of whole numbers")
    values = VALUES.astype(np.float32)
    values[2, 3] = np.nan
    part.write(values, tmp_path / f"a{part.suffix}")
    with pytest.raises(InputError, match="1 of its 48 values are not finite"):
        load_images(tmp_path, preprocessing=PLAIN)


@pytest.mark.parametrize("head", [b"", b"\0" * 512, b"hello"])
def test_what_is_nobodys_goes_to_pictures(head: bytes) -> None:
    assert reader_of("", head) is READERS["pictures"]
