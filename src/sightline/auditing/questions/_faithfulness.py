"""Faithfulness."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sightline.arrays import ends_of
from sightline.auditing._block import Block, Score
from sightline.auditing._faithfulness import deletion, insertion, patch_flipping
from sightline.auditing.questions._question import Question
from sightline.evaluation import Fill
from sightline.models import ask


@dataclass(frozen=True)
class Faithfulness(Question):
    """What becomes of the explained probability, or value, as pixels are put out, or put back, in the map's order.

    The probability is the network's own where it ends in one; else it is made by softmax of the logits of classes, by
    sigmoid of those of labels. Values of a regression stay as they are.

    Areas under the curves of `deletion` (low is good) and `insertion` (high is good), and the area over that of
    `patch_flipping` (high is good), for each fill. The noise control is a random order. All of them leave the pictures
    that the network knows, so they are reported and decide nothing.

    Attributes:
        fills: what pixels are put out with; black only where the encoding is known.
        steps: of each curve.
    """

    name: ClassVar[str] = "faithfulness"
    fills: tuple[Fill, ...] = (Fill.BLACK, Fill.MEAN, Fill.BLUR)
    steps: int = 10

    def asks(self, outputs: int) -> int:
        del outputs
        return 0

    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:
        chosen = block.predicted

        def said(images: Tensor) -> Tensor:
            read = block.output.read(ask(block.model, images, 64))
            return read.gather(1, chosen[:, None]).squeeze(1)

        images = block.tensor
        ends = ends_of(block.model, block.images, images.shape[1])
        black = None if ends is None else torch.as_tensor(ends[0]).to(images)
        for fill in self.fills:
            if fill is Fill.BLACK and black is None:
                continue
            for method, maps in block.base.items():
                tell(f"pixels of {method} put out: {fill}")
                curves = {
                    "deletion": deletion(said, images, maps, fill, self.steps, black=black).area,
                    "insertion": insertion(said, images, maps, fill, self.steps, black=black).area,
                    "patch_flipping": patch_flipping(said, images, maps, fill, 8, self.steps, black=black).aopc,
                }
                for measure, values in curves.items():
                    yield from block.each(self.name, str(fill), method, measure, values)
