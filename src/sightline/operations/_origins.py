"""Where tensors come from, as far as the graph does not tell.

A rectifier can be written without any operation that looks like one: `x * (x > 0)`, `x.data.clamp_(0)`, the larger of
`x` and a constant from one stack. No rule would see it. So tensors that depend on the input outside the graph are
marked, and an operation that takes one is not covered. Inside the graph, two more things matter to rules: whether a
tensor is a gate (bounded from 0 up by its own function), and whether a weighted layer stands before it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline._common.torch_private import is_view, root_of
from sightline.operations._notes import Note
from sightline.operations._vocabulary import LEAVES_TORCH, Kind

# Two passes share no tensor that is computed from the input.
_DERIVED = Note[bool]("derived", on_memory=True)  # computed from the input, outside the graph
_SHARED = Note[bool]("shared", on_memory=True)  # memory of a tensor on the way from the input, outside the graph
_MIXED = Note[bool]("mixed", on_memory=True)  # joined from values on the way from the input and others
_CUT = Note[bool]("cut", on_memory=True)  # in the graph, but only on a layer behind which it begins anew
_GATE = Note[bool]("gate", on_memory=True)  # a gate's own function of a signal, perhaps scaled or reshaped
_WEIGHTED = Note[bool]("weighted", on_memory=True)  # behind a weighted layer
_SHIFTED = Note[bool]("shifted", on_memory=True)  # a signal plus a constant, as before a hard sigmoid
_ALL = (_DERIVED, _SHARED, _MIXED, _CUT, _GATE, _WEIGHTED, _SHIFTED)
# Not uint8, which in an index is a mask.
_INDICES = frozenset({torch.int64, torch.int32, torch.int16, torch.int8})
# Their result takes only shape, type or place from the second tensor.
_LIKE = frozenset({"type_as", "to", "expand_as", "view_as", "reshape_as"})


class Origins:
    """Keeps track while a pass runs.

    Attributes:
        left: phrases for what happened where nobody can follow it.
    """

    def __init__(self) -> None:
        self.left: list[str] = []
        self._written: list[Tensor] = []

    def inside(
        self,
        kind: Kind,
        made: Sequence[Tensor],
        tensors: Sequence[Tensor],
        depends: Sequence[bool],
        *,
        gate: bool,
        writes: bool,
        picks: bool,
    ) -> None:
        """Note what an operation on the way from the input made of `tensors`.

        Args:
            kind: what it is.
            made: its results.
            tensors: what it took.
            depends: which of them depended on the input before it ran.
            gate: whether its result may gate another signal.
            writes: whether it wrote over its first tensor.
            picks: whether it took entries of its first tensor by an index.
        """
        before = [tensor for tensor, on_path in zip(tensors, depends, strict=True) if on_path]
        signals = [tensor for tensor in before if kind.carries(tensor)]
        marks = {
            _CUT: bool(before) and all(_CUT.on(tensor) for tensor in before),
            _WEIGHTED: kind.weighted or is_weighted(signals),
        }
        if kind.moves:
            # An index is nothing that a value could be joined with.
            joined = tensors[:1] if picks else tensors
            marks[_MIXED] = (len(joined) > 1 and len(before) < len(joined)) or is_mixed(joined)
        gate = gate or (kind.keeps_gates and bool(before) and all(map(is_gate, before)))
        for tensor in made:
            for note, on in marks.items():
                if on:
                    note.put(tensor, True)
            for note, on in {_GATE: gate, _SHIFTED: kind.adds and len(before) == 1}.items():
                if on:
                    note.put(tensor, True)
                elif writes:
                    note.drop(tensor)

    def outside(
        self, name: str, in_place: bool, results: Sequence[Tensor], tensors: Sequence[Tensor], where: str
    ) -> None:
        """Note what an operation outside the graph made of `tensors`."""
        if name.startswith("new_") or name.endswith("_like"):
            tensors = tensors[1:]  # they take only shape and type from the first
        if name in _LIKE:
            tensors = tensors[:1]
        sources = [tensor for tensor in tensors if tensor.requires_grad or _DERIVED.on(tensor)]
        if not sources:
            return
        if name in LEAVES_TORCH and not results:
            self.left.append(f"values taken out of torch by {name}{where}")
        if (in_place and name != "requires_grad") or name in {"setitem", "set"}:
            written = tensors[0]
            if written.requires_grad or _SHARED.on(written):
                self.left.append(f"{name} outside the graph{where}")
            self._written.append(root_of(written))
            results = [*results, written]
        for tensor in results:
            if tensor.requires_grad:
                continue
            _DERIVED.put(tensor, True)
            if name in {"detach", "data"} or (is_view(tensor) and any(_SHARED.on(s) for s in sources)):
                _SHARED.put(tensor, True)

    def forget(self) -> None:
        """Take the notes off tensors that were written into: they may be the user's, and outlive the pass."""
        for tensor in self._written:
            for note in _ALL:
                note.drop(tensor)
        self._written.clear()


def cut(tensor: Tensor) -> None:
    """Mark a tensor that depends on the input, but in the graph only on a layer behind which it begins anew."""
    _CUT.put(tensor, True)


def mark_derived(tensor: Tensor) -> None:
    """Mark a tensor that depends on the input outside the graph."""
    _DERIVED.put(tensor, True)


def is_cut(tensors: Sequence[Tensor]) -> bool:
    """Whether one of the tensors depends in the graph only on a layer behind which it begins anew."""
    return any(_CUT.on(tensor) for tensor in tensors)


def is_derived(tensors: Sequence[Tensor]) -> bool:
    """Whether one of the tensors depends on the input outside the graph."""
    # A custom function's result may have been marked within its forward, before it joined the graph.
    return any(_CUT.on(t) or (_DERIVED.on(t) and not t.requires_grad) for t in tensors)


def is_picked_by(tensors: Sequence[Tensor]) -> bool:
    """Whether all that depends on the input outside the graph are whole numbers, and so at most an index."""
    derived = [tensor for tensor in tensors if is_derived([tensor])]
    return all(tensor.dtype in _INDICES for tensor in derived)


def is_mixed(tensors: Sequence[Tensor]) -> bool:
    """Whether one of the tensors was joined from values on the way from the input and others."""
    return any(_MIXED.on(tensor) for tensor in tensors)


def is_shifted(tensors: Sequence[Tensor]) -> bool:
    """Whether all of the tensors are a signal plus a constant."""
    return bool(tensors) and all(_SHIFTED.on(tensor) for tensor in tensors)


def is_gate(tensor: Tensor) -> bool:
    """Whether a tensor is the result of a gate's own function."""
    return _GATE.on(tensor)


def is_weighted(tensors: Sequence[Tensor]) -> bool:
    """Whether a weighted layer stands between the input and one of the tensors."""
    return any(_WEIGHTED.on(tensor) for tensor in tensors)
