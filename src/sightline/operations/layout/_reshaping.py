"""Layouts of views, slices, flips, padding and copies."""

from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from sightline.operations.layout._axes import (
    Layout,
    Part,
    Role,
    Span,
    channel,
    has_places,
    lone_space,
    merged,
    roles_of,
    size_of,
    token,
    unknown,
)
from sightline.operations.layout._seen import Found, Seen, forgotten, numbers, without_places
from sightline.operations.layout._views import reshaped, viewed
from sightline.operations.layout._windows import patches, resampled


def view(seen: Seen) -> Found:
    """Permutations, slices, splits: read off the strides of a stand-in."""
    found = viewed(seen.first, seen.name, seen.func, seen.args, seen.kwargs)
    return found if seen.count > 1 else found[0]


def reshape(seen: Seen) -> Found:
    """Reshapes: the parts of all axes, grouped anew."""
    return reshaped(seen.first, seen.shape, seen.name)


def item(seen: Seen) -> Found:
    """x[...]: a view, but for axes that are indexed by a list or a tensor."""
    index = seen.args[1]
    entries = list(index) if isinstance(index, tuple) else [index]
    if not any(isinstance(entry, Tensor | list) for entry in entries):
        return view(seen)
    layout = seen.first
    if Ellipsis in [entry for entry in entries if not isinstance(entry, Tensor | list)]:
        at = next(i for i, entry in enumerate(entries) if entry is Ellipsis)
        given = sum(entry is not None for entry in entries) - 1
        entries[at : at + 1] = [slice(None)] * (len(layout.axes) - given)
    axes, picked, lost = list(layout.axes), layout.picked, layout.lost
    advanced = [entry for entry in entries if isinstance(entry, Tensor | list)]
    if len(advanced) > 1 or any(entry is None or isinstance(entry, int) for entry in entries):
        return forgotten(seen)
    for position, entry in enumerate(entries):
        if isinstance(entry, Tensor | list):
            dims = entry.dim() if isinstance(entry, Tensor) else 1
            if dims != 1:
                return forgotten(seen)
            roles = roles_of(axes[position])
            size = seen.shape[position]
            if roles <= {Role.CHANNEL}:
                axes[position] = channel(size)
            elif roles == {Role.BATCH}:
                axes[position], picked = (Part(Role.BATCH, size),), (*picked, seen.number)
            else:
                lost = lost or (seen.name if has_places([axes[position]]) else "")
                axes[position] = unknown(size)
        elif entry != slice(None):
            return forgotten(seen)
    return replace(layout, axes=tuple(axes), picked=picked, lost=lost)


def index_select(seen: Seen) -> Found:
    """Entries of one axis by their numbers."""
    layout, dim = seen.first, seen.get(1, "dim")
    size, roles = seen.shape[dim], roles_of(layout.axes[dim])
    if roles <= {Role.CHANNEL}:
        return layout.with_axis(dim, channel(size))
    if roles == {Role.BATCH}:
        return replace(layout.with_axis(dim, (Part(Role.BATCH, size),)), picked=(*layout.picked, seen.number))
    lost = layout.lost or (seen.name if has_places([layout.axes[dim]]) else "")
    return replace(layout.with_axis(dim, unknown(size)), lost=lost)


def flip(seen: Seen) -> Found:
    """Mirrored axes: the first place is the last, and the step changes its sign."""
    layout = seen.first
    dims = seen.args[1:] if seen.name == "flip" and len(seen.args) > 1 else (seen.kwargs.get("dims"),)
    if seen.name in {"fliplr", "flipud"}:
        dims = (1 if seen.name == "fliplr" else 0,)
    for dim in numbers(dims):
        axis = layout.axes[dim]
        only = lone_space(axis)
        if only is not None:
            span = layout.spans[only.dim]
            if span.shift:
                return forgotten(seen)
            layout = layout.with_span(only.dim, span.moved((only.size - 1) * only.step))
            layout = layout.with_axis(dim, (replace(only, step=-only.step),))
        elif Role.BATCH in roles_of(axis):
            layout = replace(layout, picked=(*layout.picked, seen.number))
        elif has_places([axis]):
            layout = replace(layout.with_axis(dim, unknown(size_of(axis))), lost=layout.lost or seen.name)
    return layout


def roll(seen: Seen) -> Found:
    """Cyclic shifts, noted and undone where the result is read."""
    layout = seen.first
    dims = seen.get(2, "dims")
    if dims is None or dims == ():
        return forgotten(seen)
    for shift, dim in zip(numbers((seen.get(1, "shifts"),)), numbers((dims,)), strict=True):
        axis = layout.axes[dim]
        only = lone_space(axis)
        if only is not None:
            span = layout.spans[only.dim]
            turn = (span.shift + shift * only.step) % (only.size * abs(only.step))
            layout = layout.with_span(only.dim, replace(span, shift=turn))
        elif Role.BATCH in roles_of(axis):
            layout = replace(layout, picked=(*layout.picked, seen.number))
        elif has_places([axis]):
            layout = replace(layout.with_axis(dim, unknown(size_of(axis))), lost=layout.lost or seen.name)
    return layout


def pad(seen: Seen) -> Found:
    """Places before the first move it; those of other axes are of the axis's own kind."""
    layout, pads = seen.first, list(seen.get(1, "pad"))
    for number in range(len(pads) // 2):
        before, after = pads[2 * number], pads[2 * number + 1]
        dim = len(layout.axes) - 1 - number
        if before == after == 0:
            continue
        layout = grown(layout, dim, before, seen.shape[dim], seen.name)
    return layout


def grown(layout: Layout, dim: int, before: int, size: int, name: str) -> Layout:
    axis = layout.axes[dim]
    only = lone_space(axis)
    if only is not None and layout.spans[only.dim].shift:
        return without_places(layout, dim, size, name)
    if only is not None:
        layout = layout.with_span(only.dim, _padded(layout.spans[only.dim], only, before, size))
        return layout.with_axis(dim, (replace(only, size=size),))
    roles = roles_of(axis)
    if len(roles) == 1 and Role.SPACE not in roles:
        return layout.with_axis(dim, (Part(roles.pop(), size),))
    lost = layout.lost or (name if has_places([axis]) else "")
    return replace(layout.with_axis(dim, unknown(size)), lost=lost)


def _padded(span: Span, only: Part, before: int, size: int) -> Span:
    moved = span.moved(-before * only.step)
    if size < before + only.size or before < 0:  # negative padding crops
        ends = sorted((moved.low, moved.high + (size - 1) * only.step))
        half = abs(only.step) / 2 + span.reach
        moved = replace(moved, first=max(span.first, ends[0] - half), last=min(span.last, ends[1] + half))
    return moved


def repeat(seen: Seen) -> Found:
    """Copies: of what stands in one place alone, nothing new is known."""
    layout = seen.first
    if seen.name == "repeat_interleave":
        times, dim = seen.get(1, "repeats"), seen.get(2, "dim")
        if not isinstance(times, int) or dim is None:
            return forgotten(seen)
        only = lone_space(layout.axes[dim])
        if only is not None:
            return resampled(layout, dim, seen.shape[dim], seen.name)
        return layout.with_axis(dim, merged((*layout.axes[dim], *token(times))))
    times = numbers(seen.args[1:])
    axes = [()] * (len(times) - len(layout.axes)) + list(layout.axes)
    return replace(layout, axes=tuple(merged((*token(t), *axis)) or () for t, axis in zip(times, axes, strict=True)))


def unfold(seen: Seen) -> Found:
    """Two operations of one name: windows as columns, and windows as a view."""
    return patches(seen) if seen.func is functional.unfold else view(seen)


def written(layout: Layout, shape: tuple[int, ...], index: Any) -> Layout | None:
    """The layout of a constant of some shape into whose slice something was written; None where it is no slice."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        entries[at : at + 1] = [slice(None)] * (len(shape) - len(entries) + 1)
    entries += [slice(None)] * (len(shape) - len(entries))
    if len(layout.axes) != len(shape) or not all(isinstance(entry, slice) for entry in entries):
        return None
    for dim, entry in enumerate(entries):
        start, stop, step = entry.indices(shape[dim])
        if (start, stop, step) != (0, shape[dim], 1):
            if step != 1:
                return None
            layout = grown(layout, dim, start, shape[dim], "setitem")
    return layout if layout.shape == tuple(shape) else None
