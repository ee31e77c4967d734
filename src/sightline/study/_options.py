"""What a study asks, and how."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from sightline._common.options import option
from sightline.arrays import whole
from sightline.auditing import Question
from sightline.errors import InputError
from sightline.methods import Method
from sightline.options import PARTS, ClaimsOptions

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class StudyOptions:
    """The options of `claims`: from this class come its signature and its documentation.

    Raises:
        InputError: a part is unknown, none is asked for, or a number is below 1.

    Example:
        StudyOptions(parts=["survey"], count=50)
    """

    methods: Sequence[str | Method] | None = option(
        None, "Methods, by name or themselves, for `aggregation` and `propagation`; by default all of both claims."
    )
    parts: Sequence[str] = option(ClaimsOptions.parts, "Some of `aggregation`, `propagation`, `survey` and `encoding`.")
    _: KW_ONLY
    tests: str | Question | Sequence[str | Question] = option(
        ClaimsOptions.tests,
        "The tests of an audit by which `aggregation` and `propagation` are answered: names, FILE.py:NAME, or "
        "questions of your own.",
    )
    folder: str | Path | None = option(
        None, "Where the study is written after each part; an interrupted audit goes on there."
    )
    count: int | None = option(None, "Of the images, take so many, spread evenly; by default all.")
    networks: int = option(ClaimsOptions.networks, "Random networks; a verdict needs at least five.")
    stages: int = option(
        ClaimsOptions.stages, "With 1 all layers become random at once; else in so many steps from the output."
    )
    seed: int = option(ClaimsOptions.seed, "Base of all randomness.")
    progress: Progress | None = option(None, "Called with what is done, and the steps done and in all.")

    def __post_init__(self) -> None:
        unknown = [name for name in self.parts if name not in PARTS]
        if unknown or not self.parts:
            raise InputError(f"Parts are {', '.join(PARTS)}; got {', '.join(unknown) or 'none'}.")
        whole("networks", self.networks)
        whole("stages", self.stages)
        if self.count is not None:
            whole("count", self.count)
