"""Resampling to another grid."""

from sightline.operations._vocabulary import KINDS, BiasTerm, Intercepted, Kind
from sightline.operations.kinds._reshape import RESHAPE
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.kinds._unknown import UNKNOWN
from sightline.operations.layout._seen import by_name
from sightline.operations.layout._windows import fold, interpolate


class _Resampling(Rulable):
    name = "resampling"
    spellings = "interpolate upsample grid_sample fold"
    homogeneous = features = single = True
    layouts = by_name({interpolate: "interpolate upsample", fold: "fold"})

    def read(self, call: Intercepted) -> Kind:
        if call.name in {"interpolate", "upsample"} and str(call.argument(3, "mode", default="nearest")).startswith(
            "nearest"
        ):
            return RESHAPE
        return self if len(call.signals) < 2 else UNKNOWN

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        # A constant that is read where the image says.
        read = call.argument(0, "input")
        return super().bias_term(call) if getattr(read, "requires_grad", False) else None


RESAMPLING = KINDS.register(_Resampling())
