"""Models come from names with the preprocessing and classes that belong to them, or with a sentence."""

import copy
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline import InputError, ModelInfo, Preprocessing, load_images, load_model, model_info
from sightline.models import default_preprocessing

PICTURE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.fixture
def picture(tmp_path):
    """A picture of 640 x 480 px whose coarse noise tells a shift by one pixel."""
    path = tmp_path / "picture.png"
    Image.fromarray(PICTURE).resize((640, 480), Image.Resampling.BICUBIC).save(path)
    return path


# --- Preprocessing ---


@pytest.mark.parametrize(
    ("settings", "null_colour"),
    [
        # ImageNet: 255 times the means.
        ({}, (123.675, 116.28, 103.53)),
        # SqueezeNet's: the means themselves.
        ({"mean": (123, 117, 104), "std": (1, 1, 1), "value_range": (0, 255)}, (123, 117, 104)),
        # MobileNet's -1..1: the middle.
        ({"mean": (0, 0, 0), "std": (1, 1, 1), "value_range": (-1, 1)}, (127.5, 127.5, 127.5)),
        # -1..1 and then a mean of 0.5: three quarters up.
        ({"mean": (0.5,), "std": (0.25,), "value_range": (-1, 1), "channels": 1}, (191.25,)),
        # Black is 1 and white is 0.
        ({"mean": (0,), "std": (1,), "value_range": (1, 0), "channels": 1}, (255,)),
    ],
)
def test_null_colour_by_hand(settings, null_colour):
    preprocessing = Preprocessing(**settings)
    assert preprocessing.null_colour == pytest.approx(null_colour)
    pixel = np.array(preprocessing.null_colour, np.float32).reshape(1, 1, -1)
    assert preprocessing.encode(pixel) == pytest.approx(0, abs=1e-5)


def test_encode_by_hand():
    preprocessing = Preprocessing(mean=(0.5, 0.0, 1.0), std=(0.25, 1.0, 2.0), value_range=(-1, 1))
    # 0, 127.5 and 255 become -1, 0 and 1; then (-1 - 0.5) / 0.25, (0 - 0) / 1 and (1 - 1) / 2.
    encoded = preprocessing.encode(np.array([[[0, 127.5, 255]]]))
    assert encoded.dtype == torch.float32
    assert encoded[:, 0, 0].tolist() == pytest.approx([-6, 0, 0])


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (1.0, 0.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_decode_inverts_encode(value_range, channels):
    preprocessing = Preprocessing(
        mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.3, 0.4)[:channels], value_range=value_range, channels=channels
    )
    pixels = PICTURE[..., :channels]
    shown = preprocessing.decode(preprocessing.encode(pixels)[None])
    assert shown == pytest.approx(np.broadcast_to(pixels / 255, PICTURE.shape)[None], abs=1e-5)


def test_decode_stays_visible():
    shown = Preprocessing().decode(torch.tensor([-9.0, 0.0, 9.0]).view(1, 3, 1, 1))
    assert shown[0, 0, 0] == pytest.approx([0, 0.456, 1])


def test_the_short_side_defaults_to_the_size_over_seven_eighths():
    assert Preprocessing().short_side == 256
    assert Preprocessing(size=(227, 300)).short_side == 259


def test_a_picture_that_has_the_size_is_not_resampled():
    """Unless the model itself says how, as torchvision's do."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))
    fitted, box = Preprocessing(size=(32, 48)).fit(picture)
    assert box == (0.0, 0.0, 48.0, 32.0)
    np.testing.assert_array_equal(np.asarray(fitted), np.asarray(picture))
    # Of a picture by one pixel larger, and of a stated margin, the crop shows seven eighths.
    for other, how in ((picture.resize((49, 33)), "auto"), (picture, 37)):
        left, top, right, bottom = Preprocessing(size=(32, 48), resize=how).fit(other)[1]
        assert (right - left) / other.width == pytest.approx(32 / 37, abs=0.01)
        assert (bottom - top) / other.height == pytest.approx(32 / 37, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"channels": 4}, "1 .grey. or 3"),
        ({"size": (0, 5)}, "at least 1 px"),
        ({"mean": (0.5,)}, r"mean.*per channel.*0\.5"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0"),
        ({"mean": (0.5, float("nan"), 0.5)}, "finite"),
        ({"value_range": (1.0, 1.0)}, "two different ends"),
        ({"interpolation": "cubical"}, "bilinear"),
        ({"resize": 200}, "at least 224 px"),
    ],
)
def test_contradictory_settings_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        Preprocessing(**settings)


# --- Factories ---

CODE = """
from dataclasses import dataclass
from torch import nn
from sightline import Preprocessing

@dataclass
class Settings:
    outputs: int = 4

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, Settings().outputs), nn.Dropout())

small.preprocessing = Preprocessing(size=(2, 2), resize=None)
small.class_names = ["a", "b", "c", "d"]

def carrying():
    model = small()
    model.class_names = ("w", "x", "y", "z")
    return model

def plain():
    return nn.Identity()

def number():
    return 3

def picky(width):
    return nn.Identity()
"""


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "my networks.py"
    path.write_text(CODE)
    return path


def test_a_factory_in_a_file(code):
    model = load_model(f"{code}:small")
    info = model_info(model)
    assert not model.training
    assert not model[2].training
    assert info.preprocessing == Preprocessing(size=(2, 2), resize=None)
    assert info.class_names == ("a", "b", "c", "d")
    assert info.spec == f"{code}:small"
    assert model_info(load_model(f"{code}:carrying")).class_names == ("w", "x", "y", "z")


def test_a_factory_without_settings_gets_the_defaults_by_name(code):
    info = model_info(load_model(f"{code}:plain"))
    assert info.preprocessing == default_preprocessing()
    assert all(fact in info.preprocessing.source for fact in ("default", "ImageNet", "224"))
    assert info.class_names is None


def test_a_factory_in_a_module(code, monkeypatch):
    code.rename(code.with_name("my_package_of_networks.py"))
    monkeypatch.syspath_prepend(code.parent)
    assert len(load_model("my_package_of_networks:small")) == 3


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{code}:smal", r"\bsmal\b.*\bsmall\b"),
        ("{code}:qqq", "qqq.*small, carrying"),
        ("{code}:number", r"number.*torch\.nn\.Module.*\bint\b"),
        ("{code}:picky", "picky.*without arguments.*TypeError"),
        ("nowhere.py:small", r"nowhere\.py.*not a file"),
        ("nowhere.at_all:small", "no module nowhere.at_all"),
        ("resnet18", "torchvision:NAME"),
        ("torchvision:", "torchvision:NAME"),
        (":small", "torchvision:NAME"),
    ],
)
def test_wrong_specs_are_refused_in_a_sentence(code, spec, said):
    with pytest.raises(InputError, match=said):
        load_model(spec.format(code=code))


@pytest.mark.parametrize("content", ["import nothing_of_this_name", "1 / 0", "def broken(:"])
def test_code_that_fails_is_named_with_its_error(tmp_path, content):
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(InputError, match=r"bad\.py.*\b\w+Error: "):
        load_model(f"{tmp_path / 'bad.py'}:small")


# --- Settings ---


def test_a_module_is_taken_as_it_is():
    model = nn.Sequential(nn.Dropout())
    assert load_model(model) is model
    assert not model.training
    assert model_info(nn.ReLU()) == ModelInfo("ReLU")


def test_info_survives_a_copy_and_stays_out_of_the_parameters():
    model = load_model(nn.Linear(2, 2), classes=["no", "yes"])
    assert model_info(copy.deepcopy(model)).class_names == ("no", "yes")
    assert set(model.state_dict()) == {"weight", "bias"}


def test_stated_settings_replace_the_models_own(code):
    info = model_info(load_model(f"{code}:small", mean=(123, 117, 104), std=1, value_range=(0, 255), resize=8))
    assert info.preprocessing == Preprocessing(
        size=(2, 2),
        resize=8,
        mean=(123.0, 117.0, 104.0),
        std=(1.0, 1.0, 1.0),
        value_range=(0, 255),
        source=info.preprocessing.source,
    )
    (note,) = info.notes
    assert all("mean, std, value_range, resize" in said for said in (note, info.preprocessing.source))


@pytest.mark.parametrize(
    ("settings", "size", "resize"),
    [
        ({"size": 112}, (112, 112), "auto"),
        ({"size": (112, 140)}, (112, 140), "auto"),
        ({"size": 112, "resize": "stretch"}, (112, 112), "stretch"),
        ({"size": 112, "resize": "none"}, (112, 112), None),
        ({"resize": 224}, (224, 224), 224),
    ],
)
def test_another_size_keeps_the_share_of_the_crop(settings, size, resize):
    preprocessing = model_info(load_model(nn.Identity(), **settings)).preprocessing
    assert (preprocessing.size, preprocessing.resize) == (size, resize)


def test_grey_models():
    preprocessing = model_info(load_model(nn.Identity(), size=28, mean=[0.13], std=[0.31])).preprocessing
    assert preprocessing.channels == 1


def test_contradictions_and_bad_devices_are_refused():
    with pytest.raises(InputError, match=r"std.*per channel"):
        load_model(nn.Identity(), mean=[0.5], std=[0.5, 0.5, 0.5])
    with pytest.raises(InputError, match="try cpu"):
        load_model(nn.Linear(1, 1), device="no such device")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "sea cat\ndog\n\n"),
        ("names.json", '["sea cat", "dog"]'),
        (None, "sea cat, dog"),
        ("windows.txt", "\ufeffsea cat\r\ndog\r\n"),
        ("windows.json", '\ufeff["sea cat", "dog"]'),
    ],
)
def test_class_names_from_a_file_or_a_text(tmp_path, name, content):
    if name is not None:
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    model = load_model(nn.Identity(), classes=content if name is None else tmp_path / name)
    assert model_info(model).class_names == ("sea cat", "dog")


def test_class_names_by_number_or_as_an_array():
    for given in ({1: "dog", 0: "cat"}, {"0": "cat", "1": "dog"}, np.array(["cat", "dog"])):
        assert model_info(load_model(nn.Identity(), classes=given)).class_names == ("cat", "dog")
    for wrong in ([], {1: "cat", 2: "dog"}):
        with pytest.raises(InputError, match=r"Class names .*got"):
            load_model(nn.Identity(), classes=wrong)


def test_wrong_class_names_are_refused(tmp_path):
    (tmp_path / "names.json").write_text('{"0": "cat"}')
    with pytest.raises(InputError, match="JSON list"):
        load_model(nn.Identity(), classes=tmp_path / "names.json")
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        load_model(nn.Identity(), classes=tmp_path / "names.txt")
    with pytest.raises(InputError, match=r"nowhere\.txt.*not a file"):
        load_model(nn.Identity(), classes="nowhere.txt")


def test_weights_are_loaded_and_described(code, tmp_path):
    source = load_model(f"{code}:small")
    torch.save(source.state_dict(), tmp_path / "w.pt")
    model = load_model(f"{code}:small", weights=tmp_path / "w.pt")
    assert torch.equal(model[1].weight, source[1].weight)
    assert model_info(model).weights.startswith("w.pt, 2 tensors, sha256 ")


# --- torchvision ---


def assert_prepares_alike(batch, theirs, tolerance):
    """The picture as Sightline prepares it equals the library's own, in grey levels."""
    ours = batch.display()[0] * 255
    theirs = batch.preprocessing.decode(theirs[None])[0] * 255
    assert np.abs(ours - theirs).mean() < tolerance


def test_torchvision_transforms_and_categories(picture):
    models = pytest.importorskip("torchvision").models
    model = load_model("torchvision:resnet18", pretrained=False)
    info = model_info(model)
    assert type(model) is models.ResNet
    assert info.class_names[0] == "tench"
    assert len(info.class_names) == 1000
    assert info.weights.startswith("untrained")
    assert info.preprocessing.source == "torchvision IMAGENET1K_V1 transforms"
    theirs = models.ResNet18_Weights.DEFAULT.transforms()(Image.open(picture))
    assert_prepares_alike(load_images(picture, model), theirs, 0.05)


@pytest.mark.parametrize("name", ["efficientnet_b0", "regnet_y_400mf"])
def test_torchvisions_other_sizes_and_filters(picture, name):
    models = pytest.importorskip("torchvision").models
    model = load_model(f"torchvision:{name}", pretrained=False)
    theirs = models.get_model_weights(name).DEFAULT.transforms()(Image.open(picture))
    assert_prepares_alike(load_images(picture, model), theirs, 0.05)


def test_every_classifier_of_torchvision_has_settings_that_fit():
    models = pytest.importorskip("torchvision").models
    for name in models.list_models(module=models):
        transforms = models.get_model_weights(name).DEFAULT.transforms()
        assert len(transforms.crop_size) == len(transforms.resize_size) == 1
        assert transforms.resize_size >= transforms.crop_size


def test_torchvision_weights_from_a_file_need_no_network(tmp_path, monkeypatch):
    models = pytest.importorskip("torchvision").models
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *a, **k: pytest.fail("asked the network"))
    source = models.squeezenet1_1()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    model = load_model("torchvision:squeezenet1_1", weights=tmp_path / "w.pt")
    assert torch.equal(model.features[0].weight, source.features[0].weight)
    assert model_info(model).weights.startswith("w.pt, 52 tensors")


def test_a_failed_download_names_the_ways_out(monkeypatch):
    pytest.importorskip("torchvision")

    def fail(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    monkeypatch.setattr("os.makedirs", lambda *args, **kwargs: None)
    with pytest.raises(InputError, match=r"Name or service not known.*--weights.*pretrained=False"):
        load_model("torchvision:resnet18")


def test_unknown_names_bring_suggestions():
    pytest.importorskip("torchvision")
    with pytest.raises(InputError, match=r"resnet81.*resnet18"):
        load_model("torchvision:resnet81")
    with pytest.raises(InputError, match=r"fcn_resnet50.*not a classifier"):
        load_model("torchvision:fcn_resnet50")


# --- timm ---


def test_timm_data_configuration(picture):
    timm = pytest.importorskip("timm")
    model = load_model("timm:resnet10t", pretrained=False)
    info = model_info(model)
    assert info.class_names[0] == "tench, Tinca tinca"
    assert info.weights.startswith("untrained")
    assert (info.preprocessing.size, info.preprocessing.interpolation) == ((176, 176), "bicubic")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    assert_prepares_alike(load_images(picture, model), transform(Image.open(picture)), 0.5)


def test_timm_names():
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=r"resnet10tt.*\bresnet10t\b"):
        load_model("timm:resnet10tt", pretrained=False)
    with pytest.raises(InputError, match=r"a1_in2k.* resnet50\."):
        load_model("timm:resnet50.a1_in2k", pretrained=False)


def test_timm_weights_from_a_file(tmp_path):
    timm = pytest.importorskip("timm")
    source = timm.create_model("resnet10t", pretrained=False)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    model = load_model("timm:resnet10t", weights=tmp_path / "w.pt")
    assert torch.equal(model.fc.weight, source.fc.weight)


def test_a_failed_download_of_timm(monkeypatch):
    timm = pytest.importorskip("timm")

    def fail(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(InputError, match=r"no connection.*--weights"):
        load_model("timm:resnet10t")


# --- transformers ---


@pytest.fixture
def transformers():
    module = pytest.importorskip("transformers")
    module.utils.logging.disable_progress_bar()
    return module


@pytest.fixture
def folder(tmp_path, transformers):
    """A tiny ResNet with random weights, as `save_pretrained` writes it."""
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label={0: "cat", 1: "dog", 2: "eel"},
        label2id={"cat": 0, "dog": 1, "eel": 2},
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "net")
    return tmp_path / "net"


PROCESSORS = {
    "ConvNextImageProcessor": ({"size": {"shortest_edge": 64}}, (64, 64), 73),
    "ViTImageProcessor": ({"size": {"height": 48, "width": 64}}, (48, 64), "stretch"),
    "CLIPImageProcessor": (
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
        (64, 64),
        72,
    ),
    "EfficientNetImageProcessor": (
        {
            "size": {"height": 64, "width": 64},
            "include_top": False,
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
        },
        (64, 64),
        "stretch",
    ),
}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_folder_of_transformers(folder, transformers, picture, processor):
    options, size, resize = PROCESSORS[processor]
    processor = getattr(transformers, processor)(**options)
    processor.save_pretrained(folder)
    model = load_model(f"hf:{folder}")
    info = model_info(model)
    assert info.class_names == ("cat", "dog", "eel")
    assert info.notes == ()
    assert (info.preprocessing.size, info.preprocessing.resize) == (size, resize)
    theirs = processor(Image.open(picture).convert("RGB"), return_tensors="pt")["pixel_values"][0]
    batch = load_images(picture, model)
    assert_prepares_alike(batch, theirs, 1.0)
    own = transformers.ResNetForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        assert torch.equal(model(batch.tensor).logits, own(batch.tensor).logits)


def test_a_processor_that_swaps_red_and_blue_is_refused_unless_replaced(folder, transformers):
    transformers.MobileViTImageProcessor(
        size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}, do_normalize=False
    ).save_pretrained(folder)
    with pytest.raises(InputError, match=r"image processor.*grey levels.*size="):
        load_model(f"hf:{folder}")
    info = model_info(load_model(f"hf:{folder}", size=64, mean=0, std=1))
    assert info.preprocessing.size == (64, 64)
    assert any("image processor" in note and "not followed" in note for note in info.notes)


def test_a_folder_without_a_processor_says_so(folder):
    info = model_info(load_model(f"hf:{folder}"))
    assert info.preprocessing == default_preprocessing()
    assert "No image processor" in info.notes[0]


def test_a_checkpoint_without_a_head_says_so(folder, transformers):
    headless = transformers.ResNetForImageClassification.from_pretrained(folder).resnet
    headless.save_pretrained(folder)
    notes = model_info(load_model(f"hf:{folder}")).notes
    assert any("checkpoint" in note and "classifier.1.bias, classifier.1.weight" in note for note in notes)


def test_placeholder_labels_are_no_class_names(tmp_path, transformers):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32, patch_size=16
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert model_info(load_model(f"hf:{tmp_path}")).class_names is None


def test_a_folder_that_holds_no_model(tmp_path, transformers):
    with pytest.raises(InputError, match="no image classifier"):
        load_model(f"hf:{tmp_path}")


# --- Absent and broken libraries ---


@pytest.mark.parametrize(
    ("spec", "library"), [("torchvision:vgg11", "torchvision"), ("timm:vgg11", "timm"), ("hf:a/b", "transformers")]
)
def test_an_absent_library_is_named_with_its_command(monkeypatch, spec, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"pip install 'sightline-saliency\[{library}\]'"):
        load_model(spec)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["torchvision", "timm"])
def test_a_torchvision_for_another_torch_is_a_sentence(tmp_path, broken):
    # As a process of its own, since a library that is imported already would not be imported again.
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (tmp_path / "timm.py").write_text("import torchvision")
    program = f"""
        import sightline
        try:
            sightline.load_model("{broken}:resnet18", pretrained=False)
        except sightline.InputError as error:
            print(error)
    """
    found = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": found},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{broken} ")
    assert "for another torch" in done.stdout
    assert "pip install" in done.stdout


@pytest.mark.slow
def test_sightline_itself_needs_none_of_them():
    program = "import sys, sightline; print({'torchvision', 'timm', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


FINE_TUNED = [("torchvision:resnet18", "fc"), ("torchvision:squeezenet1_1", "classifier.1"), ("timm:resnet10t", "fc")]


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "head"), FINE_TUNED)
def test_the_number_of_classes_is_read_off_the_weights(tmp_path, spec, head):
    library, name = spec.split(":")
    if library == "torchvision":
        own = pytest.importorskip("torchvision").models.get_model(name, num_classes=5)
    else:
        own = pytest.importorskip("timm").create_model(name, num_classes=5)
    torch.save(own.state_dict(), tmp_path / "own.pt")
    model = load_model(spec, weights=tmp_path / "own.pt", classes=["a", "b", "c", "d", "e"])
    assert torch.equal(model.state_dict()[f"{head}.weight"], own.state_dict()[f"{head}.weight"])
    assert model_info(model).class_names == ("a", "b", "c", "d", "e")
    assert any("5 classes" in note for note in model_info(model).notes)
    assert model_info(load_model(spec, weights=tmp_path / "own.pt")).class_names is None
    with pytest.raises(InputError, match="for 5 classes, but 2"):
        load_model(spec, weights=tmp_path / "own.pt", classes=["a", "b"])


def test_other_heads_are_refused_with_the_factory_to_write(tmp_path):
    models = pytest.importorskip("torchvision").models
    own = models.resnet18()
    own.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 5))
    torch.save(own.state_dict(), tmp_path / "own.pt")
    with pytest.raises(InputError, match=r"missing: fc.weight.*def build\(\).*net\.py:build"):
        load_model("torchvision:resnet18", weights=tmp_path / "own.pt")
