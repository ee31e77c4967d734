"""Products: of a signal with a constant, with a gate, or with another signal."""

from torch import Tensor

from sightline._common.torch_private import is_view
from sightline.operations._branches import branches_of, scaled
from sightline.operations._calls import Call
from sightline.operations._graph import mark_gate
from sightline.operations._origins import is_gate
from sightline.operations._reading import Native
from sightline.operations._vocabulary import KINDS, Intercepted, Kind
from sightline.operations.kinds._pointwise import POINTWISE
from sightline.operations.kinds._rulable import Performed, Rulable, Ruling
from sightline.operations.layout._elementwise import broadcast
from sightline.operations.layout._seen import Found, Seen


class _Scaling(Rulable):
    name = "multiplication by a constant"
    spellings = "mul multiply div divide true_divide truediv rtruediv itruediv rmul imul rdiv idiv neg negative"
    homogeneous = elementwise = keeps_gates = features = single = True

    def read(self, call: Intercepted) -> Kind:
        signals = call.signals
        if len(signals) == 1:
            # A constant divided by a signal is no multiple of it, and a rounded quotient neither.
            quotient = "div" in call.name and call.argument(0, "input") is not signals[0]
            rounded = call.kwargs.get("rounding_mode") is not None
            reversed_ = call.name in {"rtruediv", "rdiv"}
            return POINTWISE if rounded or (quotient != reversed_) else self
        gates = sum(map(is_gate, signals))
        return GATING if len(signals) == 2 and gates == 1 and "div" not in call.name else PRODUCT

    def moves_pixels(self, tensors: list[Tensor]) -> bool:
        del tensors
        return True

    def note(self, seen: Call, tensors: list[Tensor], made: Tensor) -> None:
        if len(tensors) == 1 and not seen.in_place and branches_of(tensors[0]):
            scaled(tensors[0], seen.native, made)

    def layout(self, seen: Seen) -> Found:
        return broadcast(seen)


class Gated(Call):
    """What a rule sees of a multiplication by a gate.

    Attributes:
        gate: which of the inputs is the gate.
    """

    gate: int

    def read(self, call: Intercepted, tensors: list[Tensor]) -> None:
        del call
        self.gate = next((i for i, tensor in enumerate(tensors) if is_gate(tensor)), 0)


class _Gating(Rulable):
    """A rule is given a `Gated`."""

    name = "multiplication by a gate"
    features = single = True
    given = Gated

    def carries(self, tensor: Tensor) -> bool:
        # The layers of a gate's branch stand before nothing.
        return not is_gate(tensor)

    def node(self, call: Intercepted, tensors: list[Tensor], native: Native, ruling: Ruling) -> Performed | None:
        """None for a write through a view, which leaves no node of its own on which the gate could be noted."""
        if call.in_place and is_view(tensors[0]):
            return None
        return super().node(call, tensors, native, ruling)

    def note(self, seen: Call, tensors: list[Tensor], made: Tensor) -> None:
        del tensors
        assert isinstance(seen, Gated)  # noqa: S101 - that is what this kind gives to its rules
        mark_gate(made, seen.gate)

    def layout(self, seen: Seen) -> Found:
        return broadcast(seen)


class _Product(Rulable):
    name = "product of two signals"
    features = told_apart = True

    def layout(self, seen: Seen) -> Found:
        return broadcast(seen)


SCALING = KINDS.register(_Scaling())
GATING = KINDS.register(_Gating())
PRODUCT = KINDS.register(_Product())
