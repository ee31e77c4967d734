"""Another distribution's format is one file: a reader of a small copy of NIfTI, found by its entry point or by name."""

import gzip
import importlib
import json
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from helpers.command_line import sightline
from sightline import InputError, Preprocessing, load_images
from sightline.arrays import READERS, Raster

TOY = '''
"""Slices of a volume in the manner of NIfTI: a header, then the values, compressed as a whole."""
import gzip
import struct

import numpy as np

from sightline import InputError
from sightline.arrays import Raster, check_pixels

MAGIC = b"toy1"


class Toy:
    suffixes = (".toy", ".toy.gz")

    def recognises(self, head):
        return head[:4] == MAGIC

    def read(self, file, max_pixels):
        content = file.read()
        if content[:2] == b"\\x1f\\x8b":
            content = gzip.decompress(content)
        if content[:4] != MAGIC:
            raise InputError("it is no volume of the toy")
        height, width, mm = struct.unpack("<HHf", content[4:12])
        check_pixels(width, height, max_pixels)
        values = np.frombuffer(content[12:], "<f4").reshape(height, width)
        return Raster(values, unit="HU", spacing=(mm, mm, "mm"))
'''
MODEL = '''
import torch

from sightline import Preprocessing

class Sums(torch.nn.Module):
    """Two classes: the sum of the left half of a picture and that of the right half."""

    def __init__(self):
        super().__init__()
        self.preprocessing = Preprocessing(
            size=(2, 4), resize=None, mean=(0.0,), std=(1.0,), channels=1, value_range=(-1.0, 1.0)
        )
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, images):
        half = images.shape[-1] // 2
        parts = images[..., :half], images[..., half:]
        return torch.stack([self.weight * part.sum((1, 2, 3)) for part in parts], 1)
'''
# Hounsfield units of air, water and bone, so that the right half has the larger sum.
SLICE = np.array([[-1000, -500, 0, 1000], [-1000, 0, 500, 1000]], np.float32)


def toy(path, values=SLICE):
    content = b"toy1" + struct.pack("<HHf", *values.shape, 0.5) + values.astype("<f4").tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def plain(height=2, width=4, **options):
    return Preprocessing(
        size=(height, width), resize=None, mean=(0.0,), std=(1.0,), channels=1, value_range=(-1000.0, 1000.0), **options
    )


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The toy's reader as a distribution that is installed: one file, and a line that names it."""
    site = tmp_path / "site"
    info = site / "toy_reader-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "toy_reader.py").write_text(TOY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-reader\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sightline.readers]\ntoy = toy_reader:Toy\n")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    monkeypatch.setattr(READERS, "_others", None)
    yield site
    sys.modules.pop("toy_reader", None)


@pytest.fixture
def folder(tmp_path):
    """Two slices, one of which is named in capitals, and what else may lie in a folder."""
    scans = tmp_path / "scans"
    scans.mkdir()
    toy(scans / "a.toy.gz")
    toy(scans / "B.TOY", -SLICE)
    (scans / "damaged.toy.gz").write_bytes((scans / "a.toy.gz").read_bytes()[:30])
    (scans / "other.toy").write_bytes(b"nothing")
    (scans / "notes.txt").write_text("about the scans")
    return scans


def values_of(batch):
    return [batch.tensor[row, 0].numpy() for row in range(len(batch))]


def check(batch):
    assert batch.names == ["B.TOY", "a.toy.gz"]
    assert values_of(batch)[0] == pytest.approx(-SLICE, abs=1e-3)
    assert values_of(batch)[1] == pytest.approx(SLICE, abs=1e-3)
    assert batch.levels[1][:4] == (-1000.0, 1000.0, -1000.0, 1000.0)
    assert "The unit of the file's values is HU." in batch.notes[1]
    assert "A pixel of the file is 0.5 mm high and 0.5 mm wide." in batch.notes[1]
    reasons = {path.name: reason for path, reason in batch.failures}
    assert sorted(reasons) == ["damaged.toy.gz", "other.toy"]
    assert "cannot be decoded (EOFError" in reasons["damaged.toy.gz"]
    assert reasons["other.toy"].endswith("other.toy: it is no volume of the toy")


def test_an_installed_reader_reads_its_files(installed, folder):
    batch = load_images(folder, preprocessing=plain(values=(-1000, 1000)))
    check(batch)
    assert [path.name for path in batch.ignored] == ["notes.txt"]
    # By its first bytes, where the name tells nothing; and beside pictures.
    bare = toy(folder / "bare", SLICE)
    Image.fromarray(np.full((2, 4), 255, np.uint8)).save(folder / "white.png")
    both = load_images([bare, folder / "white.png"], preprocessing=plain())
    assert values_of(both)[0] == pytest.approx(SLICE, abs=1e-3)
    assert values_of(both)[1] == pytest.approx(np.full((2, 4), 1000))


def test_a_reader_in_a_file_of_the_users_own(tmp_path, folder):
    (tmp_path / "mine.py").write_text(TOY)
    preprocessing = plain(values=(-1000, 1000))
    check(load_images(folder, preprocessing=preprocessing, reader=f"{tmp_path / 'mine.py'}:Toy"))
    # It reads what it is given, whatever the name.
    renamed = toy(tmp_path / "scan.png")
    batch = load_images(renamed, preprocessing=preprocessing, reader=READERS[f"{tmp_path / 'mine.py'}:Toy"])
    assert values_of(batch)[0] == pytest.approx(SLICE, abs=1e-3)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"holds no picture files \(\.toy, \.toy\.gz\)"):
        load_images(tmp_path / "none", preprocessing=preprocessing, reader=f"{tmp_path / 'mine.py'}:Toy")


def test_the_command_line_explains_what_an_installed_reader_reads(installed, folder, tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    words = ["explain", "model.py:Sums", str(folder), "--methods", "gradient,input_x_gradient", "--out", "out"]
    done = sightline(tmp_path, *words, "--values=-1000,1000")
    assert done.returncode == 0, done.stderr
    assert "damaged.toy.gz: it cannot be decoded" in done.stdout + done.stderr
    assert "other.toy: it is no volume of the toy" in done.stdout + done.stderr
    maps = load_file(tmp_path / "out" / "maps.safetensors")
    # The derivative of the sum of a half is 1 in that half: of -SLICE the left one is larger, of SLICE the right one.
    left = np.array([[1, 1, 0, 0]] * 2, np.float32)
    assert maps["gradient"][:, 0] == pytest.approx(np.stack([left, 1 - left]))
    halves = np.stack([-SLICE * left, SLICE * (1 - left)]) / 1000
    assert maps["input_x_gradient"][:, 0] == pytest.approx(halves, abs=1e-6)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "HU" in json.dumps(manifest)


def test_a_format_that_is_refused_is_read_once_a_reader_takes_it(tmp_path, monkeypatch):
    path = toy(tmp_path / "brain.nii.gz")
    with pytest.raises(InputError, match="NIfTI, which Sightline does not read"):
        load_images(path, preprocessing=plain())
    namespace = {}
    exec(TOY, namespace)  # noqa: S102 - the reader of this file
    monkeypatch.setattr(namespace["Toy"], "suffixes", (".nii.gz",))
    monkeypatch.setitem(READERS._loaded(), "nifti", namespace["Toy"]())
    batch = load_images(tmp_path / "*.nii.gz", preprocessing=plain(values=(-1000, 1000)))
    assert values_of(batch)[0] == pytest.approx(SLICE, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("nonsense", "There is no reader nonsense"),
        ("FILE.py:Silent", "suffixes such as"),
        ("FILE.py:Bare", "suffixes such as"),
    ],
)
def test_what_is_no_reader(tmp_path, given, told):
    file = tmp_path / "mine.py"
    file.write_text("class Silent: suffixes = ('.x',)\nclass Bare:\n    suffixes = 'x'\n    recognises = read = None\n")
    with pytest.raises(InputError, match=told):
        load_images(tmp_path, reader=given.replace("FILE.py", str(file)))


class Fake:
    suffixes = (".fake",)

    def __init__(self, found):
        self.found = found

    def recognises(self, head):
        return False

    def read(self, file, max_pixels):
        return self.found()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (lambda: Raster(np.zeros((2, 4, 2))), r"array of shape \(2, 4, 2\); expected \(height, width\)"),
        (lambda: Raster(np.zeros((2, 4), complex)), "complex128; expected real numbers"),
        (lambda: Raster(np.zeros((0, 4))), r"\(0, 4"),
        (lambda: np.zeros((2, 4)), "gave ndarray; expected a sightline.arrays.Raster"),
        (lambda: Raster(np.zeros((20, 40))), "40 x 20 pixels, more than max_pixels=100"),
        (lambda: 1 / 0, "cannot be decoded .ZeroDivisionError"),
    ],
)
def test_what_a_reader_may_not_give(tmp_path, found, told):
    (tmp_path / "a.fake").write_bytes(b"x")
    with pytest.raises(InputError, match=told):
        load_images(tmp_path, preprocessing=plain(), reader=Fake(found), max_pixels=100)


def test_what_a_file_says_of_its_values(tmp_path):
    (tmp_path / "a.fake").write_bytes(b"x")
    values = np.array([[0, 100, 200, 300]] * 2, np.int32)
    grey = Raster(values, range=(100, 200), white_is_low=True, channels=("density",))
    batch = load_images(tmp_path, preprocessing=plain(), reader=Fake(lambda: grey))
    # 100..200 is black..white, turned round: 0 and 100 are white, 200 and 300 black.
    assert values_of(batch)[0].tolist() == [[1000, 1000, -1000, -1000]] * 2
    assert batch.levels[0].rule == "file"
    assert batch.levels[0].beyond == 0.5
    assert "The file's channels are density." in batch.notes[0]
    stated = load_images(tmp_path, preprocessing=plain(values=(0, 300)), reader=Fake(lambda: grey))
    assert values_of(stated)[0] == pytest.approx(np.array([[1000, 1000 / 3, -1000 / 3, -1000]] * 2))
    clear = Raster(np.zeros((2, 4), np.uint8), alpha=np.array([[0, 0.5, 1, 1]] * 2))
    over_white = load_images(tmp_path, preprocessing=plain(), reader=Fake(lambda: clear))
    assert values_of(over_white)[0] == pytest.approx(np.array([[1000, 0, -1000, -1000]] * 2))
    assert torch.equal(over_white.tensor, over_white[[0]].tensor)
