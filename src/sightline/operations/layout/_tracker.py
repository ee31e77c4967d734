"""Layouts of the tensors of one pass, followed operation by operation."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from sightline._common.torch_private import root_of
from sightline.operations.layout._axes import Layout, has_places, of_input
from sightline.operations.layout._reshaping import item
from sightline.operations.layout._reshaping import written as written_into
from sightline.operations.layout._seen import LayoutRule, Seen, forgotten

# What a tensor holds beside its values.
_PROPERTIES = frozenset({"base", "grad"})
_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
# What a call that is spelt in a way no rule foresees raises within the rule.
_UNFORESEEN = (TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError, RuntimeError, StopIteration)


class Layouts:
    """Follows the layouts of all tensors that depend on the input.

    They are kept beside the tensors, not on them, since an operation may write into a tensor of the user's.
    """

    def __init__(self) -> None:
        self._known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._calls = 0

    def begin(self, inputs: Tensor) -> None:
        """Start with a batch of images, shape (batch, channel, *space)."""
        self._known[inputs] = of_input(tuple(inputs.shape))

    def of(self, tensor: Tensor) -> Layout | None:
        """The layout of a tensor; None where it does not depend on the input, or nobody saw that it does."""
        found: Layout | None = self._known.get(tensor)
        return found

    def establish(self, tensor: Tensor) -> None:
        """What a convolution says of its input where nobody saw how that was made: (batch, channel, *space).

        Where its places lie in the image is not known.
        """
        layout = of_input(tuple(tensor.shape))
        anywhere = replace(layout.spans[0], low=-math.inf, high=math.inf) if layout.spans else None
        self._known[tensor] = replace(layout, spans=tuple(anywhere for _ in layout.spans if anywhere is not None))

    def take(self, tensor: Tensor, source: Tensor) -> None:
        """Give a tensor the layout of another."""
        layout = self.of(source)
        if layout is not None:
            self._known[tensor] = layout

    def follow(
        self,
        func: Callable[..., Any],
        name: str,
        rule: LayoutRule,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        tensors: list[Tensor],
        results: list[Tensor],
    ) -> None:
        """See one call that has been performed, and its results; `rule` is what maps layouts there."""
        if name in _CONVOLUTIONS and tensors[0] not in self._known and tensors[0].requires_grad:
            self.establish(tensors[0])
        if not any(tensor in self._known for tensor in tensors):
            return
        if name == "setitem":
            self._written(func, args)
            return
        # These take only shape and type from a tensor.
        if not results or name.endswith("_like") or name.startswith("new_") or name in _PROPERTIES:
            return
        self._calls += 1
        seen = Seen(name, func, args, kwargs, self.of, results[0], len(results), self._calls)
        try:
            found = rule(seen) or forgotten(seen)
        except _UNFORESEEN:
            found = forgotten(seen)
        layouts = found if isinstance(found, list) else [found] * len(results)
        for tensor, layout in zip(results, layouts, strict=False):
            fits = layout.shape == tuple(tensor.shape)
            self._known[tensor] = layout if fits else forgotten(_with(seen, tensor))
            base = root_of(tensor)
            if base is not tensor and base not in self._known and any(tensor is given for given in tensors):
                # A constant that was written into through a view.
                self._known[base] = forgotten(_with(seen, base))

    def _written(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """x[index] = value: x keeps its layout where it has one, and the value stands where it did."""
        written, index, value = args
        own, given = self.of(written), self.of(value) if isinstance(value, Tensor) else None
        self._calls += 1
        if given is None:
            return
        seen = Seen("setitem", func, (written, value), {}, self.of, written, 1, self._calls)
        if own is None:
            self._known[written] = written_into(given, tuple(written.shape), index) or forgotten(seen)
            return
        try:
            target = item(Seen("getitem", Tensor.__getitem__, (written, index), {}, self.of, written, 1, self._calls))
        except _UNFORESEEN:
            target = None
        stays = isinstance(target, Layout) and (
            not has_places(given.axes)
            or (target.axes[-len(given.axes) :] == given.axes and _where(target) == _where(given))
        )
        if not stays or given.mixed or (given.picked and given.picked != own.picked):
            self._known[written] = forgotten(seen)


def _where(layout: Layout) -> list[tuple[float, float, float]]:
    return [(span.low, span.high, span.shift) for span in layout.spans]


def _with(seen: Seen, tensor: Tensor) -> Seen:
    return Seen(seen.name, seen.func, seen.args, seen.kwargs, seen.of, tensor, 1, seen.number)
