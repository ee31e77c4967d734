"""What is asked of numbers that users give: a batch of encoded images, a count; and what their encoding tells."""

from pathlib import Path

import numpy as np
from torch import Tensor

from sightline.arrays._batch import ImageBatch
from sightline.errors import InputError
from sightline.models import ModelInfo, Preprocessing, own_preprocessing


def as_images(images: object, what: str = "Images") -> Tensor:
    """A batch of encoded images as a plain tensor.

    Args:
        images: what came.
        what: what they are called.

    Raises:
        InputError: it is no tensor of floating point numbers of shape (batch, channel, height, width), all finite.
    """
    batch = images
    if isinstance(batch, Tensor) and type(batch) is not Tensor:
        batch = batch.as_subclass(Tensor)
    if not isinstance(batch, Tensor) or batch.dim() != 4 or 0 in batch.shape:
        got = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
        raise InputError(
            f"{what} are a tensor of shape (batch, channel, height, width), none of them 0; got {got}. {_remedy(batch)}"
        )
    if not batch.is_floating_point():
        raise InputError(
            f"{what} are floating point, encoded as the model wants them; got {batch.dtype}. sightline.load_images "
            "reads and encodes files."
        )
    if not is_finite(batch) and (bad := (~batch.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()):
        raise InputError(
            f"{len(bad)} of the {what.lower()} have values that are not finite (NaN or infinity), first {bad[0]}."
        )
    return batch


def _remedy(images: object) -> str:
    """How what was given becomes a batch of images."""
    if isinstance(images, Tensor) and images.dim() == 3:
        return "One image becomes a batch with image[None]."
    if isinstance(images, Tensor) and images.dim() == 5:
        return "Volumes and films are not supported; give their slices as images, each to a model of single slices."
    if isinstance(images, np.ndarray):
        return (
            "An array of NumPy becomes a tensor with torch.from_numpy(array).float(), with its channels before height "
            "and width."
        )
    if isinstance(images, str | Path):
        return "Files become images with sightline.load_images(paths, model)."
    if isinstance(images, list | tuple):
        return "A list of tensors becomes a batch with torch.stack(images)."
    return "sightline.load_images makes one from files."


def is_finite(values: Tensor) -> bool:
    """Whether a sum tells at once that all values are finite; a sum that overflows does not."""
    return bool(values.sum().isfinite())


def whole(name: str, value: object, least: int = 1) -> None:
    """Check that a setting is a whole number.

    Raises:
        InputError: it is none, or too small.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} is a whole number, at least {least}; got {value!r}.")


def encoding_of(model: object, images: object) -> Preprocessing | None:
    """How images were encoded, where they or the model tell; the images' own word goes first."""
    if isinstance(images, ImageBatch):
        return images.preprocessing
    info = getattr(model, "sightline_info", None)
    found = info.preprocessing if isinstance(info, ModelInfo) else own_preprocessing(model)
    return None if found is None or found.is_assumed_grey else found


def ends_of(model: object, images: object, channels: int) -> tuple[Tensor, Tensor] | None:
    """A black and a white pixel as the model sees them, each of shape (channel,), where the encoding is known."""
    encoding = encoding_of(model, images)
    return encoding.ends if encoding is not None and encoding.channels == channels else None
