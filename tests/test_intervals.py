"""Intervals over images: they cover what they should, at any scale, and are endless where nothing can be said."""

import numpy as np
import pytest

from sightline.intervals import FEWEST, mean_interval, share_interval


def test_the_interval_of_a_mean_covers_what_is_skewed() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(300):
        low, high = mean_interval(rng.exponential(size=FEWEST) - 1)
        missed += not low <= 0 <= high
    assert missed / 300 < 0.12


@pytest.mark.parametrize("scale", [1e-200, 1e-17, 1e200])
@pytest.mark.parametrize("shift", [0, 3])
def test_the_interval_of_a_mean_knows_no_scale(scale: float, shift: int) -> None:
    values = np.random.default_rng(1).exponential(size=FEWEST) + shift
    found = mean_interval(scale * values)
    np.testing.assert_allclose(found, [scale * end for end in mean_interval(values)], rtol=1e-12)


def test_values_that_differ_by_their_last_bit_have_a_mean() -> None:
    assert mean_interval(np.array([0.3] * 20 + [0.1 + 0.2])) == pytest.approx((0.3, 0.3))


def test_the_interval_of_a_share_covers_what_is_so() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(300):
        level = rng.normal(size=30)
        low, high = share_interval(
            level + 2 + rng.normal(size=30), level + rng.normal(size=30), level + 4 + rng.normal(size=30)
        )
        missed += not low <= 0.5 <= high
    assert missed / 300 < 0.12


def test_the_interval_of_a_share_draws_images_together() -> None:
    # Each image by itself says a quarter, however far its floor and ceiling lie apart.
    gap = np.random.default_rng(2).uniform(1, 9, size=25)
    assert share_interval(gap / 4, np.zeros(25), gap) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize("apart", [0, 1, 2])
def test_a_share_of_next_to_nothing_has_no_end(apart: int) -> None:
    ceiling = np.r_[np.zeros(FEWEST - apart), np.ones(apart)]
    for value in (np.ones(FEWEST), np.zeros(FEWEST), ceiling):
        assert share_interval(value, np.zeros(FEWEST), ceiling) == (-np.inf, np.inf)
