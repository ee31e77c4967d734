"""Readings of "important in all maps" that scale a map by its minimum and maximum, by hand."""

import pytest
import torch

from sightline.evaluation._regions import Important
from sightline.gad import PAPER_LIKE, Consistency


def test_minmax_by_hand() -> None:
    # The first scaled to 0..1: 0 .5 .75 1 .375
    stack = torch.tensor([[[[-4.0, 0.0, 2.0, 4.0, -1.0]]], [[[-1.0, 1.0, 4.0, 3.0, 0.0]]]])
    kept = Consistency("minmax", 0.5)(stack)
    # Zero lies in the middle of the first map.
    assert kept.original.int().tolist() == [[[0, 1, 1, 1, 0]]]
    # Positive in both: the third and the fourth; divided by their maxima .5 1 | 1 .75.
    torch.testing.assert_close(kept.scores, torch.tensor([[[0.0, 0.0, 0.75, 0.875, 0.0]]]))
    assert kept.pixels.int().tolist() == [[[0, 0, 1, 1, 0]]]


def test_minmax_scales_its_own_map_again() -> None:
    # A map without zeros: .25 .5 1 become 0 1/3 1.
    stack = torch.tensor([[[[0.25, 0.5, 1.0]]], [[[0.25, 0.5, 1.0]]]])
    kept = Consistency("minmax", 0.3)(stack)
    torch.testing.assert_close(kept.scores, torch.tensor([[[0.25, 0.5, 1.0]]]))
    assert kept.pixels.int().tolist() == [[[0, 1, 1]]]


def test_minmax_takes_new_pixels_unless_told_otherwise() -> None:
    # Divided by their maxima 1 .4 0 and .2 1 0, whose mean .6 .7 0 becomes .857 1 0.
    stack = torch.tensor([[[[10.0, 4.0, 0.0]]], [[[2.0, 10.0, 0.0]]]])
    assert Consistency("minmax", 0.5) == PAPER_LIKE
    assert PAPER_LIKE(stack).pixels.int().tolist() == [[[1, 1, 0]]]
    assert not PAPER_LIKE.nested
    held = Consistency("minmax", 0.5, allow_new=False)
    assert held(stack).pixels.int().tolist() == [[[1, 0, 0]]]
    assert held.nested
    assert (PAPER_LIKE.name, held.name) == ("minmax 0.5", "minmax 0.5 without new")
    assert Consistency("mean", 0.5, allow_new=True).name == "mean 0.5 with new"
    assert Consistency("nested", 0.5, allow_new=True).name == "nested 0.5"


def test_the_top_half_of_the_positive_pixels() -> None:
    stack = torch.tensor([[[[4.0, 3.0, 2.0, 1.0, -8.0, 0.0]]], [[[0.5, 4.0, 3.0, -1.0, 2.0, 0.0]]]])
    kept = Consistency("positive", 0.5)(stack)
    assert kept.original.int().tolist() == [[[1, 1, 0, 0, 0, 0]]]
    # Three are positive in both: 1 .75 .5 and .125 1 .75 of the maxima; two of three are the upper half, rounded up.
    torch.testing.assert_close(kept.scores[0, 0, :3], torch.tensor([0.5625, 0.875, 0.625]))
    assert kept.pixels.int().tolist() == [[[0, 1, 1, 0, 0, 0]]]


@pytest.mark.parametrize("by", ["minmax", "positive"])
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, float("nan")])
def test_a_constant_map_has_no_extremes(by: str, value: float) -> None:
    found = Important(0.5, by)(torch.full((1, 2, 3), value))
    # All pixels of a positive constant are equal, and among the upper half of what is positive.
    assert bool(found.any()) is (by == "positive" and value == 3.0)


def test_what_is_not_a_number_is_never_important() -> None:
    nan = float("nan")
    assert Important(0.5, "minmax")(torch.tensor([[[nan, -1.0, 1.0]]])).int().tolist() == [[[0, 0, 1]]]
