"""How many channels a model takes is read off its first layer, and can be stated in three spellings that agree."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline import InputError, Preprocessing, explain, load_images, load_model, model_info

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def conv(channels):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


class GreyInside(nn.Module):
    """Takes colours and makes them grey before the first convolution."""

    def __init__(self):
        super().__init__()
        self.net = conv(1)

    def forward(self, images):
        return self.net(images.mean(1, keepdim=True)) if images.shape[1] == 3 else images / 0


class OtherOrder(nn.Module):
    """Names a part first that comes last."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(8, 3, 1)
        self.first = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        return self.last(self.first(images)).mean((2, 3))


def mlp(inputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 3))


@pytest.mark.parametrize(
    ("model", "channels"),
    [(conv(1), 1), (conv(3), 3), (GreyInside(), 3), (OtherOrder(), 3), (mlp(16 * 16), 1), (mlp(3 * 16 * 16), 3)],
)
def test_channels_are_those_of_the_first_layer(photo, model, channels):
    loaded = load_model(model, size=16, resize="none")
    assert model_info(loaded).preprocessing.channels == channels
    batch = load_images(photo, loaded)
    assert batch.tensor.shape == (1, channels, 16, 16)
    assert explain(loaded, batch, "gradient")["gradient"].shape == batch.tensor.shape


def test_a_module_that_was_not_loaded_is_asked_too(photo):
    assert load_images(photo, conv(1)).tensor.shape[1] == 1


@pytest.mark.parametrize("training", [True, False])
def test_asking_leaves_the_model_as_it_was(photo, training):
    model = nn.Sequential(nn.BatchNorm2d(1), conv(1)).train(training)
    load_images(photo, model)
    assert model.training is model[0].training is training
    assert int(model[0].num_batches_tracked) == 0


def test_the_grey_default_is_the_mean_of_the_colours(photo):
    wanted = model_info(load_model(conv(1), size=16)).preprocessing
    # (0.485 + 0.456 + 0.406) / 3 and (0.229 + 0.224 + 0.225) / 3
    assert wanted.mean == (0.449,)
    assert wanted.std == (0.226,)
    assert "one channel" in wanted.source


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_other_numbers_of_channels_are_refused_with_a_way_out(photo, channels):
    model = load_model(conv(channels), size=16)
    with pytest.raises(InputError, match=rf"takes {channels} channels.*tensor.*factory"):
        load_images(photo, model)
    assert explain(model, torch.rand(1, channels, 16, 16), "gradient")["gradient"].shape[1] == channels
    with pytest.raises(InputError, match=f"channels={channels}"):
        load_model(conv(channels), mean=(0.5,) * channels)


@pytest.mark.parametrize(
    "stated",
    [
        {"channels": 1, "mean": 0.5, "std": 0.25},
        {"mean": (0.5,), "std": (0.25,)},
        {"mean": (0.5,), "std": 0.25},
        {"mean": 0.5, "std": (0.25,)},
        {"mean": 0.5, "std": 0.25},
    ],
)
def test_spellings_agree(photo, stated):
    model = load_model(conv(1), size=16, resize="none", **stated)
    expected = (torch.from_numpy(PIXELS)[None, None] / 255 - 0.5) / 0.25
    assert torch.allclose(load_images(photo, model).tensor, expected, atol=1e-6)


def test_three_channels_can_be_stated_of_a_grey_model():
    model = nn.Identity()
    model.preprocessing = Preprocessing(channels=1, mean=(0.5,), std=(0.2,))
    wanted = model_info(load_model(model, channels=3)).preprocessing
    assert (wanted.mean, wanted.std) == ((0.5,) * 3, (0.2,) * 3)


def test_what_an_earlier_call_stated_is_forgotten_by_the_next_statement():
    model = GreyInside()
    load_model(model, mean=(0.5,), std=(0.5,), size=32)
    load_model(model, mean=0.3)
    info = model_info(model)
    assert info.preprocessing.mean == (0.3,) * 3
    assert info.preprocessing.size == (224, 224)
    assert info.preprocessing.source.count("stated") == 1
    assert len(info.notes) == 1
    # Nothing is stated of the pictures here, so that nothing is forgotten.
    load_model(model, device="cpu")
    assert model_info(model) == info


def test_a_model_that_stands_in_a_file(tmp_path, photo):
    (tmp_path / "net.py").write_text("from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))\n")
    model = load_model(f"{tmp_path / 'net.py'}:net", size=16)
    assert load_images(photo, model).tensor.shape == (1, 1, 16, 16)


@pytest.mark.parametrize(
    ("takes", "stated"), [(3, {"channels": 1}), (1, {"mean": (0.5,) * 3, "std": (0.2,) * 3}), (4, {"channels": 3})]
)
def test_a_number_that_the_model_does_not_take_is_refused(takes, stated):
    channels = stated.get("channels", 3)
    with pytest.raises(InputError, match=rf"takes {takes} channels, but {channels} was stated"):
        load_model(conv(takes), size=16, **stated)


def test_a_model_that_makes_its_channels_itself_takes_the_stated_number():
    assert model_info(load_model(GreyInside(), size=16, channels=3)).preprocessing.channels == 3
