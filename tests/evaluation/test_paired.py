"""The sign-flip test of paired differences, against its enumeration by hand and its level by simulation."""

import math

import numpy as np
import pytest

from sightline.evaluation._intervals import holm
from sightline.evaluation._paired import sign_flips


def test_few_differences_are_enumerated() -> None:
    # Of eight choices of signs of 1, 2 and 4 only the two with one sign sum to +-7; four have a sum as far off as 5.
    assert sign_flips([1, 2, 4]).p == 2 / 8
    assert sign_flips([-1, 2, 4]).p == 4 / 8
    assert sign_flips([1, -1]).p == 1.0
    # Zeros carry no sign.
    assert sign_flips([0, 0, 1, 2, 4, 0]).p == 2 / 8
    assert sign_flips([0.1 + 0.2, -0.3]).p == 1.0
    assert sign_flips([0.0] * 40) == (0.0, 0.0, 0.0, 1.0)


def test_the_interval_holds_the_shifts_that_are_not_rejected() -> None:
    values = np.random.default_rng(3).normal(size=10)
    found = sign_flips(values)
    inside, outside = 1e-6, -1e-6
    for end, towards in ((found.low, 1), (found.high, -1)):
        assert sign_flips(values - end - towards * inside).p > 0.05
        assert sign_flips(values - end - towards * outside).p <= 0.05
    assert sign_flips(values + 1e3).low > 0
    assert sign_flips([1, 2, 3, 4, 5])[1:3] == (-math.inf, math.inf)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_test_knows_no_scale(scale: float) -> None:
    values = np.random.default_rng(1).normal(size=30) + 0.3
    assert sign_flips(scale * values).p == sign_flips(values).p
    assert sign_flips(scale * values).low == pytest.approx(scale * sign_flips(values).low)


def test_nothing_to_compare() -> None:
    found = sign_flips([math.nan, math.inf])
    assert math.isnan(found.p)
    assert math.isnan(found.mean)


def test_drawn_signs_agree_with_all_of_them() -> None:
    values = np.random.default_rng(5).normal(size=13) + 0.4
    exact = sign_flips(values).p
    # Two pairs that cancel in no choice of signs would change p; zeros do not, and make it a draw.
    assert sign_flips(np.r_[values, 0]).p == pytest.approx(exact, abs=0.012)
    assert sign_flips(values, seed=1).p == exact


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, 48])
def test_the_level_holds_with_heavy_tails_and_zeros(count: int) -> None:
    rng, rejected = np.random.default_rng(0), 0
    for _ in range(400):
        arms = np.exp(2 * rng.normal(size=(2, count))) * (rng.random((2, count)) > 0.2)
        rejected += sign_flips(arms[0] - arms[1]).p <= 0.05
    # 5 % of 400 are 20, with a deviation of 4.4.
    assert rejected <= 33


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    found = holm([0.02, math.nan, 0.01])
    assert found[0] == 0.02
    assert math.isnan(found[1])
    assert found[2] == 0.02
    assert holm([]) == []
