"""Occlusion: what stands in an image where a region is taken out."""

from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from sightline.errors import InputError

_BLUR = 0.1  # of the short side


class Fill(StrEnum):
    """What a region is filled with.

    `black` is what the papers use, and leaves the data distribution; `mean` is the mean of each channel of the image,
    `blur` the image under a Gaussian of a tenth of its short side, `inpainting` the smoothest continuation of the rest
    (biharmonic).
    """

    BLACK = "black"
    MEAN = "mean"
    BLUR = "blur"
    INPAINTING = "inpainting"


def as_fill(fill: object) -> Fill:
    """A fill by its name.

    Raises:
        InputError: there is none of that name.
    """
    if fill not in set(Fill):
        raise InputError(f"A region is filled with {', '.join(Fill)}; got {fill!r}.")
    return Fill(str(fill))


def occlude(
    images: Float[Tensor, "batch channel height width"],
    masks: Bool[Tensor, "batch height width"],
    fill: Fill | str = Fill.BLACK,
    *,
    black: Float[Tensor, " channel"] | None = None,
) -> Float[Tensor, "batch channel height width"]:
    """The images with each one's region filled.

    Args:
        images: encoded images.
        masks: true at the pixels to be filled.
        fill: with what.
        black: a black pixel as the model sees it; needed for `Fill.BLACK`.

    Raises:
        InputError: there is no such fill, or black is needed and not known.
    """
    fill = as_fill(fill)
    if fill is Fill.BLACK and black is None:
        raise InputError(
            "How the model sees a black pixel is not known, so a region cannot be painted black. Give black=, one "
            'value per channel, explain images of load_images, or take another fill: "mean", "blur", "inpainting".'
        )
    if fill is Fill.BLACK:
        filled = black.to(images).view(1, -1, 1, 1).expand_as(images)  # type: ignore[union-attr]
    elif fill is Fill.MEAN:
        filled = images.mean((2, 3), keepdim=True).expand_as(images)
    else:
        made = [
            _filled(picture, mask, fill)
            for picture, mask in zip(images.detach().cpu().double().numpy(), masks.cpu().numpy(), strict=True)
        ]
        filled = torch.from_numpy(np.stack(made)).to(images)
    return torch.where(masks[:, None], filled, images)


def _filled(picture: NDArray[np.floating], mask: NDArray[np.bool_], fill: Fill) -> NDArray[np.floating]:
    if fill is Fill.BLUR:
        sigma = _BLUR * min(picture.shape[1:])
        return np.asarray(gaussian_filter(picture, (0, sigma, sigma), mode="nearest"))
    if mask.all() or not mask.any():
        # Nothing is left to continue, or nothing to fill.
        return np.broadcast_to(picture.mean((1, 2), keepdims=True), picture.shape)
    return np.asarray(inpaint_biharmonic(picture, mask, channel_axis=0))
