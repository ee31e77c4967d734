"""Aggregations that read the signal at the input."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from sightline._common.meaning import Meaning
from sightline.aggregation._base import Aggregation, Reads, Sign
from sightline.aggregation._layers import LayerSignal
from sightline.aggregation._reader import Map
from sightline.operations import INPUT, wide


@dataclass(frozen=True)
class InputSignal(Aggregation):
    """M = s(R), with R the signal at the input and s the sign handling. Shape: the images'."""

    sign: Sign = Sign.SIGNED

    @property
    def whole_signal(self) -> bool:
        return self.sign is Sign.SIGNED

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        del results
        return self.sign(signals[INPUT])

    def meaning(self, signal: Meaning) -> Meaning:
        return signal

    def at(self, layer: str | nn.Module, *, relevance: bool) -> Aggregation | None:
        return LayerSignal(layer) if relevance else None


@dataclass(frozen=True)
class InputTimesSignal(Aggregation):
    """M = (x - x0) * R, with x0 the sampling's baseline, or zero where it has none. Shape: the images'.

    Blind where x = x0: a pixel of that colour gets zero whatever its part in the decision.
    """

    reads = Reads.PRODUCT
    completes = True
    input_factor = "it multiplies by the input"
    blind = True

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        return wide(results[INPUT]) * wide(signals[INPUT])

    def meaning(self, signal: Meaning) -> Meaning:
        if not signal.derivative:
            return signal
        zero = f"the method multiplies by the input, which may be zero there, or {signal.zero}"
        return replace(signal, directness=signal.product, zero=zero)

    def without_input(self) -> Aggregation:
        return InputSignal()
