"""Patches of one colour in the middle of an image, and methods that are blind to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

SEEN = "seen"
"""The measure: the mean of |map| in the patch over that outside."""
_NOTHING = 1e-6


@dataclass(frozen=True)
class Patch:
    """A patch of one colour in the middle of the image."""

    colour: str

    def describe(self) -> str:
        """The case in words."""
        return f"a patch of {self.colour}"


PATCHES = tuple(map(Patch, ("zero", "black", "white")))


def blind_to(table: pd.DataFrame, null_colour: Sequence[float] | None = None) -> dict[str, list[str]]:
    """For each method the colours at which its maps are zero whatever the network does, as far as `input_bias` saw.

    Those that are tried are zero in the network's input, black and white.

    Args:
        table: `Audit.table`.
        null_colour: the colour of zero where the encoding is known, `Audit.settings["null_colour"]`, by which it is
            named.

    Example:
        blind_to(audit.table)  # {"input_x_gradient": ["zero"]}
    """
    patches = {one.describe(): one.colour for one in PATCHES}
    rows = table[(table["measure"] == SEEN) & table["case"].isin(patches) & (table["mean"] < _NOTHING)]
    found: dict[str, list[str]] = {}
    for case, method in zip(rows["case"], rows["method"], strict=True):
        colour = patches[str(case)]
        if colour == PATCHES[0].colour and null_colour is not None:
            colour = f"zero, which is the colour {tuple(round(value) for value in null_colour)}"
        found.setdefault(str(method), []).append(colour)
    return found
