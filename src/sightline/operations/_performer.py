"""Performing a call of the model: by torch itself, or by a node of ours where some propagation rules its kind."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from sightline.operations._active import Active
from sightline.operations._kept import secure
from sightline.operations._pixels import Pixels
from sightline.operations._reading import bound
from sightline.operations._reuse import Reuse
from sightline.operations._vocabulary import Intercepted, Kind
from sightline.operations.kinds._rulable import Completion, Rulable, Ruling


class Performer:
    """Performs calls, with nodes of our own for the kinds that are ruled.

    Args:
        ruled: the kinds for which some propagation of the pass has a rule.
        active: where the nodes look the rule up.
        reuse: results of earlier passes, if any are kept.
    """

    def __init__(self, ruled: Collection[Kind], active: Active, reuse: Reuse | None = None) -> None:
        self._ruled = frozenset(kind for kind in ruled if isinstance(kind, Rulable))
        assert len(self._ruled) == len(frozenset(ruled))  # noqa: S101 - a propagation has no rules for others
        self._pixels = Pixels(followed=any(kind.asks_pixels for kind in self._ruled))
        self._ruling = Ruling(self._ruled, active, self._pixels, reuse)

    def begin(self, image: Tensor) -> Tensor:
        """The image that a pass begins with."""
        self._pixels.begin(image)
        return image

    def perform(self, call: Intercepted) -> tuple[Any, Completion | None]:
        """The result, and what remains to be done once it has been noted."""
        if not self._ruled:
            return _by_torch(call), None
        call.kind = kind = call.kind.read_for_rules(call)
        self._pixels.watch(call)
        found = None
        if kind in self._ruled or self._pixels.may_follow(call):
            copies = isinstance(kind, Rulable) and (kind.single or (kind in self._ruled and kind.copies))
            found = bound(call.func, call.args, call.kwargs, in_place=call.in_place, copies=copies)
        noted = self._pixels.after(call, found)
        performed = None
        if isinstance(kind, Rulable) and kind in self._ruled:
            performed = None if found is None else kind.node(call, *found, self._ruling)
            call.has_node = performed is not None
        result, complete = (_by_torch(call), None) if performed is None else performed
        if noted is not None:
            noted(result)
        return result, complete


def _by_torch(call: Intercepted) -> Any:
    if call.writes:
        secure(call.tensors[0])
    return call.func(*call.args, **call.kwargs)
