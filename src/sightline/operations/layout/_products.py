"""Layouts of weighted layers and of products of matrices."""

from dataclasses import replace

from sightline.operations.layout._axes import Axis, Layout, Role, better, channel, has_places, parts_of, roles_of, token
from sightline.operations.layout._elementwise import joined
from sightline.operations.layout._seen import Found, Seen, forgotten, mixed_by


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
        layout = mixed_by(layout, name)
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
    return mixed_by(found, seen.name) if mixed else found


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
    return mixed_by(found, seen.name) if batch else found


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
        found = mixed_by(found, seen.name)
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
    return mixed_by(result, seen.name) if images - set(right) or len(images) > 1 else result
