"""Scores against a known truth, by hand."""

import math

import pandas as pd
import torch

from sightline.gad import Consistency
from sightline.gad.reproduction._truth import gains_on_truth, on_truth


def test_shares_on_the_truth_by_hand() -> None:
    # Both networks agree on the first two pixels; the original alone also marks the third and the fourth.
    stack = torch.tensor([[[[4.0, 3.0, 8.0, 6.0]]], [[[9.0, 8.0, 1.0, 0.0]]]])
    shuffled = torch.tensor([[[[4.0, 3.0, 8.0, 6.0]]], [[[0.0, 0.0, 5.0, 5.0]]]])
    truth = torch.tensor([[[True, True, False, False]]])
    found = on_truth(stack, shuffled, truth, Consistency("nested", 0.3), [0], torch.tensor([[[0.0, 1, 2, 3]]]))
    row = found.iloc[0]
    assert row["pixels"] == 2
    assert row["gad"] == 1.0
    assert row["original"] == 0.5
    # As many from the original cut higher: the third and the fourth. From shuffled labels: the same two.
    assert row["threshold"] == 0.0
    assert row["shuffled"] == 0.0
    assert row["pair"] == 0.0
    assert row["random"] in {0.0, 0.5, 1.0}


def test_random_pixels_are_some_of_the_original_ones() -> None:
    stack = torch.tensor([[[[9.0, 8.0, 7.0, 0.0, 0.0]]], [[[9.0, 8.0, 0.0, 0.0, 0.0]]]]).expand(2, 400, 1, 5)
    truth = torch.tensor([[[True, False, False, True, True]]]).expand(400, 1, 5)
    found = on_truth(stack, None, truth, Consistency("nested", 0.5), range(400))
    # Two of the first three: the first is among them in two of three draws, and then half of both.
    assert set(found["random"]) == {0.0, 0.5}
    assert abs(found["random"].mean() - 1 / 3) < 0.04
    assert "shuffled" not in found


def test_gains_are_paired_and_leave_out_images_where_nothing_stays() -> None:
    rows = pd.DataFrame(
        {
            "pixels": [3, 2, 4, 4, 5, 6, 0],
            "original": [0.5] * 7,
            "gad": [0.51, 0.62, 0.73, 0.84, 0.95, 0.56, math.nan],
            "threshold": [0.5, 0.6, 0.7, 0.8, 0.9, 0.5, math.nan],
        }
    )
    found = gains_on_truth(rows)
    assert list(found.index) == ["original", "gad", "threshold"]
    assert (found["images"] == 6).all()
    assert (found["pixels"] == 4).all()
    over = found.loc["threshold"]
    assert math.isclose(found.loc["gad", "share"] - over["share"], over["gain"])
    assert math.isclose(over["gain"], 0.035)
    # Differences .01 to .06: two of the 64 choices of signs are as far from 0, and the interval ends at the extremes.
    assert over["p"] == 2 / 64
    assert math.isclose(over["low"], 0.01)
    assert math.isclose(over["high"], 0.06)
