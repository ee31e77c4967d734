"""Layouts of convolutions, pooling, resampling, and patches laid out as columns."""

from dataclasses import replace

from sightline.operations.layout._axes import (
    Axis,
    Layout,
    Part,
    Role,
    channel,
    has_places,
    lone_space,
    parts_of,
    roles_of,
    size_of,
    unknown,
)
from sightline.operations.layout._products import weighted
from sightline.operations.layout._seen import Found, Seen, dimensions, forgotten, many, mixed_by, without_places


def window(seen: Seen) -> Found:
    """Convolutions and pooling with windows: places move by the padding and the window's middle."""
    layout = seen.of(seen.get(0, "input"))
    if layout is None:
        return None
    convolves = seen.name.startswith("conv")
    count = seen.get(1, "weight").dim() - 2 if convolves else dimensions(seen.name)
    if convolves:
        kernel = list(seen.get(1, "weight").shape[2:])
        stride, dilation = (
            many(seen.get(3, "stride", default=1), count),
            many(seen.get(5, "dilation", default=1), count),
        )
        padding = seen.get(4, "padding", default=0)
        if padding == "same":
            padding = [((k - 1) * d) // 2 for k, d in zip(kernel, dilation, strict=True)]
        padding = many(0 if padding == "valid" else padding, count)
        layout = _channels(layout, -count - 1, seen)
    else:
        kernel = many(seen.get(1, "kernel_size"), count)
        stride = many(seen.get(2, "stride") or kernel, count)
        padding = many(seen.get(3, "padding", default=0), count)
        dilation = many(seen.get(4, "dilation", default=1) if "max" in seen.name else 1, count)
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
            return without_places(layout, dim, size, seen.name)
    if only is not None:
        span = layout.spans[only.dim].moved(only.step * (wide / 2 - before))
        span = replace(span, reach=span.reach + wide / 2 * abs(only.step))
        return layout.with_span(only.dim, span).with_axis(dim, (replace(only, size=size, step=only.step * step),))
    if Role.BATCH in roles_of(axis):
        layout = mixed_by(layout, seen.name)
    if step == 1 and size == size_of(axis):
        return layout  # each place among its neighbours, in whatever order they stand
    roles = roles_of(axis)
    if roles <= {Role.CHANNEL}:
        return layout.with_axis(dim, channel(size))
    lost = layout.lost or (seen.name if has_places([axis]) else "")
    return replace(layout.with_axis(dim, unknown(size)), lost=lost)


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
    stride, padding = many(seen.get(3, "stride", default=1), count), many(seen.get(4, "padding", default=0), count)
    dilation = many(seen.get(7, "dilation", default=1), count)
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
    for dim in range(-dimensions(seen.name), 0):
        layout = resampled(layout, dim, seen.shape[dim], seen.name)
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
                return without_places(layout, dim, size, seen.name)
            layout = layout.with_axis(dim, (replace(only, size=size, step=only.step * only.size / size),))
        else:
            layout = resampled(layout, dim, size, seen.name)
    return layout


def resampled(layout: Layout, dim: int, size: int, name: str) -> Layout:
    axis = layout.axes[dim]
    before = size_of(axis)
    if size == before:
        return layout
    only = lone_space(axis)
    if only is not None and layout.spans[only.dim].shift and size != 1:
        return without_places(layout, dim, size, name)
    if only is None:
        if Role.BATCH in roles_of(axis):
            layout = mixed_by(layout, name)
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


def patches(seen: Seen) -> Found:
    """im2col: windows laid out in the order of their places."""
    layout = seen.of(seen.get(0, "input"))
    if layout is None or len(layout.axes) != 4:
        return forgotten(seen)
    kernel, dilation = many(seen.get(1, "kernel_size"), 2), many(seen.get(2, "dilation", default=1), 2)
    padding, stride = many(seen.get(3, "padding", default=0), 2), many(seen.get(4, "stride", default=1), 2)
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
    kernel, dilation = many(seen.get(2, "kernel_size"), 2), many(seen.get(3, "dilation", default=1), 2)
    padding, stride = many(seen.get(4, "padding", default=0), 2), many(seen.get(5, "stride", default=1), 2)
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
