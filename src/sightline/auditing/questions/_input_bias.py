"""Input bias."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from sightline.arrays import ImageBatch, ends_of
from sightline.auditing._block import Block, Score, ranked
from sightline.auditing._encoding import reencoded, shifted
from sightline.auditing._similarity import spearman
from sightline.auditing._subjects import Maps, Subjects, with_tensor
from sightline.auditing._verdicts import Rule
from sightline.auditing.questions._question import Question
from sightline.errors import RefusalError

PATCH, SEEN = "a patch of ", "seen"
WITHOUT = "input_bias_without_the_input"


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
        names: for each of these, the method that it repeats.
        shifts: by how many spreads the input is shifted.
    """

    spread: float
    local: Subjects | None = None
    shifts: Sequence[float] = (-1.0, 1.0)
    name: ClassVar[str] = "input_bias"

    @property
    def rules(self) -> Sequence[Rule]:
        words = "with the input shifted and the function unchanged, the cosine of both maps is above 0.9"
        case = self.case(self.shifts[-1])
        rule = Rule(self.name, case, "cosine", 0.9, False, words, floor=0.0, ceiling=1.0)
        without = Rule(
            WITHOUT, case, "cosine", 0.9, False, f"without the factor of the input, {words}",
            floor=0.0, ceiling=1.0, counts=False,
            silent="it has no factor of the input that could be taken out; its card says what depends on the encoding",
        )  # fmt: skip
        return (rule,) if self.local is None else (rule, without)

    def cannot_bite(self, model: object, images: torch.Tensor, logits: torch.Tensor) -> str:
        del logits
        try:
            shifted(model, images, self.shifts[0] * self.spread)
        except RefusalError as error:
            return str(error)
        return ""

    def case(self, shift: float) -> str:
        """A shift in words."""
        return f"input {shift:+g} spreads"

    def asks(self, outputs: int) -> int:
        del outputs
        return len(self.shifts) * (1 if self.local is None else 2) + 2

    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:
        predicted = [block.predicted]
        yield from _with_input(self.name, "encoding as it is", block, block.base, block.tensor)
        yield from self._patches(block)
        local = {}
        if self.local is not None:
            local = ranked(self.local.maps(block.model, block.images, predicted, "without the input").maps[0])
        for shift in self.shifts:
            tell(self.case(shift))
            amount = shift * self.spread
            network, moved = shifted(block.model, block.tensor, amount)
            images = reencoded(block.images, moved, amount)
            found = _reencoded(block.subjects, amount).maps(network, images, predicted, self.case(shift)).maps[0]
            yield from block.compared(self.name, self.case(shift), found)
            yield from _with_input(self.name, self.case(shift), block, found, moved)
            if self.local is not None:
                again = _reencoded(self.local, amount).maps(network, images, predicted, self.case(shift)).maps[0]
                for score in block.compared(WITHOUT, self.case(shift), again, base=local):
                    yield score._replace(method=score.method.removesuffix(" without the input"))

    def _patches(self, block: Block) -> Iterator[Score]:
        height, width = block.tensor.shape[2:]
        patch = torch.zeros(height, width, dtype=torch.bool, device=block.tensor.device)
        patch[height // 3 : height - height // 3, width // 3 : width - width // 3] = True
        tensor = block.tensor
        colours = {"zero": tensor.new_zeros(tensor.shape[1])}
        ends = ends_of(block.model, block.images, tensor.shape[1]) or ()
        for name, end in zip(("black", "white"), ends, strict=False):
            if not torch.equal(end.to(tensor), colours["zero"]):
                colours[name] = end.to(tensor)
        for name, colour in colours.items():
            case = PATCH + name
            images = with_tensor(block.images, torch.where(patch, colour[:, None, None], tensor))
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
    tensor = references.tensor if isinstance(references, ImageBatch) else references
    return replace(subjects, references=reencoded(references, tensor + shift, shift))


def _with_input(test: str, case: str, block: Block, maps: Maps, tensor: torch.Tensor) -> Iterator[Score]:
    magnitude = tensor.detach().abs().mean(1).float()
    for method, heatmaps in maps.items():
        yield from block.each(test, case, method, "input", spearman(heatmaps.abs(), magnitude))
