"""Rectifiers: ReLU and ReLU6 in every spelling, and what cuts values off below zero as they do."""

import math
from typing import Any

from torch import Tensor

from sightline.operations._kept import keep, secure
from sightline.operations._origins import is_shifted
from sightline.operations._reading import Native
from sightline.operations._rectifier import Rectification, Rectified, RuledRectifier
from sightline.operations._vocabulary import KINDS, NO_BIAS, BiasTerm, Intercepted, Kind, Operation
from sightline.operations.kinds._bias import remainder
from sightline.operations.kinds._rulable import Performed, Rulable, Ruling
from sightline.operations.layout._elementwise import same
from sightline.operations.layout._seen import Found, Seen


class _Rectifier(Rulable):
    """A rule is given a `Rectified`."""

    name = "rectifier"
    spellings = "relu relu6"
    elementwise = activates = takes_derived = has_inplace_flag = features = True
    copies = False

    def read(self, call: Intercepted) -> Kind:
        call.settings = rectification(call)
        return self

    def gates(self, call: Intercepted) -> bool:
        # Between bounds it is a gate where it is a hard sigmoid, min(max(x + c, 0), 6): else it is an activation.
        return bool(call.settings.upper < math.inf and is_shifted(call.signals))

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        return NO_BIAS if call.settings.upper == math.inf else remainder(call)

    def node(self, call: Intercepted, tensors: list[Tensor], native: Native, ruling: Ruling) -> Performed:
        x, settings = tensors[0], call.settings
        rectified = Rectified(self, settings, native, ruling.active)
        if not settings.closed_at_bounds:
            rectified.kept = keep(x)
        if settings.in_place:
            secure(x)
        result: Tensor = RuledRectifier.apply(x, rectified)  # type: ignore[no-untyped-call]

        def complete(_: Operation, made: Tensor) -> None:
            if rectified.kept is None:
                rectified.kept = keep(made)

        return result, complete

    def layout(self, seen: Seen) -> Found:
        return same(seen)


RECTIFIER = KINDS.register(_Rectifier())


def rectification(call: Intercepted) -> Rectification | None:
    """The rectifier that a call amounts to, or None where it is none.

    ReLU and ReLU6 in every spelling, and `clamp`, `hardtanh`, `threshold` and `maximum` where their bounds make
    them one: lower bound exactly 0, upper bound none or positive.
    """
    argument, in_place = call.argument, call.in_place
    lower: Any
    upper: Any
    match call.name:
        case "relu":
            lower, upper, in_place = 0.0, None, in_place or bool(argument(1, "inplace", default=False))
        case "relu6":
            lower, upper, in_place = 0.0, 6.0, in_place or bool(argument(1, "inplace", default=False))
        case "clamp" | "clip":
            lower, upper = argument(1, "min"), argument(2, "max")
        case "clamp_min":
            lower, upper = argument(1, "min"), None
        case "hardtanh":
            lower, upper = argument(1, "min_val", default=-1.0), argument(2, "max_val", default=1.0)
            in_place = in_place or bool(argument(3, "inplace", default=False))
        case "threshold":
            lower, upper = argument(1, "threshold"), None
            if number(argument(2, "value")) != 0.0:
                return None
            in_place = in_place or bool(argument(3, "inplace", default=False))
        case "maximum":
            first, second = argument(0, "input"), argument(1, "other")
            # The constant may stand on either side; only the first place can be rectified by our node.
            lower, upper = (second, None) if getattr(first, "requires_grad", False) else (None, None)
        case _:
            return None
    low, high = number(lower), math.inf if upper is None else number(upper)
    if low != 0.0 or high is None or high <= 0.0:
        return None
    return Rectification(low, high, in_place, call.name)


def number(value: Any) -> float | None:
    """A setting as a number, also where it is a constant tensor of one value; None where it is neither."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Tensor) and not value.requires_grad and value.numel() > 0:
        low, high = value.min(), value.max()
        return float(low) if bool(low == high) else None
    return None
