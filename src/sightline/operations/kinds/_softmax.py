"""Softmax."""

from sightline.operations._vocabulary import KINDS, Intercepted
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.layout._elementwise import same
from sightline.operations.layout._seen import by_name


class _Softmax(Rulable):
    name = "softmax"
    spellings = "softmax log_softmax softmin gumbel_softmax"
    layouts = by_name({same: spellings})

    def gates(self, call: Intercepted) -> bool:
        return call.name == "softmax"


SOFTMAX = KINDS.register(_Softmax())
