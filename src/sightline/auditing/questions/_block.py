"""A block of images under audit: its classes, its maps, and what these are compared with."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline._common.seeds import image_key, seed_of
from sightline.arrays import ends_of
from sightline.auditing.questions._subjects import Answers, Maps, Subjects, Sums
from sightline.errors import RefusalError
from sightline.evaluation import MEASURES, Asked, Ranked, likeness, values_of, with_values
from sightline.models import OutputKind, ask

SLIGHT = 0.01
"""Standard deviation of slight input noise, as a share of each image's own range."""
SMOOTH = 0.1
"""The same of the noise over which smooth randomisation averages (Hedström et al. 2024, arXiv 2405.02383)."""
REFERENCE, FLOOR, CEILING = "reference", "another image", "slight noise"
SAME_CLASS = "another image, same class"
RANDOM_CLASSES = 3
"""How many other classes are drawn for each image."""


class Score(NamedTuple):
    """One number of an audit.

    Attributes:
        test: which test it belongs to; `reference` for floors and ceilings.
        case: what was compared with the map of the predicted class.
        method: whose maps.
        measure: in which measure.
        image: the image's number.
        value: the number; NaN where there is none.
        network: which of several random networks was asked, from 1; 0 for the trained one.
        draw: which of several draws for each image this is, from 0.
    """

    test: str
    case: str
    method: str
    measure: str
    image: int
    value: float
    network: int = 0
    draw: int = 0


@dataclass(frozen=True, eq=False)
class Partners:
    """For each image of a block another image of the audit, and the class whose map is asked of that.

    Attributes:
        everything: all images of the audit, of which these are taken where their maps are made.
        numbers: the numbers of the other images.
        classes: shape (image,): the classes.
        known: shape (image,): false where there is no such image, and an image stands for itself.
    """

    everything: Asked
    numbers: list[int]
    classes: Int[Tensor, " batch"]
    known: Bool[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Block:
    """Some images of an audit.

    Attributes:
        model: the network.
        images: the images.
        numbers: their numbers in the audit.
        logits: shape (image, output): what the network says of them; none where it gives no class scores.
        outputs: shape (image, output): for each image that which is explained, then the others; see `ordered_outputs`.
        output: what these are.
        subjects: the methods.
        seed: base of all randomness.
        compares: how many questions read the maps of classes other than the predicted one.
        others: for each image one of another predicted class, with its own class.
        alike: for each image one of the same predicted class where there is one, with that class.
    """

    model: Any
    images: Asked
    numbers: range
    logits: Tensor
    outputs: Int[Tensor, "batch output"]
    output: OutputKind
    subjects: Subjects
    seed: int
    compares: int = 1
    others: Partners | None = None
    alike: Partners | None = None

    @property
    def tensor(self) -> Tensor:
        """The images' values."""
        return values_of(self.images)

    @property
    def predicted(self) -> Int[Tensor, " batch"]:
        """The predicted class of each image, or the output that was drawn for it."""
        return self.outputs[:, 0]

    @cached_property
    def _other_classes(self) -> list[tuple[str, int, Int[Tensor, " batch"]]]:
        """The classes whose maps are compared with that of the predicted one: names, draws, and numbers."""
        order, count = self.outputs, self.outputs.shape[1]
        if not self.compares or count < 2:
            return []
        noun = self.output.noun
        if count == 2:
            return [(f"random {noun}", 0, order[:, 1])]
        places = [
            torch.randperm(count - 1, generator=generator)[:RANDOM_CLASSES] for generator in self.generators("class")
        ]
        drawn = order.gather(1, 1 + torch.stack(places))
        found = [(f"random {noun}", draw, column) for draw, column in enumerate(drawn.unbind(1))]
        if self.output.predicts:
            found = [(f"second {noun}", 0, order[:, 1]), *found, (f"least likely {noun}", 0, order[:, -1])]
        return found

    @cached_property
    def _answers(self) -> Answers:
        classes = [self.predicted, *(chosen for _, _, chosen in self._other_classes)]
        found = self.subjects.maps(self.model, self.images, classes, "classes")
        self.subjects.refused |= found.refused
        asked = {*(row.name for row in self.subjects.rows), *(custom.name for custom in self.subjects.custom)}
        if not self.subjects.alone and asked <= self.subjects.refused.keys():
            # Only controls that know nothing of the network are left.
            raise RefusalError(" ".join(dict.fromkeys(self.subjects.refused.values())))
        return found

    def other_classes(self) -> Iterator[tuple[str, int, Maps]]:
        """The maps for each of the other classes, by name and draw; not kept where only one question reads them."""
        maps = self._answers.maps
        for number, (name, draw, _) in enumerate(self._other_classes, 1):
            yield name, draw, maps.pop(1) if self.compares == 1 else maps[number]

    @property
    def sums(self) -> Sums:
        """What the maps of the predicted class add up to."""
        return self._answers.sums[0]

    @property
    def base(self) -> Maps:
        """The maps of the predicted class."""
        return self._answers.maps[0]

    @cached_property
    def ranked(self) -> dict[str, Ranked]:
        """The maps of the predicted class, to be compared with."""
        return ranked(self.base)

    def explained(self, images: Tensor) -> Float[Tensor, " batch"]:
        """What the model says of other values of the images: the probability, or the value, of the explained output.

        The probability is the network's own where it ends in one; else it is made by softmax of the logits of classes,
        by sigmoid of those of labels. Values of a regression stay as they are.

        Args:
            images: shape (batch, channel, height, width), in the order of the block.
        """
        read = self.output.read(ask(self.model, images, 64))
        return read.gather(1, self.predicted[:, None]).squeeze(1)

    def generators(self, *about: str | int) -> list[torch.Generator]:
        """Randomness for each image, which depends on the audit's seed and on the image's content alone.

        Args:
            about: what is drawn, so that other draws are independent of it.
        """
        seeds = [seed_of(self.seed, *about, image_key(image)) for image in self.tensor]
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def noisy(self, draw: int = 0) -> Maps:
        """The maps of the predicted class under slight noise on the images."""
        images = self._with_noise(SLIGHT, draw)
        return self.subjects.maps(self.model, images, [self.predicted], f"noise {draw}").maps[0]

    def of(self, partners: Partners, about: str) -> Maps:
        """The maps of other images.

        Args:
            partners: the images.
            about: see `Subjects.maps`.
        """
        images = partners.everything[partners.numbers]
        return self.subjects.maps(self.model, images, [partners.classes], about).maps[0]

    def smoothed(self, network: Any, draws: int, about: str, classes: Tensor | None = None) -> Maps:
        """The maps of a network for the predicted class, averaged over noise on the images.

        Args:
            network: the network.
            draws: how many, the last without noise; 0 for the maps themselves.
            about: see `Subjects.maps`.
            classes: other classes to explain.
        """
        asked = [self.predicted if classes is None else classes]
        total: Maps = {}
        for draw in range(max(draws, 1)):
            images = self._with_noise(SMOOTH, draw) if draw < draws - 1 else self.images
            found = self.subjects.maps(network, images, asked, f"{about}, {draw}" if draws else about).maps[0]
            total = {method: total[method] + maps if total else maps for method, maps in found.items()}
        return total

    def _with_noise(self, share: float, draw: int) -> Asked:
        """The images under Gaussian noise of a share of each one's own range, within what a pixel can be."""
        tensor = self.tensor
        spread = (tensor.amax((1, 2, 3), keepdim=True) - tensor.amin((1, 2, 3), keepdim=True)) * share
        drawn = [torch.randn(tensor[0].shape, generator=generator) for generator in self.generators(draw)]
        noisy = tensor + spread * torch.stack(drawn).to(tensor)
        ends = ends_of(self.model, self.images, tensor.shape[1])
        if ends is not None:
            # Some rules are defined for pixels alone.
            low, high = (end.to(tensor).view(-1, 1, 1) for end in ends)
            noisy = noisy.clamp(low, high)
        return with_values(self.images, noisy)

    def each(
        self, test: str, case: str, method: str, measure: str, values: Tensor, *, network: int = 0, draw: int = 0
    ) -> Iterator[Score]:
        """One number for each image."""
        for number, value in zip(self.numbers, values.tolist(), strict=True):
            yield Score(test, case, method, measure, number, value, network, draw)

    def compared(
        self,
        test: str,
        case: str,
        maps: Maps,
        *,
        base: dict[str, Ranked] | None = None,
        known: Tensor | None = None,
        network: int = 0,
        draw: int = 0,
    ) -> Iterator[Score]:
        """How alike maps are to those of the predicted class, in every measure.

        Args:
            test: the test.
            case: the case.
            maps: the other maps, by method; where one is missing, there is no number.
            base: other maps to compare them with.
            known: for which images there is something to compare.
            network: see `Score`.
            draw: see `Score`.
        """
        for method, first in (self.ranked if base is None else base).items():
            found = dict.fromkeys(MEASURES, torch.full((len(first.maps),), torch.nan))
            if method in maps:
                second = first if maps[method] is first.maps else Ranked(maps[method])
                found = likeness(first, second)
            for name, values in found.items():
                told = values if known is None else torch.where(known.to(values.device), values, torch.nan)
                yield from self.each(test, case, method, name, told, network=network, draw=draw)


def ordered_outputs(logits: Tensor, output: OutputKind, images: Tensor, seed: int) -> Int[Tensor, "batch output"]:
    """For each image the outputs, first that which is explained, then the others.

    Classes are ordered by their scores. Of several values none is predicted: for each image one of them is drawn, and
    the others follow in their order.
    """
    if output.predicts:
        return logits.argsort(dim=1, descending=True, stable=True)
    count = logits.shape[1]
    first = [seed_of(seed, "output", image_key(image)) % count for image in images]
    return (torch.tensor(first)[:, None] + torch.arange(count)) % count


def ranked(maps: Maps) -> dict[str, Ranked]:
    """Maps that will be compared more than once."""
    return {method: Ranked(one) for method, one in maps.items()}
