"""A layout: what each axis of a result is, and where its places lie in the input.

An axis is a product of parts, the slowest first: tokens in reading order are (rows)(columns), the axis of windows of
several images is (image)(rows of windows)(columns of windows). Views, reshapes and permutations move, split and merge
parts exactly. Nothing is inferred from sizes or names; what is not known is `Role.UNKNOWN`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod
from typing import TypeAlias


class Role(StrEnum):
    """What runs along a part of an axis."""

    BATCH = "images"
    CHANNEL = "channels"
    SPACE = "places"
    TOKEN = "tokens that are no places"  # noqa: S105 - no password
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Part:
    """A factor of an axis.

    Attributes:
        role: what runs along it.
        size: how many there are.
        dim: for places, along which axis of the input's space.
        step: for places, input pixels from one to the next; negative where the axis is flipped.
    """

    role: Role
    size: int
    dim: int = 0
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Joined:
    """Axes laid end to end, such as a class token and the grid of patches."""

    segments: "tuple[Axis, ...]"

    @property
    def size(self) -> int:
        return sum(map(size_of, self.segments))


Axis: TypeAlias = tuple[Part | Joined, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Where the places along one axis of the input's space lie, in pixels from the centre of the first.

    Attributes:
        low: the centre of the first place; where branches that were added disagree, the lowest.
        high: the same, the highest.
        first: where the pixels begin that have a part in the result; a pixel reaches half to each side of its centre.
        last: where they end.
        reach: how far from its centre a place looks at least, in pixels: half the size of the windows so far.
        shift: by how many pixels the places are rolled (as shifted windows are).
    """

    low: float
    high: float
    first: float
    last: float
    reach: float = 0.0
    shift: float = 0.0

    def moved(self, pixels: float) -> "Span":
        """The same with the first place elsewhere."""
        return replace(self, low=self.low + pixels, high=self.high + pixels)


@dataclass(frozen=True, slots=True)
class Layout:
    """What is known of a result.

    Attributes:
        axes: its axes.
        spans: for each axis of the input's space, where the places lie.
        lost: the operation behind which places can no longer be told, or nothing.
        mixed: the operation that made results of one image depend on another, or nothing.
        picked: how images were picked from the batch or reordered, call by call; empty where all stand in their order.
    """

    axes: tuple[Axis, ...]
    spans: tuple[Span, ...]
    lost: str = ""
    mixed: str = ""
    picked: tuple[object, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that a result of this layout has."""
        return tuple(map(size_of, self.axes))

    def with_axis(self, index: int, axis: Axis) -> "Layout":
        """The same with another axis in the place of one."""
        axes = list(self.axes)
        axes[index] = axis
        return replace(self, axes=tuple(axes))

    def with_span(self, dim: int, span: Span) -> "Layout":
        """The same with the places of one axis of space elsewhere."""
        spans = list(self.spans)
        spans[dim] = span
        return replace(self, spans=tuple(spans))


def of_input(shape: Sequence[int]) -> Layout:
    """The layout of a batch of images, shape (batch, channel, *space)."""
    batch, channels, *space = shape
    places: list[Axis] = [(Part(Role.SPACE, size, dim, 1.0),) for dim, size in enumerate(space)]
    spans = tuple(Span(0.0, 0.0, -0.5, size - 0.5) for size in space)
    return Layout(((Part(Role.BATCH, batch),), channel(channels), *places), spans)


def channel(size: int) -> Axis:
    return (Part(Role.CHANNEL, size),)


def token(size: int) -> Axis:
    return (Part(Role.TOKEN, size),) if size > 1 else ()


def unknown(size: int) -> Axis:
    return (Part(Role.UNKNOWN, size),) if size > 1 else ()


def size_of(axis: Axis) -> int:
    """The length of an axis."""
    return prod(part.size for part in axis)


def parts_of(axis: Axis) -> list[Part]:
    """The parts of an axis, those of joined segments included."""
    found: list[Part] = []
    for part in axis:
        found += [part] if isinstance(part, Part) else [p for segment in part.segments for p in parts_of(segment)]
    return found


def roles_of(axis: Axis) -> set[Role]:
    """What runs along an axis."""
    return {part.role for part in parts_of(axis)}


def has_places(axes: Iterable[Axis]) -> bool:
    """Whether places of the input run along one of the axes."""
    return any(part.role is Role.SPACE and part.size > 1 for axis in axes for part in parts_of(axis))


def images_in(axis: Axis) -> int:
    """How many images run along an axis."""
    return prod(part.size for part in parts_of(axis) if part.role is Role.BATCH)


def lone_space(axis: Axis) -> Part | None:
    """The part of an axis along which one axis of space runs and nothing else."""
    if len(axis) == 1 and isinstance(axis[0], Part) and axis[0].role is Role.SPACE:
        return axis[0]
    return None


def merged(axis: Axis) -> Axis:
    """An axis with neighbouring parts joined where they are one."""
    found: list[Part | Joined] = []
    for part in axis:
        bare = isinstance(part, Part) and part.role not in {Role.SPACE, Role.BATCH}
        if bare and part.size == 1 and len(axis) > 1:
            continue
        before = found[-1] if found else None
        if isinstance(part, Part) and isinstance(before, Part) and before.role is part.role:
            if part.role is not Role.SPACE:
                found[-1] = replace(before, size=before.size * part.size)
                continue
            if before.dim == part.dim and before.step == part.step * part.size:
                found[-1] = replace(part, size=before.size * part.size)
                continue
        found.append(part)
    return tuple(found)


def regrouped(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[Axis, ...] | None:
    """The axes after a reshape; None where a part would have to be cut unevenly."""
    parts = [part for axis in axes for part in axis]
    found: list[Axis] = []
    for size in shape:
        axis: list[Part | Joined] = []
        left = size
        if size == 1 and parts and parts[0].size == 1:
            axis.append(parts.pop(0))
        while left > 1:
            if not parts:
                return None
            part = parts.pop(0)
            if left % part.size == 0:
                axis.append(part)
                left //= part.size
            elif isinstance(part, Part) and part.size % left == 0:
                inner = part.size // left
                axis.append(replace(part, size=left, step=part.step * inner))
                parts.insert(0, replace(part, size=inner))
                left = 1
            else:
                return None
        found.append(merged(tuple(axis)))
    return None if any(part.size != 1 for part in parts) else tuple(found)


def sliced(axis: Axis, start: int, count: int, step: int) -> Axis | None:
    """An axis of which some entries are taken; None where the result is no product of parts.

    The caller moves the span, by `start` entries, where the axis is one of space alone.
    """
    size = size_of(axis)
    if start == 0 and count == size and step == 1:
        return axis
    if len(axis) != 1:
        inner = size_of(axis[1:])
        if step == 1 and start % inner == 0 and count % inner == 0 and isinstance(axis[0], Part):
            head = sliced(axis[:1], start // inner, count // inner, 1)
            # Within a product the span has no room for where the taken places begin.
            return None if head is None or axis[0].role is Role.SPACE else merged((*head, *axis[1:]))
        roles = roles_of(axis)
        return (Part(roles.pop(), count),) if len(roles) == 1 and Role.SPACE not in roles else None
    only = axis[0]
    if isinstance(only, Part):
        return (replace(only, size=count, step=only.step * step),)
    if step != 1:
        return None
    segments: list[Axis] = []
    at = 0
    for segment in only.segments:
        length = size_of(segment)
        low, high = max(start, at), min(start + count, at + length)
        if high > low:
            whole = high - low == length
            if not whole and Role.SPACE in roles_of(segment):
                return None
            cut = segment if whole else sliced(segment, low - at, high - low, 1)
            if cut is None:
                return None
            segments.append(cut)
        at += length
    return segments[0] if len(segments) == 1 else (Joined(tuple(segments)),)


def better(first: Axis, second: Axis) -> Axis:
    """What an axis is that two operands share: places before tokens, tokens before channels, all before unknown."""

    def rank(axis: Axis) -> int:
        roles = roles_of(axis)
        if Role.UNKNOWN in roles:
            return 0
        return 3 if Role.SPACE in roles else 2 if roles & {Role.BATCH, Role.TOKEN} else 1

    if first == second or rank(first) > rank(second):
        return first
    if rank(second) > rank(first):
        return second
    # Two different grids, or images with tokens.
    return first if rank(first) == 1 else unknown(size_of(first))
