"""What moves values to other places: views, slices, joining, padding, flips."""

from torch import Tensor

from sightline.operations._vocabulary import KINDS, BiasTerm, Intercepted
from sightline.operations.kinds._bias import at_zero
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.layout._elementwise import same
from sightline.operations.layout._joining import concatenate, stack
from sightline.operations.layout._reshaping import flip, index_select, item, pad, repeat, reshape, roll, unfold, view
from sightline.operations.layout._seen import by_name
from sightline.operations.layout._windows import shuffle


class _Reshape(Rulable):
    name = "reshape"
    spellings = (
        "view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze permute transpose t T mT movedim "
        "swapaxes swapdims cat concat concatenate stack hstack vstack dstack split split_with_sizes chunk tensor_split "
        "unbind getitem setitem select narrow index_select gather take_along_dim expand expand_as repeat "
        "repeat_interleave tile roll flip rot90 pad constant_pad_nd unfold pixel_shuffle pixel_unshuffle "
        "channel_shuffle native_channel_shuffle diagonal as_strided atleast_1d atleast_2d atleast_3d hsplit vsplit H mH"
    )
    selects = moves = views = keeps_gates = features = True
    picks = frozenset({"getitem", "gather", "take_along_dim", "index_select"})
    layouts = by_name(
        {
            view: "permute transpose t T mT H mH movedim swapaxes swapdims squeeze unsqueeze select narrow split "
            "split_with_sizes chunk tensor_split hsplit vsplit unbind expand expand_as diagonal atleast_1d atleast_2d "
            "atleast_3d",
            reshape: "view reshape flatten unflatten ravel view_as reshape_as",
            item: "getitem",
            index_select: "index_select",
            flip: "flip",
            roll: "roll",
            pad: "pad constant_pad_nd",
            concatenate: "cat concat concatenate hstack vstack dstack",
            stack: "stack",
            repeat: "repeat repeat_interleave tile",
            shuffle: "pixel_shuffle pixel_unshuffle",
            unfold: "unfold",
            same: "channel_shuffle native_channel_shuffle",
        }
    )

    def moves_pixels(self, tensors: list[Tensor]) -> bool:
        del tensors
        return True

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        """The constants that are joined with signals, padded with or written into a part of them."""
        fills = call.name == "setitem" or (
            call.name in {"pad", "constant_pad_nd"} and call.argument(3, "value") not in {None, 0}
        )
        fills = fills or (call.name == "constant_pad_nd" and call.argument(2, "value") not in {None, 0})
        return at_zero(call, constant=fills)


RESHAPE = KINDS.register(_Reshape())
