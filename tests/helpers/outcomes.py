"""Each method on each trap: the map that the slow reference code gives, or a refusal that names the operation.

`PYTHONPATH=tests python -m helpers.outcomes --write` writes the table `docs/outcomes.md`.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import sightline as sl
from helpers import reference as ref
from helpers import zoo
from sightline.propagation import deep_taylor, epsilon_gamma_box, rect_grad

PAGE = Path(__file__).parents[2] / "docs" / "outcomes.md"
AGREEMENT = 1e-9
# The catalogue's q of 98 leaves nothing of a layer of six units, and these images have no range of their own.
Q, LOW, HIGH = 50.0, -3.0, 3.0
REFERENCE = ref.methods(Q, LOW, HIGH)


@cache
def methods() -> Mapping[str, sl.Method]:
    """The catalogue's propagations, with the reference's parameters."""
    changed = {
        "rect_grad": rect_grad(Q),
        "rect_grad_prr": rect_grad(Q, padding_trick=True, proportional_pooling=True),
        "rect_grad_no_input": rect_grad(Q),
        "lrp_epsilon_gamma_box": epsilon_gamma_box(LOW, HIGH),
        "deep_taylor": deep_taylor(LOW, HIGH),
    }
    rows = {name: sl.catalogue()[name] for name in REFERENCE}
    return {name: replace(row, propagation=changed.get(name, row.propagation)) for name, row in rows.items()}


@dataclass(frozen=True)
class Outcome:
    """What came of one method on one trap, and what must come: maps, or else words of which a refusal holds one."""

    found: np.ndarray | None
    refusal: str
    expected: np.ndarray | None
    words: tuple[str, ...]

    @property
    def error(self) -> float:
        """The largest difference of any image, in units of its map's largest entry."""
        largest = np.abs(self.expected).max(1)
        differences = np.abs(self.found - self.expected).max(1)
        return float(np.max(np.where(differences == 0, 0, differences / np.maximum(largest, 1e-300))))

    @property
    def named(self) -> str:
        """The operation that the refusal names, as the reference knows it."""
        found = [match.group() for word in self.words if (match := re.search(word, self.refusal))]
        return found[0] if found else ""

    @property
    def right(self) -> bool:
        if self.found is None:
            return bool(self.named)
        return self.expected is not None and self.error <= AGREEMENT

    @property
    def cell(self) -> str:
        if self.found is None and (self.named or not self.words):
            return f"refused: {self.named or 'without need'}"
        return "right" if self.right else "WRONG"


def images(trap: zoo.AnyTrap) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, *trap.shape, generator=generator, dtype=torch.float64).clamp(LOW, HIGH)


@cache
def outcomes(trap: zoo.AnyTrap) -> Mapping[str, Outcome]:
    """For two images the highest score is explained, for one the lowest, which is mostly negative."""
    network, batch = trap.network(), images(trap)
    graphs = [trap.graph(network, image) for image in batch]
    target = [
        int(choose(scores.value)) for (scores, _), choose in zip(graphs, (np.argmax, np.argmax, np.argmin), strict=True)
    ]
    if trap.target is not None:
        target = [0, 0, 0]
    found, refused = _explained(network, batch, trap.target or target)
    result = {}
    for name, method in REFERENCE.items():
        values = [ref.pick(scores, label) for (scores, _), label in zip(graphs, target, strict=True)]
        words = tuple(dict.fromkeys(ref.objections(values[0], method)))
        expected = None
        if not words:
            expected = np.stack([ref.explain(z, start, method) for z, (_, start) in zip(values, graphs, strict=True)])
        result[name] = Outcome(found.get(name), refused.get(name, ""), expected, words)
    return result


def _explained(network, batch, target) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Maps and refusals; where nothing comes of asking for all, each method is asked alone, to hear why."""
    try:
        explanation = sl.explain(network, batch, list(methods().values()), target, on_refusal="record")
    except (RuntimeError, ValueError):
        explanations, refused = {}, {}
        for name, method in methods().items():
            try:
                explanations[name] = sl.explain(network, batch, method, target)[name]
            except (RuntimeError, ValueError) as error:  # a crash names nothing, and so is found to be wrong
                refused[name] = str(error)
    else:
        explanations, refused = explanation.maps, explanation.refused
    return {name: found.flatten(1).numpy() for name, found in explanations.items()}, dict(refused)


def table() -> str:
    """The page: methods that fare the same everywhere share a column."""
    rows = {trap.name: outcomes(trap) for trap in zoo.ALL}
    columns: dict[tuple[str, ...], list[str]] = {}
    for name in REFERENCE:
        columns.setdefault(tuple(row[name].cell for row in rows.values()), []).append(name)
    lines = [
        "# Outcomes",
        "",
        "Written by `tests/helpers/outcomes.py`: every method on every network of `traps.py` and `zoo.py` there.",
        "*right*: equal to the slow reference code (`reference.py`) within 1e-9 of the map's largest entry;",
        "*refused*: with a sentence that names this operation. Methods that fare the same share a column.",
        "",
        f"| trap | {' | '.join('<br>'.join(f'`{name}`' for name in names) for names in columns.values())} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for index, trap in enumerate(rows):
        lines.append(f"| {trap} | {' | '.join(cells[index] for cells in columns)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "--write" in sys.argv:
        PAGE.write_text(table(), encoding="utf-8")
    else:
        sys.stdout.write(table())
