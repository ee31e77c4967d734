"""The same function of the same pictures in another encoding: the input shifted, the first layer corrected."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name torch's own documentation gives it)

from sightline._common.torch_private import padding_of
from sightline.arrays import ImageBatch
from sightline.errors import RefusalError
from sightline.evaluation._images import Asked
from sightline.models import Preprocessing, ask, home_of, model_info, own_preprocessing

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TOLERANCE = 1e-3
"""How far logits may differ after re-encoding, as a share of their spread over images and classes."""


class Shifted(nn.Module):
    """A first layer that gives for a x + c what the given one gives for x.

    (W / a) (a x + c) + b - sum of (W / a) c, with the padding done beforehand, by c instead of zero.

    Args:
        layer: a convolution or a dense layer.
        scale: a, shape (channel,).
        shift: c, shape (channel,).
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self._layer, self._shift = copy.deepcopy(layer), shift.tolist()
        groups = layer.groups if isinstance(layer, _CONVOLUTIONS) else 1
        weight = self._layer.weight.detach().double()
        scaled = weight / _per_weight(scale, weight, groups)
        constants = (scaled * _per_weight(shift, weight, groups)).flatten(1).sum(1)
        bias = torch.zeros_like(constants) if layer.bias is None else layer.bias.detach().double()
        self._layer.weight = nn.Parameter(scaled.to(layer.weight), requires_grad=False)
        self._layer.bias = nn.Parameter((bias - constants).to(layer.weight), requires_grad=False)
        self._pad: list[int] = []
        if isinstance(layer, _CONVOLUTIONS) and layer.padding_mode == "zeros":
            self._pad = padding_of(layer)
            self._layer.padding = tuple(0 for _ in layer.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """What the given layer gives for (x - c) / a."""
        given: Tensor = self._layer(self._padded(x) if any(self._pad) else x)
        return given

    def _padded(self, x: Tensor) -> Tensor:
        if len(set(self._shift)) == 1:
            return F.pad(x, self._pad, value=self._shift[0])
        channels = zip(x.split(1, 1), self._shift, strict=True)
        return torch.cat([F.pad(channel, self._pad, value=shift) for channel, shift in channels], 1)


def _per_weight(values: Tensor, weight: Tensor, groups: int) -> Tensor:
    """The value of the channel that each weight is multiplied with."""
    if len(set(values.tolist())) == 1:
        return values[0].to(weight)
    per_group, inputs = len(values) // groups, weight[0].numel()
    if inputs % per_group:
        raise RefusalError("The first layer does not take whole channels, which alone can be encoded each by itself.")
    each = values.to(weight).view(groups, 1, per_group, 1).expand(-1, len(weight) // groups, -1, inputs // per_group)
    return each.reshape(weight.shape)


def shifted(model: Any, images: Tensor, shift: float | Tensor, scale: float | Tensor = 1.0) -> tuple[nn.Module, Tensor]:
    """A model and images of another encoding, `scale` x + `shift` instead of x, whose logits are the same.

    Args:
        model: the network; it stays as it is.
        images: encoded images.
        shift: one number, or shape (channel,).
        scale: one number, or shape (channel,), above 0.

    Returns:
        The re-encoded network and the re-encoded images.

    Raises:
        RefusalError: the first layer is not a convolution or dense layer that takes the images themselves, or the
            logits do not stay the same, because something else takes the images too.
    """
    if not isinstance(model, nn.Module):
        raise RefusalError("The model is no torch.nn.Module, so it has no first layer that could be corrected.")
    network = copy.deepcopy(model)
    name = _first_layer(network, images[:1])
    parent, _, leaf = name.rpartition(".")
    first = network.get_submodule(name)
    shift, scale = (torch.as_tensor(one, dtype=torch.double).expand(images.shape[1]) for one in (shift, scale))
    setattr(network.get_submodule(parent), leaf, Shifted(first, scale, shift))  # type: ignore[arg-type]
    moved = images * scale.to(images).view(-1, 1, 1) + shift.to(images).view(-1, 1, 1)
    before, after = ask(model, images, 64), ask(network, moved, 64)
    spread = float(before.double().std()) if before.numel() > 1 else 1.0
    if not bool(((before - after).abs() <= TOLERANCE * max(spread, 1e-12)).all()):
        raise RefusalError(
            f"With its first layer {name!r} corrected the model does not say the same of shifted images (by up to "
            f"{float((before - after).abs().max()):.2g}): something else takes the images too, or pads them out of "
            "sight."
        )
    if hasattr(network, "sightline_info") or own_preprocessing(network) is not None:
        info = model_info(network)
        network.sightline_info = replace(info, preprocessing=_moved(info.preprocessing, shift, scale))  # type: ignore[assignment]
    return network, moved


def reencoded(images: Asked, tensor: Tensor, shift: float | Tensor, scale: float | Tensor = 1.0) -> Asked:
    """Images with the values of another encoding, which know how these came about."""
    if not isinstance(images, ImageBatch):
        return tensor
    return replace(images, tensor=tensor, preprocessing=_moved(images.preprocessing, shift, scale))


def _moved(preprocessing: Preprocessing, shift: float | Tensor, scale: float | Tensor) -> Preprocessing:
    """A (v - mean) / std + c is (v - (mean - c std / a)) / (std / a)."""
    mean, std = torch.tensor(preprocessing.mean).double(), torch.tensor(preprocessing.std).double()
    std = std / torch.as_tensor(scale)
    return replace(preprocessing, mean=tuple((mean - shift * std).tolist()), std=tuple(std.tolist()))


def _first_layer(network: nn.Module, image: Tensor) -> str:
    """The name of the module that is given the image itself, or the image flattened."""
    found: list[str] = []
    handles = []
    given = image.to(*home_of(network, image))

    def watch(name: str) -> Any:
        def look(_module: nn.Module, args: tuple[Any, ...]) -> None:
            value = args[0] if args else None
            if isinstance(value, Tensor) and torch.equal(value.flatten(), given.flatten()):
                found.append(name)

        return look

    for name, module in network.named_modules():
        if type(module) in {*_CONVOLUTIONS, nn.Linear} and name:
            handles.append(module.register_forward_pre_hook(watch(name)))
    try:
        ask(network, image, 1)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise RefusalError(
            "No convolution or dense layer takes the images themselves, so none can be corrected for another encoding."
        )
    return found[0]
