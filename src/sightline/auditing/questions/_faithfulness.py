"""Faithfulness."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from sightline.arrays import ends_of
from sightline.auditing.questions._block import Block, Score
from sightline.auditing.questions._question import Question
from sightline.auditing.questions._registry import QUESTIONS
from sightline.evaluation import Fill, deletion, insertion, patch_flipping


@dataclass(frozen=True)
class Faithfulness(Question):
    """What becomes of the explained probability, or value, as pixels are removed, or put back, in the map's order.

    Areas under the curves of `deletion` (low is good) and `insertion` (high is good), and the area over that of
    `patch_flipping` (high is good), for each fill. The noise control is a random order. All of them leave the pictures
    that the network knows, so they are reported and decide nothing.

    Attributes:
        fills: what pixels are replaced by; black only where the encoding is known.
        steps: of each curve.
    """

    name: ClassVar[str] = "faithfulness"
    caption: ClassVar[str] = "What happens to the score as pixels are removed in the map's order?"
    fills: tuple[Fill, ...] = (Fill.BLACK, Fill.MEAN, Fill.BLUR)
    steps: int = 10

    def map_sets(self, outputs: int) -> int:
        del outputs
        return 0

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        images, score = block.tensor, block.explained
        ends = ends_of(block.model, block.images, images.shape[1])
        black = None if ends is None else torch.as_tensor(ends[0]).to(images)
        for fill in self.fills:
            if fill is Fill.BLACK and black is None:
                continue
            for method, maps in block.base.items():
                on_progress(f"pixels of {method} removed: {fill}")
                curves = {
                    "deletion": deletion(score, images, maps, fill, self.steps, black=black).area,
                    "insertion": insertion(score, images, maps, fill, self.steps, black=black).area,
                    "patch_flipping": patch_flipping(
                        block.explained, images, maps, fill, 8, self.steps, black=black
                    ).aopc,
                }
                for measure, values in curves.items():
                    yield from block.each(self.name, str(fill), method, measure, values)


QUESTIONS.register(Faithfulness.name, Faithfulness())
