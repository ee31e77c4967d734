"""What an aggregation is, and how it may treat signs."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sightline.errors import RefusalError

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


class Reads(StrEnum):
    """What an aggregation makes of the signal, which decides with which propagations it has a meaning."""

    SIGNAL = "the signal as it is"
    PRODUCT = "the signal times the values there, which relevance already holds as a factor"
    DERIVATIVE = "the signal as a derivative, in a formula that holds for nothing else"


@runtime_checkable
class Aggregation(Protocol):
    """Makes a map from the results and the signals at some places of the network.

    Attributes:
        places: the places it reads, see `sightline.operations._places`.
        reads: what it makes of the signal.
        input_factor: (optional, empty by default) where in its formula the input, or the way from a baseline to it, is
            a factor.
        on_grid: (optional, false by default) whether it reads inner results as (batch, channel, *space), whatever the
            order of their axes.
    """

    @property
    def places(self) -> tuple[str, ...]: ...

    @property
    def reads(self) -> Reads: ...

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        """The map, shape (batch, channel, height, width), from what stood at each place and what flowed back to it."""
        ...


def check_spatial(layer: str, values: Tensor) -> None:
    """Refuse a layer without height and width.

    Raises:
        RefusalError: its result is not of shape (batch, channel, height, width).
    """
    if values.dim() != 4:
        raise RefusalError(
            f"A map of a layer needs a result of shape (batch, channel, height, width); the layer {layer!r} gives "
            f"{tuple(values.shape)}. Name a convolutional layer."
        )
