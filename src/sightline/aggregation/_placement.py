"""Where the cells of a layer's map lie in the image, and the map drawn there."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.aggregation._resize import resized
from sightline.operations import Grid


@dataclass(frozen=True)
class Placement:
    """Where the cells of a layer's map lie along each axis of the image's space, in pixels from the first one's centre.

    Followed through padding, cropping, flips, strides, convolutions and poolings: the centre of cell i is at
    first + i * step.

    Attributes:
        size: the image's.
        cells: how many cells there are.
        steps: pixels from one cell to the next; negative where the model flips the image.
        low: the first cell's centre; where branches that the model adds up disagree, the lowest.
        high: the same, the highest.
        seen: where the pixels begin and end that have a part in the map at all (what is cropped away has none).
    """

    size: tuple[int, ...]
    cells: tuple[int, ...]
    steps: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seen: tuple[tuple[float, float], ...]

    @staticmethod
    def of(grid: Grid, size: Sequence[int]) -> "Placement":
        """The placement of what is read from a grid, for images of a size."""
        return Placement(
            size=tuple(size),
            cells=grid.sizes,
            steps=grid.steps,
            low=tuple(span.low for span in grid.spans),
            high=tuple(span.high for span in grid.spans),
            seen=tuple((span.first, span.last) for span in grid.spans),
        )

    @staticmethod
    def from_record(record: dict[str, Any]) -> "Placement":
        """The placement that `record` describes."""
        plain = {name: tuple(record[name]) for name in ("size", "cells", "steps")}
        low = tuple(-math.inf if place is None else place for place in record["low"])
        high = tuple(math.inf if place is None else place for place in record["high"])
        return Placement(
            **plain, low=low, high=high, seen=tuple((float(first), float(last)) for first, last in record["seen"])
        )

    def record(self) -> dict[str, Any]:
        """The same, ready for JSON; None where it is not known where the cells lie."""
        low, high = ([place if math.isfinite(place) else None for place in ends] for ends in (self.low, self.high))
        return asdict(self) | {"low": low, "high": high}

    @property
    def is_known(self) -> bool:
        """Whether the layer was followed back to the image."""
        return all(map(math.isfinite, (*self.low, *self.high)))

    @property
    def spread(self) -> float:
        """By how many pixels, at most, branches that the model adds up disagree about where a cell lies."""
        return max((high - low for low, high in zip(self.low, self.high, strict=True)), default=0.0)

    def describe(self) -> str:
        """Where the cells lie, in words."""
        steps = " x ".join(f"{step:g}" for step in self.steps)
        first = ", ".join(
            f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in zip(self.low, self.high, strict=True)
        )
        return f"{steps} pixels apart, the first centre at ({first})"

    def covers_evenly(self, tolerance: float = 0.0) -> bool:
        """Whether the cells lie where a stretch over the whole image puts them, to within some part of a cell."""
        if not self.is_known:
            return True
        for size, cells, step, centre, (first, last) in self._axes():
            width = size / cells
            off = max(abs(centre + i * step - ((i + 0.5) * width - 0.5)) for i in (0, cells - 1))
            if step < 0 or off > tolerance * width + 1e-9 or first > -0.5 + 1e-9 or last < size - 0.5 - 1e-9:
                return False
        return True

    def draw(self, values: Tensor) -> Tensor:
        """A map of these cells at the image's size: bilinear between the centres, the outermost cells reach on.

        Args:
            values: shape (batch, channel, *cells).

        Returns:
            Shape (batch, channel, *size). Pixels that have no part in the map are zero.
        """
        if self.covers_evenly() and len(self.size) == 2:
            return resized(values, (self.size[0], self.size[1]))
        for number, (size, cells, step, centre, seen) in enumerate(self._axes()):
            weights = _weights(size, cells, step, centre, seen).to(values)
            values = torch.movedim(torch.movedim(values, 2 + number, -1) @ weights.T, -1, 2 + number)
        return values

    def spread_over(self, values: Tensor) -> Tensor:
        """The same with the sum of each map kept: what lies beyond the image counts at its border."""
        for number, (size, cells, step, centre, seen) in enumerate(self._axes()):
            weights = _weights(size, cells, step, centre, seen)
            total = weights.sum(0)
            nearest = (centre + step * torch.arange(cells, dtype=torch.float64)).round().clamp(0, size - 1).long()
            alone = torch.nn.functional.one_hot(nearest, size).T.to(weights)
            weights = torch.where(total > 0, weights / total.clamp(min=1e-12), alone).to(values)
            values = torch.movedim(torch.movedim(values, 2 + number, -1) @ weights.T, -1, 2 + number)
        return values

    def _axes(self) -> list[tuple[int, int, float, float, tuple[float, float]]]:
        middles = [(low + high) / 2 for low, high in zip(self.low, self.high, strict=True)]
        return list(zip(self.size, self.cells, self.steps, middles, self.seen, strict=True))


def _weights(size: int, cells: int, step: float, centre: float, seen: tuple[float, float]) -> Tensor:
    """What each cell adds to each pixel, shape (pixel, cell): linear between centres; averages of finer cells."""
    pixels = torch.arange(size, dtype=torch.float64)
    place = ((pixels - centre) / step).clamp(0, cells - 1)
    if abs(step) >= 1:
        weights = (1 - (place[:, None] - torch.arange(cells)).abs()).clamp(min=0)
    else:
        centres = centre + step * torch.arange(cells, dtype=torch.float64)
        low = torch.maximum(pixels[:, None] - 0.5, centres - abs(step) / 2)
        high = torch.minimum(pixels[:, None] + 0.5, centres + abs(step) / 2)
        weights = (high - low).clamp(min=0)
        total = weights.sum(1, keepdim=True)
        nearest = torch.nn.functional.one_hot(place.round().long(), cells).to(weights)
        weights = torch.where(total > 0, weights / total.clamp(min=1e-12), nearest)
    inside = (pixels + 0.5 > seen[0] + 1e-9) & (pixels - 0.5 < seen[1] - 1e-9)
    return weights * inside[:, None]
