"""Intervals over images: how sure a mean is."""

import math
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
    """Adjusted p-values by Holm's method: rejecting those <= 0.05 makes a false rejection with 5 % probability at most.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6.

    Args:
        p_values: one for each comparison; NaN stays NaN and does not count.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    found, highest = [math.nan] * len(p_values), 0.0
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    for place, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - place) * p))
        found[i] = highest
    return found
