"""Sums and means along axes."""

from sightline.operations._vocabulary import KINDS, Intercepted, Kind
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.kinds._unknown import UNKNOWN
from sightline.operations.layout._reducing import reduce
from sightline.operations.layout._seen import by_name


class _Reduction(Rulable):
    name = "sum or mean"
    spellings = "mean sum nanmean nansum"
    layouts = by_name({reduce: spellings})
    homogeneous = single = True

    def read(self, call: Intercepted) -> Kind:
        return self if len(call.signals) < 2 else UNKNOWN


REDUCTION = KINDS.register(_Reduction())
