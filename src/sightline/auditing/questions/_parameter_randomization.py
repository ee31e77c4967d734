"""Parameter randomisation."""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from sightline.auditing.questions._block import Block, Score, ranked
from sightline.auditing.questions._question import Question, Setup
from sightline.auditing.questions._registry import QUESTIONS
from sightline.auditing.questions._rule import Rule
from sightline.evaluation import JUDGED, Explained, Order, Randomisation, Stage, entropy
from sightline.models import ask, home_of
from sightline.operations import Reuse, reusing


@dataclass(frozen=True)
class ParameterRandomization(Question):
    """Whether the map of a network that has learned nothing is another map (Adebayo et al. 2018, arXiv 1810.03292).

    Beside the likeness of maps stands `entropy_rise`, (H(random) - H(trained)) / H(trained) with the entropy H of a
    map's histogram (efficient MPRT; Hedström et al. 2024, arXiv 2405.02383): a map that carries something is simpler
    than one of a random network.

    How the weights are drawn decides as much as the images do, so that several networks with all layers random are
    asked, and the verdict's interval covers both.

    Attributes:
        how: how the network is randomised, and which class is explained then; by default as the audit says.
        stages: the steps of it.
    """

    name: ClassVar[str] = "parameter_randomization"
    caption: ClassVar[str] = "Is the map of a network that has learned nothing another map?"
    default: ClassVar[bool] = True
    cites: ClassVar[Sequence[str]] = ("1810.03292",)
    how: Randomisation | None = None
    stages: Sequence[Stage] = ()

    def prepare(self, setup: Setup) -> Question:
        how, model = self.how or setup.randomisation, setup.model
        if not isinstance(model, nn.Module) or next(model.parameters(), None) is None:
            return replace(self, how=how)
        return replace(self, how=how, stages=how.plan(model, setup.images[:1].to(*home_of(model, setup.images))))

    @property
    def _how(self) -> Randomisation:
        return self.how or Randomisation()

    @property
    def rules(self) -> Sequence[Rule]:
        if not self.stages or self._how.order is Order.ALONE:
            return ()
        rule = Rule(
            self.name, self.case(len(self.stages)), JUDGED, 0.5, True,
            "with all layers random the map is, but for its sign, less than 0.5 as like the map of the trained network "
            "as that map under slight noise (0: as another image's map), over random networks and images",
            networks=True,
        )  # fmt: skip
        return (rule,)

    def case(self, number: int) -> str:
        """A stage in words."""
        return f"{number}: {self.stages[number - 1].name}"

    def not_applicable(self, model: object, images: torch.Tensor, logits: torch.Tensor) -> str:
        del images, logits
        return "" if isinstance(model, nn.Module) and self.stages else "the model has no parameters to randomise"

    @property
    def parts(self) -> int:
        return len(self.stages) + self._further

    @property
    def networks(self) -> int:
        return self._how.networks if self.rules else 0

    @property
    def _further(self) -> int:
        """Networks with all layers random besides the last of the cascade."""
        return max(self.networks - 1, 0)

    def map_sets(self, outputs: int) -> int:
        del outputs
        return self.parts * max(self._how.smooth, 1)

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        for _, found in self.by_part(block, on_progress, range(self.parts)):
            yield from found

    def by_part(
        self, block: Block, on_progress: Callable[[str], None], wanted: Container[int]
    ) -> Iterator[tuple[int, Iterable[Score]]]:
        noise = self._how.smooth
        trained = ranked(block.smoothed(block.model, noise, "trained")) if noise else block.ranked
        entropies = {method: entropy(one.maps) for method, one in trained.items()}

        def asked(network: nn.Module, number: int, reuse: Reuse | None = None, draw: int = 1) -> list[Score]:
            case = self.case(number)
            on_progress(f"random: {case}" if draw == 1 else f"random: network {draw} of {self._how.networks}")
            chosen = block.predicted
            if self._how.target is Explained.PREDICTED:
                chosen = ask(network, block.tensor, 64).argmax(1)
            with reusing(reuse):
                found = block.smoothed(network, noise, f"stage {number}, network {draw}", chosen)
            scores = list(block.compared(self.name, case, found, base=trained, network=draw))
            for method, maps in found.items():
                rise = entropy(maps) / entropies[method] - 1
                scores += block.each(self.name, case, method, "entropy_rise", rise, network=draw)
            return scores

        reuse: Reuse | None = None
        for number, (stage, network) in enumerate(self._how.cascade(block.model, self.stages), 1):
            # Each network is the one before with more of its layers random, so that layers below are as they were.
            reuse = reuse or Reuse(network)
            for layer in stage.layers:
                reuse.changed(network.get_submodule(layer.name))
            if number - 1 in wanted:
                yield number - 1, asked(network, number, reuse)
        last = len(self.stages)
        for draw in range(2, 2 + self._further):
            if last + draw - 2 in wanted:
                network = self._how.random(block.model, self.stages, draw)
                yield last + draw - 2, asked(network, last, draw=draw)


QUESTIONS.register(ParameterRandomization.name, ParameterRandomization())
