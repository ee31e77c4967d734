"""What a backward does just now, as the nodes of a graph look it up, and what becomes of relevance on the way."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sightline.operations.vocabulary import Kind, Operation

if TYPE_CHECKING:
    from sightline.propagation import Propagation, Rule


class Ledger:
    """Bookkeeping of relevance: what each operation received, handed on, and gave to its constants.

    Attributes:
        entries: for each operation, shape (row, 3): received, handed on, given to biases and other constants. Rows
            are NaN where an operation's results are not one per row of the pass.
    """

    def __init__(self, rows: int) -> None:
        self.entries: dict[Operation, Tensor] = {}
        self._rows = rows

    def note(self, operation: Operation, received: Tensor, sent: list[Tensor], constants: Tensor | None) -> None:
        """Note one operation; a second note of the same one (a part of it) adds to the first."""
        parts = [self.by_row(received), sum(map(self.by_row, sent), received.new_zeros(self._rows, dtype=_SUM))]
        if constants is None:
            constants = torch.zeros_like(parts[0])
        parts.append(constants.to(_SUM) if len(constants) == self._rows else torch.full_like(parts[0], torch.nan))
        entry = torch.stack(parts, 1)
        # What is known in part only would not balance.
        entry[entry.isnan().any(1)] = torch.nan
        self.entries[operation] = self.entries[operation] + entry if operation in self.entries else entry

    def by_row(self, values: Tensor) -> Tensor:
        """Sum of the values of each row of the pass."""
        if values.dim() == 0 or values.shape[0] != self._rows:
            return torch.full((self._rows,), torch.nan, dtype=_SUM, device=values.device)
        return values.flatten(1).sum(1).to(_SUM) if values.dim() > 1 else values.to(_SUM)


_SUM = torch.float64


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

    propagation: "Propagation | None" = None
    ledger: Ledger | None = None
    last: bool = False
    again: bool = False
    final_layers: frozenset[int] = field(default_factory=frozenset)
    pixel_range: tuple[Tensor, Tensor] | None = None

    def rule(self, kind: Kind) -> "Rule | None":
        """The rule of the propagation that is being pulled back, if it has one for this kind."""
        return None if self.propagation is None else self.propagation.rules.get(kind)
