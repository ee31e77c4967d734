"""Class sensitivity."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch

from sightline.auditing.questions._block import RANDOM_CLASSES, Block, Score
from sightline.auditing.questions._question import Question, Setup
from sightline.auditing.questions._registry import QUESTIONS
from sightline.auditing.questions._rule import Rule
from sightline.evaluation import JUDGED
from sightline.models import OutputKind


@dataclass(frozen=True)
class ClassSensitivity(Question):
    """Whether the map of another class is another map; of a regression, that of another output.

    The map of the predicted class beside those of the second class, of several random other ones and of the least
    likely one. A map that only turns its sign is no other map: that much says the sign of the logit. Where even the
    gradient's maps are alike, the classes themselves are, and nobody is judged.

    Attributes:
        output: what the outputs are.
    """

    name: ClassVar[str] = "class_sensitivity"
    caption: ClassVar[str] = "Is the map of another class another map?"
    default: ClassVar[bool] = True
    compares_classes: ClassVar[bool] = True
    output: OutputKind = field(default_factory=OutputKind)

    def prepare(self, setup: Setup) -> Question:
        return replace(self, output=setup.output)

    @property
    def rules(self) -> Sequence[Rule]:
        noun = self.output.noun
        explained = f"the predicted {noun}" if self.output.predicts else "the output explained"
        rule = Rule(
            self.name, f"random {noun}", JUDGED, 0.7, True,
            f"but for its sign, the map of a random other {noun} is less than 0.7 as like the map of {explained} "
            "as that map under slight noise (0: as another image's map)", witness="gradient",
        )  # fmt: skip
        return (rule,)

    def not_applicable(self, model: object, images: torch.Tensor, logits: torch.Tensor) -> str:
        del model, images
        if logits.shape[1] < 2:
            return f"the network has one output, so there is no other {self.output.noun}"
        if logits.shape[1] == 2 and len(logits) > 1:
            correlation = float(np.corrcoef(logits.double().numpy().T)[0, 1])
            if correlation < -0.98:
                return (
                    "the two outputs are each other's negative (their correlation over these images is "
                    f"{correlation:.3f}), so both rightly have one map but for its sign"
                )
        return ""

    def map_sets(self, outputs: int) -> int:
        return min(RANDOM_CLASSES, outputs - 1) + 2 * (self.output.predicts and outputs > 2)

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        on_progress("other outputs")
        for case, draw, maps in block.other_classes():
            yield from block.compared(self.name, case, maps, draw=draw)


QUESTIONS.register(ClassSensitivity.name, ClassSensitivity())
