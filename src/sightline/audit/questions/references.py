"""What likeness is measured against."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from sightline.audit.block import CEILING, FLOOR, REFERENCE, Block, Score
from sightline.audit.questions.question import Question


@dataclass(frozen=True)
class References(Question):
    """Floor and ceiling: maps of another image, and of the same under slight noise."""

    name: ClassVar[str] = REFERENCE

    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:  # noqa: D102
        tell("slight noise")
        if len(block.numbers) > 1:
            yield from block.compared(self.name, FLOOR, block.base, shift=1)
        yield from block.compared(self.name, CEILING, block.noisy())
