"""What a sampling is, and the simplest: the image itself."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sightline._common.meaning import FEWER, Meaning

Rows = Float[Tensor, "row channel height width"]


class Reduction(StrEnum):
    """How the answers at an image's samples become one."""

    MEAN = "mean"
    MEAN_SQUARE = "mean square"
    VARIANCE = "variance"


class Row(NamedTuple):
    """One question to the network: an image, by its place, and which of its samples."""

    image: int
    sample: int | float


class Answer(NamedTuple):
    """What the network said at a row.

    Attributes:
        values: the explained value, for each target.
        sums: the sum of the map there, for each target.
    """

    values: tuple[float, ...]
    sums: tuple[float, ...]


class Points(NamedTuple):
    """Where the network is asked.

    Attributes:
        inputs: the inputs, shape (row, channel, height, width).
        offsets: what an aggregation that multiplies by the input takes: the inputs themselves, or the way from a
            baseline to the image.
    """

    inputs: Tensor
    offsets: Tensor


@dataclass(frozen=True)
class Context:
    """What a job knows that a sampling may need.

    Attributes:
        ends: a black and a white pixel as the model sees them, each of shape (channel,).
        references: images to compare with, shape (reference, channel, height, width).
    """

    ends: tuple[Tensor, Tensor] | None = None
    references: Tensor | None = None

    @property
    def pixel_range(self) -> tuple[Tensor, Tensor] | None:
        """The lowest and the highest value of a pixel as the model sees it, each of shape (channel,)."""
        return None if self.ends is None else (torch.minimum(*self.ends), torch.maximum(*self.ends))


class Sampling(ABC):
    """A number of inputs for each image, with weights that reduce their answers to one.

    Attributes:
        reduction: how the finished maps of the samples become one.
        before: whether it is done to the terms that an aggregation is made of (FullGrad's), before their signs are
            handled, instead of to its finished maps.
        steered: whether the answers decide where to ask next; the weights are then known at the end.
        from_baseline: whether the inputs lie on the way from a baseline, which only has a meaning at the input.
        fixed_baseline: whether that baseline is given in numbers, which are other colours in another encoding.
        random: whether the inputs are drawn.
        at_images: whether it is the image itself, once; such passes also predict the classes.
        averaged_over: over what it takes the mean, in words.
        needs: what must be given for it, as sentences.
        why_zero: why its maps may be zero everywhere, whatever the signal.
        family: how it is looked up among the samplings of published methods.
    """

    reduction: Reduction = Reduction.MEAN
    before: bool = False
    steered: bool = False
    from_baseline: bool = False
    random: bool = False
    at_images: bool = False
    averaged_over: str = "its inputs"

    @property
    def family(self) -> str:
        return type(self).__name__

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def why_zero(self) -> str:
        if self.reduction is Reduction.VARIANCE:
            return "the samples' maps agree, as where the gradient is constant or zero"
        return ""

    @property
    def fixed_baseline(self) -> bool:
        return False

    @property
    @abstractmethod
    def weights(self) -> tuple[float, ...]:
        """The weight of each sample, where they are known beforehand; their number is the samples per image."""

    @abstractmethod
    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int | float]) -> Points:
        """The inputs at which the network is evaluated.

        Args:
            images: shape (row, channel, height, width), an image for each row (repeated as needed).
            keys: a number for each row that names its image and the seed, for randomness.
            samples: which sample of its image each row is.
        """

    @property
    def shared_key(self) -> "Sampling":
        """What decides at which inputs the network is evaluated; methods that agree in it share their passes."""
        return self

    def bind(self, context: Context) -> "Sampling":
        """The same sampling, with what it needs to know of the job.

        Raises:
            RefusalError: the job does not know it.
        """
        del context
        return self

    def rounds(self, images: int) -> Generator[list[Row], list[Answer], list[float]]:
        """The rows, round by round; each round is sent its answers. Returns the weight of each row."""
        # Sample by sample, so that a chunk of as many rows as images is the whole batch in its order.
        rows = [Row(image, sample) for sample in range(len(self.weights)) for image in range(images)]
        yield rows
        return [self.weights[int(row.sample)] for row in rows]

    def conflict(self, aggregation: str, *, at_input: bool, has_terms: bool, complete: bool) -> str:
        """Why it has no meaning with an aggregation; empty where it has one.

        Args:
            aggregation: the aggregation's name.
            at_input: see `Aggregation`.
            has_terms: see `Aggregation`.
            complete: whether the map along the path must sum to the change in value, see `Method.complete`.
        """
        if self.from_baseline and not at_input:
            return (
                f"A path is integrated at the input; {aggregation} reads other layers, where the path is none. Use an "
                "aggregation of the input, or Noise."
            )
        if self.before and not has_terms:
            return (
                f"{aggregation} has no terms that could be averaged before their signs are handled; leave `before` out."
            )
        if self.steered and not complete:
            return (
                "An adaptive path is steered by its completeness residual, which only the gradient times the way from "
                "the baseline has: GRADIENT and InputTimesSignal. Use Path."
            )
        return ""

    def meaning(self, signal: Meaning) -> Meaning:
        """What is known of the reduced signal, given what is known of the signal at one input."""
        if self.at_images or not signal.derivative:
            return signal
        directness, product = f"{signal.directness}, averaged over {self.averaged_over}", signal.product
        if self.reduction is not Reduction.MEAN:
            directness = product = "medium: how strongly, or how unsteadily, the value answers to this pixel; no sign"
        elif self.from_baseline:
            product = "high: the part of the change in value from the baseline that this pixel is given; sums to it" + (
                " in expectation" if self.random else ""
            )
        return replace(
            signal,
            directness=directness,
            product=product,
            minimality=FEWER,
            coherence="less grainy than the gradient",
        )

    def note(self, evaluations: Tensor, residual: Tensor, change: Tensor) -> str:
        """What a user should know of the samples that were taken, as the rest of a sentence; for steered samplings.

        Args:
            evaluations: shape (image,): at how many inputs the network was evaluated.
            residual: shape (image,): the sum of the map less the change in value.
            change: shape (image,): the change in value from the baseline.
        """
        del evaluations, residual, change
        return ""

    def baselines(self, images: Tensor) -> list[Tensor]:
        """The points from which the images are explained, each of their shape, where there are some."""
        del images
        return []


@dataclass(frozen=True)
class Image(Sampling):
    """The image itself, once."""

    at_images = True

    @property
    def weights(self) -> tuple[float, ...]:
        return (1.0,)

    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int | float]) -> Points:
        del keys, samples
        return Points(images, images)
