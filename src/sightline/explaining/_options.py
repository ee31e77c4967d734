"""The options of an explanation, declared once for Python, the command line and recipes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict

from jaxtyping import Float
from torch import Tensor

from sightline._common.options import option
from sightline.arrays import ImageBatch
from sightline.errors import InputError
from sightline.models import as_kind
from sightline.options import SeedOptions

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all) after each pass."""
References = Float[Tensor, "reference channel height width"] | ImageBatch
"""Images to compare with, as a network wants them, or what `load_images` returns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """What may be said of an explanation beside model, images, methods and targets.

    `sightline.explain` describes them: from this class come its signature and its documentation.

    Raises:
        InputError: an option has no meaning.

    Example:
        >>> Options(seed=1, on_refusal="record").seed
        1
    """

    output: str | None = option(
        None,
        'What the model\'s outputs are: "classes" (one class among all, by softmax), "labels" (each a yes or no of its '
        'own, by sigmoid) or "values" (numbers as they are, as in regression); by default what the model says, else it '
        "is assumed, with a note.",
    )
    references: References | None = option(
        None, "Images to compare with, for expected gradients; encoded like the images."
    )
    seed: int = option(
        SeedOptions.seed, "Base of all randomness. The noise of an image depends on this and on its content alone."
    )
    chunk: int | None = option(
        None,
        "Rows of each pass; by default as many as fit a fixed share of memory, so that the same job is cut in the same "
        "way and gives the same numbers. The rows used are recorded.",
    )
    memory: int | None = option(
        None,
        "Bytes that a pass may take, instead of that share; where it is the same, so are the chunks, whatever memory "
        "is free.",
    )
    on_refusal: Literal["raise", "record"] = option(
        "raise",
        "`raise` when a method cannot be right on this model, or `record` the reason in `refused` and go on with the "
        "others.",
    )
    progress: Progress | None = option(None, "Called with (rows done, rows in all) after each pass.")

    def __post_init__(self) -> None:
        as_kind(self.output)
        if self.chunk is not None and self.chunk < 1:
            raise InputError(f"A chunk needs at least one row; got chunk={self.chunk}.")
        if self.memory is not None and self.memory < 1:
            raise InputError(f"A pass needs memory; got memory={self.memory}.")
        if self.on_refusal not in {"raise", "record"}:
            raise InputError(f'on_refusal is "raise" or "record"; got {self.on_refusal!r}.')


class OptionsLike(TypedDict, total=False):
    """The fields of `Options` as keyword arguments, for type checkers."""

    output: str | None
    references: References | None
    seed: int
    chunk: int | None
    memory: int | None
    on_refusal: Literal["raise", "record"]
    progress: Progress | None
