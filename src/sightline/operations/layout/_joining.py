"""Layouts of tensors laid end to end or side by side."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sightline.operations.layout._axes import (
    Axis,
    Joined,
    Layout,
    Part,
    Role,
    Span,
    channel,
    has_places,
    lone_space,
    merged,
    roles_of,
    token,
    unknown,
)
from sightline.operations.layout._elementwise import joined, places_along
from sightline.operations.layout._seen import Found, Seen


def concatenate(seen: Seen) -> Found:
    """Tensors laid end to end along one axis."""
    tensors = list(seen.get(0, "tensors"))
    default = {"hstack": 1, "vstack": 0, "dstack": 2}.get(seen.name, 0)
    dim = seen.get(1, "dim", "axis", default=default) if seen.name not in {"hstack", "vstack", "dstack"} else default
    dim %= len(seen.shape)
    tensors = [tensor for tensor in tensors if tensor.dim() == len(seen.shape)]
    found = [seen.of(tensor) for tensor in tensors]
    others = [layout for layout in found if layout is not None]
    axes = [
        (Part(Role.TOKEN, tensor.shape[dim]),) if one is None else one.axes[dim]
        for tensor, one in zip(tensors, found, strict=True)
    ]
    rest = [replace(layout, axes=layout.axes[:dim] + layout.axes[dim + 1 :]) for layout in others]
    shape = seen.shape[:dim] + seen.shape[dim + 1 :]
    if any(Role.BATCH in roles_of(axis) for axis in axes):
        # The same images several times over, or images that had been taken apart.
        again = all(not layout.picked for layout in others) and len(set(axes)) == 1 and len(axes) > 1
        along = (Part(Role.TOKEN, len(axes)), *axes[0]) if again else (Part(Role.BATCH, seen.shape[dim]),)
        plain = [replace(layout, picked=()) for layout in rest]
        whole = joined(plain, shape, seen.name)
        picked = () if again else _in_order([layout.picked for layout in others], seen.number)
        return replace(whole, axes=(*whole.axes[:dim], merged(along), *whole.axes[dim:]), picked=picked)
    whole = joined(rest, shape, seen.name)
    chained = _chained(axes, others)
    if chained is not None:
        along, spans = chained
        whole = replace(whole, spans=spans)
    elif all(roles_of(axis) <= {Role.CHANNEL, Role.TOKEN} for axis in axes) and Role.CHANNEL in {
        role for axis in axes for role in roles_of(axis)
    }:
        along = channel(seen.shape[dim])
        # Neighbours that are brought into the channels slice by slice lie, together, in their middle.
        whole = replace(whole, spans=_between(others, whole))
    elif any(Role.UNKNOWN in roles_of(axis) for axis in axes):
        along = unknown(seen.shape[dim])
    elif not has_places(axes):
        along = token(seen.shape[dim])
    else:
        along = (Joined(tuple(axes)),)
    return replace(whole, axes=(*whole.axes[:dim], along, *whole.axes[dim:]))


def _between(layouts: Sequence[Layout], whole: Layout) -> tuple[Span, ...]:
    """Spans with the mean of all operands' first places, where these lie within one step."""
    spans = list(whole.spans)
    for dim, span in enumerate(spans):
        places = places_along(whole.axes, dim)
        own = [layout.spans[dim] for layout in layouts if places and places_along(layout.axes, dim) == places]
        if own and span.high - span.low <= min(abs(step) for _, step in places):
            low, high = sum(one.low for one in own) / len(own), sum(one.high for one in own) / len(own)
            spans[dim] = replace(span, low=low, high=high)
    return tuple(spans)


def _in_order(picks: Sequence[tuple[Any, ...]], number: int) -> tuple[object, ...]:
    """What was picked in all, where images that were taken apart are put together: nothing, if all stand in order."""
    at = 0
    for pick in picks:
        if len(pick) != 1 or not isinstance(pick[0], tuple) or pick[0][0] != at:
            return (number,)
        at += pick[0][1] if len(pick[0]) > 1 else 1
    return ()


def _chained(axes: Sequence[Axis], layouts: Sequence[Layout]) -> tuple[Axis, tuple[Span, ...]] | None:
    """Pieces of one axis of space that follow each other, put together again."""
    pieces = [lone_space(axis) for axis in axes]
    if len(layouts) != len(axes) or any(piece is None for piece in pieces):
        return None
    first = pieces[0]
    assert first is not None  # noqa: S101 - checked above
    at, size = layouts[0].spans[first.dim].low, 0
    for piece, layout in zip(pieces, layouts, strict=True):
        assert piece is not None  # noqa: S101
        if (piece.dim, piece.step) != (first.dim, first.step) or layout.spans[piece.dim].low != at + size * piece.step:
            return None
        size += piece.size
    span = replace(
        layouts[0].spans[first.dim],
        first=min(layout.spans[first.dim].first for layout in layouts),
        last=max(layout.spans[first.dim].last for layout in layouts),
    )
    return (replace(first, size=size),), layouts[0].with_span(first.dim, span).spans


def stack(seen: Seen) -> Found:
    """Tensors laid side by side along a new axis."""
    tensors = list(seen.get(0, "tensors"))
    dim = seen.get(1, "dim", default=0) % len(seen.shape)
    layouts = [layout for _, layout in seen.known]
    alone = [layout for layout in layouts if not any(Role.BATCH in roles_of(axis) for axis in layout.axes)]
    apart = len(alone) == len(layouts) == len(tensors) and all(layout.picked for layout in layouts)
    whole = joined(
        [replace(layout, picked=()) for layout in layouts], seen.shape[:dim] + seen.shape[dim + 1 :], seen.name
    )
    lacks_channels = not any(Role.CHANNEL in roles_of(axis) for axis in whole.axes)
    along = (
        (Part(Role.BATCH, len(tensors)),) if apart else channel(len(tensors)) if lacks_channels else token(len(tensors))
    )
    if apart:
        whole = replace(whole, picked=_in_order([layout.picked for layout in layouts], seen.number))
    return replace(whole, axes=(*whole.axes[:dim], along, *whole.axes[dim:]))
