"""What an audit asks, and how."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from sightline._common.options import option
from sightline.auditing.questions import Custom, Question, default_tests
from sightline.evaluation import Asked, Randomisation
from sightline.methods import Method
from sightline.options import AuditOptions as OfCommand

TESTS = default_tests()
"""What is asked unless told otherwise."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class AuditOptions:
    """The options of `sightline.audit`, which describes them: from this class come its signature and its documentation.

    Example:
        AuditOptions(["gradient", "grad_cam"], ["stability"], seed=1)
    """

    methods: str | Method | Custom | Sequence[str | Method | Custom] = option(
        OfCommand.methods,
        "Names of the catalogue, `Method`s, or functions of the user's own, made by `from_callable`; one or several.",
    )
    tests: str | Question | type[Question] | Sequence[str | Question | type[Question]] = option(
        TESTS,
        "`class_sensitivity`, `image_sensitivity`, `parameter_randomization`, `input_bias`, `completeness`, "
        "`stability`, by default all of these; `convergence`; `faithfulness`, which is costly; `localisation`, which "
        "is asked wherever there are masks. Or a `Question` of your own, or FILE.py:NAME for one in a file.",
    )
    _: KW_ONLY
    output: str | None = option(
        None,
        "What the model's outputs are; see `sightline.explain`. Of several values none is predicted, so that for each "
        "image one is drawn.",
    )
    randomisation: Randomisation | None = option(
        None, "How parameters are made random; by default in at most ten steps from the output."
    )
    references: Asked | None = option(None, "Images to compare with, for expected gradients; see `sightline.explain`.")
    masks: object = option(
        None,
        "Where the object is, as annotated by a person, a mask for each image: truth values, or 0 and 1 of any type, "
        "of shape (batch, height, width) or (batch, 1, height, width); a tensor, an array or lists.",
    )
    threshold: float | None = option(
        None, "For masks of numbers from 0 to 1, from which on a pixel belongs to the object."
    )
    ignore: object = option(
        None,
        "The value, or values, of mask pixels that are neither object nor background (a border, an unlabelled region), "
        "such as 255; localisation leaves them out.",
    )
    groups: Iterable[Any] | None = option(
        None,
        "What each image belongs to where some belong together, such as slices of one patient or tiles of one scene: a "
        "name or number for each. Images of one group carry less information than as many of different groups, so that "
        "intervals are over groups, of which a verdict needs at least five, and no image is compared with one of its "
        "own group.",
    )
    seed: int = option(OfCommand.seed, "Base of all randomness.")
    block: int | None = option(
        None, "Images that are processed together; by default as many as fit a fixed share of memory."
    )
    folder: str | Path | None = option(
        None, "Where scores are kept while the audit runs; an interrupted one goes on from there."
    )
    progress: Progress | None = option(None, "Called with what is done, and the blocks done and in all.")
