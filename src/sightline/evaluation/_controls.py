"""Maps that know nothing of the model: what a score must be compared with."""

import numpy as np
import torch
from jaxtyping import Float
from skimage.filters import sobel
from torch import Tensor


def edge_map(images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch height width"]:
    """The Sobel edge strength of each image's mean over channels."""
    grey = images.detach().mean(1).double().cpu().numpy()
    return torch.from_numpy(np.stack([sobel(picture) for picture in grey])).to(images)


def centre_map(images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch height width"]:
    """A Gaussian bump in the middle of each image, with a standard deviation of a quarter of its sides."""
    height, width = images.shape[2:]
    down = torch.linspace(-2, 2, height, dtype=images.dtype, device=images.device)
    across = torch.linspace(-2, 2, width, dtype=images.dtype, device=images.device)
    bump = torch.exp(-0.5 * (down[:, None] ** 2 + across[None, :] ** 2))
    return bump.expand(len(images), height, width)
