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
    start, span = values.min(), np.ptp(values)
    if span == 0:
        return float(start), float(start)
    # Figures over areas are skewed; plain percentiles would cover too little. Third powers of small ones would vanish.
    scaled = ((values - start) / span,)
    found = bootstrap(scaled, np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(0))
    low, high = found.confidence_interval
    return float(start + span * low), float(start + span * high)


def share_interval(value: Values, floor: Values, ceiling: Values) -> tuple[float, float]:
    """A 95 % bootstrap interval of (mean value - mean floor) / (mean ceiling - mean floor), images drawn together.

    It is endless where floor and ceiling are the same on so many images that a draw may have nothing between them.
    """
    draws = np.random.default_rng(0).integers(0, len(value), (2000, len(value)))
    low, middle, high = (values[draws].mean(1) for values in (floor, value, ceiling))
    if np.any(high == low):
        return -np.inf, np.inf
    start, end = np.percentile((middle - low) / (high - low), [2.5, 97.5])
    return float(start), float(end)
