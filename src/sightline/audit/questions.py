"""The questions of an audit, put to one block of images at a time; their rules were stated before the figures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from sightline.audit.block import CEILING, Block, Score
from sightline.audit.encoding import reencoded, shifted
from sightline.audit.randomisation import Order, Randomisation, Stage
from sightline.audit.similarity import spearman
from sightline.audit.subjects import Maps
from sightline.audit.verdicts import Rule
from sightline.errors import RefusalError


class Question(ABC):
    """One test of an audit.

    Attributes:
        name: the test's name.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def rule(self) -> Rule | None:
        """What decides it; none where it only reports."""

    def cannot_bite(self, model: object, images: torch.Tensor, logits: torch.Tensor) -> str:
        """Why the test says nothing of this model on these images; empty where it does."""
        del model, images, logits
        return ""

    @abstractmethod
    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:
        """The numbers of a block.

        Args:
            block: the images.
            tell: called with what is done, in words.
        """


@dataclass(frozen=True)
class ClassSensitivity(Question):
    """Whether the map of another class is another map.

    The map of the predicted class beside those of the second class, of a random other one and of the least likely one.
    """

    name: ClassVar[str] = "class_sensitivity"

    @property
    def rule(self) -> Rule:  # noqa: D102
        return Rule(
            self.name, "random class", "spearman", 0.7, True,
            "the map of a random other class is less than 0.7 as like the map of the predicted class as that map under "
            "slight noise (0: as another image's map)",
        )  # fmt: skip

    def cannot_bite(self, model: object, images: torch.Tensor, logits: torch.Tensor) -> str:  # noqa: D102
        del model, images
        if logits.shape[1] < 2:
            return "the network has one output, so there is no other class"
        if logits.shape[1] == 2 and len(logits) > 1:
            correlation = float(np.corrcoef(logits.double().numpy().T)[0, 1])
            if correlation < -0.98:
                return (
                    "the two logits are each other's negative (their correlation over these images is "
                    f"{correlation:.3f}), so both classes rightly have one map but for its sign"
                )
        return ""

    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:  # noqa: D102
        tell("classes")
        for case, maps in block.maps.items():
            if case != "predicted":
                yield from block.compared(self.name, "random class" if case == "other class" else case, maps)


@dataclass(frozen=True)
class ParameterRandomization(Question):
    """Whether the map of a network that has learned nothing is another map (Adebayo et al. 2018, arXiv 1810.03292).

    The explained class stays the one that the original network predicts.
    """

    name: ClassVar[str] = "parameter_randomization"
    how: Randomisation
    stages: Sequence[Stage]

    @property
    def rule(self) -> Rule | None:  # noqa: D102
        if not self.stages or self.how.order is Order.ALONE:
            return None
        return Rule(
            self.name, self.case(len(self.stages)), "spearman", 0.5, True,
            "with all layers random the map is less than 0.5 as like the map of the trained network as that map under "
            "slight noise (0: as another image's map)",
        )  # fmt: skip

    def case(self, number: int) -> str:
        """A stage in words."""
        return f"{number}: {self.stages[number - 1].name}"

    def cannot_bite(self, model: object, images: torch.Tensor, logits: torch.Tensor) -> str:  # noqa: D102
        del images, logits
        return "" if isinstance(model, nn.Module) and self.stages else "the model has no parameters to randomise"

    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:  # noqa: D102
        predicted = block.classes["predicted"]
        for number, (_, network) in enumerate(self.how.networks(block.model, self.stages), 1):
            tell(f"random: {self.case(number)}")
            found, _ = block.subjects.maps(network, block.images, [predicted], f"stage {number}")
            yield from block.compared(self.name, self.case(number), found[0])


@dataclass(frozen=True)
class Stability(Question):
    """Whether the same question gets the same answer: asked again, with another seed, under slight noise.

    `max_sensitivity` is the largest |A(x + d) - A(x)| / |A(x)| of a few draws of slight noise (Yeh et al. 2019, arXiv
    1901.09392), which a map that never changes wins: it is reported, and decides nothing.
    """

    name: ClassVar[str] = "stability"
    draws: int = 3

    @property
    def rule(self) -> Rule:  # noqa: D102
        return Rule(
            self.name, "another seed", "spearman", 0.5, False,
            "with another seed the map is more than 0.5 as like itself as can be (0: as another image's map)",
            ceiling=1.0,
        )  # fmt: skip

    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:  # noqa: D102
        predicted = [block.classes["predicted"]]
        subjects = block.subjects
        tell("asked again")
        again, _ = subjects.maps(block.model, block.images, predicted, "again")
        yield from block.compared(self.name, "asked again", again[0])
        other, _ = subjects.maps(block.model, block.images, predicted, "other seed", seed=subjects.seed + 1)
        yield from block.compared(self.name, "another seed", other[0])
        worst: dict[str, torch.Tensor] = {}
        for draw in range(self.draws):
            tell("slight noise")
            noisy, _ = block.noisy(draw)
            for method, maps in noisy.items():
                base = block.base[method].double().flatten(1)
                change = (maps.double().flatten(1) - base).norm(dim=1) / base.norm(dim=1)
                worst[method] = torch.maximum(worst[method], change) if method in worst else change
        for method, changes in worst.items():
            for number, value in zip(block.numbers, changes.tolist(), strict=True):
                yield Score(self.name, CEILING, method, "max_sensitivity", number, value)


@dataclass(frozen=True)
class InputBias(Question):
    """Whether the map changes when the same function reads the same pictures in another encoding.

    The input is shifted, the first layer corrected so that all logits stay: a map that multiplies by the input moves
    with the colour that happens to be zero, and is blind to it. `input` is the rank correlation of |map| with |input|
    in each encoding.

    Attributes:
        spread: the standard deviation of all audited images' values.
        shifts: by how many spreads the input is shifted.
    """

    spread: float
    shifts: Sequence[float] = (-1.0, 1.0)
    name: ClassVar[str] = "input_bias"

    @property
    def rule(self) -> Rule:  # noqa: D102
        return Rule(
            self.name, self.case(self.shifts[-1]), "cosine", 0.9, False,
            "with the input shifted and the function unchanged, the cosine of both maps is above 0.9",
            floor=0.0, ceiling=1.0,
        )  # fmt: skip

    def cannot_bite(self, model: object, images: torch.Tensor, logits: torch.Tensor) -> str:  # noqa: D102
        del logits
        try:
            shifted(model, images, self.shifts[0] * self.spread)
        except RefusalError as error:
            return str(error)
        return ""

    def case(self, shift: float) -> str:
        """A shift in words."""
        return f"input {shift:+g} spreads"

    def scores(self, block: Block, tell: Callable[[str], None]) -> Iterator[Score]:  # noqa: D102
        predicted = [block.classes["predicted"]]
        yield from _with_input(self.name, "encoding as it is", block, block.base, block.tensor)
        for shift in self.shifts:
            tell(self.case(shift))
            amount = shift * self.spread
            network, moved = shifted(block.model, block.tensor, amount)
            images = reencoded(block.images, moved, amount)
            found, _ = block.subjects.maps(network, images, predicted, self.case(shift))
            yield from block.compared(self.name, self.case(shift), found[0])
            yield from _with_input(self.name, self.case(shift), block, found[0], moved)


def _with_input(test: str, case: str, block: Block, maps: Maps, tensor: torch.Tensor) -> Iterator[Score]:
    magnitude = tensor.detach().abs().mean(1).float()
    for method, heatmaps in maps.items():
        values = spearman(heatmaps.abs(), magnitude).tolist()
        for number, value in zip(block.numbers, values, strict=True):
            yield Score(test, case, method, "input", number, value)
