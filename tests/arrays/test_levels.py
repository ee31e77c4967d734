"""Pictures of more than 8 bits keep their levels, in the units of their files, from decoding to display."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sightline import InputError, Preprocessing, load_images
from sightline.arrays import labelled_pictures, store_pictures

RNG = np.random.default_rng(3)


def plain(height, width, channels=1, **changes):
    """Values 0..1 without normalisation, so that the tensor is the share of the way from black to white."""
    settings = {"size": (height, width), "resize": None, "mean": (0.0,) * channels, "std": (1.0,) * channels}
    return Preprocessing(**{**settings, "channels": channels, **changes})


def write_png(path, values, colour_type, *chunks):
    """A PNG of 16 bits, which Pillow can write in grey only."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *(chunk(*one) for one in chunks), chunk(b"IDAT", zlib.compress(rows))]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    return path


def shares(path, channels=1, **changes):
    """What the model is shown, 0 for black and 1 for white; shape (height, width, channel)."""
    with Image.open(path) if path.suffix in {".png", ".pgm", ".ppm"} else tifffile.TiffFile(path) as file:
        height, width = (file.height, file.width) if isinstance(file, Image.Image) else file.pages[0].shape[:2]
    batch = load_images(path, preprocessing=plain(height, width, channels, **changes))
    return batch.tensor[0].permute(1, 2, 0).double().numpy(), batch


WORDS = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)
FILM = np.linspace(0, 1967, 54).round().astype(np.uint16).reshape(6, 9)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_keep_every_level(tmp_path, suffix):
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(WORDS).save(path)
    found, batch = shares(path)
    assert found[..., 0] == pytest.approx(WORDS / 65535, abs=1e-7)
    assert batch.warnings == []
    three, _ = shares(path, channels=3)
    assert np.array_equal(three, np.repeat(found, 3, -1))


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        (WORDS, {"byteorder": ">"}, WORDS / 65535),
        (WORDS, {"photometric": "miniswhite"}, 1 - WORDS / 65535),
        (WORDS, {"compression": "zlib", "predictor": True}, WORDS / 65535),
        (WORDS.astype(np.int32) - 32768, {}, None),
        ((WORDS.astype(np.int32) - 32768).astype(np.int16), {}, WORDS / 65535),
        ((WORDS // 256 - 128).astype(np.int8), {}, (WORDS // 256) / 255),
        (WORDS.astype(np.uint32), {}, WORDS / 65535),
        ((WORDS / 65535).astype(np.float16), {}, (WORDS / 65535).astype(np.float16)),
        (WORDS / 65535, {}, WORDS / 65535),
        (WORDS / 257.0, {}, WORDS / 65535),
    ],
)
def test_types_of_tiff(tmp_path, values, options, expected):
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, values, **options)
    found, batch = shares(path)
    if expected is None:  # signed 32-bit integers: from their own range, and said so
        expected = (values - values.min()) / (values.max() - values.min())
        assert "own range" in batch.notes[0][0]
        assert "cannot be compared" in batch.warnings[0]
    assert found[..., 0] == pytest.approx(expected, abs=1e-6)


def test_unsigned_values_beyond_the_signed_range_stay_in_order(tmp_path):
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, np.array([[0, 2**31 - 1, 2**32 - 1]], np.uint32))
    found, _ = shares(path)
    assert found.ravel() == pytest.approx([0, (2**31 - 1) / (2**32 - 1), 1])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressions_that_pillow_alone_knows(tmp_path, compression):
    path = tmp_path / "deep.tif"
    Image.fromarray(WORDS).save(path, compression=compression)
    found, _ = shares(path)
    assert found[..., 0] == pytest.approx(WORDS / 65535, abs=1e-7)


@pytest.mark.parametrize("options", [{}, {"planarconfig": "separate"}, {"byteorder": ">"}])
def test_sixteen_bit_colour_of_tiff(tmp_path, options):
    colours = RNG.integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    path = tmp_path / "deep.tif"
    tifffile.imwrite(
        path, np.moveaxis(colours, -1, 0) if "planarconfig" in options else colours, photometric="rgb", **options
    )
    found = load_images(path, preprocessing=plain(4, 5, 3)).tensor[0].permute(1, 2, 0).numpy()
    assert found == pytest.approx(colours / 65535, abs=1e-6)
    grey = load_images(path, preprocessing=plain(4, 5)).tensor[0, 0].numpy()
    assert grey == pytest.approx(colours @ [0.299, 0.587, 0.114] / 65535, abs=1e-6)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bit_colour_and_transparency_of_png(tmp_path, colour_type, channels):
    values = RNG.integers(0, 65536, (4, 5, channels), dtype=np.uint16)
    path = write_png(tmp_path / "deep.png", values, colour_type)
    found, batch = shares(path, channels=3)
    shown = values / 65535
    colours = np.repeat(shown[..., :1], 3, -1) if channels == 2 else shown[..., :3]
    alpha = shown[..., -1:] if channels in {2, 4} else 1.0
    assert found == pytest.approx(colours * alpha + 1 - alpha, abs=1e-6)
    assert batch.cut == 0


def test_one_clear_value_of_a_png_is_white(tmp_path):
    path = write_png(
        tmp_path / "deep.png", np.array([[0, 258, 65535]], np.uint16), 0, (b"tRNS", struct.pack(">H", 258))
    )
    assert shares(path)[0].ravel().tolist() == [0, 1, 1]


@pytest.mark.parametrize(("kind", "channels"), [(b"P5", 1), (b"P6", 3), (b"P2", 1), (b"P3", 3)])
def test_pnm_has_the_range_that_it_states(tmp_path, kind, channels):
    values = RNG.integers(0, 4096, (3, 4, channels), dtype=np.uint16)
    data = values.astype(">u2").tobytes() if kind in b"P5P6" else " ".join(map(str, values.ravel())).encode()
    path = tmp_path / "deep.ppm"
    path.write_bytes(kind + b" 4 3 4095\n" + data)
    assert shares(path, channels)[0] == pytest.approx(values / 4095, abs=1e-6)
    assert shares(path, channels, values=(0, 8190))[0] == pytest.approx(values / 8190, abs=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_orientations_as_in_eight_bits(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    bytes_ = (WORDS >> 8).astype(np.uint8)
    Image.fromarray(bytes_).save(tmp_path / f"flat.{suffix}", exif=exif)
    Image.fromarray(bytes_.astype(np.uint16) * 257).save(tmp_path / f"deep.{suffix}", exif=exif)
    size = (9, 6) if orientation > 4 else (6, 9)
    flat, deep = (load_images(tmp_path / f"{name}.{suffix}", preprocessing=plain(*size)) for name in ("flat", "deep"))
    assert torch.allclose(flat.tensor, deep.tensor, atol=1e-6)
    assert ("EXIF" in "".join(deep.notes[0])) == (orientation > 1)


def test_a_film_of_twelve_bits_in_sixteen_is_warned_of_and_mended(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(FILM).save(path)
    found, batch = shares(path)
    assert len(np.unique(found)) == len(np.unique(FILM))
    (warning,) = batch.warnings
    assert all(fact in warning for fact in ("0 to 1967", "65535", "--values 0,4095", "values=(0, 4095)"))
    mended, told = shares(path, values=(0, 4095))
    assert mended[..., 0] == pytest.approx(FILM / 4095, abs=1e-7)
    assert told.warnings == []
    assert told.display()[0, ..., 0] == pytest.approx(FILM / 4095, abs=1e-6)
    same = load_images(path, preprocessing=plain(6, 9), values=(0, 4095))
    assert torch.equal(same.tensor, told.tensor)
    assert batch[:1].warnings == batch.warnings
    assert "--values 0,4095" in repr(batch)


def test_values_beyond_the_stated_ones_become_its_ends_and_are_counted(tmp_path):
    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, np.array([[-2000, -1000, 0, 1000]], np.int16))
    found, batch = shares(path, values=(-1000, 1000))
    assert found.ravel().tolist() == [0, 0, 0.5, 1]
    assert "25.00%" in batch.notes[0][0]
    _, unstated = shares(path)
    assert "--values -2000,1000" in unstated.warnings[0]


def test_stated_values_hold_for_eight_bits_too(tmp_path):
    path = tmp_path / "flat.png"
    Image.fromarray(np.array([[0, 51, 102, 255]], np.uint8)).save(path)
    assert shares(path, values=(0, 102))[0].ravel() == pytest.approx([0, 0.5, 1, 1])
    assert "almost no contrast" in shares(path, values=(0, 4095))[1].warnings[0]


def test_a_stated_range_that_leaves_almost_nothing_is_warned_of(tmp_path):
    path = tmp_path / "film.png"
    # 0, 40, 80 ... 4000: of 101 values all but 0 to 240, seven, lie above 255: 94 of 101 are 93 %.
    Image.fromarray(np.arange(0, 4001, 40, dtype=np.uint16)[None]).save(path)
    (warning,) = shares(path, values=(0, 255))[1].warnings
    assert all(fact in warning for fact in ("93%", "0..255", "0 to 4000", "--values 0,4095"))
    # A window that leaves half of the values is what such ranges are for.
    assert shares(path, values=(0, 2000))[1].warnings == []


def test_pictures_of_floating_point_in_two_ranges_are_warned_of(tmp_path):
    for name, most in [("a", 0.9), ("b", 0.5), ("c", 200.0)]:
        tifffile.imwrite(tmp_path / f"{name}.tif", np.linspace(0, most, 12, dtype=np.float32).reshape(3, 4))
    batch = load_images(tmp_path, preprocessing=plain(3, 4))
    (warning,) = batch.warnings
    assert all(fact in warning for fact in ("2 lie in 0..1", "1 lie in 0..255", "--values 0,"))
    assert batch[:2].warnings == []


def test_complex_values_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "spectrum.tif", np.ones((3, 4), np.complex64))
    with pytest.raises(InputError, match="complex"):
        load_images(tmp_path / "spectrum.tif", preprocessing=plain(3, 4))


@pytest.mark.parametrize("bad", [(4095, 0), (1, 1), (0, float("nan"))])
def test_values_rise(bad):
    with pytest.raises(InputError, match="smaller one first"):
        Preprocessing(values=bad)


def triangle(source, target):
    """Rows of weights of an area-aware bilinear filter, from its definition."""
    scale = source / target
    width = max(scale, 1.0)
    weights = np.zeros((target, source))
    for row in range(target):
        centre = (row + 0.5) * scale
        weights[row] = np.maximum(0, 1 - np.abs(np.arange(source) + 0.5 - centre) / width)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [(5, 7), (40, 11), (90, 80)])
def test_resizing_takes_no_step_through_eight_bits(tmp_path, size):
    values = RNG.integers(0, 4096, (40, 33), dtype=np.uint16)
    path = tmp_path / "film.png"
    Image.fromarray(values).save(path)
    batch = load_images(path, preprocessing=plain(*size, resize="stretch", values=(0, 4095)))
    expected = triangle(40, size[0]) @ (values / 4095) @ triangle(33, size[1]).T
    assert batch.tensor[0, 0].numpy() == pytest.approx(expected, abs=1e-5)


def test_filters_that_overshoot_stay_between_black_and_white(tmp_path):
    path = tmp_path / "step.tif"
    Image.fromarray(np.repeat([[0, 0, 65535, 65535]], 4, 0).astype(np.uint16)).save(path)
    batch = load_images(path, preprocessing=plain(16, 16, resize="stretch", interpolation="bicubic"))
    assert 0 <= float(batch.tensor.min()) <= float(batch.tensor.max()) <= 1


def test_values_that_are_not_finite_are_counted(tmp_path):
    tifffile.imwrite(tmp_path / "nan.tif", np.array([[0, np.nan, np.inf]], np.float32))
    with pytest.raises(InputError, match="2 of its 3 values are not finite"):
        load_images(tmp_path / "nan.tif")


@pytest.mark.parametrize("shape", [(4, 5, 2), (4, 5, 6)])
def test_other_numbers_of_channels_are_refused(tmp_path, shape):
    tifffile.imwrite(
        tmp_path / "many.tif", np.zeros(shape, np.float32), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(InputError, match=f"{shape[2]} channels"):
        load_images(tmp_path / "many.tif")


def test_the_limit_of_pixels_holds_for_deep_tiffs(tmp_path):
    tifffile.imwrite(tmp_path / "big.tif", np.zeros((30, 40), np.float64))
    with pytest.raises(InputError, match=r"40 x 30.*max_pixels=1000"):
        load_images(tmp_path / "big.tif", max_pixels=1000)


def test_a_store_keeps_all_levels_beside_eight_bits(tmp_path):
    for label, values in (("a", WORDS >> 8), ("b", WORDS), ("c", WORDS >> 8)):
        (tmp_path / "data" / label).mkdir(parents=True)
        eight = values.max() < 256
        Image.fromarray(values.astype(np.uint8) if eight else values).save(tmp_path / "data" / label / "x.png")
    preprocessing = plain(6, 9)
    for _ in range(2):  # made, and read back
        store = store_pictures(labelled_pictures(tmp_path / "data"), preprocessing, tmp_path / "store")
        found = store.batch([0, 1, 2])
        direct = load_images(tmp_path / "data", preprocessing=preprocessing)
        assert torch.equal(found.tensor, direct.tensor)
        assert found.levels == direct.levels
        assert found.levels[1] is not None


def test_a_batch_says_what_it_is_in_a_line_and_shows_itself(tmp_path):
    for number in range(6):
        Image.fromarray(WORDS).save(tmp_path / f"<{number}>.png")
    (tmp_path / "broken.png").write_bytes(b"x")
    batch = load_images(tmp_path, preprocessing=plain(6, 9))
    assert repr(batch) == "ImageBatch(6 images of 1 x 6 x 9: <0>.png, <1>.png, <2>.png, <3>.png, ..., 1 not usable)"
    html = batch._repr_html_()
    assert "data:image/png;base64" in html
    assert "broken.png" in html
    assert "<0>" not in html
