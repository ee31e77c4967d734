"""What FullGrad hears of every layer while a backward runs, and whether it adds up to the explained value."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sightline.aggregation import FullGrad, Heard, Placement
from sightline.explaining._decomposition import Decomposition
from sightline.explaining._totals import Asked, Gathered, Term
from sightline.methods._method import Method
from sightline.operations import Grid, Intercept, Tape, Unreadable, wide


class Layers:
    """Hears the signal at each intercept during a backward, on behalf of FullGrad and its relatives.

    Args:
        methods: those that read from this backward; the FullGrads among them listen.
        gathered: where their maps go.
        asked: the pass.

    Attributes:
        methods: the methods that listen.
        terms: what each part of the value's decomposition adds, by its order.
    """

    def __init__(self, methods: Sequence[Method], gathered: Gathered, asked: Asked) -> None:
        self.methods = [method for method in methods if isinstance(method.aggregation, FullGrad)]
        self.terms: dict[int, Term] = {}
        self._gathered, self._asked = gathered, asked
        self._parts: dict[str, list[tuple[Tensor, Placement | None]]] = defaultdict(list)
        self._foreign = self._foreign_layer = self._unread = ""

    def hear(self, intercept: Intercept, signal: Tensor) -> None:
        """Take what a layer gives."""
        operation = intercept.operation
        if signal.shape[0] != len(self._asked.images):
            self._foreign = str(operation)
            if intercept.is_bias and signal.dim() == 4:
                self._foreign_layer = str(operation)
            return
        signal = wide(signal.detach())
        grid = intercept.grid
        if isinstance(grid, Unreadable) and grid.lost:
            self._unread = self._unread or f"{operation}: {grid.reason}"
        spatial = isinstance(grid, Grid)
        layer = Heard(intercept, signal)
        amounts = layer.total
        self.terms[operation.order] = Term(str(operation), amounts, spatial)
        placement = Placement.of(grid, self._asked.offsets.shape[2:]) if isinstance(grid, Grid) else None
        for method in self.methods if spatial else ():
            aggregation = method.aggregation
            assert isinstance(aggregation, FullGrad)  # noqa: S101 - these are the methods that listen
            if not aggregation.hears(intercept):
                continue
            if method.sampling.before:
                term = aggregation.term(intercept, signal)
                self._gathered.add_term(method.name, operation.order, term, self._asked, placement)
            else:
                self._parts[method.name].append((aggregation.layer_part(layer), placement))

    def wrong(self, values: Tensor, inputs: Tensor, signal: Tensor) -> dict[str, str]:
        """By method, why what was heard is not what its map is made of; the pass is over."""
        found = {}
        missed = self._missed(values, inputs, signal)
        for method in self.methods:
            assert isinstance(method.aggregation, FullGrad)  # noqa: S101 - these are the methods that listen
            foreign = self._foreign if method.aggregation.biases else self._foreign_layer
            if foreign:
                found[method.name] = (
                    f"FullGrad needs the part of each image in every layer, and {foreign} gives results that are not "
                    "one per image."
                )
            elif self._unread:
                found[method.name] = (
                    f"FullGrad needs to know where in the image each layer's part lies, which is not so of "
                    f"{self._unread}."
                )
            elif missed and method.aggregation.biases:
                found[method.name] = missed
        return found

    def _missed(self, values: Tensor, inputs: Tensor, signal: Tensor) -> str:
        """Why the terms are not the decomposition of the explained values, if so."""
        amounts = (inputs.detach().double() * signal.double()).flatten(1).sum(1)
        self.terms[-1] = Term("the input", amounts, in_map=True)
        values = values.detach()
        parts = torch.stack([term.amounts for term in self.terms.values()])
        missed = (parts.sum(0) - values.double()).abs()
        # Sums of many parts of either sign, each rounded a few times.
        allowed = min(1e4 * torch.finfo(values.dtype).eps, 0.1) * parts.abs().sum(0)
        if not bool((missed > allowed + torch.finfo(values.dtype).tiny).any()):
            return ""
        return (
            f"FullGrad's parts do not add up to the explained value here, but miss it by up to "
            f"{float(missed.max()):.2g}. Something in the model adds to it where it cannot be seen (a gradient hook, a "
            "write out of sight, images that are mixed with one another)."
        )

    def add_input(self, method: Method, aggregation: FullGrad, values: Tensor, signal: Tensor) -> None:
        """Take what the input gives; the pass is over."""
        dtype = torch.promote_types(signal.dtype, torch.float32)
        term = aggregation.input_term(values.to(dtype), signal.to(dtype))
        if method.sampling.before:
            self._gathered.add_term(method.name, -1, term, self._asked, None)
            return
        size = (int(values.shape[2]), int(values.shape[3]))
        parts = [(aggregation.part(term), None), *self._parts.pop(method.name, [])]
        self._gathered.add(method, aggregation.join(parts, size), self._asked)


def decomposition(values: Tensor, blocks: Sequence[Mapping[int, Term]]) -> Decomposition:
    """The explained values' decomposition, from the terms of each block of images; a term may be missing in some."""
    known = {order: term for block in reversed(blocks) for order, term in block.items()}
    nothing = [torch.zeros_like(block[-1].amounts) for block in blocks]

    def amounts(order: int) -> Tensor:
        return torch.cat(
            [block[order].amounts if order in block else zero for block, zero in zip(blocks, nothing, strict=True)]
        )

    orders = sorted(known)
    return Decomposition(
        values=values.double().cpu(),
        parts=tuple(known[order].name for order in orders),
        amounts=torch.stack([amounts(order) for order in orders]).cpu(),
        in_map=tuple(known[order].in_map for order in orders),
    )


def without_intercept(tape: Tape, values: Tensor, aggregation: FullGrad) -> list[str]:
    """Why what FullGrad's map is made of is not known, if so: every intercept, or the layers that have a bias."""
    assert tape.intercepts is not None  # noqa: S101 - a tape for FullGrad notes them
    walk = tape.walk(values)
    unknown = tape.intercepts.unread if aggregation.biases else tape.intercepts.obscure
    bad = [str(o) for o in walk.operations if o.order in unknown] + list(walk.unseen)
    if not bad:
        return []
    listed = "; ".join(dict.fromkeys(bad[:4])) + (" ..." if len(bad) > 4 else "")
    if not aggregation.biases:
        return [
            "Simple FullGrad takes the gradient at every layer with a bias, and whether these have one cannot be told: "
            f"{listed}. Use a method that needs only the gradient at the input or at one layer."
        ]
    return [
        "FullGrad counts what every operation adds without a signal, and that is known for weighted layers, batch "
        f"norms, constants and functions of each value by itself. Here it is not for: {listed}. Use a method that "
        "needs only the gradient at the input or at one layer."
    ]
