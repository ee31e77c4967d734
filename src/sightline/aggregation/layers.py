"""Aggregations that read the signal at an inner layer as it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sightline.aggregation.base import Map, Reads, check_spatial


@dataclass(frozen=True)
class LayerSignal:
    """M = sum_k R^k, with R^k the signal at channel k of a layer's result. Shape: (batch, 1, h, w) of the layer.

    For relevance this is the map at that layer, whose sum is what of the explained value arrives there.

    Attributes:
        layer: the module whose result is read.

    Raises:
        RefusalError: the layer's result is not of shape (batch, channel, h, w).
    """

    layer: str
    reads = Reads.SIGNAL
    on_grid = True

    @property
    def places(self) -> tuple[str, ...]:  # noqa: D102
        return (self.layer,)

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:  # noqa: D102
        check_spatial(self.layer, results[self.layer])
        return signals[self.layer].sum(dim=1, keepdim=True)
