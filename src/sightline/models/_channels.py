"""How many channels a network takes, read off its first layer."""

from dataclasses import replace

import torch
from torch import nn

from sightline.errors import InputError
from sightline.models._home import runs_with
from sightline.models._info import ModelInfo
from sightline.models._preprocessing import DEFAULT_SOURCE, Preprocessing

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def with_channels(model: nn.Module, info: ModelInfo, size: tuple[int, int] | None = None) -> ModelInfo:
    """The same, but with the number of channels that the model takes where nobody has said how many.

    It is read off the first convolution, or a first linear layer whose inputs are the pixels. Where that is not 3, as
    is usual, the model is run on an empty image, since what comes first in a model's list of parts may not come first
    when it runs.

    Args:
        model: the network.
        info: what is known of it.
        size: height and width of its images, where they are stated.
    """
    wanted = info.preprocessing
    size = size or wanted.size
    if wanted.source != DEFAULT_SOURCE:
        return info
    found = _first_layer(model, size)
    if found in {None, 3} or _takes(model, 3, size):
        return info
    if found == 1:
        return replace(info, preprocessing=one_channel(wanted))
    return replace(info, channels=found)


def one_channel(own: Preprocessing) -> Preprocessing:
    """The same settings for grey pictures, with the mean over the channels of what was said of each."""
    mean, std = (sum(values) / len(values) for values in (own.mean, own.std))
    source = own.source.replace("mean and std", "mean and std, averaged for one channel,")
    return replace(own, channels=1, mean=(round(mean, 4),), std=(round(std, 4),), source=source)


def check_stated(model: nn.Module, info: ModelInfo) -> None:
    """Refuse a stated number of channels that the model does not take.

    Raises:
        InputError: its first layer has another number, and the model does not run with the stated one.
    """
    stated, size = info.preprocessing.channels, info.preprocessing.size
    found = _first_layer(model, size)
    if found not in {None, stated} and not _takes(model, stated, size):
        raise InputError(
            f"The first layer of {info.spec} takes {found} channels, but {stated} was stated (by --channels, or by as "
            "many numbers of mean or std). State the model's own number, or let a factory (FILE.py:FACTORY) return a "
            "model that makes its channels from those of a picture."
        )


def check_channels(info: ModelInfo) -> None:
    """Refuse to make images of picture files for a model that takes something else.

    Raises:
        InputError: it has neither 1 nor 3 channels.
    """
    if info.channels is not None:
        raise InputError(
            f"The first layer of {info.spec} takes {info.channels} channels, and pictures have 1 (grey) or 3 (RGB). In "
            "Python, give explain a tensor of shape (batch, channel, height, width) instead of files; or let a factory "
            "(FILE.py:FACTORY) return a model that makes its channels from 1 or 3."
        )


def _first_layer(model: nn.Module, size: tuple[int, int]) -> int | None:
    for layer in model.modules():
        if isinstance(layer, _CONVOLUTIONS):
            return int(layer.in_channels)
        if isinstance(layer, nn.Linear):
            channels, rest = divmod(layer.in_features, size[0] * size[1])
            return channels if rest == 0 and channels in {1, 3} else None
    return None


def _takes(model: nn.Module, channels: int, size: tuple[int, int]) -> bool:
    first = next(model.parameters(), torch.empty(0))
    dtype = first.dtype if first.is_floating_point() else torch.float32
    was = [module for module in model.modules() if module.training]
    try:
        model.eval()
        return runs_with(model, torch.zeros(1, channels, *size, dtype=dtype, device=first.device))
    finally:
        for module in was:
            module.training = True
