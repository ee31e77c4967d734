"""A straight path from a baseline to the image: Integrated Gradients."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from numbers import Real
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sightline._common.equality import ByValue
from sightline.arrays import whole
from sightline.errors import InputError, RefusalError
from sightline.sampling._base import Context, Points, Rows, Sampling

Start = float | Tensor | Literal["black", "white"]


@dataclass(frozen=True)
class Path(Sampling):
    """x0 + a_t (x - x0), t = 1..steps, with the nodes a_t and weights w_t of Gauss-Legendre quadrature on [0, 1].

    With `InputTimesSignal` the map is sum_t w_t (x - x0) * R(x0 + a_t (x - x0)): Sundararajan et al. 2017, arXiv
    1703.01365, equation 1. With several baselines the maps from each are averaged, `steps` for each.

    Attributes:
        steps: number of points from each baseline.
        start: the baseline x0, or a tuple of several: a number for every pixel in the images' own encoding, a tensor
            that broadcasts to (channel, height, width), or "black" or "white", where the encoding is known.

    Raises:
        InputError: no steps, or a baseline that does not fit the images.
    """

    steps: int = 50
    start: Start | tuple[Start, ...] = field(default=0.0, compare=False)
    _identity: object = field(init=False, repr=False)

    from_baseline = True
    averaged_over = "the way from the baseline"

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        object.__setattr__(self, "_identity", identity(self.start))

    @property
    def fixed_baseline(self) -> bool:
        return not all(isinstance(one, str) for one in listed(self.start))

    @property
    def weights(self) -> tuple[float, ...]:
        starts = listed(self.start)
        return tuple(weight / len(starts) for weight in _gauss_legendre(self.steps)[1]) * len(starts)

    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int | float]) -> Points:
        del keys
        nodes = _gauss_legendre(self.steps)[0]
        return along(
            images, self.baselines(images), [(int(s) // self.steps, nodes[int(s) % self.steps]) for s in samples]
        )

    def bind(self, context: Context) -> "Path":
        return replace(self, start=resolved(self.start, context)) if _named(self.start) else self

    def baselines(self, images: Tensor) -> list[Tensor]:
        return [expanded(start, images) for start in listed(self.start)]


def along(images: Tensor, starts: Sequence[Tensor], where: Sequence[tuple[int, float]]) -> Points:
    """The points that lie for each row at a share of the way from one of the baselines."""
    start = starts[0]
    if len(starts) > 1:
        start = torch.stack([starts[which][row] for row, (which, _) in enumerate(where)])
    share = torch.tensor([share for _, share in where], dtype=torch.float64).to(images).view(-1, 1, 1, 1)
    offsets = images - start
    return Points(start + share * offsets, offsets)


def listed(start: Start | tuple[Start, ...]) -> tuple[Start, ...]:
    """One baseline or several, as several."""
    return start if isinstance(start, tuple) else (start,)


def identity(start: object) -> object:
    """What tells baselines apart; checks them on the way."""
    starts = start if isinstance(start, tuple) else (start,)
    if not starts:
        raise InputError("A path needs at least one baseline; got an empty tuple.")
    for one in starts:
        if isinstance(one, str):
            if one not in {"black", "white"}:
                raise InputError(f'A baseline by name is "black" or "white"; got {one!r}.')
            continue
        if not isinstance(one, Tensor | Real):
            raise InputError(
                f'A baseline is a number, a tensor, "black" or "white", or a tuple of these; got {type(one).__name__}.'
            )
        values = one if isinstance(one, Tensor) else torch.tensor(float(one))
        if values.dim() > 3 or not bool(values.isfinite().all()):
            raise InputError(
                "A baseline is one finite number, or finite numbers that broadcast to (channel, height, width); got "
                f"shape {tuple(values.shape)}. For a baseline per image, explain the images one by one."
            )
    return tuple(ByValue(one) if isinstance(one, Tensor) else one for one in starts)


def expanded(start: Start, images: Tensor) -> Tensor:
    """A baseline in the shape of the images."""
    assert not isinstance(start, str)  # noqa: S101 - `bind` has put numbers in place of names
    # A bare number would pass through single precision on its way into a tensor of its own.
    values = start.detach().to(images) if isinstance(start, Tensor) else images.new_tensor(start)
    try:
        return values.expand_as(images)
    except RuntimeError as error:
        raise InputError(
            f"The baseline of shape {tuple(values.shape)} does not broadcast to an image of shape "
            f"{tuple(images.shape[1:])}; give one number, or (channel, height, width)."
        ) from error


def resolved(start: Start | tuple[Start, ...], context: Context) -> tuple[Start, ...]:
    """The baselines with numbers in place of names.

    Raises:
        RefusalError: nobody says how the images are encoded.
    """
    if context.ends is None:
        raise RefusalError(
            "A black or white baseline needs to know how the images are encoded, and neither the images nor the model "
            "say so. Load them through sightline, or name the baseline in numbers: Path(start=...)."
        )
    ends = dict(zip(("black", "white"), context.ends, strict=True))
    return tuple(ends[one].view(-1, 1, 1) if isinstance(one, str) else one for one in listed(start))


def _named(start: Start | tuple[Start, ...]) -> bool:
    return any(isinstance(one, str) for one in listed(start))


@lru_cache
def _gauss_legendre(steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return tuple(((nodes + 1) / 2).tolist()), tuple((weights / 2).tolist())
