"""Image sensitivity."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sightline.auditing.questions._block import SAME_CLASS, Block, Score
from sightline.auditing.questions._question import Question
from sightline.auditing.questions._registry import QUESTIONS
from sightline.auditing.questions._rule import Rule
from sightline.evaluation import JUDGED


@dataclass(frozen=True)
class ImageSensitivity(Question):
    """Whether the map of another image, asked about the same class, is another map.

    A map may depend on the class and on the weights, and be the same for every image of a class: a picture of the
    class, or of the architecture, that says nothing of the image at hand. Each image is compared with another one of
    the same predicted class where there is one; else with another one that is asked about this image's class.

    The bound is on the rank correlation itself, without its sign, and is 0.7: at that value half of the variance of a
    map's ranks (0.7^2 = 0.49) is what the map of another image has as well, so that above it the image decides the
    smaller part of its own map. It is not set between floor and ceiling: the floor of the other tests is the very
    likeness that is asked about here.
    """

    name: ClassVar[str] = "image_sensitivity"
    caption: ClassVar[str] = "Is the map of another image, for the same class, another map?"
    default: ClassVar[bool] = True

    @property
    def rules(self) -> Sequence[Rule]:
        rule = Rule(
            self.name, SAME_CLASS, JUDGED, 0.7, True,
            "but for its sign, the map has a rank correlation of less than 0.7 with the map of another image for the "
            "same class, so that less than half of the variance of its ranks is the same for both",
            floor=0.0, ceiling=1.0,
        )  # fmt: skip
        return (rule,)

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        on_progress("another image, same class")
        if block.alike is not None:
            maps = block.of(block.alike, SAME_CLASS)
            yield from block.compared(self.name, SAME_CLASS, maps, known=block.alike.known)


QUESTIONS.register(ImageSensitivity.name, ImageSensitivity())
