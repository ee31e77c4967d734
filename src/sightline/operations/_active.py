"""What a backward does just now, as the nodes of a graph look it up, and what becomes of relevance on the way."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.operations._propagation import Propagation, Rule
from sightline.operations._vocabulary import Kind, Operation


class Rounding(NamedTuple):
    """How far a result of low precision is from the same result in single precision.

    Attributes:
        share: the largest difference, in units of the largest result.
        operation: where that is.
        dtype: the precision that the network computes in there.
    """

    share: float
    operation: str
    dtype: str


class Growth(NamedTuple):
    """How much relevance grows at a sum of terms of both signs.

    Attributes:
        factor: the size of all that it handed on, over the size of what it received, of the image where that is most.
        operation: the sum.
    """

    factor: float
    operation: str


class Ledger:
    """Bookkeeping of relevance: what each operation received, handed on, and gave to its constants.

    Args:
        rows: rows of the pass.

    Attributes:
        rounding: the largest deviation of a low-precision result, where a rule met any.
        growth: the add at which relevance grows most, where there is any.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._noted: dict[Operation, list[tuple[Tensor, Tensor, Tensor | None]]] = {}
        self.rounding: Rounding | None = None
        self.growth: Growth | None = None

    def note(self, operation: Operation, received: Tensor, sent: list[Tensor], constants: Tensor | None) -> None:
        """Note one operation; a second note of the same one (a part of it) adds to the first."""
        parts = [self._by_row(part) for part in sent] or [received.new_zeros(self._rows)]
        entry = self._by_row(received), sum(parts[1:], start=parts[0]), constants
        self._noted.setdefault(operation, []).append(entry)

    def note_growth(self, operation: Operation, received: Tensor, sent: list[Tensor]) -> None:
        """Note how much larger what an add handed on is than what it received."""
        parts = torch.stack([self._by_row(part.abs()).double() for part in sent]).sum(0)
        before = self._by_row(received.abs()).double()
        # An image without relevance, or rows that are no images, say nothing.
        factor = float(torch.where(before > 0, parts / before, 0.0).nan_to_num(0.0, 0.0, 0.0).amax())
        if factor > _GROWS and (self.growth is None or factor > self.growth.factor):
            self.growth = Growth(factor, str(operation))

    def note_rounding(self, operation: Operation, result: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
        """Note how far a layer's result, in low precision, is from the same made in single precision."""
        share = float((result - exact).abs().max() / exact.abs().max().clamp(min=torch.finfo(exact.dtype).tiny))
        found = Rounding(share, str(operation), str(dtype).removeprefix("torch."))
        self.rounding = found if self.rounding is None else max(self.rounding, found)

    def entries(self) -> dict[Operation, Tensor]:
        """For each operation, shape (row, 3): received, handed on, given to biases and other constants.

        Rows are NaN where an operation's results are not one per row of the pass.
        """
        found = {}
        for operation, notes in self._noted.items():
            columns = [
                torch.stack([sum_.double(), sent.double(), self._given(sum_, constants)], 1)
                for sum_, sent, constants in notes
            ]
            entry = torch.stack(columns).sum(0)
            # What is known in part only would not balance.
            found[operation] = torch.where(entry.isnan().any(1, keepdim=True), torch.nan, entry)
        return found

    def _given(self, like: Tensor, constants: Tensor | None) -> Tensor:
        if constants is None:
            return torch.zeros_like(like, dtype=torch.float64)
        known = constants.shape == like.shape
        return constants.double() if known else torch.full_like(like, torch.nan, dtype=torch.float64)

    def _by_row(self, values: Tensor) -> Tensor:
        """Sum of the values of each row of the pass."""
        if values.dim() == 0 or values.shape[0] != self._rows:
            return torch.full((self._rows,), torch.nan, device=values.device)
        return values.flatten(1).sum(1) if values.dim() > 1 else values


_GROWS = 1.01  # less is rounding


@dataclass(slots=True)
class Active:
    """What is being pulled back, if anything.

    The nodes of a graph hold this and not their tape, which holds the graph: a circle would never be freed. It is no
    thread-local either, since a backward may run in another thread.

    Attributes:
        propagation: whose rules apply.
        ledger: where relevance is noted; None for signals that are no relevance.
        last: whether no other pull-back follows, so that nodes may let go of what they keep.
        again: whether the same propagation follows for another target, so that what depends on no target is worth
            keeping.
        final_layers: the weighted layers behind which no other follows.
        pixel_range: the lowest and highest value of a pixel as the model sees it, each of shape (channel,).
    """

    propagation: Propagation | None = None
    ledger: Ledger | None = None
    last: bool = False
    again: bool = False
    final_layers: frozenset[int] = field(default_factory=frozenset)
    pixel_range: tuple[Tensor, Tensor] | None = None

    @property
    def grows_at_sums(self) -> bool:
        """Whether sums are where relevance of that propagation can grow."""
        return self.propagation is not None and self.propagation.positive

    def joins(self, kinds: frozenset[Kind]) -> bool:
        """Whether a sum of parallel layers is one layer to that propagation: where it has rules for all these kinds."""
        made = self.propagation
        return made is not None and made.relevance and kinds <= made.rules.keys()

    def rule(self, kind: Kind) -> Rule | None:
        """The rule of the propagation that is being pulled back, if it has one for this kind."""
        return None if self.propagation is None else self.propagation.rules.get(kind)
