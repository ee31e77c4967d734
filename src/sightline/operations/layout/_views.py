"""Views: what only reindexes is performed on a tensor of strides alone, which tell where each axis went."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sightline.operations.layout._axes import (
    Axis,
    Layout,
    Part,
    Role,
    Span,
    has_places,
    images_in,
    lone_space,
    merged,
    regrouped,
    roles_of,
    size_of,
    sliced,
    token,
    unknown,
)


def viewed(
    layout: Layout, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Layout]:
    """The layout of each result of a view of one tensor, the first argument.

    Args:
        layout: the tensor's.
        name: the operation.
        func: the call.
        args: its arguments.
        kwargs: its keyword arguments.
    """
    strides = [0] * len(layout.axes)
    unit = 2  # so that an axis of length one that is added at the end has a stride of its own
    for index in reversed(range(len(layout.axes))):
        strides[index] = unit
        # Longer by one than the axis, so that no stride is a whole number of entries of the next.
        unit *= size_of(layout.axes[index]) + 1

    def ghost(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.empty(value.shape, device="meta")
        return value

    stand_in = torch.empty_strided(layout.shape, strides, device="meta")
    results = func(stand_in, *map(ghost, args[1:]), **{name: ghost(value) for name, value in kwargs.items()})
    views = [results] if isinstance(results, Tensor) else list(results)
    return [_read(layout, name, strides, view) for view in views]


def _read(layout: Layout, name: str, strides: list[int], view: Tensor) -> Layout:
    starts, rest = [], view.storage_offset()
    for stride in strides:
        starts.append(rest // stride)
        rest %= stride
    found: list[Axis] = []
    seen: dict[int, list[int]] = {}
    for position, (size, stride) in enumerate(zip(view.shape, view.stride(), strict=True)):
        index = next((i for i, own in enumerate(strides) if own <= stride), None)
        step, remainder = divmod(stride, strides[index]) if index is not None else (0, 1)
        if remainder or index is None or (size == 1 and step > 1):
            # A new axis of length one, entries that are repeated, or some that are taken across two axes.
            found.append(token(size) if stride == 0 or size == 1 else unknown(size))
            continue
        found.append(())
        seen.setdefault(index, []).append(position)
    spans, picked = list(layout.spans), layout.picked
    lost = name if any(Role.UNKNOWN in roles_of(axis) for axis in found) and has_places(layout.axes) else ""
    for index, axis in enumerate(layout.axes):
        positions = seen.get(index, [])
        if len(positions) > 1 and size_of(axis) == 1:
            positions = positions[-1:]  # the others are new
        taken = _taken(axis, starts[index], [(view.shape[p], view.stride()[p] // strides[index]) for p in positions])
        for position, part in zip(positions, taken, strict=True):
            found[position] = part
        whole = len(positions) == 1 and taken[0] == axis
        only = lone_space(axis)
        if only is not None and layout.spans[only.dim].shift and not whole:
            # Of rolled places a part is no longer one piece of the image.
            taken = [unknown(view.shape[p]) for p in positions]
            lost = lost or name
            for position, part in zip(positions, taken, strict=True):
                found[position] = part
            continue
        if has_places([axis]) and any(Role.UNKNOWN in roles_of(part) for part in taken):
            lost = lost or name
        if only is not None and starts[index]:
            spans[only.dim] = spans[only.dim].moved(starts[index] * only.step)
        if only is not None and len(positions) == 1 and not whole:
            spans[only.dim] = _cropped(layout, only, starts[index], view.shape[positions[0]], taken[0])
        if Role.BATCH in roles_of(axis) and images_in(axis) != sum(map(images_in, taken)):
            # The same images picked twice are the same.
            picked = (*picked, (starts[index], *(view.shape[p] for p in positions)))
    return replace(layout, axes=tuple(found), spans=tuple(spans), picked=picked, lost=layout.lost or lost)


def _cropped(layout: Layout, only: Part, start: int, count: int, taken: Axis) -> Span:
    """The span after some places along an axis are taken: pixels beyond them no longer have a part."""
    span = layout.spans[only.dim].moved(start * only.step)
    part = taken[0] if taken and isinstance(taken[0], Part) else only
    ends = sorted((span.low, span.high + (count - 1) * part.step))
    half = abs(only.step) / 2 + span.reach
    return replace(span, first=max(span.first, ends[0] - half), last=min(span.last, ends[1] + half))


def _taken(axis: Axis, start: int, pieces: list[tuple[int, int]]) -> list[Axis]:
    """What the axes are that were made of one; each is told by its length and its step along the one."""
    if len(pieces) == 1:
        (count, step) = pieces[0]
        found = sliced(axis, start, count, step) if step else None
        return [unknown(count) if found is None else found]
    if len(pieces) == 2 and len(axis) == 1 and isinstance(axis[0], Part):
        # Windows that neither overlap nor leave anything out are two parts of the axis.
        (outer, stride), (inner, step) = pieces
        if step == 1 and stride == inner and start == 0 and outer * inner == axis[0].size:
            return [(replace(axis[0], size=outer, step=axis[0].step * inner),), (replace(axis[0], size=inner),)]
    return [unknown(count) for count, _ in pieces]


def reshaped(layout: Layout, shape: tuple[int, ...], name: str) -> Layout | None:
    """The layout after a reshape."""
    axes = regrouped(layout.axes, shape)
    if axes is None:
        lost = name if has_places(layout.axes) else ""
        return replace(layout, axes=tuple(unknown(size) for size in shape), lost=layout.lost or lost)
    return replace(layout, axes=tuple(map(merged, axes)))
