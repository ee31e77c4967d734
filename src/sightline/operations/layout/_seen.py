"""A call with the layouts of its tensors, as the functions that map layouts see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor

from sightline.operations.layout._axes import Layout, Role, has_places, roles_of, token, unknown

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


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


LayoutRule: TypeAlias = Callable[[Seen], Found]
"""(a call with the layouts of its tensors) -> the layout of the result."""


def by_name(rules: Mapping[LayoutRule, str]) -> dict[str, LayoutRule]:
    """Each rule by the names of the functions that it is for."""
    return {name: rule for rule, names in rules.items() for name in names.split()}


def forgotten(seen: Seen) -> Layout:
    """Nothing is known of a result; where places came in, they are lost."""
    known = [layout for _, layout in seen.known]
    first = known[0]
    had = any(has_places(layout.axes) or any(Role.UNKNOWN in roles_of(a) for a in layout.axes) for layout in known)
    lost = next((layout.lost for layout in known if layout.lost), seen.name if had else "")
    mixed = next((layout.mixed for layout in known if layout.mixed), "")
    return Layout(tuple(unknown(size) if had else token(size) for size in seen.shape), first.spans, lost, mixed)


def mixed_by(layout: Layout, name: str) -> Layout:
    return replace(layout, mixed=layout.mixed or name)


def many(value: Any, count: int) -> list[int]:
    given = list(value) if isinstance(value, list | tuple) else [value]
    return [int(v) for v in (given * count if len(given) == 1 else given)]


def numbers(values: Sequence[Any]) -> list[int]:
    """Whole numbers, whether given one by one or in a list."""
    return [int(v) for value in values for v in (value if isinstance(value, list | tuple) else [value])]


def dimensions(name: str) -> int:
    """The axes of space of an operation whose name ends in 1d, 2d or 3d."""
    return int(name.removesuffix("_with_indices")[-2])


def without_places(layout: Layout, dim: int, size: int, name: str) -> Layout:
    """The places along an axis are lost, as those of rolled ones where their number changes."""
    return replace(layout.with_axis(dim, unknown(size)), lost=layout.lost or name)
