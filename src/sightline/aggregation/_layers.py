"""Aggregations that read the signal at an inner layer as it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sightline.aggregation._base import Map, Reads, check_spatial
from sightline.operations import place_of


@dataclass(frozen=True)
class LayerSignal:
    """M = sum_k R^k, with R^k the signal at channel k of a layer's result. Shape: (batch, 1, h, w) of the layer.

    For relevance this is the map at that layer, whose sum is what of the explained value arrives there.

    Attributes:
        layer: the module whose result is read, or its name.

    Raises:
        RefusalError: the layer's result is not of shape (batch, channel, h, w).
    """

    layer: str | nn.Module
    reads = Reads.SIGNAL
    on_grid = True

    @property
    def places(self) -> tuple[str, ...]:
        return (place_of(self.layer),)

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        (place,) = self.places
        check_spatial(place, results[place])
        return signals[place].sum(dim=1, keepdim=True)
