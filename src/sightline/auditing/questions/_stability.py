"""Stability."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from sightline.auditing.questions._block import CEILING, Block, Score
from sightline.auditing.questions._question import Question
from sightline.auditing.questions._registry import QUESTIONS
from sightline.auditing.questions._rule import Rule
from sightline.evaluation import with_values


@dataclass(frozen=True)
class Stability(Question):
    """Whether the same question gets the same answer: again, by another seed, in double precision, under slight noise.

    `max_sensitivity` is the largest |A(x + d) - A(x)| / |A(x)| of a few draws of slight noise (Yeh et al. 2019, arXiv
    1901.09392), which a map that never changes wins: it is reported, and decides nothing.
    """

    name: ClassVar[str] = "stability"
    caption: ClassVar[str] = "Does the same question get the same answer?"
    default: ClassVar[bool] = True
    draws: int = 3

    @property
    def rules(self) -> Sequence[Rule]:
        rule = Rule(
            self.name, "another seed", "spearman", 0.5, False,
            "with another seed the map is more than 0.5 as like itself as can be (0: as another image's map)",
            ceiling=1.0,
        )  # fmt: skip
        return (rule,)

    def map_sets(self, outputs: int) -> int:
        del outputs
        return 3 + self.draws

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        predicted = [block.predicted]
        subjects = block.subjects
        on_progress("asked again")
        again = subjects.maps(block.model, block.images, predicted, "again")
        yield from block.compared(self.name, "asked again", again.maps[0])
        other = subjects.maps(block.model, block.images, predicted, "other seed", seed=subjects.seed + 1)
        yield from block.compared(self.name, "another seed", other.maps[0])
        if isinstance(block.model, nn.Module):
            on_progress("in double precision")
            images = with_values(block.images, block.tensor.double())
            double = subjects.maps(copy.deepcopy(block.model).double(), images, predicted, "double")
            yield from block.compared(self.name, "in double precision", double.maps[0])
        worst: dict[str, torch.Tensor] = {}
        for draw in range(self.draws):
            on_progress("slight noise")
            noisy = block.noisy(draw)
            for method, maps in noisy.items():
                base = block.base[method].double().flatten(1)
                change = (maps.double().flatten(1) - base).norm(dim=1) / base.norm(dim=1)
                worst[method] = torch.maximum(worst[method], change) if method in worst else change
        for method, changes in worst.items():
            yield from block.each(self.name, CEILING, method, "max_sensitivity", changes)


QUESTIONS.register(Stability.name, Stability())
