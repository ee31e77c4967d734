"""What a sampling is, and the simplest: the image itself."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "row channel height width"]


class Sampling(ABC):
    """A number of inputs for each image, with weights that reduce their answers to one.

    Attributes:
        reduces_signals: whether the weighted sum is taken over the signals, before aggregation (a path), or over
            the finished maps (noise).
    """

    reduces_signals: bool = False

    @property
    @abstractmethod
    def weights(self) -> tuple[float, ...]:
        """The weight of each sample; their number is the number of samples per image."""

    @abstractmethod
    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int]) -> Rows:
        """The inputs to ask the network at.

        Args:
            images: shape (row, channel, height, width), an image for each row (repeated as needed).
            keys: a number for each row that names its image and the seed, for randomness.
            samples: which sample of its image each row is, from 0.

        Returns:
            Same shape as `images`.
        """

    def baseline(self, images: Tensor) -> Tensor | None:
        """The point from which the images are explained, of their shape, where there is one."""
        del images
        return None


@dataclass(frozen=True)
class Image(Sampling):
    """The image itself, once."""

    @property
    def weights(self) -> tuple[float, ...]:  # noqa: D102
        return (1.0,)

    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int]) -> Rows:  # noqa: D102
        del keys, samples
        return images
