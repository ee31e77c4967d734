"""Intervals over images: how sure a mean is."""

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
    if values.min() == values.max():
        return float(values[0]), float(values[0])
    # Figures over areas are skewed; plain percentiles would cover too little.
    found = bootstrap((values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def share_interval(value: Values, floor: Values, ceiling: Values) -> tuple[float, float]:
    """A 95 % bootstrap interval of (mean value - mean floor) / (mean ceiling - mean floor), images drawn together."""

    def figure(v: Values, f: Values, c: Values, axis: int = -1) -> Values:
        return np.asarray((v.mean(axis) - f.mean(axis)) / (c.mean(axis) - f.mean(axis)))

    if np.ptp(value) == np.ptp(floor) == np.ptp(ceiling) == 0:
        exact = float(figure(value, floor, ceiling))
        return exact, exact
    found = bootstrap(
        (value, floor, ceiling),
        figure,
        paired=True,
        vectorized=True,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
