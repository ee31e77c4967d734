"""Functions of each value by itself, other than rectifiers."""

import math
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sightline.operations._vocabulary import KINDS, NO_BIAS, BiasTerm, Intercepted, Kind
from sightline.operations.kinds._bias import remainder
from sightline.operations.kinds._rectifier import RECTIFIER, number, rectification
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.kinds._unknown import UNKNOWN
from sightline.operations.layout._elementwise import broadcast, glu, same
from sightline.operations.layout._seen import Found, Seen, by_name


class _Activation(Rulable):
    name = "activation that keeps zero"
    spellings = (
        "leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish tanh softsign hardshrink softshrink tanhshrink"
    )
    elementwise = activates = has_inplace_flag = features = single = True

    def read(self, call: Intercepted) -> Kind:
        # A slope that depends on the image too.
        return self if len(call.signals) < 2 else UNKNOWN

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        return NO_BIAS if call.name in {"leaky_relu", "prelu"} else remainder(call)

    def layout(self, seen: Seen) -> Found:
        return same(seen)


class _Pointwise(Rulable):
    name = "other pointwise function"
    spellings = (
        "softplus hardtanh threshold clamp clip clamp_min clamp_max abs where masked_fill pow square sqrt rsqrt exp "
        "log log1p sin cos"
    )
    elementwise = activates = has_inplace_flag = features = True
    layouts = by_name({broadcast: "where masked_fill pow clamp clip"})

    def read(self, call: Intercepted) -> Kind:
        call.settings = rectification(call)
        if call.settings is not None:
            return RECTIFIER
        return ACTIVATION if keeps_zero(call) else self

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        return NO_BIAS if call.homogeneous or call.name == "abs" else remainder(call)

    def layout(self, seen: Seen) -> Found:
        return broadcast(seen)


def _glu(_in_place: bool, input: Tensor, dim: int = -1) -> Tensor:  # noqa: A002 - torch's names
    """One half of the values, gated by the other."""
    values, gates = input.chunk(2, dim)
    return values * torch.sigmoid(gates)


class _Gate(Rulable):
    name = "gate's own function"
    spellings = "sigmoid hardsigmoid logsigmoid glu"
    elementwise = has_inplace_flag = True
    layouts = by_name({glu: "glu"})
    written_out = MappingProxyType({"glu": _glu})

    def gates(self, call: Intercepted) -> bool:
        return call.name in {"sigmoid", "hardsigmoid"}

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        return remainder(call)

    def layout(self, seen: Seen) -> Found:
        return same(seen)


ACTIVATION = KINDS.register(_Activation())
POINTWISE = KINDS.register(_Pointwise())
GATE = KINDS.register(_Gate())


def keeps_zero(call: Intercepted) -> bool:
    """Whether a call that cuts values off at constants gives zero for zero, as activations with a rule do."""
    argument = call.argument
    lower: Any = None
    upper: Any = None
    match call.name:
        case "clamp" | "clip":
            lower, upper = argument(1, "min"), argument(2, "max")
        case "clamp_min":
            lower = argument(1, "min")
        case "clamp_max":
            upper = argument(1, "max")
        case "hardtanh":
            lower, upper = argument(1, "min_val", default=-1.0), argument(2, "max_val", default=1.0)
        case "maximum" | "minimum":
            pair = argument(0, "input"), argument(1, "other")
            constant = [value for value in pair if not getattr(value, "requires_grad", False)]
            if len(constant) != 1:
                return False
            lower, upper = (constant[0], None) if call.name == "maximum" else (None, constant[0])
        case "threshold":
            # What is not above the threshold becomes the value.
            threshold, value = number(argument(1, "threshold")), number(argument(2, "value"))
            return threshold is not None and (threshold < 0 or value == 0)
        case _:
            return False
    low, high = -math.inf if lower is None else number(lower), math.inf if upper is None else number(upper)
    return low is not None and high is not None and low <= 0 <= high
