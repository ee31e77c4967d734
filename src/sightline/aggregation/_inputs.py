"""Aggregations that read the signal at the input."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sightline.aggregation._base import Map, Reads, Sign
from sightline.operations import INPUT, wide


@dataclass(frozen=True)
class InputSignal:
    """M = s(R), with R the signal at the input and s the sign handling. Shape: the images'."""

    sign: Sign = Sign.SIGNED
    places = (INPUT,)
    reads = Reads.SIGNAL

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        del results
        return self.sign(signals[INPUT])


@dataclass(frozen=True)
class InputTimesSignal:
    """M = (x - x0) * R, with x0 the sampling's baseline, or zero where it has none. Shape: the images'.

    Blind where x = x0: a pixel of that colour gets zero whatever its part in the decision.
    """

    places = (INPUT,)
    reads = Reads.PRODUCT
    input_factor = "it multiplies by the input"

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        return wide(results[INPUT]) * wide(signals[INPUT])
