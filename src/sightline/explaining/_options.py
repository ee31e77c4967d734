"""The options of an explanation, declared once for Python, the command line and recipes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from jaxtyping import Float
from torch import Tensor

from sightline.arrays import ImageBatch
from sightline.errors import InputError
from sightline.models._output_kind import as_kind

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all) after each pass."""
References = Float[Tensor, "reference channel height width"] | ImageBatch
"""Images to compare with, as a network wants them, or what `load_images` returns."""


@dataclass(frozen=True)
class Options:
    """What may be said of an explanation beside model, images, methods and targets.

    The metadata of each field has its `help`, a sentence for users; `dataclasses.fields(Options)` lists them.

    Raises:
        InputError: an option has no meaning.
    """

    output: str | None = field(
        default=None,
        metadata={
            "help": "What the outputs are: classes (one among all, softmax), labels (each a yes or no of its own, "
            "sigmoid) or values (regression); by default what the model says, else classes."
        },
    )
    references: References | None = field(
        default=None, metadata={"help": "Images to compare with, for expected_gradients; encoded like the images."}
    )
    seed: int = field(default=0, metadata={"help": "Base of all randomness."})
    chunk: int | None = field(
        default=None, metadata={"help": "Rows of each pass; by default as many as fit a fixed share of memory."}
    )
    memory: int | None = field(
        default=None, metadata={"help": "Bytes that a pass may take, instead of a fixed share of memory."}
    )
    on_refusal: Literal["raise", "record"] = field(
        default="raise",
        metadata={"help": "Whether a method that cannot be right on this model is an error, or is left out."},
    )
    progress: Progress | None = field(
        default=None, metadata={"help": "Called with (rows done, rows in all) after each pass."}
    )

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
