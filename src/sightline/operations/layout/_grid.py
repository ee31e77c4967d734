"""The grid of places in a result: how to read it, and where each place lies in the input."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from torch import Tensor

from sightline.operations.layout._axes import (
    Axis,
    Joined,
    Layout,
    Part,
    Role,
    Span,
    has_places,
    parts_of,
    roles_of,
    size_of,
)


@dataclass(frozen=True)
class Unreadable:
    """Why a result has no grid that can be read.

    Attributes:
        reason: in words, to follow "because".
        pooled: whether that is because no places run along its axes.
        lost: whether that is because an operation lost track of them.
    """

    reason: str
    pooled: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Grid:
    """Places of the input in a result.

    Attributes:
        sizes: how many along each axis of space.
        steps: input pixels from one to the next, negative where the axis is flipped.
        spans: where they lie.
    """

    sizes: tuple[int, ...]
    steps: tuple[float, ...]
    spans: tuple[Span, ...]
    _factors: tuple[int, ...]
    _order: tuple[int, ...]
    _shape: tuple[int, ...]
    _turns: tuple[int, ...]

    def read(self, values: Tensor) -> Tensor:
        """Values of the result's shape as (batch, channel, *space); differentiable, and a view where it can be."""
        plain = tuple(values.shape) == self._shape and self._order == tuple(range(len(self._factors)))
        if not plain:
            values = values.reshape(self._factors).permute(self._order).reshape(self._shape)
        if any(self._turns):
            values = values.roll(self._turns, tuple(range(2, 2 + len(self.sizes))))
        return values


def grid_of(layout: Layout | None, rows: int) -> Grid | Unreadable:
    """The grid in a result of some layout.

    Args:
        layout: the result's; None where it is not known.
        rows: number of images.
    """
    if layout is None:
        return Unreadable("it is made where its operations cannot be followed", lost=True)
    parts: list[Part] = []
    for axis in layout.axes:
        for part in axis:
            if isinstance(part, Joined):
                return Unreadable(f"along one axis it has {_listed(part.segments)}, and the grid is only a part of it")
            parts.append(part)
    where = f" behind {layout.lost}" if layout.lost else ""
    large = [part for part in parts if part.size > 1]
    if any(part.role is Role.UNKNOWN for part in large):
        lost = bool(layout.lost)
        return Unreadable(f"what runs along its axes cannot be told{where}", pooled=not lost, lost=lost)
    if not has_places(layout.axes):
        return Unreadable(f"no places of the image run along its axes{where}", pooled=True)
    if any({Role.SPACE, Role.CHANNEL} <= {p.role for p in parts_of(axis) if p.size > 1} for axis in layout.axes):
        return Unreadable("channels and places of the image run along one axis", pooled=True)
    if any(part.role is Role.TOKEN for part in large):
        return Unreadable("along one axis run several images' worth of places, or tokens that are none")
    if prod(part.size for part in parts if part.role is Role.BATCH) != rows:
        return Unreadable("its rows are not the images")
    if layout.picked:
        return Unreadable("its rows are images that were picked from the batch, or are in another order")
    orders, turns = [], []
    for dim, span in enumerate(layout.spans):
        chain = [(i, part) for i, part in enumerate(parts) if part.role is Role.SPACE and part.dim == dim]
        if not chain:
            return Unreadable(f"no places run along axis {dim} of the image's space any more")
        chain.sort(key=lambda entry: -abs(entry[1].step))
        if any(outer.step != inner.step * inner.size for (_, outer), (_, inner) in pairwise(chain)):
            return Unreadable(f"places along axis {dim} of the image's space are missing")
        orders.append(chain)
        turns.append(-round(span.shift / chain[-1][1].step))
    images = [i for i, part in enumerate(parts) if part.role is Role.BATCH]
    channels = [i for i, part in enumerate(parts) if part.role not in {Role.BATCH, Role.SPACE}]
    sizes = tuple(prod(part.size for _, part in chain) for chain in orders)
    if prod(sizes) == 1:
        return Unreadable("it has a single place", pooled=True)
    return Grid(
        sizes=sizes,
        steps=tuple(chain[-1][1].step for chain in orders),
        spans=layout.spans,
        _factors=tuple(part.size for part in parts),
        _order=(*images, *channels, *(i for chain in orders for i, _ in chain)),
        _shape=(rows, prod(parts[i].size for i in channels), *sizes),
        _turns=tuple(turns),
    )


def channel_axis(layout: Layout | None) -> int | None:
    """The only axis along which channels run, and nothing else."""
    if layout is None:
        return None
    found = [index for index, axis in enumerate(layout.axes) if axis and roles_of(axis) == {Role.CHANNEL}]
    return found[0] if len(found) == 1 else None


def _listed(segments: Sequence[Axis]) -> str:
    words = []
    for segment in segments:
        roles = roles_of(segment)
        what = "places" if Role.SPACE in roles else "tokens that are no places" if roles == {Role.TOKEN} else "others"
        words.append(f"{size_of(segment)} {what}")
    return " and ".join(words)
