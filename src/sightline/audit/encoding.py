"""The same function of the same pictures in another encoding: the input shifted, the first layer corrected."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name torch's own documentation gives it)

from sightline.audit.subjects import Asked
from sightline.errors import RefusalError
from sightline.images import ImageBatch
from sightline.models import Preprocessing, model_info
from sightline.models.asking import ask

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TOLERANCE = 1e-3
"""How far logits may differ after re-encoding, as a share of their spread over images and classes."""


class Shifted(nn.Module):
    """A first layer that gives for x + c what the given one gives for x.

    W (x + c) + b - c * (sum of W), with the padding done beforehand, by c instead of zero.

    Args:
        layer: a convolution or a dense layer.
        shift: c.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, shift: float) -> None:
        super().__init__()
        self._layer, self._shift = copy.deepcopy(layer), shift
        weight = self._layer.weight.detach()
        sums = weight.double().flatten(1).sum(1)
        bias = sums.new_zeros(len(sums)) if layer.bias is None else layer.bias.detach().double()
        self._layer.bias = nn.Parameter((bias - shift * sums).to(weight), requires_grad=False)
        self._pad: list[int] = []
        if isinstance(layer, _CONVOLUTIONS) and layer.padding_mode == "zeros":
            self._pad = list(layer._reversed_padding_repeated_twice)
            self._layer.padding = tuple(0 for _ in layer.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """What the given layer gives for x - c."""
        padded = F.pad(x, self._pad, value=self._shift) if any(self._pad) else x
        given: Tensor = self._layer(padded)
        return given


def shifted(model: Any, images: Tensor, shift: float) -> tuple[nn.Module, Tensor]:
    """A model and images of another encoding: every input value is larger by `shift`, and the logits are the same.

    Args:
        model: the network; it stays as it is.
        images: encoded images.
        shift: by how much.

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
    setattr(network.get_submodule(parent), leaf, Shifted(first, shift))  # type: ignore[arg-type]
    moved = images + shift
    before, after = ask(model, images, 64), ask(network, moved, 64)
    spread = float(before.double().std()) if before.numel() > 1 else 1.0
    if not bool(((before - after).abs() <= TOLERANCE * max(spread, 1e-12)).all()):
        raise RefusalError(
            f"With its first layer {name!r} corrected the model does not say the same of shifted images (by up to "
            f"{float((before - after).abs().max()):.2g}): something else takes the images too, or pads them out of "
            "sight."
        )
    if hasattr(network, "sightline_info"):
        info = model_info(network)
        network.sightline_info = replace(info, preprocessing=_moved(info.preprocessing, shift))  # type: ignore[assignment]
    return network, moved


def reencoded(images: Asked, tensor: Tensor, shift: float) -> Asked:
    """Images with shifted values, which know how these came about."""
    if not isinstance(images, ImageBatch):
        return tensor
    return replace(images, tensor=tensor, preprocessing=_moved(images.preprocessing, shift))


def _moved(preprocessing: Preprocessing, shift: float) -> Preprocessing:
    """(v - mean) / std + c is (v - (mean - c std)) / std."""
    mean = tuple(m - shift * s for m, s in zip(preprocessing.mean, preprocessing.std, strict=True))
    return replace(preprocessing, mean=mean)


def _first_layer(network: nn.Module, image: Tensor) -> str:
    """The name of the module that is given the image itself, or the image flattened."""
    found: list[str] = []
    handles = []
    like = next((p for p in network.parameters() if p.is_floating_point()), image)
    given = image.to(like.device, like.dtype)

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
