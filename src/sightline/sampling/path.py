"""A straight path from a baseline to the image: Integrated Gradients."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.sampling.base import Rows, Sampling


@dataclass(frozen=True)
class Path(Sampling):
    """x0 + a_t (x - x0), t = 1..steps, with the nodes a_t and weights of Gauss-Legendre quadrature on [0, 1].

    The weighted sum is taken over the signals, so that with `InputTimesSignal` the map is
    (x - x0) * sum_t w_t R(x0 + a_t (x - x0)): Sundararajan et al. 2017, arXiv 1703.01365, equation 1.

    Attributes:
        steps: number of points.
        start: the baseline x0: one number for every pixel, in the images' own encoding, or a tensor that broadcasts
            to (channel, height, width).

    Raises:
        InputError: no steps, or a baseline that does not fit the images.
    """

    steps: int = 50
    start: float | Tensor = field(default=0.0, compare=False)
    _identity: object = field(init=False, repr=False)

    reduces_signals = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"A path needs at least one step, but came steps={self.steps}.")
        start = torch.as_tensor(self.start)
        if start.dim() > 3 or not bool(start.isfinite().all()):
            raise InputError(
                "A baseline is one finite number, or finite numbers that broadcast to (channel, height, width); came "
                f"shape {tuple(start.shape)}. For a baseline per image, explain the images one by one."
            )
        # Tensors compare element by element; two paths are the same only if they start at the same tensor.
        identity = id(self.start) if isinstance(self.start, Tensor) else self.start
        object.__setattr__(self, "_identity", identity)

    @property
    def weights(self) -> tuple[float, ...]:  # noqa: D102
        return _gauss_legendre(self.steps)[1]

    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int]) -> Rows:  # noqa: D102
        del keys
        nodes = _gauss_legendre(self.steps)[0]
        share = torch.tensor([nodes[sample] for sample in samples], dtype=torch.float64).to(images).view(-1, 1, 1, 1)
        start = self.baseline(images)
        return start + share * (images - start)

    def baseline(self, images: Tensor) -> Tensor:  # noqa: D102
        # A bare number would pass through single precision on its way into a tensor of its own.
        start = self.start.detach().to(images) if isinstance(self.start, Tensor) else images.new_tensor(self.start)
        try:
            return start.expand_as(images)
        except RuntimeError as error:
            raise InputError(
                f"The baseline of shape {tuple(start.shape)} does not broadcast to images of shape "
                f"{tuple(images.shape)}; give one number, or (channel, height, width)."
            ) from error


@lru_cache
def _gauss_legendre(steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return tuple(((nodes + 1) / 2).tolist()), tuple((weights / 2).tolist())
