"""Totals: what the passes over a block of images gave, each image's samples added up to one."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.aggregation import Amount, Part, Placement
from sightline.methods import Method
from sightline.operations import Tape, wide
from sightline.propagation import Propagation
from sightline.sampling import Reduction


class Total:
    """One quantity for each image of a block, reduced over samples as they come.

    Args:
        images: number of images.
        reduction: how samples become one.
    """

    def __init__(self, images: int, reduction: Reduction) -> None:
        self._images, self._reduction = images, reduction
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None
        self._first: Tensor | None = None
        self._known = torch.zeros(images, dtype=torch.bool)

    def add(self, part: Tensor, images: Tensor, weights: Tensor) -> None:
        """Add weighted rows to their images, in single precision at least."""
        part = part.detach()
        part = part.to(torch.promote_types(part.dtype, torch.float32))
        if self._reduction is Reduction.VARIANCE:
            part = part - self._origins(part, images)
        if self._reduction is not Reduction.MEAN:
            self._squares = self._added(self._squares, part.square(), images, weights)
        if self._reduction is not Reduction.MEAN_SQUARE:
            self._sum = self._added(self._sum, part, images, weights)

    def value(self) -> Tensor:
        """The samples, as one."""
        match self._reduction:
            case Reduction.MEAN:
                assert self._sum is not None  # noqa: S101 - read once something was added
                return self._sum
            case Reduction.MEAN_SQUARE:
                assert self._squares is not None  # noqa: S101
                return self._squares
            case Reduction.VARIANCE:
                assert self._sum is not None  # noqa: S101
                assert self._squares is not None  # noqa: S101
                return (self._squares - self._sum.square()).clamp(min=0)

    def _added(self, total: Tensor | None, part: Tensor, images: Tensor, weights: Tensor) -> Tensor:
        if total is None and images.tolist() == list(range(self._images)) and bool((weights == 1).all()):
            return part
        if total is None:
            total = part.new_zeros((self._images, *part.shape[1:]))
        return total.index_add_(0, images, part * weights.to(part).view(-1, *[1] * (part.dim() - 1)))

    def _origins(self, part: Tensor, images: Tensor) -> Tensor:
        """The first sample of each row's image; taken off, it leaves squares that do not cancel."""
        if self._first is None:
            self._first = part.new_zeros((self._images, *part.shape[1:]))
        for row, image in enumerate(images.tolist()):
            if not self._known[image]:
                self._first[image], self._known[image] = part[row], True
        return self._first[images]


class Deferred:
    """The same for samples whose weights are known at the end."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, slice]] = []

    def add(self, part: Tensor, images: Tensor, rows: slice) -> None:
        """Keep the rows of one pass; `rows` are their places in the order of evaluation."""
        self._parts.append((part.detach(), images, rows))

    def into(self, total: Total, weights: Tensor) -> None:
        """Add all, with the weight of each row."""
        for part, images, rows in self._parts:
            total.add(part, images, weights[rows])
        self._parts.clear()


@dataclass(frozen=True)
class PassResult:
    """A pass that was made.

    Attributes:
        tape: what it left.
        values: for each target, the explained value of each row.
        offsets: what stands for the input in a product with it.
        images: for each row, which image of the block it is.
        weights: the weight of each row.
        place: the rows' place in the order of evaluation.
    """

    tape: Tape
    values: list[Tensor]
    offsets: Tensor
    images: Tensor
    weights: Tensor
    place: slice


class BlockTotals:
    """What a block of images has given for one target so far.

    Attributes:
        flows: for each propagation of relevance, for each operation by its order: its name and its amounts.
        amounts: for each method that draws the value's decomposition: what each part adds, by its order.
        sums: the sum of the map in the last pass, shape (row,).
    """

    def __init__(self, images: int, *, steered: bool) -> None:
        self._images, self._steered = images, steered
        self._totals: dict[str, Total] = {}
        self._deferred: dict[str, Deferred] = defaultdict(Deferred)
        self._joined: dict[str, dict[int, Total]] = defaultdict(dict)
        self._placements: dict[int, Placement | None] = {}
        self.flows: dict[Propagation, dict[int, tuple[str, Tensor]]] = {}
        self.amounts: dict[str, Mapping[int, Amount]] = {}
        self.sums: Tensor | None = None

    def add(self, method: Method, made: Tensor, ran: PassResult) -> None:
        """Add the map of a pass."""
        if self._steered:
            self.sums = wide(made.detach()).flatten(1).sum(1)
            self._deferred[method.name].add(made, ran.images, ran.place)
            return
        total = self._totals.setdefault(method.name, Total(self._images, method.sampling.reduction))
        total.add(made, ran.images, ran.weights)

    def add_term(self, name: str, order: int, term: Part, ran: PassResult) -> None:
        """Add one term of a map that is joined from terms averaged over samples."""
        self._placements[order] = term.placement
        total = self._joined[name].setdefault(order, Total(self._images, Reduction.MEAN))
        total.add(term.values, ran.images, ran.weights)

    def close(self, weights: Tensor) -> None:
        """All rows have gone through; they weigh so much."""
        for name, deferred in self._deferred.items():
            self._totals[name] = Total(self._images, Reduction.MEAN)
            deferred.into(self._totals[name], weights)

    def map(self, method: Method, size: tuple[int, int]) -> Tensor:
        """The map of a method."""
        if method.name in self._joined:
            terms = [Part(total.value(), self._placements[order]) for order, total in self._joined[method.name].items()]
            return method.aggregation.join(terms, size)
        return self._totals[method.name].value()
