"""Kinds for which a propagation may have a rule: a call of such a kind is performed by a node of ours."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sightline.operations._active import Active
from sightline.operations._calls import Call, RuledCall, attempt, fresh
from sightline.operations._kept import keep, secure
from sightline.operations._pixels import Pixels
from sightline.operations._reading import Native
from sightline.operations._reuse import Reuse
from sightline.operations._vocabulary import Intercepted, Kind, Operation

Completion = Callable[[Operation, Tensor], None]
"""What remains to be noted once the operation has its place in the order, with its result."""

Performed = tuple[Tensor, Completion | None]


@dataclass
class Ruling:
    """What the nodes of one pass are made with.

    Attributes:
        kinds: the kinds for which some propagation of the pass has a rule.
        active: where the nodes look the rule up.
        pixels: what was done to the pixels of the image.
        reuse: results of earlier passes, if any are kept.
    """

    kinds: Collection[Kind]
    active: Active
    pixels: Pixels
    reuse: Reuse | None = None


class Rulable(Kind):
    """A kind whose calls are performed so that a rule is called when the backward runs.

    Attributes:
        single: whether every call gives one new tensor, or writes over its first, which need not be tried.
        copies: whether small constants are copied where the kind is ruled, so that the model may change its own.
        asks_pixels: whether its rules may ask which values the pixels can have that enter a call.
        given: what a rule of this kind is given.
    """

    has_node = True
    single: ClassVar[bool] = False
    copies: ClassVar[bool] = True
    asks_pixels: ClassVar[bool] = False
    given: ClassVar[type[Call]] = Call

    def node(self, call: Intercepted, tensors: list[Tensor], native: Native, ruling: Ruling) -> Performed | None:
        """Perform a call with a node of ours.

        Args:
            call: the call.
            tensors: those among its arguments that depend on the input.
            native: the call as a function of these alone.
            ruling: what nodes are made with.

        Returns:
            The result, and what is to be noted of it; None where the call has no single result whose signal a rule
            could share out.
        """
        made = None
        if not self.single:
            known = None if call.name in _NO_RESULT else attempt(native, tensors, in_place=call.in_place)
            if known is None:
                return None
            made = None if call.in_place else fresh(known, tensors)
        seen = self.seen(call, tensors, native, ruling)
        if call.in_place:
            secure(call.tensors[0])
        seen.made = made
        result: Tensor = RuledCall.apply(seen, *tensors)  # type: ignore[no-untyped-call]

        def complete(operation: Operation, made: Tensor) -> None:
            seen.operation = operation
            self.note(seen, tensors, made)

        return result, complete

    def seen(self, call: Intercepted, tensors: list[Tensor], native: Native, ruling: Ruling) -> Call:
        """What a rule is given of a call."""
        kept = [keep(tensor) for tensor in tensors]
        signals = [tensor.requires_grad for tensor in tensors]
        seen = self.given(self, native, kept, ruling.active, in_place=call.in_place, signals=signals)
        seen.read(call, tensors)
        return seen

    def note(self, seen: Call, tensors: list[Tensor], made: Tensor) -> None:
        """Note on the result of a call, which took these tensors, what later operations ask of it."""


_NO_RESULT = frozenset({"setitem", "requires_grad"})
