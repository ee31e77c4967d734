"""Convergence."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from sightline.audit.block import Block, Score
from sightline.audit.convergence import convergence
from sightline.audit.questions.question import Question


@dataclass(frozen=True)
class Convergence(Question):
    """Whether a propagation still carries the class when it arrives at a layer (Sixt et al. 2020, arXiv 1912.09818).

    `csc` is the median |cos| over positions between what random logits send to the layer, `layer_cosine` that over the
    layer as a whole, `chance` what independent vectors would give. At 1 the class is lost. A high value at the input
    need not show in the maps, since the strength at each position may still depend on the class, so this is reported
    and decides nothing; `sightline.audit.convergence` names the layer.
    """

    name: ClassVar[str] = "convergence"

    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:  # noqa: D102
        tell("random logits")
        rows = [row for row in block.subjects.rows if row.name not in block.subjects.refused]
        found = convergence(block.model, block.images, rows, seed=block.seed).values
        for row in found.to_dict("records"):
            case = f"{row['depth'] + 1}: {row['layer']}"
            for measure in ("csc", "layer_cosine", "chance"):
                number = block.numbers[row["image"]]
                yield Score(self.name, case, row["method"], measure, number, row[measure])
