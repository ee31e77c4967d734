"""A question of an audit."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import ClassVar

import pandas as pd
import torch

from sightline.auditing.questions._block import Block, Score
from sightline.auditing.questions._rule import Rule


class Question(ABC):
    """One test of an audit.

    Attributes:
        name: the test's name.
    """

    name: ClassVar[str]

    @property
    def parts(self) -> int:
        """Into how many parts it falls, each of which can be asked by itself."""
        return 1

    def asks(self, outputs: int) -> int:
        """How many sets of maps it asks for of each image, besides those of the predicted class.

        Args:
            outputs: how many the network has.
        """
        del outputs
        return 1

    @property
    def rules(self) -> Sequence[Rule]:
        """What decides it; nothing where it only reports."""
        return ()

    def cannot_bite(self, model: object, images: torch.Tensor, logits: torch.Tensor) -> str:
        """Why the test says nothing of this model on these images; empty where it does."""
        del model, images, logits
        return ""

    def told(self, scores: pd.DataFrame) -> str:
        """What the scores of one method say in words where no rule judges them; empty where it is not worth a line."""
        del scores
        return ""

    def by_part(
        self, block: Block, tell: Callable[[str], None], wanted: Container[int]
    ) -> Iterator[tuple[int, Iterable[Score]]]:
        """The numbers of a block for some of the parts, each with its number.

        Args:
            block: see `scores`.
            tell: see `scores`.
            wanted: which parts.
        """
        if 0 in wanted:
            yield 0, self.scores(block, tell)

    @abstractmethod
    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:
        """The numbers of a block.

        Args:
            block: the images.
            tell: called with what is done, in words.
        """
