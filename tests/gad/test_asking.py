"""What networks are asked of a pair, and what distancing changed, against explanations of each network by itself."""

import copy

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.gad import PAPER_LIKE, Consistency

CLASSES = (2, 0)


@pytest.fixture(scope="module")
def gad() -> sl.GAD:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 3)).eval()
    images = torch.randn(24, 3, 8, 8)
    return sl.GAD(model, CLASSES, (1, 4), rate=0.01, steps=6).fit((images, torch.arange(24) % 3))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def networks(gad: sl.GAD, kind: str = "distanced") -> list[nn.Module]:
    return [gad.model, *(copy.deepcopy(one.network) for one in gad.networks.each(kind))]


def test_by_default_all_networks_are_asked_why_not_the_other_class(gad: sl.GAD, images: Tensor) -> None:
    first, second = gad.explain_each(images, "input_x_gradient")
    for found, c, other in ((first, 2, 0), (second, 0, 2)):
        each = [sl.explain(n, images, "input_x_gradient", sl.Pair(c, other)) for n in networks(gad)]
        expected = torch.stack([one.heatmap("input_x_gradient") for one in each])
        assert torch.equal(found.stacks["input_x_gradient"], expected)
    # Of each image the likelier class of the pair, as the original network says.
    likelier = gad.explain(images, "input_x_gradient")
    scores = gad.model(images)
    for i in range(len(images)):
        own = first if scores[i, 2] > scores[i, 0] else second
        assert torch.equal(likelier.stacks["input_x_gradient"][:, i], own.stacks["input_x_gradient"][:, i])


def test_the_published_question_is_asked_on_request(gad: sl.GAD, images: Tensor) -> None:
    found = gad.explain(images, "gradient", 0, question="class")
    expected = torch.stack([sl.explain(n, images, "gradient", 0).heatmap("gradient") for n in networks(gad)])
    assert torch.equal(found.stacks["gradient"], expected)
    assert found.settings["question"] == "class"


def test_other_classes_have_no_pair(gad: sl.GAD, images: Tensor) -> None:
    with pytest.raises(sl.InputError, match=r"\(2, 0\).*\b1\b.*question='class'"):
        gad.explain(images, "gradient", 1)
    with pytest.raises(sl.InputError, match=r"question.*both"):
        gad.explain(images, "gradient", question="both")
    with pytest.raises(sl.InputError, match=r"question.*logit"):
        sl.GAD(gad.model, CLASSES, question="logit")
    asked = gad.explain(images, "gradient", sl.Pair(1, 0))
    assert torch.equal(
        asked.stacks["gradient"][0], sl.explain(gad.model, images, "gradient", sl.Pair(1, 0)).heatmap("gradient")
    )


def test_the_question_is_saved(gad: sl.GAD, tmp_path) -> None:
    published = sl.GAD(gad.model, CLASSES, (1,), steps=1, question="class")
    published.fit((torch.randn(6, 3, 8, 8), torch.arange(6) % 3), controls=False).save(tmp_path)
    assert sl.GAD.load(tmp_path, gad.model).question == "class"


@pytest.mark.parametrize("kind", ["distanced", "shuffled"])
def test_what_distancing_changed(gad: sl.GAD, images: Tensor, kind: str) -> None:
    found = gad.change(images, ["gradient", "grad_cam"], 2, kind=kind)
    original, *_, last = networks(gad, kind)
    for method in ("gradient", "grad_cam"):
        # What speaks for the other class, 0, in the original and no longer in the copy.
        expected = sl.explain(original, images, method, 0)[method] - sl.explain(last, images, method, 0)[method]
        torch.testing.assert_close(found[method], expected)
        assert found[method].abs().max() > 0
    assert "alpha 4" in found.checks.notes[0]
    # A class for each image, and the likelier one.
    mixed = gad.change(images, "gradient", [2, 0, 2, 0, 2], kind=kind)
    turned = gad.change(images, "gradient", 0, kind=kind)
    torch.testing.assert_close(mixed["gradient"][::2], found["gradient"][::2])
    torch.testing.assert_close(mixed["gradient"][1::2], turned["gradient"][1::2])
    with pytest.raises(sl.InputError, match=r"\b1\b"):
        gad.change(images, "gradient", 1, kind=kind)


def test_a_black_pixel_is_also_the_baseline(gad: sl.GAD, images: Tensor) -> None:
    black = torch.tensor([-1.0, -2.0, -3.0])
    found = gad.evaluate(images, black=black)
    assert found.refused == {}
    assert set(found.rows["method"]) >= {"integrated_gradients", "input_x_gradient"}
    (path,) = (method.sampling for method in found.methods if method.name == "integrated_gradients")
    assert torch.equal(path.start[0].flatten(), black)


def test_the_papers_reading_is_evaluated_as_published(gad: sl.GAD, images: Tensor) -> None:
    found = gad.evaluate(images, ["gradient"], [PAPER_LIKE, Consistency(share=0.2)], black=torch.zeros(3))
    asked = found.rows.groupby("reading")["question"].unique()
    assert asked["minmax 0.5"].tolist() == ["class"]
    assert asked["nested 0.2"].tolist() == ["pair"]
    arms = found.rows.groupby("question")["arm"].unique()
    # Of the pair GAD starts from the pair's own map, which then is the threshold's.
    assert not any("pair" in arm for arm in arms["pair"])
    assert {"pair", "pair_free"} <= set(arms["class"])
    own = gad.evaluate(images, ["gradient"], PAPER_LIKE, black=torch.zeros(3), question="pair")
    assert set(own.rows["question"]) == {"pair"}
