"""What a refusal tells people to do works, as it is written."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sightline as sightline_module
import sightline as sl
from helpers.command_line import sightline


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Ends(nn.Module):
    """A classifier whose last operation is a function in its own forward."""

    def __init__(self, end: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.end = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), end

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu().mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        z = self.logits(x)
        return {"sigmoid": z.sigmoid(), "softmax": z.softmax(1), "log_softmax": z.log_softmax(1)}[self.end]


def remedy(text: str, pattern: str) -> str:
    """The code that a message tells people to write."""
    found = re.search(pattern, text)
    assert found, text
    return found[1]


def refused(model: nn.Module, images: Tensor, method: str, target: object = 1) -> str:
    with pytest.raises(sl.RefusalError) as caught:
        sl.explain(model, images, method, target)
    return str(caught.value)


@pytest.mark.parametrize("end", ["sigmoid", "softmax", "log_softmax"])
def test_the_logit_before_a_probability(images: Tensor, end: str) -> None:
    model = Ends(end)
    written = remedy(refused(model, images, "lrp_epsilon"), r"target=(sightline\.Unit\(.*?\))")
    target = eval(written, {"sightline": sightline_module})  # noqa: S307 - what the message says, to the letter
    found = sl.explain(model, images, "lrp_epsilon", target)
    expected = sl.explain(lambda x: model.logits(x), images, "lrp_epsilon", 1)
    torch.testing.assert_close(found["lrp_epsilon"], expected["lrp_epsilon"])
    # What is explained is a logit now, so that nothing is said of the end.
    assert not any("not a logit" in note for note in found.checks.notes)
    said = sl.explain(model, images, "gradient", 1).checks.notes
    assert any(written in note and "not a logit" in note for note in said)


def test_a_model_whose_logits_no_module_has(images: Tensor) -> None:
    class Scaled(Ends):
        def logits(self, x: Tensor) -> Tensor:
            return 2 * super().logits(x)

    assert "without its last step" in refused(Scaled("sigmoid"), images, "lrp_epsilon")


NET = """
import torch
from torch import nn
import sightline as sl

def build():
    torch.manual_seed(0)
    layers = dict(body=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), flat=nn.Flatten(), head=nn.Linear(144, 3), end=nn.Sigmoid())
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model

build.preprocessing = sl.Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
"""


def test_the_command_line_takes_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture).save(tmp_path / "photos" / "a.png")
    words = ["explain", "net.py:build", "photos", "--methods", "lrp_epsilon,deep_taylor", "--device", "cpu"]
    first = sightline(tmp_path, *words, "--target", "1")
    assert first.returncode == 3
    told = remedy(first.stderr, r"--target (unit:\w+:\d+)")
    assert told == "unit:head:1"
    again = sightline(tmp_path, *words, "--target", told)
    assert again.returncode == 0, again.stderr
    assert set(sl.Explanation.load(tmp_path / "out").maps) == {"lrp_epsilon", "deep_taylor"}


@pytest.mark.parametrize(
    ("method", "factory"), [("deep_taylor", "deep_taylor"), ("lrp_epsilon_gamma_box", "epsilon_gamma_box")]
)
def test_the_range_of_a_pixel(images: Tensor, method: str, factory: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    text = refused(model, images, method)
    written = remedy(text, r"(sightline\.Method\(.*?\), name=\"\w+\"\))")
    low, high = re.findall(r"images\.\w+\(\)", text)
    written = written.replace("low=...", f"low={low}").replace("high=...", f"high={high}")
    named = eval(written, {"sightline": sightline_module, "images": images})  # noqa: S307
    assert named.name == factory
    found = sl.explain(model, images, named, 1)[factory]
    # The other remedy: the encoding is told, here one in which pixels run between the same ends.
    spread = float(images.max() - images.min())
    told = sl.load_model(model, mean=-float(images.min()) / spread, std=1 / spread)
    torch.testing.assert_close(found, sl.explain(told, images, method, 1)[method], rtol=1e-4, atol=1e-6)


def test_a_dense_output_is_explained_by_a_function_or_a_layer(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    text = refused(model, images, "gradient")
    written = remedy(text, r"target=(sightline\.Unit\(.*?\))").replace("LAYER", "2")
    unit = eval(written, {"sightline": sightline_module})  # noqa: S307
    found = sl.explain(model, images, "gradient", unit)["gradient"]
    by_hand = sl.explain(model, images, "gradient", lambda output: output[:, 0].mean((1, 2)))["gradient"]
    torch.testing.assert_close(found, by_hand)
