"""What a question of an audit says of itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

import pandas as pd
from torch import Tensor

from sightline.auditing.questions._block import Block, Score
from sightline.auditing.questions._rule import Finding, Rule
from sightline.auditing.questions._subjects import Subjects
from sightline.evaluation import Masks, Randomisation
from sightline.models import OutputKind


@dataclass(frozen=True, eq=False)
class Setup:
    """What is known of an audit before its first block.

    Attributes:
        model: the network.
        images: shape (batch, channel, height, width): all images, encoded.
        logits: shape (batch, output): what the network says of them.
        output: what these are: classes, labels or values.
        subjects: the methods.
        randomisation: how parameters are made random.
        masks: where the object is, for each image; None where nobody said.
        seed: base of all randomness.
    """

    model: Any
    images: Tensor
    logits: Tensor
    output: OutputKind
    subjects: Subjects
    randomisation: Randomisation
    masks: Masks | None
    seed: int


class Question(ABC):
    """One test of an audit: subclass it, and give an instance to `sightline.audit(tests=[...])`.

    Only `name` and `scores` are needed; with `rules` it also judges. Settings are attributes (most easily those of a
    frozen dataclass) and are recorded with the audit: one that is resumed must have been asked with equal settings.

    Attributes:
        name: the test's name in tables; an identifier.
        caption: what is asked, in one sentence.
        default: whether it is asked unless told otherwise; of Sightline's own questions only.
        needs_masks: whether it can be asked only where the user gives masks; it then is asked unbidden.
        compares_classes: whether it reads `Block.other_classes`, whose maps are made with those of the predicted class.
        cites: whom to cite: identifiers on arXiv or DOIs of `rendering/references.bib`, or whole entries in BibTeX.

    Example:
        >>> class Mass(Question):
        ...     name = "mass"
        ...     caption = "How much relevance does the map have?"
        ...     def scores(self, block, on_progress):
        ...         for method, maps in block.base.items():
        ...             yield from block.each(self.name, "all", method, "sum", maps.sum((1, 2)))
        >>> audit = sightline.audit(model, images, "gradient", [Mass(), "stability"])  # doctest: +SKIP
    """

    name: ClassVar[str]
    caption: ClassVar[str] = ""
    default: ClassVar[bool] = False
    needs_masks: ClassVar[bool] = False
    compares_classes: ClassVar[bool] = False
    cites: ClassVar[Sequence[str]] = ()

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides its scores besides its code; by default its attributes."""
        return {one.name: getattr(self, one.name) for one in fields(self)} if is_dataclass(self) else dict(vars(self))

    def prepare(self, setup: Setup) -> "Question":
        """The question as it is asked in one audit, which may know its model and images.

        Args:
            setup: what is known of the audit.

        Raises:
            InputError: the audit lacks what the question needs.
        """
        del setup
        return self

    @property
    def parts(self) -> int:
        """Into how many parts it falls, each of which can be asked by itself."""
        return 1

    @property
    def networks(self) -> int:
        """How many random networks its verdict rests on; 0 where it asks the given one alone."""
        return 0

    def map_sets(self, outputs: int) -> int:
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

    @property
    def tests(self) -> dict[str, Rule | None]:
        """The tests that it answers, with their rules; a question without one reports under its own name."""
        return {rule.test: rule for rule in self.rules} or {self.name: None}

    def not_applicable(self, model: object, images: Tensor, logits: Tensor) -> str:
        """Why the test says nothing of this model on these images; empty where it does.

        Args:
            model: the network.
            images: shape (batch, channel, height, width).
            logits: shape (batch, output): what the network says of them.
        """
        del model, images, logits
        return ""

    def by_part(
        self, block: Block, on_progress: Callable[[str], None], wanted: Container[int]
    ) -> Iterator[tuple[int, Iterable[Score]]]:
        """The scores of a block for some of the parts, each with its number.

        Args:
            block: see `scores`.
            on_progress: see `scores`.
            wanted: which parts.
        """
        if 0 in wanted:
            yield 0, self.scores(block, on_progress)

    @abstractmethod
    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterable[Score]:
        """The scores of a block; NaN where there is no number.

        Args:
            block: the images, their maps, and helpers that make scores: `Block.each`, `Block.compared`.
            on_progress: called with what is done, in words.
        """

    def summary(self, scores: pd.DataFrame) -> str:
        """What the scores of one method say in words where no rule judges them; empty where it is not worth a line.

        Args:
            scores: the rows of one method, with the columns of `Score`.
        """
        del scores
        return ""

    def remedy(self, method: str, findings: Mapping[tuple[str, str], Finding]) -> str:
        """What to do with the maps of a method that fails this test alone; empty for not reading them.

        Args:
            method: the method.
            findings: all verdicts of the audit, by test and method.
        """
        del method, findings
        return ""

    def notes(self, table: pd.DataFrame, settings: Mapping[str, Any]) -> Sequence[str]:
        """Further sentences for the advice.

        Args:
            table: the rows of `Audit.table` for the user's methods.
            settings: what was audited and how; see `Audit.settings`.
        """
        del table, settings
        return ()
