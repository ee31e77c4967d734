"""Results of weighted layers that stay the same from pass to pass of a network whose later layers change.

An audit asks the same images of one network again and again, while its layers lose their weights from the output on. Up
to the first operation that is given a changed parameter, all is as it was, and weighted layers, which cost the most,
need not be computed again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sightline._common.torch_private import version_of
from sightline.operations._kept import Kept

_BUDGET = 1 << 30


class _Result(NamedTuple):
    """A result, and the sum of what entered, by which layers that were performed in another order are found out."""

    values: Kept
    entered: Tensor


@dataclass
class _Pass:
    """What is kept of the passes of some inputs; the versions of all parameters and buffers, and changes told then."""

    inputs: Tensor
    versions: dict[int, int]
    told: int
    results: list[_Result] = field(default_factory=list)


class Reuse:
    """Results of one network's weighted layers, for as long as nothing before them has changed.

    Operations are told apart by their order. A changed layer, and all that is performed after it, is computed and no
    longer kept. Only for networks whose passes depend on their inputs, parameters and buffers alone.

    Args:
        model: the network.
        budget: bytes of inputs and results that may be kept.
    """

    def __init__(self, model: nn.Module, budget: int = _BUDGET) -> None:
        self.model, self._left = model, budget
        self._passes: list[_Pass] = []
        self._told: list[nn.Module] = []
        self._now: _Pass | None = None
        self._changed: set[int] = set()
        self._position = 0
        self._entered: Tensor | None = None

    def changed(self, module: nn.Module) -> None:
        """A module's parameters or buffers were changed; torch notices by itself, but for writes through `.data`."""
        self._told.append(module)

    def begin(self, inputs: Tensor) -> None:
        """A pass begins."""
        versions = _versions(self.model)
        known = (one for one in self._passes if one.inputs.shape == inputs.shape and torch.equal(one.inputs, inputs))
        self._now, self._position = next(known, None), 0
        if self._now is not None:
            told = (place for module in self._told[self._now.told :] for place in _versions(module))
            self._changed = {place for place, version in versions.items() if self._now.versions.get(place) != version}
            self._changed.update(told)
            self._now.versions, self._now.told = versions, len(self._told)
        elif inputs.nbytes <= self._left:
            self._left -= inputs.nbytes
            self._now, self._changed = _Pass(inputs.detach().clone(), versions, len(self._told)), set()
            self._passes.append(self._now)

    def see(self, tensors: Sequence[Tensor]) -> None:
        """An operation is about to be performed on some tensors."""
        if self._now is not None and self._changed and any(t.data_ptr() in self._changed for t in tensors):
            self._drop(self._now)
            self._now = None

    def take(self, native: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """What a weighted layer gives for x: what is kept of it, or made now."""
        if self._now is None:
            return native(x)
        self._entered = x.sum()
        if self._position == len(self._now.results):
            return native(x)
        kept = self._now.results[self._position]
        if kept.values.intact and torch.equal(kept.entered, self._entered):
            return kept.values.values.detach()
        self._drop(self._now)
        self._now = None
        return native(x)

    def keep(self, made: Kept) -> None:
        """Keep the result that `take` gave, as it is now."""
        if self._now is None or self._entered is None:
            return
        results = self._now.results
        if self._position < len(results):
            # Once more, since what was taken is the model's now, which may write over it.
            results[self._position] = _Result(made, self._entered)
        elif made.nbytes <= self._left:
            self._left -= made.nbytes
            results.append(_Result(made, self._entered))
        else:
            self._now = None
        self._position += 1

    def _drop(self, one: _Pass) -> None:
        """Keep nothing of a pass from here on."""
        self._left += sum(result.values.nbytes for result in one.results[self._position :])
        del one.results[self._position :]


def _versions(module: nn.Module) -> dict[int, int]:
    """By their memory, which a parameter shares with the same parameter cut from the graph."""
    tensors = chain(module.parameters(), module.buffers())
    return {tensor.data_ptr(): version_of(tensor) for tensor in tensors if tensor.numel()}


_CURRENT: ContextVar[Reuse | None] = ContextVar("reuse", default=None)


@contextmanager
def reusing(reuse: Reuse | None) -> Iterator[None]:
    """Have passes of that network keep results, and take those that are kept."""
    token = _CURRENT.set(reuse)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def reuse_of(model: Any) -> Reuse | None:
    """What is kept of a network's passes, where that was asked for."""
    current = _CURRENT.get()
    return current if current is not None and current.model is model else None
