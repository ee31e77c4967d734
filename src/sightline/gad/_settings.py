"""The settings of a fit and of an evaluation, each a dataclass whose docstring says what its fields mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sightline.arrays import whole
from sightline.errors import InputError
from sightline.evaluation import Fill, as_fill
from sightline.gad._consistency import PAPER_LIKE, Consistency
from sightline.gad._controls import Control

Mode = Literal["eval", "train"]
"""Of batch norms and dropout while a support network is trained."""
Strategy = Literal["trained", "interpolated"]
"""A network for each distance; or one for the largest, with the weights of the others on the line to it."""
Question = Literal["pair", "class"]
"""Of a class of the pair: why it and not the other (the difference of both logits), or what speaks for it alone."""


@dataclass(frozen=True)
class Training:
    """How a support network is trained.

    Attributes:
        mode: `eval` leaves the statistics of batch norms and dropout as they are in the original network; `train`
            normalises by each batch and drops, as ordinary training does. It changes the result greatly.
        rate: Adam's learning rate.
        epochs: how often each image is seen.
        steps: optimiser steps in all, instead of epochs.
        batch_size: images of a step.
        seed: of the order of the images, and of dropout.
        autocast: whether to compute in bfloat16 where torch thinks it safe.

    Raises:
        InputError: there is no such mode, or a number is none that can be used.
    """

    mode: Mode = "eval"
    rate: float = 4e-5
    epochs: int = 10
    steps: int | None = None
    batch_size: int = 64
    seed: int = 0
    autocast: bool = False

    def __post_init__(self) -> None:
        if self.mode not in {"eval", "train"}:
            raise InputError(f'mode is "eval" or "train"; got {self.mode!r}.')
        for name in ("epochs", "steps", "batch_size"):
            if (number := getattr(self, name)) is not None:
                whole(name, number)
        if not 0 < self.rate < float("inf"):
            raise InputError(f"The learning rate is above 0 and finite; got {self.rate}.")


@dataclass(frozen=True)
class Measurement:
    """What an evaluation measures, and how.

    Attributes:
        readings: what "stays important" means.
        question: what is asked of a class; by default `class` for `PAPER_LIKE`, and for other readings what the fit
            says.
        controls: further controls besides the standard ones, by name, or `all`; see `Control`.
        blur: standard deviation in pixels of a Gaussian by which the maps of every arm are blurred first.
        fills: what an occluded region is filled with.
        black: a black pixel as the model sees it, shape (channel,), where neither images nor model tell.
        per_component: whether pixels that touch get a hull of their own, instead of one around all.
        seed: of random pixels, and of methods that draw.

    Raises:
        InputError: the blur is no width, or there is no such fill or question.
    """

    readings: tuple[Consistency, ...] = (Consistency(),)
    question: Question | None = None
    controls: Sequence[Control | str] | Literal["all"] | None = None
    blur: float = 0.0
    fills: tuple[Fill | str, ...] = (Fill.BLACK,)
    black: Tensor | None = None
    per_component: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.blur < float("inf"):
            raise InputError(f"blur is a width in pixels, 0 or above; got {self.blur}.")
        for fill in self.fills:
            as_fill(fill)
        if self.question is not None:
            check_question(self.question)

    def questions(self, usual: Question) -> dict[Question, list[Consistency]]:
        """The readings of each question."""
        found: dict[Question, list[Consistency]] = {}
        for reading in {reading.name: reading for reading in self.readings}.values():
            asked: Question = self.question or ("class" if reading == PAPER_LIKE else usual)
            found.setdefault(asked, []).append(reading)
        return found


def check_question(question: Question) -> Question:
    """The question, where there is such a one.

    Raises:
        InputError: there is none.
    """
    if question not in ("pair", "class"):
        raise InputError(f'question is "pair" or "class"; got {question!r}.')
    return question
