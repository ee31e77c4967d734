"""Conservation: how much of the explained value arrives in a map of relevance, and where the rest went."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sightline._common.equality import Compared
from sightline._common.words import counted

if TYPE_CHECKING:
    import pandas as pd

_EXPLODES = 100.0
_LITTLE = 0.1
_NOTHING = 1e-3
"""The share of the relevance that counts as none; rounding stays below it."""
_OF_SUMS = (
    "take lrp_epsilon with a larger epsilon, which holds at adds and averages too, or a method that needs only the "
    "gradient."
)


@dataclass(frozen=True, eq=False)
class Conservation(Compared):
    """The books of one method's relevance.

    Attributes:
        start: shape (image,): the relevance that set out, the explained value in most methods.
        arrived: shape (image,): the sum of the map.
        operations: the operations that shared relevance out, from the value backwards.
        amounts: shape (operation, image, 3): what each received, handed on, and gave to biases and other constants.
            NaN where an operation's results are not one per image.
        positive: whether weighted layers share by positive parts, so that relevance can grow only at sums.
        contrasts: whether the map is the difference of two signals, of which nothing need be left in sum.
    """

    start: Tensor
    arrived: Tensor
    operations: tuple[str, ...]
    amounts: Tensor
    contrasts: bool = False
    positive: bool = False

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each operation, in shares of the relevance that set out, averaged over images.

        `stabiliser` is what was neither handed on nor given to constants: the stabiliser's share, relevance of results
        whose denominator is zero, and rounding.
        """
        import pandas as pd

        known = self.start != 0
        received, sent, constants = (self.amounts / self.start.view(1, -1, 1))[:, known].mean(1).unbind(1)
        columns = {
            "operation": self.operations,
            "received": received,
            "handed on": sent,
            "constants": constants,
            "stabiliser": received - sent - constants,
        }
        return pd.DataFrame({name: list(values) for name, values in columns.items()}).astype(
            {name: float for name in columns if name != "operation"}
        )

    @property
    def lost(self) -> dict[str, float]:
        """Shares of the relevance that set out, averaged over images: what arrived, and where the rest went.

        `elsewhere` went to what is no part of the image (padding with values, joined constants), or to operations whose
        results are not one per image.
        """
        received, sent, constants = self.amounts.nansum(0).unbind(1)
        parts = {
            "arrived": self.arrived,
            "constants": constants,
            "stabiliser": received - sent - constants,
        }
        known = self.start != 0
        shares = {name: float((part / self.start)[known].mean()) for name, part in parts.items()}
        return {**shares, "elsewhere": 1 - sum(shares.values())}

    @property
    def residual(self) -> Tensor:
        """What arrived less what set out, shape (image,): what a rule that conserves relevance misses.

        NaN where biases or other constants received a share, since no rule promises that the image receives that too.
        """
        received, sent, _ = self.amounts.nansum(0).unbind(1)
        elsewhere = self.start - self.arrived - (received - sent)
        given = self.amounts[..., 2].abs().nansum(0) + elsewhere.abs()
        return torch.where(given <= _NOTHING * self.start.abs(), self.arrived - self.start, torch.nan)

    def note(self, names: Sequence[str]) -> str:
        """A sentence where relevance grew out of all proportion, or where little of it arrived; empty elsewhere."""
        return self._explosion(names) or self._drain()

    def _drain(self) -> str:
        shares = self.lost
        if not abs(shares["arrived"]) < _LITTLE or self.contrasts or not bool(self.arrived.any()):
            return ""
        given, worst = max((shares[name], name) for name in ("constants", "stabiliser", "elsewhere"))
        to = {"constants": "to biases", "stabiliser": "in sums of nearly zero", "elsewhere": "elsewhere"}
        received, sent, _ = self.amounts.nan_to_num().mean(1).unbind(1)
        place = self.operations[int((received - sent).argmax())]
        return (
            f"keeps {shares['arrived']:.2g} of the explained value; {given:.0%} of it is lost {to[worst]}, most at "
            f"{place}. The map still ranks pixels, but most of the decision is not in it."
        )

    def _explosion(self, names: Sequence[str]) -> str:
        sizes = (self.amounts[..., 0] / self.start).abs().nan_to_num(posinf=torch.inf)
        bad = (sizes > _EXPLODES) | ~self.amounts[..., :2].isfinite().all(2) & self.amounts[..., 0].isinf()
        if not bool(bad.any()):
            return ""
        images = bad.any(0).nonzero().flatten().tolist()
        first = int(bad.any(1).nonzero()[0])
        worst = float(sizes[:, images].max())
        which = ", ".join(names[index] for index in images[:4]) + (" ..." if len(images) > 4 else "")
        return (
            f"explodes for {counted(len(images), 'image')} ({which}): from {self.operations[first]} back, up to "
            f"{worst:.1e} times the explained value flows, from denominators near zero. Such a map shows rounding, "
            "not the model; " + (_OF_SUMS if self.positive else "take a larger epsilon, or lrp_epsilon_plus.")
        )
