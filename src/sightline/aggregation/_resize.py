"""Bringing maps to the image's size."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate


def resized(values: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Bilinear interpolation to (height, width); averages of areas where the map is the larger.

    With `align_corners` it is interpolation in both cases, from centre to centre of the corner cells.
    """
    if align_corners:
        same = tuple(values.shape[2:]) == tuple(size)
        return values if same else interpolate(values, size=tuple(size), mode="bilinear", align_corners=True)
    smaller = (min(values.shape[2], size[0]), min(values.shape[3], size[1]))
    if tuple(values.shape[2:]) != smaller:
        values = adaptive_avg_pool2d(values, smaller)
    if smaller == tuple(size):
        return values
    return interpolate(values, size=tuple(size), mode="bilinear", align_corners=False, antialias=False)


def spread(values: Tensor, size: tuple[int, int]) -> Tensor:
    """The same, with each value divided by the sum of what interpolation makes of it, so that the sum stays.

    Bilinear interpolation multiplies the sum of a map by the ratio of the areas, exactly so only for whole ratios.
    """
    if tuple(values.shape[2:]) == tuple(size):
        return values
    return resized(values / _weights(tuple(values.shape[2:]), tuple(size)).to(values), size)


@lru_cache(maxsize=64)
def _weights(small: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """What each value of a small map adds to the sum of the resized one."""
    with torch.enable_grad(), torch.device("cpu"):
        values = torch.zeros((1, 1, *small), dtype=torch.float64, requires_grad=True)
        total = resized(values, (size[0], size[1])).sum()
        return torch.autograd.grad(total, values)[0]
