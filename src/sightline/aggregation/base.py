"""What an aggregation is, and how it may treat signs."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Map = Float[Tensor, "batch channel height width"]


class Sign(StrEnum):
    """Which part of a signed quantity is kept."""

    SIGNED = "signed"
    POSITIVE = "positive"
    ABSOLUTE = "absolute"
    NEGATIVE = "negative"

    def __call__(self, values: Tensor) -> Tensor:
        """Values, max(values, 0), |values| or min(values, 0)."""
        match self:
            case Sign.SIGNED:
                return values
            case Sign.POSITIVE:
                return values.clamp(min=0)
            case Sign.ABSOLUTE:
                return values.abs()
            case Sign.NEGATIVE:
                return values.clamp(max=0)


@runtime_checkable
class Aggregation(Protocol):
    """Makes a map from the results and the signals at some places of the network.

    Attributes:
        places: the places it reads, see `sightline.operations.places`.
    """

    @property
    def places(self) -> tuple[str, ...]: ...  # noqa: D102

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        """The map, shape (batch, channel, height, width), from what stood at each place and what flowed back to it."""
        ...
