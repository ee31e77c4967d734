"""How sure figures are: by hand, by other libraries, and by how often intervals cover what is so."""

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from sightline.auditing._contrast import Estimate, Mean, estimate

RNG = np.random.default_rng(0)


def apart(count: int) -> np.ndarray:
    return np.arange(count)


def test_with_known_ends_it_is_student_s_test() -> None:
    values = RNG.normal(0.4, 0.2, 30)
    found = estimate(Mean.of(values), Mean.of(np.zeros(30)), Mean.of(np.ones(30)), 0.45, apart(30))
    expected = ttest_1samp(values, 0.45)
    shares = (values - values.mean()) / 30
    error = np.sqrt(30 / 29 * (shares**2).sum())
    skew, t = 30 / 29 * (shares**3).sum() / error**3, (values.mean() - 0.45) / error
    # Hall 1992, by hand; the less certain of both counts.
    hall = t + skew / 6 + skew * t**2 / 3 + skew**2 * t**3 / 27
    assert found.p == pytest.approx(max(expected.pvalue, 2 * student.sf(hall * np.sign(t), 29)))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.figure == pytest.approx(values.mean())


def test_a_share_is_tested_by_its_contrast() -> None:
    value, floor, ceiling = (RNG.normal(mean, 0.1, 25) for mean in (0.5, 0.2, 0.9))
    found = estimate(*map(Mean.of, (value, floor, ceiling)), 0.5, apart(25))
    assert found.p >= ttest_1samp(value - 0.5 * floor - 0.5 * ceiling, 0).pvalue * (1 - 1e-9)
    # The interval's ends are the bounds whose contrast is just significant.
    for end in (found.low, found.high):
        assert ttest_1samp(value - (1 - end) * floor - end * ceiling, 0).pvalue == pytest.approx(0.05)


def test_images_of_a_group_count_once() -> None:
    values = RNG.normal(0.4, 0.2, 12)
    once = estimate(Mean.of(values), Mean.of(np.zeros(12)), Mean.of(np.ones(12)), 0.3, apart(12))
    thrice = estimate(Mean.of(values.repeat(3)), Mean.of(np.zeros(36)), Mean.of(np.ones(36)), 0.3, apart(12).repeat(3))
    assert thrice == pytest.approx(once)


def test_images_and_networks_are_crossed_by_hand() -> None:
    # Deviations from the mean 3: images -1 and 1; networks -2 and 2; nothing else.
    cells = np.array([[0.0, 4.0], [2.0, 6.0]])
    mean = Mean.of(cells)
    np.testing.assert_allclose(mean.images, [-0.5, 0.5])
    np.testing.assert_allclose(mean.networks, [-1.0, 1.0])
    found = estimate(mean, Mean.of(np.zeros(2)), Mean.of(np.ones(2)), 0.0, apart(2))
    # Variances 2 / 1 * (0.25 + 0.25) = 1 by images, 2 / 1 * (1 + 1) = 4 by networks; 2 - 1 degrees of freedom.
    assert found.p == pytest.approx(2 * student.sf(3 / np.sqrt(5), 1))


def test_a_missing_number_leaves_the_others() -> None:
    cells = np.array([[0.0, np.nan], [2.0, 4.0]])
    mean = Mean.of(cells)
    assert mean.value == 2
    np.testing.assert_allclose(mean.images, [-2 / 3, 2 / 3])
    np.testing.assert_allclose(mean.networks, [-2 / 3, 2 / 3])


def test_the_order_of_images_changes_nothing() -> None:
    value, floor, ceiling = (RNG.normal(mean, 0.1, 25) for mean in (0.5, 0.2, 0.9))
    partners = np.roll(apart(25), 3)
    groups = apart(25) // 2
    order = RNG.permutation(25)
    place = np.argsort(order)

    def asked(chosen: np.ndarray, partners: np.ndarray) -> Estimate:
        means = Mean.of(value[chosen]), Mean.of(floor[chosen], partners), Mean.of(ceiling[chosen])
        return estimate(*means, 0.5, groups[chosen])

    assert asked(order, place[partners[order]]) == pytest.approx(asked(apart(25), partners))


def test_values_without_spread_are_as_sure_as_can_be() -> None:
    ends = Mean.of(np.zeros(20)), Mean.of(np.ones(20))
    assert estimate(Mean.of(np.full(20, 0.5)), *ends, 0.3, apart(20)) == (0.5, 0.5, 0.5, 0.0)
    assert estimate(Mean.of(np.full(20, 0.5)), *ends, 0.5, apart(20)).p == 1


def test_floors_and_ceilings_that_may_be_the_same_have_no_interval() -> None:
    ceiling = np.r_[np.zeros(18), np.ones(2)]
    found = estimate(Mean.of(RNG.normal(0.5, 0.1, 20)), Mean.of(np.zeros(20)), Mean.of(ceiling), 0.5, apart(20))
    assert (found.low, found.high) == (-np.inf, np.inf)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("networks", [1, 5])
def test_intervals_cover_what_is_so(networks: int, pairs: bool) -> None:
    """Images, their pairs and random networks all vary, and values, floors and ceilings of an image go together."""
    rng, count, missed, bound = np.random.default_rng(1), 30, 0, 0.25
    partners = np.roll(apart(count), 1)
    for _ in range(1000):
        own = rng.standard_normal(count)
        floor = 0.2 + 0.08 * (own + own[partners] + rng.standard_normal(count)) * pairs
        ceiling = 0.8 + 0.1 * own + 0.1 * rng.standard_normal(count)
        value = 0.35 + 0.15 * own[:, None] + 0.1 * rng.standard_normal((count, networks))
        value = value + (0.08 * rng.standard_normal(networks) if networks > 1 else 0)
        found = estimate(Mean.of(value), Mean.of(floor, partners), Mean.of(ceiling), bound, apart(count))
        missed += not found.low <= bound <= found.high
        # What is significant after the correction for skewness lies outside of the interval.
        assert found.p >= 0.05 or not found.low <= bound <= found.high
    # Three standard errors of a share of 5 % in 1,000. With pairs, errors are stated too large; with networks, the
    # degrees of freedom are too small.
    assert (0.003 if pairs or networks > 1 else 0.03) < missed / 1000 < 0.071


def test_intervals_over_images_alone_would_miss_random_networks() -> None:
    """What the audit did before: one network, whose draw the interval knows nothing of."""
    rng, missed = np.random.default_rng(2), 0
    for _ in range(300):
        value = 0.5 + 0.05 * rng.standard_normal() + 0.03 * rng.standard_normal(42)
        found = estimate(Mean.of(value), Mean.of(np.zeros(42)), Mean.of(np.ones(42)), 0.5, apart(42))
        missed += found.p < 0.05
    assert missed / 300 > 0.5
