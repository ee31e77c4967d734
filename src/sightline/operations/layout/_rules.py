"""How operations map the layouts of what they take to the layout of their result: one function for each family.

Each takes a `Seen`, a call with the layouts of its tensors, and gives the layout of the result, or one for each of
several; None where nothing is known. They are found by the operation's name, or else by its kind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor
from torch.nn import functional

from sightline.operations._vocabulary import Kind
from sightline.operations.layout._axes import (
    Axis,
    Joined,
    Layout,
    Part,
    Role,
    Span,
    better,
    channel,
    has_places,
    images_in,
    lone_space,
    merged,
    parts_of,
    roles_of,
    size_of,
    token,
    unknown,
)
from sightline.operations.layout._views import NAMES, reshaped, viewed

Found: TypeAlias = Layout | list[Layout] | None


@dataclass(frozen=True)
class Seen:
    """A call and the layouts of its tensors.

    Attributes:
        name: the operation.
        func: the call.
        args: its arguments.
        kwargs: its keyword arguments.
        of: (tensor) -> its layout, None for a constant.
        result: the result, or the first of several.
        count: how many results there are.
        number: a number of this call alone.
    """

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    of: Callable[[Tensor], Layout | None]
    result: Tensor
    count: int
    number: int

    def get(self, position: int, *names: str, default: Any = None) -> Any:
        """An argument, by position or by any of its names."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[position] if len(self.args) > position else default

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.result.shape)

    @property
    def first(self) -> Layout:
        """The layout of the first argument that has one."""
        return self.known[0][1]

    @property
    def known(self) -> list[tuple[Tensor, Layout]]:
        """The tensors of the call that have a layout."""
        found = []
        for value in _tensors((*self.args, *self.kwargs.values())):
            layout = self.of(value)
            if layout is not None:
                found.append((value, layout))
        return found


def same(seen: Seen) -> Found:
    """Functions of each value by itself, casts, and normalisation: nothing moves."""
    dim = seen.get(1, "dim", default=None) if seen.name in _ALONG else None
    layout = seen.first
    if seen.name in {"normalize"}:
        dim = seen.get(2, "dim", default=1)
    if isinstance(dim, int) and layout.axes and Role.BATCH in roles_of(layout.axes[dim]):
        layout = _mixed(layout, seen.name)
    return layout if layout.shape == seen.shape else broadcast(seen)


_ALONG = frozenset({"softmax", "log_softmax", "softmin", "cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"})


def broadcast(seen: Seen) -> Found:
    """Operations element by element on tensors that are broadcast together."""
    return joined([layout for _, layout in seen.known], seen.shape, seen.name)


def joined(layouts: Sequence[Layout], shape: tuple[int, ...], name: str) -> Layout:
    """The layout of what is made of several operands, aligned at their last axes."""
    axes: list[Axis] = []
    images: set[int] = set()
    for back in range(1, len(shape) + 1):
        size, best = shape[-back], None
        for layout in layouts:
            if back > len(layout.axes):
                continue
            axis = layout.axes[-back]
            if images_in(axis) > 1:
                images.add(back)
            if size_of(axis) == size and not (size == 1 and not axis):
                best = axis if best is None else better(best, axis)
        # An axis of constants alone: an index that means no place.
        axes.append(token(size) if best is None else best)
    axes.reverse()
    lost = next((layout.lost for layout in layouts if layout.lost), "")
    mixed = next((layout.mixed for layout in layouts if layout.mixed), "")
    batched = [layout for layout in layouts if any(Role.BATCH in roles_of(axis) for axis in layout.axes)]
    picked = {layout.picked for layout in layouts if layout in batched or layout.picked}
    if len(picked) > 1 or len(images) > 1:
        # Each image meets another: one that was picked from the batch, or every other.
        mixed = mixed or name
    spans: list[Span] = []
    for dim in range(len(layouts[0].spans)):
        # Of those that have all places along this axis of space: what was pooled along it lies nowhere.
        whole = _places(axes, dim)
        full = [layout.spans[dim] for layout in layouts if _places(layout.axes, dim) == whole]
        span = full[0] if full else layouts[0].spans[dim]
        for other in full[1:]:
            if span.shift != other.shift:
                return Layout(tuple(map(unknown, shape)), layouts[0].spans, lost or name, mixed)
            span = _either(span, other)
        spans.append(span)
    return Layout(tuple(axes), tuple(spans), lost, mixed, max(picked, default=(), key=len))


def _places(axes: Sequence[Axis], dim: int) -> list[tuple[int, float]]:
    parts = [part for axis in axes for part in parts_of(axis)]
    return sorted((p.size, p.step) for p in parts if p.role is Role.SPACE and p.dim == dim and p.size > 1)


def _either(one: Span, other: Span) -> Span:
    return replace(
        one,
        low=min(one.low, other.low),
        high=max(one.high, other.high),
        first=min(one.first, other.first),
        last=max(one.last, other.last),
        reach=max(one.reach, other.reach),
    )


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
    for dim in _numbers(dims):
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
    for shift, dim in zip(_numbers((seen.get(1, "shifts"),)), _numbers((dims,)), strict=True):
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
        layout = _grown(layout, dim, before, seen.shape[dim], seen.name)
    return layout


def _grown(layout: Layout, dim: int, before: int, size: int, name: str) -> Layout:
    axis = layout.axes[dim]
    only = lone_space(axis)
    if only is not None and layout.spans[only.dim].shift:
        return _without_places(layout, dim, size, name)
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
        places = _places(whole.axes, dim)
        own = [layout.spans[dim] for layout in layouts if places and _places(layout.axes, dim) == places]
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
            layout = _grown(layout, dim, start, shape[dim], "setitem")
    return layout if layout.shape == tuple(shape) else None


def linear(seen: Seen) -> Found:
    """X W^T: the last axis becomes channels."""
    if seen.name == "addmm":
        matrix = seen.get(1, "mat1")
        layout = seen.of(matrix)
    else:
        layout = seen.of(seen.get(0, "input"))
    return None if layout is None else weighted(layout, -1, seen.shape[-1], seen.name)


def weighted(layout: Layout, dim: int, size: int, name: str) -> Layout:
    """An axis that weights sum over and that becomes channels."""
    axis = layout.axes[dim]
    if Role.BATCH in roles_of(axis):
        layout = _mixed(layout, name)
    others = [other for index, other in enumerate(layout.axes) if index != dim % len(layout.axes)]
    for part in parts_of(axis):
        if part.role is Role.SPACE:
            # Neighbours that were brought into the channels: the new place lies in their middle.
            span = layout.spans[part.dim].moved((part.size - 1) / 2 * part.step)
            reach = span.reach + (part.size - 1) / 2 * abs(part.step)
            layout = layout.with_span(part.dim, replace(span, reach=reach))
    if Role.UNKNOWN in roles_of(axis) and not any(roles_of(other) - {Role.BATCH} for other in others):
        layout = replace(layout, lost="")
    return layout.with_axis(dim, channel(size))


def window(seen: Seen) -> Found:
    """Convolutions and pooling with windows: places move by the padding and the window's middle."""
    layout = seen.of(seen.get(0, "input"))
    if layout is None:
        return None
    convolves = seen.name.startswith("conv")
    count = seen.get(1, "weight").dim() - 2 if convolves else _dimensions(seen.name)
    if convolves:
        kernel = list(seen.get(1, "weight").shape[2:])
        stride, dilation = (
            _many(seen.get(3, "stride", default=1), count),
            _many(seen.get(5, "dilation", default=1), count),
        )
        padding = seen.get(4, "padding", default=0)
        if padding == "same":
            padding = [((k - 1) * d) // 2 for k, d in zip(kernel, dilation, strict=True)]
        padding = _many(0 if padding == "valid" else padding, count)
        layout = _channels(layout, -count - 1, seen)
    else:
        kernel = _many(seen.get(1, "kernel_size"), count)
        stride = _many(seen.get(2, "stride") or kernel, count)
        padding = _many(seen.get(3, "padding", default=0), count)
        dilation = _many(seen.get(4, "dilation", default=1) if "max" in seen.name else 1, count)
    for number in range(count):
        step, before, wide = stride[number], padding[number], (kernel[number] - 1) * dilation[number]
        layout = _windowed(layout, number - count, wide, step, before, seen)
    return layout


def _windowed(layout: Layout, dim: int, wide: int, step: int, before: int, seen: Seen) -> Layout:
    axis, size = layout.axes[dim], seen.shape[dim]
    if wide == 0 and step == 1 and before == 0:
        return layout
    only = lone_space(axis)
    if only is not None and (shift := layout.spans[only.dim].shift):
        # Patches that neither overlap nor cut a piece are rolled as their pixels are.
        patches = wide + 1 == step and before == 0 and size * step == only.size and shift % (step * only.step) == 0
        if size != only.size and not patches:
            return _without_places(layout, dim, size, seen.name)
    if only is not None:
        span = layout.spans[only.dim].moved(only.step * (wide / 2 - before))
        span = replace(span, reach=span.reach + wide / 2 * abs(only.step))
        return layout.with_span(only.dim, span).with_axis(dim, (replace(only, size=size, step=only.step * step),))
    if Role.BATCH in roles_of(axis):
        layout = _mixed(layout, seen.name)
    if step == 1 and size == size_of(axis):
        return layout  # each place among its neighbours, in whatever order they stand
    roles = roles_of(axis)
    if roles <= {Role.CHANNEL}:
        return layout.with_axis(dim, channel(size))
    lost = layout.lost or (seen.name if has_places([axis]) else "")
    return replace(layout.with_axis(dim, unknown(size)), lost=lost)


def _without_places(layout: Layout, dim: int, size: int, name: str) -> Layout:
    """The places along an axis are lost, as those of rolled ones where their number changes."""
    return replace(layout.with_axis(dim, unknown(size)), lost=layout.lost or name)


def _channels(layout: Layout, dim: int, seen: Seen) -> Layout:
    axis, size = layout.axes[dim], seen.shape[dim]
    groups = seen.get(6, "groups", default=1)
    head = axis[0] if len(axis) > 1 else None
    if isinstance(head, Part) and head.role is Role.BATCH and groups % head.size == 0:
        # A kernel for each image: images and channels stand in one axis, and groups keep them apart.
        return layout.with_axis(dim, (head, *channel(size // head.size)))
    if roles_of(axis) == {Role.BATCH} and groups == size_of(axis) == size:
        return layout
    return weighted(layout, dim, size, seen.name)


def transposed(seen: Seen) -> Found:
    """Transposed convolutions: a finer grid."""
    layout = seen.of(seen.get(0, "input"))
    if layout is None:
        return None
    weight = seen.get(1, "weight")
    count = weight.dim() - 2
    stride, padding = _many(seen.get(3, "stride", default=1), count), _many(seen.get(4, "padding", default=0), count)
    dilation = _many(seen.get(7, "dilation", default=1), count)
    layout = weighted(layout, -count - 1, seen.shape[-count - 1], seen.name)
    for number in range(count):
        dim, wide = number - count, (weight.shape[2 + number] - 1) * dilation[number]
        only = lone_space(layout.axes[dim])
        if only is None or layout.spans[only.dim].shift:
            lost = layout.lost or (seen.name if has_places([layout.axes[dim]]) else "")
            layout = replace(layout.with_axis(dim, unknown(seen.shape[dim])), lost=lost)
            continue
        fine = only.step / stride[number]
        span = layout.spans[only.dim].moved(-fine * (wide / 2 - padding[number]))
        span = replace(span, reach=span.reach + wide / 2 * abs(fine))
        layout = layout.with_span(only.dim, span).with_axis(dim, (replace(only, size=seen.shape[dim], step=fine),))
    return layout


def adaptive(seen: Seen) -> Found:
    """Pooling to a size: cells of equal width, or nearly so."""
    layout = seen.of(seen.get(0, "input"))
    if layout is None:
        return None
    for dim in range(-_dimensions(seen.name), 0):
        layout = _resampled(layout, dim, seen.shape[dim], seen.name)
    return layout


def interpolate(seen: Seen) -> Found:
    """Resampling to a finer or coarser grid that covers the same area."""
    layout = seen.of(seen.get(0, "input"))
    if layout is None:
        return None
    for dim in range(-(len(seen.shape) - 2), 0):
        axis, size = layout.axes[dim], seen.shape[dim]
        only = lone_space(axis)
        if bool(seen.get(4, "align_corners")) and only is not None and size > 1 and size != only.size:
            # The first and the last place stay where they are.
            layout = layout.with_axis(dim, (replace(only, size=size, step=only.step * (only.size - 1) / (size - 1)),))
        elif seen.get(3, "mode", default="nearest") == "nearest" and only is not None and size < only.size:
            # Of each cell the first pixel is taken.
            if layout.spans[only.dim].shift:
                return _without_places(layout, dim, size, seen.name)
            layout = layout.with_axis(dim, (replace(only, size=size, step=only.step * only.size / size),))
        else:
            layout = _resampled(layout, dim, size, seen.name)
    return layout


def _resampled(layout: Layout, dim: int, size: int, name: str) -> Layout:
    axis = layout.axes[dim]
    before = size_of(axis)
    if size == before:
        return layout
    only = lone_space(axis)
    if only is not None and layout.spans[only.dim].shift and size != 1:
        return _without_places(layout, dim, size, name)
    if only is None:
        if Role.BATCH in roles_of(axis):
            layout = _mixed(layout, name)
        if size == 1:
            return layout.with_axis(dim, ())
        roles = roles_of(axis)
        lost = layout.lost or (name if has_places([axis]) else "")
        along = (Part(roles.pop(), size),) if len(roles) == 1 and Role.SPACE not in roles else unknown(size)
        return replace(layout.with_axis(dim, along), lost=lost)
    step = only.step * before / size
    span = layout.spans[only.dim].moved((step - only.step) / 2)
    span = replace(span, reach=span.reach + abs(step - only.step) / 2)
    if before % size and size % before:
        # Cells of unequal width lie up to half a place beside the even grid.
        span = replace(span, low=span.low - abs(only.step) / 2, high=span.high + abs(only.step) / 2)
    return layout.with_span(only.dim, span).with_axis(dim, (replace(only, size=size, step=step),))


def reduce(seen: Seen) -> Found:
    """Sums, means, extremes: the axes go, or stay with length one."""
    layout = seen.first
    dims = seen.get(1, "dim", "axis")
    if seen.name in {"norm", "linalg_vector_norm", "vector_norm"}:
        dims = seen.get(2, "dim")
    if isinstance(dims, Tensor) or (seen.name in {"max", "min"} and len(seen.known) > 1):
        return broadcast(seen)
    chosen = (
        set(range(len(layout.axes)))
        if dims is None or dims == ()
        else {d % len(layout.axes) for d in _numbers((dims,))}
    )
    keeps = len(seen.shape) == len(layout.axes) and bool(chosen)
    axes: list[Axis] = []
    for index, axis in enumerate(layout.axes):
        if index not in chosen:
            axes.append(axis)
            continue
        if Role.BATCH in roles_of(axis):
            layout = _mixed(layout, seen.name)
        for part in parts_of(axis):
            if part.role is Role.SPACE:
                span = layout.spans[part.dim].moved((part.size - 1) / 2 * part.step)
                reach = span.reach + (part.size - 1) / 2 * abs(part.step)
                layout = layout.with_span(part.dim, replace(span, reach=reach))
        if keeps:
            axes.append(())
    found = replace(layout, axes=tuple(axes))
    if not any(roles_of(axis) & {Role.UNKNOWN} for axis in axes):
        found = replace(found, lost="")
    return [found] * seen.count if seen.count > 1 else found


def matmul(seen: Seen) -> Found:
    """Products of matrices: rows of the first, columns of the second."""
    first, second = seen.args[0], seen.get(1, "other", "mat2", "vec2")
    if seen.name == "rmatmul":
        first, second = second, first
    if seen.name in {"baddbmm", "addbmm"}:
        first, second = seen.get(1, "batch1"), seen.get(2, "batch2")
    one, other = seen.of(first), seen.of(second)
    if first.dim() < 2 or second.dim() < 2:
        return forgotten(seen)
    if one is not None and other is None:
        found = weighted(one, -1, seen.shape[-1], seen.name)
        return found if found.shape == seen.shape else forgotten(seen)
    if other is not None and one is None:
        # Constant rows: what they index are no places, unless the weights are as many as the places were.
        turned = weighted(other, -2, seen.shape[-2], seen.name)
        turned = turned.with_axis(-2, token(seen.shape[-2]))
        return turned if turned.shape == seen.shape else forgotten(seen)
    assert one is not None  # noqa: S101 - one of them has a layout
    assert other is not None  # noqa: S101
    mixed = {Role.BATCH} & (roles_of(one.axes[-1]) | roles_of(other.axes[-2]) | roles_of(other.axes[-1]))
    heads = [replace(one, axes=one.axes[:-2]), replace(other, axes=other.axes[:-2])]
    top = joined(heads, seen.shape[:-2], seen.name)
    source = one if has_places(one.axes) else other
    # Columns of places are keys: which place attends is told by the rows.
    found = replace(
        source, axes=(*top.axes, one.axes[-2], other.axes[-1]), mixed=top.mixed, lost=one.lost or other.lost
    )
    return _mixed(found, seen.name) if mixed else found


def attention(seen: Seen) -> Found:
    """softmax(q k') v: the queries' rows, the values' columns."""
    query, key, value = (seen.get(i, name) for i, name in enumerate(("query", "key", "value")))
    asked, keys, values = (seen.of(tensor) for tensor in (query, key, value))
    last = channel(seen.shape[-1]) if values is None else values.axes[-1]
    known = asked or values or keys
    if known is None:
        return None
    heads = [replace(layout, axes=layout.axes[:-2]) for layout in (asked, values, keys) if layout is not None]
    top = joined(heads, seen.shape[:-2], seen.name)
    rows = token(seen.shape[-2]) if asked is None else asked.axes[-2]
    lost = next((layout.lost for layout in (asked, keys, values) if layout is not None and layout.lost), "")
    found = replace(known, axes=(*top.axes, rows, last), mixed=top.mixed, lost=lost)
    attended = keys or values
    batch = attended is not None and Role.BATCH in roles_of(attended.axes[-2])
    return _mixed(found, seen.name) if batch else found


def multi_head(seen: Seen) -> Found:
    """Torch's own attention layer, on (token, image, channel)."""
    query, key = seen.args[0], seen.args[1]
    asked, keys = seen.of(query), seen.of(key)
    known = asked or keys
    if known is None:
        return None
    rows = known.axes[:-1] if asked is not None else (token(query.shape[0]), *known.axes[1:-1])
    found = replace(known, axes=(*rows, channel(seen.shape[-1])))
    if keys is not None and Role.BATCH in roles_of(keys.axes[0]) and len(keys.axes) == 3:
        found = _mixed(found, seen.name)
    return found


def einsum(seen: Seen) -> Found:
    """Products by letters: each letter is an axis."""
    equation = seen.args[0].replace(" ", "")
    rest = seen.args[1:]
    operands = list(rest[0]) if len(rest) == 1 and isinstance(rest[0], list | tuple) else list(rest)
    if "->" not in equation or "." in equation:
        return forgotten(seen)
    left, right = equation.split("->")
    axes: dict[str, Axis] = {}
    images: set[str] = set()
    layouts = []
    for letters, operand in zip(left.split(","), operands, strict=True):
        layout = seen.of(operand)
        if layout is None:
            continue
        layouts.append(layout)
        for letter, axis in zip(letters, layout.axes, strict=True):
            axes[letter] = better(axes[letter], axis) if letter in axes else axis
            if Role.BATCH in roles_of(axis):
                images.add(letter)
    sizes = dict(zip(right, seen.shape, strict=True))
    # A letter of the weights alone is a channel that they make.
    found = tuple(axes.get(letter, channel(sizes[letter])) for letter in right)
    whole = joined([replace(layout, axes=()) for layout in layouts], (), seen.name)
    source = next((layout for layout in layouts if has_places(layout.axes)), layouts[0])
    result = replace(source, axes=found, mixed=whole.mixed, lost=whole.lost)
    return _mixed(result, seen.name) if images - set(right) or len(images) > 1 else result


def patches(seen: Seen) -> Found:
    """im2col: windows laid out in the order of their places."""
    layout = seen.of(seen.get(0, "input"))
    if layout is None or len(layout.axes) != 4:
        return forgotten(seen)
    kernel, dilation = _many(seen.get(1, "kernel_size"), 2), _many(seen.get(2, "dilation", default=1), 2)
    padding, stride = _many(seen.get(3, "padding", default=0), 2), _many(seen.get(4, "stride", default=1), 2)
    places: list[Part] = []
    for number, dim in enumerate((2, 3)):
        only = lone_space(layout.axes[dim])
        if only is None:
            return forgotten(seen)
        wide = (kernel[number] - 1) * dilation[number]
        span = layout.spans[only.dim].moved(only.step * (wide / 2 - padding[number]))
        layout = layout.with_span(only.dim, replace(span, reach=span.reach + wide / 2 * abs(only.step)))
        count = (only.size + 2 * padding[number] - wide - 1) // stride[number] + 1
        places.append(replace(only, size=count, step=only.step * stride[number]))
    return replace(layout, axes=(layout.axes[0], channel(seen.shape[1]), tuple(places)))


def fold(seen: Seen) -> Found:
    """col2im: windows laid out in the order of their places are added up where they lie."""
    layout = seen.of(seen.get(0, "input"))
    kernel, dilation = _many(seen.get(2, "kernel_size"), 2), _many(seen.get(3, "dilation", default=1), 2)
    padding, stride = _many(seen.get(4, "padding", default=0), 2), _many(seen.get(5, "stride", default=1), 2)
    if layout is None or len(layout.axes) != 3 or len(layout.axes[2]) != 2:
        return forgotten(seen)
    for number, part in enumerate(layout.axes[2]):
        if not isinstance(part, Part) or part.role is not Role.SPACE:
            return forgotten(seen)
        step, wide = part.step / stride[number], (kernel[number] - 1) * dilation[number]
        # Windows that were cut by views lie where their first pixel does, those of im2col at their middle.
        wide = 0 if has_places([layout.axes[1]]) else wide
        layout = layout.with_span(part.dim, layout.spans[part.dim].moved(-step * (wide / 2 - padding[number])))
    places: list[Axis] = [
        (replace(part, size=size, step=part.step / by),)
        for part, size, by in zip(parts_of(layout.axes[2]), seen.shape[2:], stride, strict=True)
    ]
    return replace(layout, axes=(layout.axes[0], channel(seen.shape[1]), *places))


def shuffle(seen: Seen) -> Found:
    """Pixels into channels and back."""
    layout, factor = seen.first, seen.get(1, "upscale_factor", "downscale_factor")
    finer = seen.name == "pixel_shuffle"
    for dim in (-2, -1):
        only = lone_space(layout.axes[dim])
        if only is None:
            return forgotten(seen)
        step = only.step / factor if finer else only.step * factor
        span = layout.spans[only.dim].moved((step - only.step) / 2)
        layout = layout.with_span(only.dim, span).with_axis(dim, (replace(only, size=seen.shape[dim], step=step),))
    return layout.with_axis(-3, channel(seen.shape[-3]))


def glu(seen: Seen) -> Found:
    """Half of an axis gates the other half."""
    layout, dim = seen.first, seen.get(1, "dim", default=-1)
    axis = layout.axes[dim]
    if roles_of(axis) <= {Role.CHANNEL}:
        return layout.with_axis(dim, channel(seen.shape[dim]))
    lost = layout.lost or (seen.name if has_places([axis]) else "")
    return replace(layout.with_axis(dim, unknown(seen.shape[dim])), lost=lost)


def repeat(seen: Seen) -> Found:
    """Copies: of what stands in one place alone, nothing new is known."""
    layout = seen.first
    if seen.name == "repeat_interleave":
        times, dim = seen.get(1, "repeats"), seen.get(2, "dim")
        if not isinstance(times, int) or dim is None:
            return forgotten(seen)
        only = lone_space(layout.axes[dim])
        if only is not None:
            return _resampled(layout, dim, seen.shape[dim], seen.name)
        return layout.with_axis(dim, merged((*layout.axes[dim], *token(times))))
    times = _numbers(seen.args[1:])
    axes = [()] * (len(times) - len(layout.axes)) + list(layout.axes)
    return replace(layout, axes=tuple(merged((*token(t), *axis)) or () for t, axis in zip(times, axes, strict=True)))


def unfold(seen: Seen) -> Found:
    """Two operations of one name: windows as columns, and windows as a view."""
    return patches(seen) if seen.func is functional.unfold else view(seen)


def copy(seen: Seen) -> Found:
    """x.copy_(y): what stands in y, where y is not broadcast."""
    source = seen.of(seen.get(1, "other", "src"))
    return source if source is not None and source.shape == seen.shape else broadcast(seen)


def _dimensions(name: str) -> int:
    """The axes of space of an operation whose name ends in 1d, 2d or 3d."""
    return int(name.removesuffix("_with_indices")[-2])


def forgotten(seen: Seen) -> Layout:
    """Nothing is known of a result; where places came in, they are lost."""
    known = [layout for _, layout in seen.known]
    first = known[0]
    had = any(has_places(layout.axes) or any(Role.UNKNOWN in roles_of(a) for a in layout.axes) for layout in known)
    lost = next((layout.lost for layout in known if layout.lost), seen.name if had else "")
    mixed = next((layout.mixed for layout in known if layout.mixed), "")
    return Layout(tuple(unknown(size) if had else token(size) for size in seen.shape), first.spans, lost, mixed)


def _mixed(layout: Layout, name: str) -> Layout:
    return replace(layout, mixed=layout.mixed or name)


def _many(value: Any, count: int) -> list[int]:
    given = list(value) if isinstance(value, list | tuple) else [value]
    return [int(v) for v in (given * count if len(given) == 1 else given)]


def _numbers(values: Sequence[Any]) -> list[int]:
    """Whole numbers, whether given one by one or in a list."""
    return [int(v) for value in values for v in (value if isinstance(value, list | tuple) else [value])]


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


Rule: TypeAlias = Callable[[Seen], Found]

_SPELLINGS: dict[Rule, str] = {
    view: NAMES,
    reshape: "view reshape flatten unflatten ravel view_as reshape_as",
    item: "getitem",
    index_select: "index_select",
    flip: "flip fliplr flipud",
    roll: "roll",
    pad: "pad constant_pad_nd",
    concatenate: "cat concat concatenate hstack vstack dstack",
    stack: "stack",
    linear: "linear addmm",
    window: "conv1d conv2d conv3d convolution max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
    "lp_pool1d lp_pool2d max_pool2d_with_indices",
    transposed: "conv_transpose1d conv_transpose2d conv_transpose3d",
    adaptive: "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d",
    interpolate: "interpolate upsample upsample_nearest upsample_bilinear",
    reduce: "mean sum nanmean nansum amax amin max min prod std var logsumexp norm linalg_vector_norm vector_norm any "
    "all median argmax argmin count_nonzero var_mean std_mean",
    matmul: "matmul rmatmul bmm mm baddbmm",
    attention: "scaled_dot_product_attention",
    multi_head: "multi_head_attention_forward",
    einsum: "einsum",
    unfold: "unfold",
    patches: "im2col",
    fold: "fold col2im",
    copy: "copy",
    shuffle: "pixel_shuffle pixel_unshuffle",
    glu: "glu",
    repeat: "repeat repeat_interleave tile",
    same: "contiguous clone detach requires_grad fill zero round floor ceil reciprocal erf sign isnan isfinite "
    "isinf nan_to_num native_channel_shuffle channel_shuffle bernoulli softmax log_softmax cumsum cumprod tanh tan "
    "group_norm layer_norm instance_norm batch_norm local_response_norm normalize rms_norm expm1 log2 log10 erfinv "
    "cosh sinh logit positive imag real conj resolve_conj resolve_neg data",
    broadcast: "addcmul addcdiv lerp where maximum minimum fmax fmin floor_divide remainder fmod hypot atan2 eq ne lt "
    "gt le ge greater less logical_and logical_or xlogy masked_fill pow rpow clamp clip",
}
BY_NAME: dict[str, Rule] = {name: rule for rule, names in _SPELLINGS.items() for name in names.split()}
BY_KIND: dict[Kind, Rule] = {
    Kind.BATCH_NORM: same,
    Kind.NORMALISATION: same,
    Kind.RECTIFIER: same,
    Kind.ACTIVATION: same,
    Kind.GATE: same,
    Kind.SOFTMAX: same,
    Kind.IDENTITY: same,
    Kind.POINTWISE: broadcast,
    Kind.ADD: broadcast,
    Kind.SCALING: broadcast,
    Kind.GATING: broadcast,
    Kind.PRODUCT: broadcast,
    Kind.DERIVED_FACTOR: broadcast,
}
