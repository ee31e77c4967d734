"""Images as a tensor of encoded values, or as a batch that also knows its files and its encoding."""

from dataclasses import replace

from torch import Tensor

from sightline.arrays import ImageBatch

Asked = Tensor | ImageBatch


def values_of(images: Asked) -> Tensor:
    """The encoded values, shape (batch, channel, height, width)."""
    return images.tensor if isinstance(images, ImageBatch) else images


def with_values(images: Asked, values: Tensor) -> Asked:
    """The same images with other values."""
    return replace(images, tensor=values) if isinstance(images, ImageBatch) else values
