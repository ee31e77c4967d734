"""Performing a call of the model: by torch itself, or by a node of ours where some propagation rules its kind."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from sightline._common.torch_private import is_view, root_of, version_of
from sightline.errors import InputError
from sightline.operations._active import Active
from sightline.operations._branches import Branch, Joined, RuledSum, branches_of, note_branches, scaled, summed
from sightline.operations._calls import Call, RuledCall, attempt, fresh
from sightline.operations._forms import (
    BatchNorm,
    Form,
    batch_norm_of,
    diagonal,
    form_of,
    has_statistics,
    response_norm_of,
)
from sightline.operations._graph import mark_folded, mark_gate, mark_weighted
from sightline.operations._hooks import note
from sightline.operations._kept import keep, secure
from sightline.operations._linear import Linear, RuledBatchNorm, RuledLinear, foldable, sign
from sightline.operations._origins import is_gate, is_weighted
from sightline.operations._reading import Native, averaging, bound
from sightline.operations._rectifier import Rectified, RuledRectifier
from sightline.operations._reuse import Reuse
from sightline.operations._vocabulary import Kind, Operation, Rectification

Completion = Callable[[Operation, Tensor], None]
"""What remains to be noted once the operation has its place in the order, with its result."""

# Every call of these gives one new tensor, or writes over its first.
_SINGLE = frozenset(
    {
        Kind.ACTIVATION,
        Kind.MAX_POOLING,
        Kind.AVERAGE_POOLING,
        Kind.REDUCTION,
        Kind.RESAMPLING,
        Kind.ADD,
        Kind.SCALING,
        Kind.GATING,
        Kind.RESPONSE_NORM,
    }
)
_OWN = frozenset({Kind.RECTIFIER, Kind.LINEAR, Kind.BATCH_NORM})
# What only moves, pads or rescales pixels, so that their range can be followed.
_MOVES_PIXELS = frozenset({Kind.RESHAPE, Kind.IDENTITY, Kind.ADD, Kind.SCALING, Kind.BATCH_NORM})
_FROM_IMAGE = "_sightline_from_image"
_VIEWED = "_sightline_viewed"


@dataclass
class Intercepted:
    """A call of the model on tensors of which some depend on the input.

    Attributes:
        func: torch's function.
        name: its spelling.
        kind: what it is; corrected to what it turns out to be.
        args: positional arguments, parameters cut from the graph.
        kwargs: keyword arguments.
        tensors: all tensors among them.
        settings: for a rectifier, its bounds.
        in_place: whether it may write over its first argument.
        has_node: whether a node of ours performs it, where its kind is ruled.
        form: for a weighted layer, its mathematics.
    """

    func: Native
    name: str
    kind: Kind
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor]
    settings: Rectification | None
    in_place: bool = False
    has_node: bool = True
    form: Form | None = None


class Performer:
    """Performs calls, with nodes of our own for the kinds that are ruled.

    Args:
        ruled: the kinds for which some propagation of the pass has a rule.
        active: where the nodes look the rule up.
        reuse: results of earlier passes, if any are kept.
    """

    def __init__(self, ruled: Collection[Kind], active: Active, reuse: Reuse | None = None) -> None:
        self._ruled, self._active, self._reuse = ruled, active, reuse
        self._follows_pixels = Kind.LINEAR in ruled
        self._lost_pixels = False

    def begin(self, image: Tensor) -> Tensor:
        """The image that a pass begins with."""
        if self._follows_pixels:
            channels = image.shape[1]

            def whole(values: Tensor) -> Tensor:
                if values.numel() not in {1, channels}:
                    raise InputError(
                        f"The range of a pixel is a number or one for each of the {channels} channels; got "
                        f"{values.numel()} numbers."
                    )
                return values.reshape(1, -1, 1, 1).expand(shape)

            shape = image.shape
            note(image, _FROM_IMAGE, whole)
        return image

    def perform(self, call: Intercepted) -> tuple[Any, Completion | None]:
        """The result, and what remains to be done once it has been noted."""
        found = None
        if self._ruled:
            _refine(call)
        if self._follows_pixels:
            self._watch_pixels(call)
        if call.kind in self._ruled or (self._follows_pixels and call.kind in _MOVES_PIXELS):
            copies = call.kind in _SINGLE or (call.kind in self._ruled and call.kind not in _OWN)
            found = bound(call.func, call.args, call.kwargs, in_place=call.in_place, copies=copies)
        followed = self._followed(call, *found) if found is not None else None
        if call.kind in self._ruled:
            result, complete = self._ruled_call(call, found)
        else:
            if call.in_place or call.name == "setitem":
                secure(call.tensors[0])
            result, complete = call.func(*call.args, **call.kwargs), None
        if self._follows_pixels and isinstance(result, Tensor):
            if followed is not None:
                note(result, _FROM_IMAGE, followed)
            elif hasattr(result, _FROM_IMAGE):  # written over in place
                delattr(result, _FROM_IMAGE)
        return result, complete

    def _watch_pixels(self, call: Intercepted) -> None:
        """Lose track where pixels are written over of which there are other views, whose notes would be wrong."""
        first = call.tensors[0]
        root = root_of(first)
        if not (hasattr(first, _FROM_IMAGE) or hasattr(root, _FROM_IMAGE)):
            return
        if call.in_place or call.name == "setitem":
            self._lost_pixels = self._lost_pixels or root is not first or hasattr(root, _VIEWED)
        elif call.kind is Kind.RESHAPE:
            setattr(root, _VIEWED, True)

    def _followed(self, call: Intercepted, tensors: list[Tensor], native: Native) -> Native | None:
        """What was done to the image up to this call's result, where that only moves, pads or rescales pixels."""
        if call.kind not in _MOVES_PIXELS or len(tensors) != 1 or not self._follows_pixels:
            return None
        before: Native | None = getattr(tensors[0], _FROM_IMAGE, None)
        if before is None or (call.kind is Kind.BATCH_NORM and is_weighted(tensors)):
            return None
        in_place = call.in_place
        return lambda values: native(before(values).clone() if in_place else before(values))

    def _ruled_call(
        self, call: Intercepted, found: tuple[list[Tensor], Native] | None
    ) -> tuple[Any, Completion | None]:
        performed: tuple[Any, Completion | None] | None = None
        if found is not None:
            tensors, native = found
            if call.settings is not None:
                performed = self._rectify(tensors[0], native, call.settings)
            elif call.form is not None:
                performed = self._linear(call.form, tensors[0], native)
            elif call.kind is Kind.BATCH_NORM:
                performed = self._batch_norm(call, tensors[0], native)
            else:
                performed = self._call(call, tensors, native)
        if performed is not None:
            return performed
        call.has_node = False
        if call.in_place or call.name == "setitem":
            secure(call.tensors[0])
        return call.func(*call.args, **call.kwargs), None

    def _rectify(self, x: Tensor, native: Native, settings: Rectification) -> tuple[Tensor, Completion]:
        rectified = Rectified(settings, native, self._active)
        if not settings.closed_at_bounds:
            rectified.kept = keep(x)
        if settings.in_place:
            secure(x)
        result: Tensor = RuledRectifier.apply(x, rectified)  # type: ignore[no-untyped-call]

        def complete(_: Operation, made: Tensor) -> None:
            if rectified.kept is None:
                rectified.kept = keep(made)

        return result, complete

    def _linear(self, form: Form, x: Tensor, native: Native) -> tuple[Tensor, Completion]:
        linear = Linear(form, keep(x), self._active, first=not is_weighted([x]))
        linear.from_image = None if self._lost_pixels else getattr(x, _FROM_IMAGE, None)
        made_by = native if self._reuse is None else partial(self._reuse.take, native)
        result: Tensor = RuledLinear.apply(x, linear, made_by)  # type: ignore[no-untyped-call]

        def complete(operation: Operation, made: Tensor) -> None:
            linear.made(operation, keep(made))
            if self._reuse is not None:
                self._reuse.keep(keep(made))
            sign(made, linear, x)
            note_branches(made, Branch(lambda: linear, x, version_of(x)))
            mark_weighted(made, operation)

        return result, complete

    def _batch_norm(self, call: Intercepted, h: Tensor, native: Native) -> tuple[Tensor, Completion]:
        norm = batch_norm_of(call.func, call.args, call.kwargs)
        assert norm is not None  # noqa: S101 - `_refine` has seen its statistics
        found = foldable(h)
        linear: Linear | str
        if found is None:
            linear, x = self._alone(norm, h), None
        elif found[1] is None:
            linear, x = _OVERWRITTEN, None
        else:
            linear, x = found[0].folded(norm.scale, norm.shift), found[1]
            found[0].forget_result()
            mark_folded(h)
        result: Tensor = RuledBatchNorm.apply(h, x, linear, norm, native)  # type: ignore[no-untyped-call]

        def complete(operation: Operation, made: Tensor) -> None:
            if not isinstance(linear, Linear):
                return
            linear.made(operation, keep(made))
            alone = Branch(lambda: self._alone(norm, h) if x is not None else linear, h, version_of(h))
            if x is None:
                note_branches(made, alone)
            else:
                sign(made, linear, x)
                note_branches(made, Branch(lambda: linear, x, version_of(x)), alone)
                mark_weighted(made, operation)

        return result, complete

    def _alone(self, norm: BatchNorm, h: Tensor) -> Linear:
        return Linear(diagonal(norm.scale, norm.shift), keep(h), self._active, first=False)

    def _call(
        self, call: Intercepted, tensors: list[Tensor], native: Native
    ) -> tuple[Tensor, Completion | None] | None:
        if call.kind is Kind.GATING and call.in_place and is_view(tensors[0]):
            # A write through a view leaves no node of its own, on which the gate could be noted.
            return None
        made = None
        if call.kind not in _SINGLE:
            known = None if call.name in _NEVER else attempt(native, tensors, in_place=call.in_place)
            if known is None:
                return None
            made = None if call.in_place else fresh(known, tensors)
        kept = [keep(tensor) for tensor in tensors]
        signals = [tensor.requires_grad for tensor in tensors]
        gate = next((i for i, tensor in enumerate(tensors) if is_gate(tensor)), 0)
        mean = averaging(call.name, call.args, call.kwargs) if call.kind is Kind.MAX_POOLING else None
        seen = Call(
            call.kind, native, kept, self._active, in_place=call.in_place, gate=gate, mean=mean, signals=signals
        )
        if call.kind is Kind.RESPONSE_NORM:
            seen.response = response_norm_of(call.args, call.kwargs)
        joined = None
        if call.kind is Kind.ADD and Kind.LINEAR in self._ruled and len(call.tensors) == len(tensors) and all(signals):
            joined = summed(native, tensors, in_place=call.in_place)
        if call.in_place:
            secure(call.tensors[0])
        if joined is not None and joined.at_once:
            return self._sum(seen, joined, tensors)
        seen.made = made
        result: Tensor = RuledCall.apply(seen, *tensors)  # type: ignore[no-untyped-call]

        def complete(operation: Operation, made: Tensor) -> None:
            seen.operation = operation
            if seen.kind is Kind.SCALING and len(tensors) == 1 and not call.in_place and branches_of(tensors[0]):
                scaled(tensors[0], native, made)
            if joined is not None:
                joined.note(made)
            if seen.kind is Kind.GATING:
                mark_gate(made, gate)

        return result, complete

    def _sum(self, seen: Call, joined: Joined, tensors: list[Tensor]) -> tuple[Tensor, Completion | None]:
        """A sum of parallel branches on x."""
        layer, x = joined.layer, joined.x
        for tensor in tensors:
            if tensor is not x:
                mark_folded(tensor)
        result: Tensor = RuledSum.apply(seen, layer, x, *tensors)  # type: ignore[no-untyped-call]

        def complete(operation: Operation, made: Tensor) -> None:
            seen.operation = operation
            if len(tensors) == 1:
                scaled(tensors[0], seen.native, made)
            else:
                joined.note(made)
            if isinstance(layer, Linear):
                layer.made(operation, keep(made))
                if not layer.form.diagonal:
                    sign(made, layer, x)
                    mark_weighted(made, operation)

        return result, complete


def _refine(call: Intercepted) -> None:
    """What is no weighted layer y = W x + b, or has no statistics of its own, is a product or a normalisation."""
    if call.kind is Kind.LINEAR:
        call.form = form_of(call.name, call.args, call.kwargs)
        call.kind = Kind.LINEAR if call.form is not None else Kind.MATMUL
    elif call.kind is Kind.BATCH_NORM and not has_statistics(call.func, call.args, call.kwargs):
        call.kind = Kind.NORMALISATION


_NEVER = frozenset({"setitem", "requires_grad"})
"""What gives no result of its own."""

_OVERWRITTEN = (
    "A weighted layer's input is written over in place before the batch norm that follows the layer, so that the two "
    "cannot be treated as one. Use that operation out of place."
)
