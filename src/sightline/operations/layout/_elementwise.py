"""Layouts of operations on each value by itself, and on tensors that are broadcast together."""

from collections.abc import Sequence
from dataclasses import replace

from sightline.operations.layout._axes import (
    Axis,
    Layout,
    Role,
    Span,
    better,
    channel,
    has_places,
    images_in,
    parts_of,
    roles_of,
    size_of,
    token,
    unknown,
)
from sightline.operations.layout._seen import Found, Seen, mixed_by


def same(seen: Seen) -> Found:
    """Functions of each value by itself, casts, and normalisation: nothing moves."""
    dim = seen.get(1, "dim", default=None) if seen.name in _ALONG else None
    layout = seen.first
    if seen.name in {"normalize"}:
        dim = seen.get(2, "dim", default=1)
    if isinstance(dim, int) and layout.axes and Role.BATCH in roles_of(layout.axes[dim]):
        layout = mixed_by(layout, seen.name)
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
        whole = places_along(axes, dim)
        full = [layout.spans[dim] for layout in layouts if places_along(layout.axes, dim) == whole]
        span = full[0] if full else layouts[0].spans[dim]
        for other in full[1:]:
            if span.shift != other.shift:
                return Layout(tuple(map(unknown, shape)), layouts[0].spans, lost or name, mixed)
            span = _either(span, other)
        spans.append(span)
    return Layout(tuple(axes), tuple(spans), lost, mixed, max(picked, default=(), key=len))


def places_along(axes: Sequence[Axis], dim: int) -> list[tuple[int, float]]:
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


def copy(seen: Seen) -> Found:
    """x.copy_(y): what stands in y, where y is not broadcast."""
    source = seen.of(seen.get(1, "other", "src"))
    return source if source is not None and source.shape == seen.shape else broadcast(seen)


def glu(seen: Seen) -> Found:
    """Half of an axis gates the other half."""
    layout, dim = seen.first, seen.get(1, "dim", default=-1)
    axis = layout.axes[dim]
    if roles_of(axis) <= {Role.CHANNEL}:
        return layout.with_axis(dim, channel(seen.shape[dim]))
    lost = layout.lost or (seen.name if has_places([axis]) else "")
    return replace(layout.with_axis(dim, unknown(seen.shape[dim])), lost=lost)
