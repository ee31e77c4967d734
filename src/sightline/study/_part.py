"""One part of a study: a question, its table, and the answers that a rule reads from it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from sightline.evaluation import FEWEST, mean_interval
from sightline.study._rule import Answer


class Interval(NamedTuple):
    """A mean over images with its 95 % interval, infinite below the number of images that an interval needs."""

    mean: float
    low: float
    high: float
    images: int


@dataclass(frozen=True, eq=False)
class Part:
    """What a part of a study found.

    Attributes:
        title: its heading.
        question: what is asked, in a sentence.
        rule: how the answers follow from the table, the same for every network.
        table: the figures, with the columns `images` and `networks`; `networks` counts random networks, and is 0 where
            only the given network is asked.
        answers: for each claim, whether it holds.
        refused: for each method that could not be applied, why.
        notes: what a reader must know beside the table.
    """

    title: str
    question: str
    rule: str
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    answers: Mapping[str, Answer] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The part as Markdown."""
        lines = [f"## {self.title}", "", self.question, "", f"Rule: {self.rule}", ""]
        lines += [f"- {claim}: **{answer}**." for claim, answer in self.answers.items()]
        lines += ["", *table_lines(self.table)] if len(self.table) else []
        if self.refused:
            lines += ["", "Refused:", "", *(f"- {', '.join(names)}: {_line(why)}" for why, names in self._reasons())]
        lines += ["", *(f"- Note: {_line(note)}" for note in self.notes)] if self.notes else []
        return "\n".join(lines) + "\n"

    def _reasons(self) -> Iterable[tuple[str, list[str]]]:
        """Each reason for a refusal once, with its methods."""
        found: dict[str, list[str]] = {}
        for name, why in self.refused.items():
            found.setdefault(why, []).append(name)
        return found.items()


def interval(values: Tensor) -> Interval:
    """The mean of the finite values with its interval.

    Args:
        values: shape (image,); an image whose comparison says nothing has NaN.
    """
    known = values.detach().double().cpu().numpy()
    known = known[np.isfinite(known)]
    mean = float(known.mean()) if len(known) else math.nan
    return Interval(mean, *(mean_interval(known) if len(known) >= FEWEST else (-math.inf, math.inf)), len(known))


def too_few(count: int) -> list[str]:
    """A note where no interval can be given."""
    if count >= FEWEST:
        return []
    return [f"An interval needs at least {FEWEST} images; there are {count}, so that no claim can be decided."]


def table_lines(table: pd.DataFrame) -> list[str]:
    """A table as lines of Markdown, numbers with two decimals."""
    rows = [list(map(str, table.columns)), ["---"] * len(table.columns), *table.itertuples(index=False)]
    return ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.2f}" if math.isfinite(value) else ""
    return _line(str(value)).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())
