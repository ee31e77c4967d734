"""What likeness is measured against."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from sightline.auditing.questions._block import CEILING, FLOOR, REFERENCE, Block, Score
from sightline.auditing.questions._question import Question


@dataclass(frozen=True)
class References(Question):
    """Floor and ceiling: maps of another image, and of the same under slight noise.

    The other image of each is one of another predicted class, drawn by content, so that the order of files and the
    size of blocks change nothing. Where the network predicts one class for nearly all images, it is any other.
    """

    name: ClassVar[str] = REFERENCE

    def map_sets(self, outputs: int) -> int:
        del outputs
        return 2

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        on_progress("slight noise")
        if block.others is not None:
            maps = block.of(block.others, FLOOR)
            yield from block.compared(self.name, FLOOR, maps, known=block.others.known)
        yield from block.compared(self.name, CEILING, block.noisy())
