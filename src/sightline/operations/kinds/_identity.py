"""What changes no value: casts, copies, dropout in evaluation mode."""

from torch import Tensor

from sightline.operations._vocabulary import KINDS, BiasTerm, Intercepted
from sightline.operations.kinds._bias import at_zero
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.layout._elementwise import copy, same
from sightline.operations.layout._seen import Found, Seen, by_name


class _Identity(Rulable):
    name = "identity"
    spellings = (
        "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout clone contiguous to type type_as "
        "float double half bfloat16 cpu cuda identity alias copy requires_grad"
    )
    homogeneous = elementwise = selects = moves = keeps_gates = has_inplace_flag = True
    layouts = by_name({copy: "copy", same: "contiguous clone requires_grad"})

    def moves_pixels(self, tensors: list[Tensor]) -> bool:
        del tensors
        return True

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        # A constant that is copied over a signal.
        return at_zero(call, constant=False) if call.name == "copy" else super().bias_term(call)

    def layout(self, seen: Seen) -> Found:
        return same(seen)


IDENTITY = KINDS.register(_Identity())
