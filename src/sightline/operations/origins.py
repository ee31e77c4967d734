"""Where tensors come from, as far as the graph does not tell.

A rectifier can be written without any operation that looks like one: `x * (x > 0)`, `x.data.clamp_(0)`, the larger of
`x` and a constant from one stack. No rule would see it. So tensors that depend on the input outside the graph are
marked, and an operation that takes one is not covered. Inside the graph, two more things matter to rules: whether a
tensor is a gate (bounded from 0 up by its own function), and whether a weighted layer stands before it.
"""

from collections.abc import Sequence

from torch import Tensor

from sightline.operations.vocabulary import LEAVES_TORCH, Kind

# Notes on tensors themselves: they die with them, and two passes share no tensor that is computed from the input.
_DERIVED = "_sightline_derived"  # computed from the input, outside the graph
_SHARED = "_sightline_shared"  # memory of a tensor on the way from the input, outside the graph
_MIXED = "_sightline_mixed"  # joined from values on the way from the input and others
_CUT = "_sightline_cut"  # in the graph, but only on a layer behind which it begins anew
_GATE = "_sightline_gate"  # a gate's own function of a signal, perhaps scaled or reshaped
_WEIGHTED = "_sightline_weighted"  # behind a weighted layer


class Origins:
    """Keeps track while a pass runs.

    Attributes:
        left: phrases for what happened where nobody can follow it.
    """

    def __init__(self) -> None:
        self.left: list[str] = []

    def inside(self, kind: Kind, made: Sequence[Tensor], tensors: Sequence[Tensor], *, gate: bool) -> None:
        """Note what an operation on the way from the input made of `tensors`; `gate`: by a gate's own function."""
        before = [tensor for tensor in tensors if tensor.requires_grad]
        _mark(_CUT, made, all(hasattr(tensor, _CUT) for tensor in before))
        # A gate's branch carries no relevance, so its layers stand before nothing.
        signals = [tensor for tensor in before if not is_gate(tensor)] if kind is Kind.GATING else before
        _mark(_WEIGHTED, made, kind is Kind.LINEAR or is_weighted(signals))
        if kind in {Kind.RESHAPE, Kind.IDENTITY}:
            _mark(_MIXED, made, (len(tensors) > 1 and len(before) < len(tensors)) or is_mixed(tensors))
        passes_gates = kind in {Kind.RESHAPE, Kind.IDENTITY, Kind.SCALING}
        if gate or (passes_gates and before and all(map(is_gate, before))):
            _mark(_GATE, made, on=True)
        else:
            for tensor in made:
                if hasattr(tensor, _GATE):  # written over in place
                    delattr(tensor, _GATE)

    def outside(
        self, name: str, in_place: bool, results: Sequence[Tensor], tensors: Sequence[Tensor], where: str
    ) -> None:
        """Note what an operation outside the graph made of `tensors`."""
        if name.startswith("new_") or name.endswith("_like"):
            tensors = tensors[1:]  # they take only shape and type from the first
        sources = [tensor for tensor in tensors if tensor.requires_grad or hasattr(tensor, _DERIVED)]
        if not sources:
            return
        if name in LEAVES_TORCH and not results:
            self.left.append(f"values taken out of torch by {name}{where}")
        if (in_place and name != "requires_grad") or name in {"setitem", "set"}:
            written = tensors[0]
            if written.requires_grad or hasattr(written, _SHARED):
                self.left.append(f"{name} outside the graph{where}")
            results = [*results, written, *([] if written._base is None else [written._base])]
        for tensor in results:
            if tensor.requires_grad:
                continue
            setattr(tensor, _DERIVED, True)
            if name in {"detach", "data"} or (tensor._is_view() and any(hasattr(s, _SHARED) for s in sources)):
                setattr(tensor, _SHARED, True)


def _mark(note: str, made: Sequence[Tensor], on: bool) -> None:
    if on:
        for tensor in made:
            setattr(tensor, note, True)


def cut(tensor: Tensor) -> None:
    """Mark a tensor that depends on the input, but in the graph only on a layer behind which it begins anew."""
    setattr(tensor, _CUT, True)


def is_derived(tensors: Sequence[Tensor]) -> bool:
    """Whether one of the tensors depends on the input outside the graph."""
    # A custom function's result may have been marked within its forward, before it joined the graph.
    return any(hasattr(t, _CUT) or (hasattr(t, _DERIVED) and not t.requires_grad) for t in tensors)


def is_mixed(tensors: Sequence[Tensor]) -> bool:
    """Whether one of the tensors was joined from values on the way from the input and others."""
    return any(hasattr(tensor, _MIXED) for tensor in tensors)


def is_gate(tensor: Tensor) -> bool:
    """Whether a tensor is the result of a gate's own function."""
    return hasattr(tensor, _GATE)


def is_weighted(tensors: Sequence[Tensor]) -> bool:
    """Whether a weighted layer stands between the input and one of the tensors."""
    return any(hasattr(tensor, _WEIGHTED) for tensor in tensors)
