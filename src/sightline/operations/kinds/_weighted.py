"""Weighted layers, y = W x + b with constant weights, and products of two matrices."""

from functools import partial

from torch import Tensor

from sightline._common.torch_private import version_of
from sightline.operations._branches import Branch, note_branches
from sightline.operations._forms import form_of
from sightline.operations._graph import mark_weighted
from sightline.operations._kept import keep, wide
from sightline.operations._linear import Linear, RuledLinear, sign
from sightline.operations._origins import is_weighted
from sightline.operations._reading import Native
from sightline.operations._vocabulary import KINDS, NO_BIAS, BiasTerm, Intercepted, Kind, Operation
from sightline.operations.kinds._rulable import Performed, Rulable, Ruling
from sightline.operations.layout._products import attention, einsum, linear, matmul
from sightline.operations.layout._seen import by_name
from sightline.operations.layout._windows import transposed, window


class _Linear(Rulable):
    """A rule is given a `Linear`."""

    name = "weighted layer"
    spellings = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution linear addmm"
    weighs = weighted = features = asks_pixels = True
    copies = False
    layouts = by_name(
        {
            linear: "linear addmm",
            window: "conv1d conv2d conv3d convolution",
            transposed: "conv_transpose1d conv_transpose2d conv_transpose3d",
        }
    )

    def read(self, call: Intercepted) -> Kind:
        return self if len(call.signals) < 2 else MATMUL

    def read_for_rules(self, call: Intercepted) -> Kind:
        call.settings = form_of(call.name, call.args, call.kwargs)
        return MATMUL if call.settings is None else self

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        form = form_of(call.name, call.args, call.kwargs)
        if form is None:
            return None
        return NO_BIAS if form.bias is None else (wide(form.bias).clone(), form.axis)

    def bias(self, call: Intercepted) -> BiasTerm | None:
        return None if call.name == "addmm" else bias_at(call, 2, -1 if call.name == "linear" else 1)

    def node(self, call: Intercepted, tensors: list[Tensor], native: Native, ruling: Ruling) -> Performed:
        x, reuse = tensors[0], ruling.reuse
        layer = Linear(call.settings, keep(x), ruling.active, kind=self, first=not is_weighted([x]))
        layer.from_image = ruling.pixels.of(x)
        made_by = native if reuse is None else partial(reuse.take, native)
        result: Tensor = RuledLinear.apply(x, layer, made_by)  # type: ignore[no-untyped-call]

        def complete(operation: Operation, made: Tensor) -> None:
            layer.made(operation, keep(made))
            if reuse is not None:
                reuse.keep(keep(made))
            sign(made, layer, x)
            note_branches(made, Branch(lambda: layer, x, version_of(x)))
            mark_weighted(made, operation)

        return result, complete


class _Matmul(Rulable):
    name = "product of two matrices"
    spellings = (
        "matmul rmatmul mm bmm mv dot addmv baddbmm einsum tensordot scaled_dot_product_attention bilinear outer kron"
    )
    weighs = told_apart = True
    layouts = by_name(
        {
            matmul: "matmul rmatmul bmm mm baddbmm",
            attention: "scaled_dot_product_attention",
            einsum: "einsum",
        }
    )

    def read(self, call: Intercepted) -> Kind:
        return LINEAR if call.name in {"matmul", "mm"} and _constant_right(call) else self

    def bias(self, call: Intercepted) -> BiasTerm | None:
        return bias_at(call, 3, -1) if call.name == "bilinear" else None


LINEAR = KINDS.register(_Linear())
MATMUL = KINDS.register(_Matmul())


def bias_at(call: Intercepted, position: int, axis: int) -> BiasTerm | None:
    """The bias among a call's arguments, with the axis of the result that it runs along.

    None where there is none, or one for each position too, since it does not tell which axis is the channels'.
    """
    bias = call.argument(position, "bias")
    return None if bias is None or bias.dim() > 1 else (wide(bias.detach()).clone(), axis)


def _constant_right(call: Intercepted) -> bool:
    left, right = call.argument(0, "input"), call.argument(1, "mat2", "other")
    return (
        isinstance(left, Tensor)
        and isinstance(right, Tensor)
        and left.requires_grad
        and not right.requires_grad
        and left.dim() >= 2
        and right.dim() == 2
    )
