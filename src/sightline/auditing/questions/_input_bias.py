"""Input bias."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pandas as pd
import torch

from sightline._common.words import joined
from sightline.arrays import ends_of
from sightline.auditing.questions._block import Block, Score, ranked
from sightline.auditing.questions._patches import PATCHES, SEEN, blind_to
from sightline.auditing.questions._question import Question, Setup
from sightline.auditing.questions._registry import QUESTIONS
from sightline.auditing.questions._rule import Finding, Rule, Said
from sightline.auditing.questions._subjects import Maps, Subjects
from sightline.errors import RefusalError
from sightline.evaluation import reencoded, shifted, spearman, values_of, with_values

WITHOUT = "input_bias_without_the_input"


@dataclass(frozen=True)
class Shift:
    """The input shifted by so many spreads."""

    spreads: float

    def describe(self) -> str:
        """The case in words."""
        return f"input {self.spreads:+g} spreads"


@dataclass(frozen=True)
class InputBias(Question):
    """Whether the map changes when the same function reads the same pictures in another encoding.

    The input is shifted, the first layer corrected so that all logits stay: a map that multiplies by the input moves
    with the colour that happens to be encoded as zero, and is blind to it. `input` is the rank correlation of |map|
    with |input| in each encoding. Methods with a factor of the input are asked again without it.

    `seen` looks at colours that a method may be blind to: the mean of |map| in a middle patch painted with one, over
    the mean outside. It is 0 for a map that cannot see that colour whatever the network does there: zero in the
    network's input for one that multiplies by it, another for a path from another baseline.

    Attributes:
        spread: the standard deviation of all audited images' values.
        local: methods without their factor of the input; none where no method has one.
        repeats: for each of these by name, the method that it repeats.
        shifts: by how many spreads the input is shifted.
    """

    name: ClassVar[str] = "input_bias"
    caption: ClassVar[str] = "Does the map stay where only the encoding of the pictures changes?"
    default: ClassVar[bool] = True
    spread: float = 0.0
    local: Subjects | None = None
    repeats: Mapping[str, str] = field(default_factory=dict)
    shifts: Sequence[float] = (-1.0, 1.0)

    def prepare(self, setup: Setup) -> Question:
        subjects = setup.subjects
        local = {row.name: found for row in subjects.rows if (found := row.without_input) is not None}
        again = Subjects(list(local.values()), subjects.seed, subjects.references, alone=True) if local else None
        repeats = {found.name: name for name, found in local.items()}
        return replace(self, spread=float(setup.images.double().std()), local=again, repeats=repeats)

    @property
    def rules(self) -> Sequence[Rule]:
        words = "with the input shifted and the function unchanged, the cosine of both maps is above 0.9"
        case = Shift(self.shifts[-1]).describe()
        rule = Rule(self.name, case, "cosine", 0.9, False, words, floor=0.0, ceiling=1.0)
        without = Rule(
            WITHOUT, case, "cosine", 0.9, False, f"without the factor of the input, {words}",
            floor=0.0, ceiling=1.0, counts=False,
            silent="it has no factor of the input that could be taken out; its card says what depends on the encoding",
        )  # fmt: skip
        return (rule,) if self.local is None else (rule, without)

    def not_applicable(self, model: object, images: torch.Tensor, logits: torch.Tensor) -> str:
        del logits
        try:
            shifted(model, images, self.shifts[0] * self.spread)
        except RefusalError as error:
            return str(error)
        return ""

    def map_sets(self, outputs: int) -> int:
        del outputs
        return len(self.shifts) * (1 if self.local is None else 2) + 2

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        predicted = [block.predicted]
        yield from _with_input(self.name, "encoding as it is", block, block.base, block.tensor)
        yield from self._patches(block)
        local = {}
        if self.local is not None:
            local = ranked(self.local.maps(block.model, block.images, predicted, "without the input").maps[0])
        for shift in self.shifts:
            case = Shift(shift).describe()
            on_progress(case)
            amount = shift * self.spread
            network, moved = shifted(block.model, block.tensor, amount)
            images = reencoded(block.images, moved, amount)
            found = _reencoded(block.subjects, amount).maps(network, images, predicted, case).maps[0]
            yield from block.compared(self.name, case, found)
            yield from _with_input(self.name, case, block, found, moved)
            if self.local is not None:
                again = _reencoded(self.local, amount).maps(network, images, predicted, case).maps[0]
                for score in block.compared(WITHOUT, case, again, base=local):
                    yield score._replace(method=self.repeats[score.method])

    def remedy(self, method: str, findings: Mapping[tuple[str, str], Finding]) -> str:
        without = findings.get((WITHOUT, method))
        passes = without is not None and without.said is Said.PASS
        return "read the maps only without the factor of the input, which pass" if passes else ""

    def notes(self, table: pd.DataFrame, settings: Mapping[str, Any]) -> Sequence[str]:
        methods: dict[str, list[str]] = {}
        for method, colours in blind_to(table, settings.get("null_colour")).items():
            methods.setdefault(joined(colours), []).append(method)
        return [
            f"Whatever the model does there, {colours} stays empty in the maps of {joined(names)}."
            for colours, names in methods.items()
        ]

    def _patches(self, block: Block) -> Iterator[Score]:
        height, width = block.tensor.shape[2:]
        patch = torch.zeros(height, width, dtype=torch.bool, device=block.tensor.device)
        patch[height // 3 : height - height // 3, width // 3 : width - width // 3] = True
        tensor = block.tensor
        zero, *ends_named = PATCHES
        colours = {zero: tensor.new_zeros(tensor.shape[1])}
        ends = ends_of(block.model, block.images, tensor.shape[1]) or ()
        for one, end in zip(ends_named, ends, strict=False):
            if not torch.equal(end.to(tensor), colours[zero]):
                colours[one] = end.to(tensor)
        for one, colour in colours.items():
            case = one.describe()
            images = with_values(block.images, torch.where(patch, colour[:, None, None], tensor))
            found = block.subjects.maps(block.model, images, [block.predicted], case).maps[0]
            for method, maps in found.items():
                magnitude = maps.double().abs()
                seen = magnitude[:, patch].mean(1) / magnitude[:, ~patch].mean(1)
                yield from block.each(self.name, case, method, SEEN, seen)


def _reencoded(subjects: Subjects, shift: float) -> Subjects:
    """The same methods with their references in the encoding that the shifted network reads."""
    references = subjects.references
    if references is None:
        return subjects
    return replace(subjects, references=reencoded(references, values_of(references) + shift, shift))


def _with_input(test: str, case: str, block: Block, maps: Maps, tensor: torch.Tensor) -> Iterator[Score]:
    magnitude = tensor.detach().abs().mean(1).float()
    for method, heatmaps in maps.items():
        yield from block.each(test, case, method, "input", spearman(heatmaps.abs(), magnitude))


QUESTIONS.register(InputBias.name, InputBias())
