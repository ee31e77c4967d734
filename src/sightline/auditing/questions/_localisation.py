"""Localisation."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from sightline.auditing.questions._block import Block, Score
from sightline.auditing.questions._question import Question, Setup
from sightline.auditing.questions._registry import QUESTIONS
from sightline.errors import InputError
from sightline.evaluation import Masks, energy, pointing_game, rank_accuracy, relevance_mass

MEASURES = (pointing_game, energy, relevance_mass, rank_accuracy)


@dataclass(frozen=True)
class Localisation(Question):
    """Whether the map lies where a person says that the object is.

    A network may rightly look elsewhere, so this is reported and decides nothing. `area`, the region's share of
    the pixels that count, is what a map without any knowledge gets in `relevance_mass` and `rank_accuracy`. An image
    without a pixel of the object asks nothing: it has no scores, and would else count as a miss of every method.

    Attributes:
        masks: the region of each audited image, and which of its pixels count.
    """

    name: ClassVar[str] = "localisation"
    caption: ClassVar[str] = "Does the map lie where a person says that the object is?"
    needs_masks: ClassVar[bool] = True
    masks: Masks | None = None

    def prepare(self, setup: Setup) -> Question:
        if self.masks is None and setup.masks is None:
            raise InputError(
                "Localisation needs masks=: for each image, of its height and width, true where the object is."
            )
        return self if self.masks is not None else replace(self, masks=setup.masks)

    def map_sets(self, outputs: int) -> int:
        del outputs
        return 0

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        on_progress("regions")
        assert self.masks is not None  # noqa: S101 - it is prepared
        own = self.masks[block.numbers.start : block.numbers.stop].to(block.tensor.device)
        area = own.objects.double().sum((1, 2)) / own.counted.sum((1, 2))
        empty = ~own.objects.any(2).any(1)
        for method, maps in block.base.items():
            for measure in MEASURES:
                scores = measure(maps, own.objects, counted=own.counted)
                scores = scores.masked_fill(empty.to(scores.device), math.nan)
                yield from block.each(self.name, "masks", method, measure.__name__, scores)
            yield from block.each(self.name, "masks", method, "area", area.masked_fill(empty, math.nan))


QUESTIONS.register(Localisation.name, Localisation())
