"""Sums of two signals, or of a signal and a constant."""

from types import MappingProxyType

from torch import Tensor

from sightline.operations._branches import Joined, RuledSum, scaled, summed
from sightline.operations._calls import Call
from sightline.operations._graph import mark_folded, mark_weighted
from sightline.operations._kept import keep, secure
from sightline.operations._linear import Linear, sign
from sightline.operations._reading import Native
from sightline.operations._vocabulary import KINDS, BiasTerm, Intercepted, Operation
from sightline.operations.kinds._bias import at_zero
from sightline.operations.kinds._norms import BATCH_NORM
from sightline.operations.kinds._rulable import Performed, Rulable, Ruling
from sightline.operations.kinds._weighted import LINEAR
from sightline.operations.layout._elementwise import broadcast
from sightline.operations.layout._seen import Found, Seen


def _addcmul(in_place: bool, input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:  # noqa: A002
    product = tensor1 * tensor2
    product = product if value == 1 else product * value
    return input.add_(product) if in_place else input + product


class _Add(Rulable):
    name = "add"
    spellings = "add sub rsub subtract iadd radd isub addcmul"
    elementwise = adds = features = single = True
    written_out = MappingProxyType({"addcmul": _addcmul})

    def moves_pixels(self, tensors: list[Tensor]) -> bool:
        del tensors
        return True

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        return at_zero(call, constant=len(call.signals) < 2)

    def node(self, call: Intercepted, tensors: list[Tensor], native: Native, ruling: Ruling) -> Performed | None:
        """One of its own, and where the sum is one of parallel layers, one that takes them as one layer."""
        if LINEAR in ruling.kinds and len(call.tensors) == len(tensors) and len(call.signals) == len(tensors):
            joined = summed(native, tensors, in_place=call.in_place)
            if joined is not None:
                return self._joined(call, tensors, native, ruling, joined)
        return super().node(call, tensors, native, ruling)

    def _joined(
        self, call: Intercepted, tensors: list[Tensor], native: Native, ruling: Ruling, joined: Joined
    ) -> Performed | None:
        if joined.at_once:
            seen = self.seen(call, tensors, native, ruling)
            if call.in_place:
                secure(call.tensors[0])
            return self._sum(seen, joined, tensors)
        performed = super().node(call, tensors, native, ruling)
        if performed is None:
            return None
        result, before = performed

        def complete(operation: Operation, made: Tensor) -> None:
            if before is not None:
                before(operation, made)
            joined.note(made)

        return result, complete

    def _sum(self, seen: Call, joined: Joined, tensors: list[Tensor]) -> Performed:
        """A sum of parallel branches on x."""
        layer, x = joined.layer, joined.x
        for tensor in tensors:
            if tensor is not x:
                mark_folded(tensor)
        kinds = frozenset({LINEAR, BATCH_NORM, self})
        result: Tensor = RuledSum.apply(seen, layer, kinds, x, *tensors)  # type: ignore[no-untyped-call]

        def complete(operation: Operation, made: Tensor) -> None:
            seen.operation = operation
            if len(tensors) == 1:
                scaled(tensors[0], seen.native, made)
            else:
                joined.note(made)
            if isinstance(layer, Linear):
                layer.made(operation, keep(made))
                if not layer.form.diagonal:
                    sign(made, layer, x)
                    mark_weighted(made, operation)

        return result, complete

    def layout(self, seen: Seen) -> Found:
        return broadcast(seen)


ADD = KINDS.register(_Add())
