"""Parts of one kind by name: those of this package, and those of other distributions by their entry points."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from sightline._common.user_code import is_user_code, object_named
from sightline.errors import InputError, alternatives

T = TypeVar("T")


class Registry(Generic[T]):
    """Parts of one kind by name.

    A part of this package registers itself when its module is imported; a part of another distribution is found by its
    entry point, and imported when it is first asked for; FILE.py:NAME or package.module:NAME names one that nobody has
    registered.

    Args:
        what: what a part is called in messages, such as "method".
        group: the group of entry points, such as "sightline.methods".
        modules: modules of this package that register its own parts; imported when a part is first asked for.
        accept: makes a part of what an entry point or a user's file holds (a class becomes an instance, say), or
            raises an `InputError` that says what was expected.
    """

    def __init__(
        self, what: str, group: str, modules: tuple[str, ...] = (), accept: Callable[[object], T] | None = None
    ) -> None:
        self.what = what
        self.group = group
        self._modules = modules
        self._accept = accept
        self._own: dict[str, T] = {}
        self._others: dict[str, EntryPoint] | None = None

    def register(self, name: str, part: T) -> T:
        """Make a part known by a name.

        Raises:
            InputError: the name is taken by another part.
        """
        if self._own.setdefault(name, part) is not part:
            raise InputError(f"The {self.what} {name} is registered already; choose another name.")
        return part

    @property
    def own(self) -> Mapping[str, T]:
        """This package's own parts, in the order of their registration."""
        return self._loaded()

    def __iter__(self) -> Iterator[str]:
        """The names: first this package's in the order of their registration, then others' in alphabetical order."""
        return iter(dict.fromkeys([*self._loaded(), *sorted(self._points())]))

    def __contains__(self, name: object) -> bool:
        return name in self._loaded() or name in self._points()

    def __getitem__(self, name: str) -> T:
        """The part of a name, or the one that FILE.py:NAME names.

        Raises:
            InputError: there is none of this name, or the code that should hold it fails.
        """
        if name in (own := self._loaded()):
            return own[name]
        if name in (points := self._points()):
            return self._load(points[name])
        if is_user_code(name):
            return self._accepted(object_named(name, self.what), name)
        raise InputError(f"There is no {self.what} {name}. {alternatives(name, list(self))}")

    def _loaded(self) -> dict[str, T]:
        for module in self._modules:
            importlib.import_module(module)
        return self._own

    def _points(self) -> dict[str, EntryPoint]:
        if self._others is None:
            found = entry_points(group=self.group)
            self._others = {point.name: point for point in found if point.name not in self._own}
        return self._others

    def _load(self, point: EntryPoint) -> T:
        origin = f"{point.value}, of the distribution {point.dist.name if point.dist else 'unknown'}"
        try:
            found = point.load()
        except Exception as error:
            raise InputError(
                f"The {self.what} {point.name} is {origin}, which fails with {type(error).__name__}: {error}"
            ) from error
        return self._accepted(found, origin)

    def _accepted(self, found: object, origin: str) -> T:
        try:
            return found if self._accept is None else self._accept(found)  # type: ignore[return-value]
        except InputError as error:
            raise InputError(f"{origin}: {error}") from error
