"""Batch norm, and normalisation by the image's own values."""

from torch import Tensor
from torch.nn import functional

from sightline._common.torch_private import version_of
from sightline.operations._branches import Branch, note_branches
from sightline.operations._forms import BatchNorm, batch_norm_of, diagonal, has_statistics
from sightline.operations._graph import mark_folded, mark_weighted
from sightline.operations._kept import keep
from sightline.operations._linear import Linear, RuledBatchNorm, foldable, sign
from sightline.operations._origins import is_weighted
from sightline.operations._reading import Native
from sightline.operations._vocabulary import KINDS, BiasTerm, Intercepted, Kind, Operation
from sightline.operations.kinds._rulable import Performed, Rulable, Ruling
from sightline.operations.kinds._unknown import UNKNOWN
from sightline.operations.kinds._weighted import bias_at
from sightline.operations.layout._elementwise import same
from sightline.operations.layout._seen import by_name


class _BatchNorm(Rulable):
    """A rule is given a `Linear`: together with the weighted layer before it, or by itself."""

    name = "batch norm"
    spellings = "batch_norm"
    layouts = by_name({same: spellings})
    features = True
    copies = False

    def read(self, call: Intercepted) -> Kind:
        # A scale or shift that depends on the image too.
        return self if len(call.signals) < 2 else UNKNOWN

    def read_for_rules(self, call: Intercepted) -> Kind:
        return self if has_statistics(call.func, call.args, call.kwargs) else NORMALISATION

    def moves_pixels(self, tensors: list[Tensor]) -> bool:
        return not is_weighted(tensors)

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        norm = batch_norm_of(call.func, call.args, call.kwargs)
        return None if norm is None else (norm.shift, 1)

    def bias(self, call: Intercepted) -> BiasTerm | None:
        return bias_at(call, _bias_position(call), 1)

    def node(self, call: Intercepted, tensors: list[Tensor], native: Native, ruling: Ruling) -> Performed:
        h = tensors[0]
        norm = batch_norm_of(call.func, call.args, call.kwargs)
        assert norm is not None  # noqa: S101 - `read_for_rules` has seen its statistics
        found = foldable(h)
        linear: Linear | str
        if found is None:
            linear, x = self._alone(norm, h, ruling), None
        elif found[1] is None:
            linear, x = _OVERWRITTEN, None
        else:
            linear, x = found[0].folded(norm.scale, norm.shift), found[1]
            found[0].forget_result()
            mark_folded(h)
        result: Tensor = RuledBatchNorm.apply(h, x, linear, norm, native, self)  # type: ignore[no-untyped-call]

        def complete(operation: Operation, made: Tensor) -> None:
            if not isinstance(linear, Linear):
                return
            linear.made(operation, keep(made))
            alone = Branch(lambda: self._alone(norm, h, ruling) if x is not None else linear, h, version_of(h))
            if x is None:
                note_branches(made, alone)
            else:
                sign(made, linear, x)
                note_branches(made, Branch(lambda: linear, x, version_of(x)), alone)
                mark_weighted(made, operation)

        return result, complete

    def _alone(self, norm: BatchNorm, h: Tensor, ruling: Ruling) -> Linear:
        return Linear(diagonal(norm.scale, norm.shift), keep(h), ruling.active, kind=self, first=False)


class _Normalisation(Rulable):
    name = "normalisation by the image's own values"
    spellings = "instance_norm layer_norm group_norm rms_norm normalize"
    layouts = by_name({same: spellings})
    features = True

    def read(self, call: Intercepted) -> Kind:
        if call.name == "instance_norm" and not call.argument(5, "use_input_stats", default=True):
            # By running statistics, which is what a batch norm does.
            return BATCH_NORM if len(call.signals) == 1 else UNKNOWN
        return self

    def bias(self, call: Intercepted) -> BiasTerm | None:
        match call.name:
            case "instance_norm":
                return bias_at(call, _bias_position(call), 1)
            case "group_norm":
                return bias_at(call, 3, 1)
            case "layer_norm":
                return bias_at(call, 3, -1)
        return None

    def may_hide_bias(self, call: Intercepted) -> bool:
        bias: object = call.argument(3, "bias") if call.name == "layer_norm" else None
        return isinstance(bias, Tensor) and bias.dim() > 1


BATCH_NORM = KINDS.register(_BatchNorm())
NORMALISATION = KINDS.register(_Normalisation())


def _bias_position(call: Intercepted) -> int:
    return 4 if call.func in {functional.batch_norm, functional.instance_norm} else 2


_OVERWRITTEN = (
    "A weighted layer's input is written over in place before the batch norm that follows the layer, so that the two "
    "cannot be treated as one. Use that operation out of place."
)
