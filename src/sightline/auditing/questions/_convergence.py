"""Convergence."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from sightline.auditing.questions._block import Block, Score
from sightline.auditing.questions._question import Question
from sightline.auditing.questions._registry import QUESTIONS
from sightline.evaluation import convergence, first_lost
from sightline.operations import INPUT


@dataclass(frozen=True)
class Convergence(Question):
    """Whether a propagation still carries the class when it arrives at a layer (Sixt et al. 2020, arXiv 1912.09818).

    `csc` is the median |cos| over positions between what random logits send to the layer, `csc_signed` the median of
    the same cosines with their sign, `layer_cosine` that of |cos| over the layer as a whole, `chance` the `csc` that
    independent vectors would give. At 1 the class is lost. A high value at the input need not show in the maps, since
    the strength at each position may still depend on the class, so this is reported and decides nothing.
    """

    name: ClassVar[str] = "convergence"
    caption: ClassVar[str] = "At which layer has the propagation lost the class?"
    cites: ClassVar[Sequence[str]] = ("1912.09818",)

    def summary(self, scores: pd.DataFrame) -> str:
        if scores.empty:
            return ""
        means = scores.pivot_table(index="case", columns="measure", values="value", sort=False)
        layers = means.assign(layer=means.index)
        lost = first_lost(layers)
        if lost is None:
            return ""
        left = layers["layer_cosine"].iloc[-1]
        return (
            f"on the way down the channels lose the class at {'the input' if lost == INPUT else lost}; what is left at "
            f"the input is where, not what (random logits send maps with a cosine of {left:.2f} there)"
        )

    def map_sets(self, outputs: int) -> int:
        del outputs
        return 0

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        on_progress("random logits")
        rows = [row for row in block.subjects.rows if row.name not in block.subjects.refused]
        found = convergence(block.model, block.images, rows, seed=block.seed).values
        for row in found.to_dict("records"):
            for measure in ("csc", "csc_signed", "layer_cosine", "chance"):
                number = block.numbers[row["image"]]
                yield Score(self.name, row["layer"], row["method"], measure, number, row[measure])


QUESTIONS.register(Convergence.name, Convergence())
