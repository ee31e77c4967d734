"""Pictures of every kind become the numbers that hand calculation gives."""

import os
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline import InputError, Preprocessing, load_images

RNG = np.random.default_rng(0)


def as_is(height, width, channels=3):
    """Pixels 0..255, no resizing: the tensor holds exactly the picture."""
    return Preprocessing(
        size=(height, width),
        resize=None,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        value_range=(0.0, 255.0),
        channels=channels,
    )


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def noise(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def pixels_of(batch, index=0):
    return batch.tensor[index].permute(1, 2, 0).numpy()


def test_pixels_arrive_unchanged(tmp_path):
    picture = noise(5, 7)
    batch = load_images(save(tmp_path / "a.png", picture), preprocessing=as_is(5, 7))
    assert batch.tensor.dtype == torch.float32
    assert batch.tensor.shape == (1, 3, 5, 7)
    assert np.array_equal(pixels_of(batch), picture)
    assert batch.notes == [[]]
    assert batch.sizes == [(7, 5)]


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (3, lambda a: np.rot90(a, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a)),
        (2, np.fliplr),
        (4, np.flipud),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_followed(tmp_path, orientation, turn, suffix):
    picture = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"turned.{suffix}", picture, exif=exif)
    expected = turn(picture)
    batch = load_images(path, preprocessing=as_is(*expected.shape[:2]))
    assert np.array_equal(pixels_of(batch), expected)
    assert batch.sizes == [(expected.shape[1], expected.shape[0])]
    ((note,),) = batch.notes
    assert "EXIF orientation" in note


def test_sixteen_bit_grey_is_scaled_and_not_cut_off(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    path = save(tmp_path / "deep.png", ramp)
    batch = load_images(path, preprocessing=as_is(16, 16))
    assert np.abs(pixels_of(batch) - np.arange(256).reshape(16, 16, 1)).max() == 0
    ((note,),) = batch.notes
    assert all(fact in note for fact in ("16-bit", "0..65535", "0..255"))


def test_sixteen_bit_grey_tiff_with_orientation(tmp_path):
    ramp = (np.arange(12, dtype=np.uint16) * 257 * 20).reshape(3, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    batch = load_images(save(tmp_path / "deep.tif", ramp, exif=exif), preprocessing=as_is(4, 3, channels=1))
    assert np.array_equal(pixels_of(batch)[..., 0], np.rot90(np.arange(12).reshape(3, 4) * 20, -1))


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        (np.array([[0, 65535], [257, 514]], np.int32), [[0, 255], [1, 2]], "from 0..65535"),
        (np.array([[0, 510_000_000], [2_000_000, 4_000_000]], np.int32), [[0, 255], [1, 2]], "own range"),
        (np.array([[0, 1], [0.2, 0.4]], np.float32), [[0, 255], [51, 102]], "from 0..1"),
        (np.array([[0, 255], [51, 102]], np.float32), [[0, 255], [51, 102]], "taken as 0..255"),
        (np.array([[-100, 410], [0, 100]], np.float32), [[0, 255], [50, 100]], "own range"),
    ],
)
def test_thirty_two_bit_values_are_scaled(tmp_path, values, expected, note):
    batch = load_images(save(tmp_path / "deep.tif", values), preprocessing=as_is(2, 2, channels=1))
    assert np.array_equal(pixels_of(batch)[..., 0], expected)
    assert note in batch.notes[0][0]


def test_floats_that_are_not_finite_fail(tmp_path):
    path = save(tmp_path / "nan.tif", np.array([[0, np.nan]], np.float32))
    with pytest.raises(InputError, match="not finite"):
        load_images(path, preprocessing=as_is(1, 2))


def test_grey_becomes_three_equal_channels_or_stays_one(tmp_path):
    picture = noise(3, 4, 1)[..., 0]
    path = save(tmp_path / "grey.png", picture)
    three = load_images(path, preprocessing=as_is(3, 4))
    one = load_images(path, preprocessing=as_is(3, 4, channels=1))
    assert np.array_equal(pixels_of(three), np.stack([picture] * 3, -1))
    assert np.array_equal(pixels_of(one)[..., 0], picture)


def test_colour_becomes_grey_by_its_luma(tmp_path):
    path = save(tmp_path / "red.png", np.full((2, 2, 3), (200, 100, 50), np.uint8))
    batch = load_images(path, preprocessing=as_is(2, 2, channels=1))
    assert pixels_of(batch) == pytest.approx(0.299 * 200 + 0.587 * 100 + 0.114 * 50, abs=0.51)


def test_alpha_is_put_over_white(tmp_path):
    colours = np.array([[[0, 100, 200, 255], [0, 100, 200, 0], [0, 100, 200, 51]]], np.uint8)
    batch = load_images(save(tmp_path / "alpha.png", colours), preprocessing=as_is(1, 3))
    # A fifth of the colour and four fifths of white.
    assert np.abs(pixels_of(batch)[0] - [[0, 100, 200], [255, 255, 255], [204, 224, 244]]).max() <= 1
    ((note,),) = batch.notes
    assert "over white" in note


def test_an_opaque_alpha_channel_is_not_worth_a_note(tmp_path):
    opaque = np.dstack([noise(2, 2), np.full((2, 2), 255, np.uint8)])
    batch = load_images(save(tmp_path / "opaque.png", opaque), preprocessing=as_is(2, 2))
    assert np.array_equal(pixels_of(batch), opaque[..., :3])
    assert batch.notes == [[]]


def test_palettes_and_their_transparency(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=1)
    batch = load_images([tmp_path / "plain.png", tmp_path / "clear.png"], preprocessing=as_is(1, 3))
    assert pixels_of(batch, 0)[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert pixels_of(batch, 1)[0].tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]
    none, (note,) = batch.notes
    assert none == []
    assert "over white" in note


def test_cmyk_is_converted_with_a_note(tmp_path):
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(tmp_path / "red.tif")
    batch = load_images(tmp_path / "red.tif", preprocessing=as_is(2, 2))
    assert pixels_of(batch)[0, 0].tolist() == [255, 0, 0]
    assert "CMYK" in batch.notes[0][0]


def test_black_and_white_is_grey(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    batch = load_images(tmp_path / "bits.png", preprocessing=as_is(1, 2, channels=1))
    assert pixels_of(batch)[0, :, 0].tolist() == [255, 0]


def test_animations_give_their_first_frame(tmp_path):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    batch = load_images(tmp_path / "moving.gif", preprocessing=as_is(2, 2))
    assert pixels_of(batch)[0, 0].tolist() == [255, 0, 0]
    ((note,),) = batch.notes
    assert "first of 3" in note


def test_the_box_of_a_centre_crop_by_hand(tmp_path):
    # 300 x 200 px become 384 x 256; the crop of 224 leaves 80 px left and right, 16 above and below, of which
    # each is 300/384 = 0.78125 original pixels.
    path = save(tmp_path / "wide.png", noise(200, 300))
    batch = load_images(path, preprocessing=Preprocessing(size=(224, 224), resize=256))
    assert batch.boxes == [(62.5, 12.5, 237.5, 187.5)]
    assert batch.sizes == [(300, 200)]
    ((note,),) = batch.notes
    assert all(fact in note for fact in ("Enlarged", "1.28", "300 x 200"))


def test_the_boxes_of_the_other_ways(tmp_path):
    path = save(tmp_path / "tall.png", noise(300, 200))
    stretched = load_images(path, preprocessing=Preprocessing(size=(20, 20), resize="stretch"))
    untouched = load_images(path, preprocessing=as_is(300, 200))
    # Size 20 x 60 with a margin of 2 covers 40 x 120 px; 200 x 300 shrinks to 120 x 180; one of its pixels is 5/3.
    oblong = load_images(path, preprocessing=Preprocessing(size=(20, 60), resize=40))
    assert stretched.boxes == untouched.boxes == [(0.0, 0.0, 200.0, 300.0)]
    assert oblong.boxes[0] == pytest.approx((30 * 5 / 3, 80 * 5 / 3, 90 * 5 / 3, 100 * 5 / 3))


@pytest.mark.parametrize(("width", "height"), [(301, 199), (199, 301), (97, 97), (640, 427)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_equal_resize_then_crop(tmp_path, width, height, interpolation):
    path = save(tmp_path / "a.png", noise(height, width))
    preprocessing = Preprocessing(
        size=(50, 50), resize=57, mean=(0.0,) * 3, std=(1.0,) * 3, value_range=(0, 255), interpolation=interpolation
    )
    batch = load_images(path, preprocessing=preprocessing)
    short = min(width, height)
    resized = Image.open(path).resize(
        (57 * width // short, 57 * height // short), Image.Resampling[interpolation.upper()]
    )
    left, top = round((resized.width - 50) / 2), round((resized.height - 50) / 2)
    expected = np.asarray(resized.crop((left, top, left + 50, top + 50)), dtype=np.float32)
    assert np.abs(pixels_of(batch) - expected).max() <= 1
    # Ties between two grey levels may fall either way.
    assert np.mean(pixels_of(batch) != expected) < 0.01


def test_a_strip_does_not_fill_the_memory(tmp_path):
    path = save(tmp_path / "strip.png", noise(1, 200_000))
    batch = load_images(path, preprocessing=Preprocessing())
    assert batch.tensor.shape == (1, 3, 224, 224)
    assert batch.boxes[0] == pytest.approx((100_000 - 0.4375, 0.0625, 100_000 + 0.4375, 0.9375))


def test_display_shows_the_picture_again(tmp_path):
    picture = noise(6, 6)
    path = save(tmp_path / "a.png", picture)
    batch = load_images(path, preprocessing=Preprocessing(size=(6, 6), resize=None))
    assert batch.display() == pytest.approx(picture[None] / 255, abs=1e-6)


def test_a_models_own_preprocessing_is_used_and_can_be_replaced(tmp_path):
    model = nn.Identity()
    model.preprocessing = as_is(4, 4)
    path = save(tmp_path / "a.png", noise(4, 4))
    assert load_images(path, model).preprocessing is model.preprocessing
    other = Preprocessing(size=(8, 8))
    assert load_images(path, model, preprocessing=other).tensor.shape == (1, 3, 8, 8)
    assert load_images(path).tensor.shape == (1, 3, 224, 224)


@pytest.fixture
def class_folders(tmp_path):
    root = tmp_path / "pets"
    for index, name in enumerate(["cat/b.png", "cat/a.PNG", "dog/deep/a.png", "dog/c.png", "dog/z.png"]):
        save(root / name, np.full((2, 2, 3), index, np.uint8), format="PNG")
    save(root / ".hidden" / "x.png", noise(2, 2))
    save(root / "cat" / "._a.png", noise(2, 2))
    (root / "cat" / "notes.txt").write_text("no picture")
    return root


def test_class_folders_give_labels_and_relative_names(class_folders):
    batch = load_images(class_folders, preprocessing=as_is(2, 2))
    assert batch.names == ["cat/a.PNG", "cat/b.png", "dog/c.png", "dog/deep/a.png", "dog/z.png"]
    assert batch.labels == ["cat", "cat", "dog", "dog", "dog"]
    assert [int(value) for value in batch.tensor[:, 0, 0, 0]] == [1, 0, 3, 2, 4]
    assert batch.paths == [class_folders / name for name in batch.names]
    assert batch.failures == []


def test_pictures_beside_the_folders_mean_that_these_are_no_classes(class_folders):
    save(class_folders / "cover.png", noise(2, 2))
    assert set(load_images(class_folders, preprocessing=as_is(2, 2)).labels) == {None}


def test_a_limit_is_spread_over_the_labels(class_folders):
    batch = load_images(class_folders, preprocessing=as_is(2, 2), limit=3)
    assert batch.names == ["cat/a.PNG", "cat/b.png", "dog/c.png"]
    assert load_images(class_folders, preprocessing=as_is(2, 2), limit=2).labels == ["cat", "dog"]
    assert len(load_images(class_folders / "dog", preprocessing=as_is(2, 2), limit=2)) == 2
    with pytest.raises(InputError, match="at least 1"):
        load_images(class_folders, preprocessing=as_is(2, 2), limit=0)


def test_failed_files_do_not_use_up_the_limit(class_folders):
    (class_folders / "cat" / "a.PNG").write_bytes(b"broken")
    batch = load_images(class_folders, preprocessing=as_is(2, 2), limit=2)
    assert batch.names == ["cat/b.png", "dog/c.png"]


def test_several_folders_files_and_patterns_have_unique_names(class_folders):
    paths = [class_folders / "cat" / "b.png", class_folders / "dog", str(class_folders / "*" / "[a-b].png")]
    batch = load_images(paths, preprocessing=as_is(2, 2))
    assert batch.names == ["cat/b.png (1 of 2)", "dog/c.png", "dog/deep/a.png", "dog/z.png", "cat/b.png (2 of 2)"]


def test_patterns_are_relative_to_their_fixed_part(class_folders):
    batch = load_images(str(class_folders / "**" / "*.png"), preprocessing=as_is(2, 2))
    assert batch.names == ["cat/b.png", "dog/c.png", "dog/deep/a.png", "dog/z.png"]


def test_linked_folders_are_followed_and_circles_end(class_folders, tmp_path):
    collection = tmp_path / "links"
    collection.mkdir()
    (collection / "hound").symlink_to(class_folders / "dog")
    (class_folders / "dog" / "deep" / "back").symlink_to(class_folders / "dog")
    batch = load_images(collection, preprocessing=as_is(2, 2))
    assert batch.names == ["hound/c.png", "hound/deep/a.png", "hound/z.png"]
    assert set(batch.labels) == {"hound"}


@pytest.mark.parametrize("name", ["sp ace.png", "[1].png", "*.png", "日本.png", "new\nline.png", "-x.png", "100%.png"])
def test_file_names_may_hold_anything(tmp_path, name):
    batch = load_images(save(tmp_path / name, noise(2, 2)), preprocessing=as_is(2, 2))
    assert batch.names == [name]


def test_names_that_are_not_text_become_text(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        save(path, noise(2, 2))
    except OSError:
        pytest.skip("this file system takes valid names only")
    batch = load_images(tmp_path, preprocessing=as_is(2, 2))
    assert batch.names == ["caf\\xe9.png"]
    assert batch.paths == [path]


@pytest.fixture
def good(tmp_path):
    return save(tmp_path / "good.png", noise(64, 64))


def cut_short(path):
    save(path, noise(64, 64))
    path.write_bytes(path.read_bytes()[:-2000])


def oversized(path):
    Image.new("1", (9000, 8000)).save(path)


FAULTS = {
    "cut.jpg": (cut_short, "cannot be decoded"),
    "cut.png": (cut_short, "cannot be decoded"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "0 bytes"),
    "notes.txt": (lambda path: path.write_text("hello"), "not a picture"),
    "fake.jpg": (lambda path: path.write_text("hello"), "not a picture"),
    "huge.png": (oversized, "9000 x 8000.*max_pixels=64000000"),
    "nowhere.jpg": (lambda path: None, "does not exist"),
    "dangling.jpg": (lambda path: path.symlink_to("nothing"), "not a file"),
    "pipe.jpg": (os.mkfifo, "not a file"),
    "folder.jpg": (os.mkdir, "no picture files"),
    "none*.jpg": (lambda path: None, "pattern"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_unusable_files_are_recorded_with_the_reason(tmp_path, good, name):
    make, reason = FAULTS[name]
    path = tmp_path / name
    make(path)
    preprocessing = Preprocessing(size=(8, 8))
    batch = load_images([good, path], preprocessing=preprocessing)
    assert batch.names == ["good.png"]
    assert [failed for failed, _ in batch.failures] == [path]
    assert re.search(reason, batch.failures[0][1])
    assert name in batch.failures[0][1]
    with pytest.raises(InputError, match=reason) as caught:
        load_images([good, path], preprocessing=preprocessing, on_error="raise")
    assert name in str(caught.value)
    with pytest.raises(InputError, match=f"No picture.*{reason}"):
        load_images(path, preprocessing=preprocessing)


def test_the_size_is_judged_by_the_header_alone(tmp_path, good, monkeypatch):
    oversized(tmp_path / "huge.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="max_pixels"):
        load_images(tmp_path / "huge.png")


def test_pillows_own_limits(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(10, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_images(path, preprocessing=as_is(10, 10)).notes == [[]]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(InputError, match="MAX_IMAGE_PIXELS"):
        load_images(path, preprocessing=as_is(10, 10))


def test_another_size_without_a_resize_fails(tmp_path, good):
    with pytest.raises(InputError, match=r"32 x 16.*64 x 64"):
        load_images(good, preprocessing=as_is(16, 32))


def test_no_path_at_all():
    with pytest.raises(InputError, match="no path"):
        load_images([])


def test_a_selection_is_a_batch(class_folders):
    (class_folders / "cat" / "x.png").write_bytes(b"")
    batch = load_images(class_folders, preprocessing=as_is(2, 2))
    for chosen, names in [
        (batch[1], ["cat/b.png"]),
        (batch[-1], ["dog/z.png"]),
        (batch[np.int64(1)], ["cat/b.png"]),
        (batch[1:3], ["cat/b.png", "dog/c.png"]),
        (batch[[4, 0]], ["dog/z.png", "cat/a.PNG"]),
        (batch[[]], []),
    ]:
        positions = [batch.names.index(name) for name in names]
        assert chosen.names == names
        assert len(chosen) == len(names)
        assert torch.equal(chosen.tensor, batch.tensor[positions])
        assert chosen.paths == [batch.paths[i] for i in positions]
        assert chosen.labels == [batch.labels[i] for i in positions]
        assert len(chosen.sizes) == len(chosen.boxes) == len(chosen.notes) == len(names)
        assert chosen.failures == batch.failures
    assert [one.names[0] for one in batch] == batch.names
    with pytest.raises(IndexError):
        batch[5]
