"""Intervals over images: how sure a mean is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

FEWEST = 20
"""Images that an interval needs to say anything."""

Values = NDArray[np.floating]


def mean_interval(values: Values) -> tuple[float, float]:
    """A 95 % bootstrap interval of a mean; infinite where fewer than two values came."""
    if len(values) < 2:
        return -np.inf, np.inf
    start, span = values.min(), np.ptp(values)
    if span == 0:
        return float(start), float(start)
    # Figures over areas are skewed; plain percentiles would cover too little. Third powers of small ones would vanish.
    scaled = ((values - start) / span,)
    found = bootstrap(scaled, np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(0))
    low, high = found.confidence_interval
    return float(start + span * low), float(start + span * high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Probabilities adjusted for many tests at once, so that any is falsely significant with at most the level.

    p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), with p_(1) the smallest of m. Holm 1979, A simple
    sequentially rejective multiple test procedure.

    Args:
        p_values: of the tests; NaN where a test says nothing, which stays and does not count.
    """
    given = np.asarray(p_values, dtype=float)
    found = np.full(len(given), np.nan)
    order = [i for i in np.argsort(given, kind="stable") if np.isfinite(given[i])]
    highest = 0.0
    for done, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - done) * given[i]))
        found[i] = highest
    return [float(p) for p in found]
