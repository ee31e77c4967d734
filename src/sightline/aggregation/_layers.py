"""Aggregations that read the signal at an inner layer as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from sightline._common.meaning import Meaning
from sightline.aggregation._base import NO_POSITION, Aggregation, check_spatial
from sightline.aggregation._reader import Map
from sightline.operations import place_of


@dataclass(frozen=True)
class LayerSignal(Aggregation):
    """M = sum_k R^k, with R^k the signal at channel k of a layer's result. Shape: (batch, 1, h, w) of the layer.

    For relevance this is the map at that layer, whose sum is what of the explained value arrives there.

    Attributes:
        layer: the module whose result is read, or its name.

    Raises:
        RefusalError: the layer's result is not of shape (batch, channel, h, w).
    """

    layer: str | nn.Module
    on_grid = True

    @property
    def places(self) -> tuple[str, ...]:
        return (place_of(self.layer),)

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        (place,) = self.places
        check_spatial(place, results[place])
        return signals[place].sum(dim=1, keepdim=True)

    def meaning(self, signal: Meaning) -> Meaning:
        return replace(signal, zero=NO_POSITION)

    def at(self, layer: str | nn.Module, *, relevance: bool) -> Aggregation:
        del relevance
        return replace(self, layer=layer)
