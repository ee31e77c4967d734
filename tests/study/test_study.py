"""The study of claims: its figures made apart, its answers, and what it does where a network or images fall short."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.command_line import sightline
from sightline._common.checksums import unsealed
from sightline._common.seeds import image_key
from sightline.auditing import Question, Rule
from sightline.auditing._pairs import Sample
from sightline.errors import InputError
from sightline.study import claims
from sightline.study._encodings import bias, encodings
from sightline.study._sensitivity import PAIRS, methods_of
from sightline.study._survey import survey

FACTORY = """
import torch
from torch import nn
from sightline import Preprocessing

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))

build.preprocessing = Preprocessing(size=(8, 8), resize="stretch")
"""


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3)
    ).eval()  # fmt: skip


def pictures(count: int, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 8, 8, generator=torch.Generator().manual_seed(1))


def input_x_gradient(model: nn.Module, images: Tensor) -> Tensor:
    """By torch alone: of the predicted class, the mean over channels."""
    inputs = images.clone().requires_grad_()
    model(inputs).max(1).values.sum().backward()
    assert inputs.grad is not None
    return (inputs * inputs.grad).detach().mean(1)


def test_every_pair_is_among_the_methods_of_its_claim() -> None:
    for part, pairs in PAIRS.items():
        assert {name for pair in pairs for name in pair} <= set(methods_of(part))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_encoding_is_the_same_function(channels: int) -> None:
    model, images = network(channels), pictures(5, channels) * 2 - 1
    logits = model(images)
    found = {name: (other, moved) for name, other, moved in encodings(model, images)}
    assert ("standardised" in found) == (channels == 3)
    for other, moved in found.values():
        torch.testing.assert_close(other(moved), logits, rtol=1e-4, atol=1e-4)
    lowest = {name: round(float(moved.min()), 4) for name, (_, moved) in found.items()}
    assert (lowest["0 ... 1"], lowest["-1 ... 1"], lowest["-1 ... 0"]) == (0, -1, -1)


def test_bias_is_the_cosine_of_maps_across_encodings() -> None:
    model = network()
    images = pictures(22)
    images = (images - images.min()) / (images.max() - images.min())
    part = bias(model, images)
    # A function f of x is f((y + 1) / 2) of y = 2 x - 1, whose gradient is half that of f.
    gradient = input_x_gradient(model, images)
    inputs = images.clone().requires_grad_()
    (plain,) = torch.autograd.grad(model(inputs).max(1).values.sum(), inputs)
    moved = ((2 * images - 1) * plain / 2).mean(1)
    expected = F.cosine_similarity(gradient.flatten(1), moved.flatten(1)).mean()
    rows = part.table.set_index(["method", "encoding"])
    assert rows.loc[("input_x_gradient", "-1 ... 1"), "raw cosine"] == pytest.approx(float(expected), abs=1e-4)
    assert rows.loc[("gradient", "-1 ... 1"), "raw cosine"] == pytest.approx(1, abs=1e-5)
    assert rows.loc[("gradient", "-1 ... 1"), "images"] == 22
    assert list(part.answers.values()) == ["holds"]


def test_a_network_without_a_first_layer_to_correct_is_told() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x * 2)

    part = bias(Scaled().eval(), pictures(20))
    assert list(part.answers.values()) == ["undecided"]
    assert "cannot be given another encoding" in part.notes[0]


def test_settings_are_compared_by_rank_and_judged_by_intervals() -> None:
    model, images = network().double(), pictures(20).double()
    part = survey(model, images)
    rows = part.table.set_index(["compared with", "map"])
    first = rows.loc[("input_x_gradient", "epsilon 1e-06")]
    # In a network of ReLUs, LRP-epsilon is the input times the gradient as epsilon goes to 0.
    assert first["raw likeness"] == pytest.approx(1, abs=1e-3)
    maps = input_x_gradient(model, images).flatten(1).numpy()
    keys = [image_key(image) for image in images]
    pairs = Sample.of(keys, keys, np.zeros(20, dtype=int), None, 0).alike.partners
    another = np.mean([spearmanr(maps[i], maps[j]).statistic for i, j in enumerate(pairs)])
    assert first["another image"] == pytest.approx(another, abs=5e-3)
    # Which images are set against each other does not depend on the order of files.
    again = survey(model, images.flip(0)).table.set_index(["compared with", "map"])
    np.testing.assert_allclose(again["another image"], rows["another image"], atol=1e-6)
    assert first["networks"] == 0
    assert first["images"] == 20


def test_too_few_images_decide_nothing_and_it_is_said() -> None:
    found = claims(network(), pictures(3), ["gradient", "guided_backprop"], networks=1)
    assert set(found.answers.values()) == {"undecided"}
    assert all(any("at least 20" in note for note in part.notes) for part in found.parts.values())
    assert np.isinf(found.parts["survey"].table["low"]).all()


@pytest.mark.slow
def test_a_study_of_parts_is_written_whole_and_goes_on(tmp_path: Path) -> None:
    asked = {"methods": ["gradient", "guided_backprop", "expected_gradients"], "parts": ["propagation"], "networks": 5}
    found = claims(network(), pictures(24), **asked, folder=tmp_path)
    record = unsealed((tmp_path / "study.json").read_bytes())
    assert record["answers"] == found.answers
    assert "expected_gradients" in record["parts"]["propagation"]["refused"]
    table = pd.read_csv(tmp_path / "propagation.csv")
    assert set(table["method"]) == {"gradient", "guided_backprop"}
    weights = table[table["test"] == "parameter_randomization"]
    assert set(weights["networks"]) == {5}
    assert set(weights["images"]) == {24}
    page = (tmp_path / "study.md").read_text()
    assert "raw likeness" in page
    assert "before Holm" in page
    steps: list[str] = []
    again = claims(
        network(), pictures(24), **asked, folder=tmp_path, progress=lambda words, done, of: steps.append(words)
    )
    assert steps == ["done"]
    assert again.answers == found.answers


def test_methods_that_are_all_refused_leave_a_note_and_the_other_parts() -> None:
    found = claims(network(), pictures(2), ["expected_gradients"], ["propagation", "encoding"], networks=1)
    assert set(found.parts["propagation"].refused) == {"expected_gradients"}
    assert len(found.parts["encoding"].table)


def test_a_question_of_one_s_own_answers_the_claims() -> None:
    class Plain(Question):
        """Whether a map is that of the gradient."""

        name = "plain"

        @property
        def rules(self):
            return (Rule(self.name, "all", "plain", 0.5, False, "it is the gradient's", floor=0.0, ceiling=1.0),)

        def scores(self, block, on_progress):
            for method, maps in block.base.items():
                plain = torch.full((len(maps),), float(method == "gradient"))
                yield from block.each(self.name, "all", method, "plain", plain)

    found = claims(network(), pictures(24), ["guided_backprop", "gradient"], ["propagation"], tests=[Plain()])
    assert found.answers == {"Positive propagation fails plain": "holds"}
    assert found.settings["tests"] == ["plain"]


@pytest.mark.parametrize(("wrong", "told"), [({"parts": ["nothing"]}, "nothing"), ({"parts": []}, "none")])
def test_unknown_parts_are_an_error(wrong: dict[str, list[str]], told: str) -> None:
    with pytest.raises(InputError, match=told):
        claims(network(), pictures(2), **wrong)


def test_the_command_writes_a_study(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    words = ("study", "claims", "net.py:build", "photos", "--out", "s", "--images", "3")
    done = sightline(tmp_path, *words, "--parts", "encoding")
    assert done.returncode == 0, done.stderr
    assert "undecided" in done.stdout
    assert "at least 20" in done.stderr
    assert json.loads((tmp_path / "s" / "study.json").read_text())["settings"]["images"] == 3
    wrong = sightline(tmp_path, *words, "--parts", "settings")
    assert wrong.returncode == 2
    assert "survey" in wrong.stderr
