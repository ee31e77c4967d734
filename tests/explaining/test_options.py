"""The options of an explanation are declared once, and everything that takes them agrees with the declaration."""

import inspect
from dataclasses import fields

import pytest
import torch
from torch import nn

import sightline as sl
from sightline._common.options import described
from sightline.explaining import Options
from sightline.explaining._options import OptionsLike


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


def test_explain_takes_the_declared_options_with_their_defaults() -> None:
    taken = inspect.signature(sl.explain).parameters
    declared = {one.name: one.default for one in fields(Options)}
    assert {name: taken[name].default for name in taken if name in declared} == declared
    assert list(declared) == list(OptionsLike.__annotations__)


def test_the_documentation_of_explain_has_each_option() -> None:
    words = " ".join(sl.explain.__doc__.split())
    assert [name for name, said in described(Options).items() if f"{name}: {said}" not in words] == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"chunk": 0}, "at least one row; got chunk=0"),
        ({"memory": 0}, "got memory=0"),
        ({"output": "class_scores"}, "output is"),
    ],
)
def test_an_option_without_meaning_is_an_error(wrong: dict[str, int | str], says: str) -> None:
    with pytest.raises(sl.InputError, match=says):
        Options(**wrong)  # type: ignore[arg-type]


def test_targets_give_a_list_and_equal_the_targets_alone(model: nn.Module) -> None:
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    found = sl.explain(model, images, "gradient", targets=[3, sl.Pair(1, 4)])
    assert [one.targets for one in found] == [["class 3"] * 2, ["class 1 rather than class 4"] * 2]
    for one, target in zip(found, [3, sl.Pair(1, 4)], strict=True):
        assert torch.equal(one["gradient"], sl.explain(model, images, "gradient", target)["gradient"])


def test_a_target_beside_targets_is_refused(model: nn.Module) -> None:
    with pytest.raises(sl.InputError, match="either target, for one explanation, or targets"):
        sl.explain(model, torch.zeros(1, 3, 6, 6), "gradient", 1, targets=[2])


@pytest.mark.parametrize("wrong", [[], "1", range(0)])
def test_targets_are_a_list(model: nn.Module, wrong: object) -> None:
    with pytest.raises(sl.InputError, match="targets is a list of at least one target"):
        sl.explain(model, torch.zeros(1, 3, 6, 6), "gradient", targets=wrong)  # type: ignore[call-overload]
