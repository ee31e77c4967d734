"""Noisy copies of the image: SmoothGrad and its relatives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sightline._common.seeds import seed_of
from sightline.arrays import whole
from sightline.errors import InputError
from sightline.sampling._base import Points, Reduction, Rows, Sampling


@dataclass(frozen=True)
class Noise(Sampling):
    """x + e_n, e_n ~ N(0, (sd * (max x - min x))^2), n = 1..samples; the maps M_n are reduced to one.

    The noise is relative to each image's own range, as in Smilkov et al. 2017, arXiv 1706.03825, section 3. With
    reduction "mean" this is SmoothGrad; "mean square" gives mean M_n^2 (SmoothGrad-squared, Hooker et al. 2019), and
    "variance" mean M_n^2 - (mean M_n)^2 (VarGrad, Adebayo et al. 2018).

    Attributes:
        samples: number of noisy copies.
        sd: standard deviation, as a share of the image's range.
        reduction: how the maps become one.
        before: for FullGrad: reduce its terms, before their signs are handled, instead of the finished maps.

    Raises:
        InputError: no samples, a negative deviation, or an unknown reduction.
    """

    samples: int = 25
    sd: float = 0.15
    reduction: Reduction = Reduction.MEAN
    before: bool = False

    random = True
    averaged_over = "noise"

    def __post_init__(self) -> None:
        whole("samples", self.samples)
        if not 0 <= self.sd < float("inf"):
            raise InputError(f"Noise needs a finite sd >= 0; got sd={self.sd}.")
        object.__setattr__(self, "reduction", _reduction(self.reduction))
        if self.before and self.reduction is not Reduction.MEAN:
            raise InputError(f"Terms are averaged before their signs are handled; {self.reduction} is for maps.")

    @property
    def weights(self) -> tuple[float, ...]:
        return (1 / self.samples,) * self.samples

    @property
    def shared_key(self) -> "Noise":
        return replace(self, reduction=Reduction.MEAN, before=False)

    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int | float]) -> Points:
        flat = images.flatten(1)
        scale = self.sd * (flat.amax(1) - flat.amin(1))
        noisy = images + normal(images, keys, samples) * scale.view(-1, 1, 1, 1)
        return Points(noisy, noisy)


def normal(images: Tensor, keys: Sequence[int], samples: Sequence[int | float]) -> Tensor:
    """Standard normal noise in the shape of the images, drawn for each row by its names."""
    generator = torch.Generator()
    noise = torch.empty(images.shape, dtype=torch.float32)
    for row, key, sample in zip(noise, keys, samples, strict=True):
        # Drawn on the CPU in one precision: every device and dtype then sees the same noise.
        generator.manual_seed(seed_of(key, "noise", sample))
        row.normal_(generator=generator)
    return noise.to(images)


def _reduction(value: object) -> Reduction:
    try:
        return Reduction(str(value))
    except ValueError:
        raise InputError(f"A reduction is one of {', '.join(Reduction)}; got {value!r}.") from None
