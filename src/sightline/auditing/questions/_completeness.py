"""Completeness."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sightline.auditing.questions._block import Block, Score
from sightline.auditing.questions._question import Question
from sightline.auditing.questions._registry import QUESTIONS
from sightline.auditing.questions._rule import Rule
from sightline.auditing.questions._subjects import ARRIVED, MISSED, MISSING, PROMISED


@dataclass(frozen=True)
class Completeness(Question):
    """Whether a map adds up to what it explains.

    `missing`, for methods that promise it: |sum of the map - what it promises to add up to| as a share of that. What
    is promised depends on the method, and its card says it: the value less that of the baseline for integrated
    gradients, the whole decomposition for FullGrad, the relevance that set out for rules that conserve it, on images
    where neither biases nor other constants received a share.

    `missed amount` and `promised amount` are both parts of that share. A mean of shares is ruled by images whose
    promised amount is near zero; the sum of the missed amounts over the sum of the promised ones, which is judged, is
    not, and neither is the median share.

    `arrived`, for relevance: the share of the value that is in the map; biases rightly take the rest, so it decides
    nothing.
    """

    name: ClassVar[str] = "completeness"
    caption: ClassVar[str] = "Does the map add up to what it explains?"
    default: ClassVar[bool] = True
    case: ClassVar[str] = "the sum of the map"

    @property
    def rules(self) -> Sequence[Rule]:
        rule = Rule(
            self.name, self.case, MISSED, 0.05, True,
            "the maps add up to what they explain but for 5 % of the sum over images",
            floor=0.0, of=PROMISED,
            silent="it does not promise to add up to anything, or only for models without biases and other constants",
        )  # fmt: skip
        return (rule,)

    def map_sets(self, outputs: int) -> int:
        del outputs
        return 0

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        on_progress("sums")
        for method, sums in block.sums.items():
            for measure in (MISSING, MISSED, PROMISED, ARRIVED):
                if measure in sums:
                    yield from block.each(self.name, self.case, method, measure, sums[measure])


QUESTIONS.register(Completeness.name, Completeness())
