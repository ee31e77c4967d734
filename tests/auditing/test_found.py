"""What an audit says of its verdicts: whom it recommends, and which figures it shows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import sightline as sl
from sightline.auditing import Question, audit
from sightline.auditing._found import Audit
from sightline.auditing._pairs import Sample
from sightline.auditing.questions._block import CEILING, FLOOR, REFERENCE
from sightline.auditing.questions._rule import Rule
from sightline.auditing.questions._subjects import Subjects
from sightline.evaluation._similarity import JUDGED
from sightline.rendering._writing import write_page

IMAGES = 24
RULE = Rule("parameter_randomization", "all random", JUDGED, 0.5, True, "the rule")


class Fixed(Question):
    """A question with a rule, whose scores are made by hand."""

    name = "fixed"

    def __init__(self, rule):
        self.rule = rule

    @property
    def rules(self):
        return (self.rule,)

    def scores(self, block, on_progress):
        return ()


_NAMES = [str(i) for i in range(IMAGES)]
SAMPLE = Sample.of(_NAMES, _NAMES, np.arange(IMAGES) % 3, None, 0)
BOUNDED = Rule("completeness", "sum", "missing", 0.05, True, "the rule", floor=0.0, ceiling=1.0)


def rows(method: str, test: str, case: str, measure: str, mean: float) -> list[dict[str, object]]:
    """A score for each image, a little apart."""
    apart = np.linspace(-0.01, 0.01, IMAGES)
    keys = {"test": test, "case": case, "method": method, "measure": measure, "network": 0, "draw": 0}
    return [keys | {"image": image, "value": mean + apart[image]} for image in range(IMAGES)]


def found(likeness: dict[str, tuple[float, float]], **settings: object) -> Audit:
    """An audit of methods, each with its likeness of maps of other images, and of the random network's maps."""
    names = [*likeness, *(name for name in Subjects(["gradient"]).names if name.startswith("control"))]
    scores: list[dict[str, object]] = []
    for method in names:
        floor, value = likeness.get(method, (0.0, 0.0))
        scores += rows(method, REFERENCE, FLOOR, JUDGED, floor) + rows(method, REFERENCE, CEILING, JUDGED, 1.0)
        scores += rows(method, REFERENCE, CEILING, "spearman", 1.0)
        scores += rows(method, RULE.test, RULE.case, JUDGED, value)
    subjects = Subjects(list(likeness))
    return Audit.of(
        pd.DataFrame(scores), subjects, [Fixed(RULE)], {}, SAMPLE, {"weights": "as given", **settings}
    )  # fmt: skip


def test_maps_alike_for_different_images_are_never_preferred() -> None:
    # (0.3 - 0.78) / (1 - 0.78) = -2.18 passes the rule that low is good.
    audited = found({"gradient": (0.1, 0.15), "deconvnet": (0.78, 0.3)})
    assert audited.verdicts.loc["deconvnet", "overall"] == "pass"
    assert audited.alike == {"deconvnet": pytest.approx(0.78)}
    preferred, rest = audited.advice.split("prefer them.")
    assert "gradient" in preferred
    assert "deconvnet" not in preferred
    assert "deconvnet (0.78) are alike for different images" in rest
    assert "do not prefer" in rest


def test_where_all_are_alike_none_is_preferred() -> None:
    advice = found({"gradient": (0.7, 0.1), "deconvnet": (0.78, 0.3)}).advice
    assert "prefer them." not in advice.replace("do not prefer them", "")
    assert "gradient (0.70) and deconvnet (0.78)" in advice


def test_maps_that_differ_between_images_are_preferred_as_before() -> None:
    advice = found({"gradient": (0.1, 0.15), "saliency": (0.49, 0.5)}).advice
    assert "gradient and saliency depend" in advice
    assert "alike" not in advice


def test_a_figure_off_the_scale_of_likeness_is_told_in_words(tmp_path: Path) -> None:
    # (0.3 - 0.78) / 0.22 = -2.18, (1.4 - 0.4) / 0.6 = 1.67, (0.55 - 0.1) / 0.9 = 0.5
    audited = found(
        {"gradient": (0.1, 0.55), "deconvnet": (0.78, 0.3), "saliency": (0.4, 1.4), "smooth_grad": (0.1, 0.05)}
    )
    shown = {
        method: audited.shown(RULE.test, method) for method in ("gradient", "deconvnet", "saliency", "smooth_grad")
    }
    assert shown["deconvnet"] == "far below 0"
    assert shown["saliency"] == "far above 1"
    assert shown["gradient"].startswith("0.50 [")
    # (0.05 - 0.1) / 0.9: a little below says that the maps are no more alike than those of different images.
    assert shown["smooth_grad"].startswith("-0.06 [")
    assert audited.findings[RULE.test, "deconvnet"].figure == pytest.approx(-2.18, abs=0.01)
    assert "saliency (far above 1)" in audited.advice
    assert "far below 0" in audited.latex()
    audited.save(tmp_path)
    assert json.loads((tmp_path / "audit.json").read_text())["alike"] == {"deconvnet": pytest.approx(0.78)}
    page = write_page(tmp_path).read_text()
    assert "-2.18 <small>" not in page
    assert "<b>pass</b> far below 0" in page
    assert "deconvnet (alike for different images)" in page


def test_floors_from_images_of_one_class_are_told() -> None:
    few = {"floor": {"pairs": 24, "of other classes": 11}}
    assert "11 are of different predicted classes" in found({"gradient": (0.1, 0.15)}, **few).advice
    enough = {"floor": {"pairs": 24, "of other classes": 12}}
    assert "different predicted classes" not in found({"gradient": (0.1, 0.15)}, **enough).advice


def test_a_share_may_be_above_one() -> None:
    audited = found({"gradient": (0.1, 0.15)})
    finding = audited.findings[RULE.test, "gradient"]._replace(figure=3.2, low=3.1, high=3.3)
    other = Audit(
        audited.scores, {(BOUNDED.test, "gradient"): finding}, [Fixed(BOUNDED)], {}, audited.sample, {}
    )  # fmt: skip
    assert other.shown(BOUNDED.test, "gradient") == "3.20 [3.10, 3.30]"


@pytest.mark.parametrize(
    ("weights", "learned", "preferred"),
    [
        ("torchvision IMAGENET1K_V1", False, True),
        ("untrained: drawn at random", True, False),
        ("as the factory made them, random unless it loads some", True, True),
    ],
)
def test_nothing_is_said_to_be_learned_by_random_weights(weights: str, learned: bool, preferred: bool) -> None:
    advice = found({"gradient": (0.1, 0.15)}, weights=weights).advice
    assert ("learned nothing" in advice) == learned
    assert ("prefer them" in advice) == preferred
    assert "weights" in advice


def test_a_model_that_fails_is_told_as_explain_tells_it() -> None:
    images = torch.rand(3, 1, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    for ask in (lambda: sl.explain(model, images, "gradient"), lambda: audit(model, images, "gradient")):
        with pytest.raises(sl.InputError, match=r"The model itself fails.*\(\d, 1, 8, 8\).*channels"):
            ask()


def test_several_values_are_audited_by_one_drawn_for_each_image() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    with torch.no_grad():
        # The first output is always the largest, and by far.
        model[1].bias[0] += 100
    images = torch.rand(24, 3, 4, 4)
    audited = audit(model, images, "gradient", ["class_sensitivity", "image_sensitivity"], output="values")
    # Of 24 images a third or so has each; that all have the first would be the largest.
    assert audited.settings["output"]["kind"] == "values"
    likeness = audited.scores.query(
        "method == 'gradient' and test == @REFERENCE and case == @FLOOR and measure == 'cosine'"
    )["value"]
    # A linear model's map depends on the output alone: another where another was drawn for the other image.
    assert (likeness < 0.99).all()
    same = audited.scores.query("method == 'gradient' and test == 'image_sensitivity' and measure == 'cosine'")["value"]
    np.testing.assert_allclose(same, 1)
