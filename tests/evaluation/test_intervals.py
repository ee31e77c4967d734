"""Intervals over images: they cover what they should, at any scale, and are endless where nothing can be said."""

import numpy as np
import pytest

from sightline.evaluation._intervals import FEWEST, holm, mean_interval


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


def test_many_tests_at_once_by_hand() -> None:
    # Of four: .01 * 4, .02 * 3, then .04 * 2 = .08 and .05 * 1, which is raised to the one before.
    assert holm([0.05, 0.01, np.nan, 0.04, 0.02]) == pytest.approx([0.08, 0.04, np.nan, 0.08, 0.06], nan_ok=True)
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
