"""The exact decomposition of the explained value that FullGrad draws, as figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sightline._common.equality import Compared
from sightline.aggregation import Amount

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Decomposition(Compared):
    """z = x . dz/dx + the terms of all biases: Srinivas and Fleuret 2019, arXiv 1905.00780, equation 2.

    Attributes:
        values: shape (image,): the explained value z.
        parts: the input, and each operation with a bias or another constant, in the order of execution.
        amounts: shape (part, image): what each adds to the value.
        in_map: for each part, whether the map has it. What it has not are layers without height and width.
    """

    values: Tensor
    parts: tuple[str, ...]
    amounts: Tensor
    in_map: tuple[bool, ...]

    @staticmethod
    def of(values: Tensor, blocks: Sequence[Mapping[int, Amount]]) -> "Decomposition":
        """The decomposition of some values, from what each block of images gave; a part may be missing in some."""
        known = {order: amount for block in reversed(blocks) for order, amount in block.items()}
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

    @property
    def remainder(self) -> Tensor:
        """What the map leaves out, shape (image,): the terms of layers without height and width."""
        return self.amounts[[not there for there in self.in_map]].sum(0)

    @property
    def residual(self) -> Tensor:
        """The sum of all parts less the value, shape (image,); nothing but rounding."""
        return self.amounts.sum(0) - self.values

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each part: its amount averaged over images, and whether the map has it."""
        import pandas as pd

        return pd.DataFrame({"part": self.parts, "amount": self.amounts.mean(1).tolist(), "in map": self.in_map})
