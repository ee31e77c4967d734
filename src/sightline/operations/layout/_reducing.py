"""Layouts of sums, means and extremes along axes."""

from dataclasses import replace

from torch import Tensor

from sightline.operations.layout._axes import Axis, Role, parts_of, roles_of
from sightline.operations.layout._elementwise import broadcast
from sightline.operations.layout._seen import Found, Seen, mixed_by, numbers


def reduce(seen: Seen) -> Found:
    """Sums, means, extremes: the axes go, or stay with length one."""
    layout = seen.first
    dims = seen.get(1, "dim", "axis")
    if seen.name in {"norm", "linalg_vector_norm", "vector_norm"}:
        dims = seen.get(2, "dim")
    if isinstance(dims, Tensor) or (seen.name in {"max", "min"} and len(seen.known) > 1):
        return broadcast(seen)
    chosen = (
        set(range(len(layout.axes))) if dims is None or dims == () else {d % len(layout.axes) for d in numbers((dims,))}
    )
    keeps = len(seen.shape) == len(layout.axes) and bool(chosen)
    axes: list[Axis] = []
    for index, axis in enumerate(layout.axes):
        if index not in chosen:
            axes.append(axis)
            continue
        if Role.BATCH in roles_of(axis):
            layout = mixed_by(layout, seen.name)
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
