"""Noisy copies of the image: SmoothGrad and its relatives."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sightline.errors import InputError
from sightline.sampling.base import Rows, Sampling
from sightline.sampling.seeds import seed_of


@dataclass(frozen=True)
class Noise(Sampling):
    """x + e_n, e_n ~ N(0, (sd * (max x - min x))^2), n = 1..samples; the maps are averaged.

    The noise is relative to each image's own range, as in Smilkov et al. 2017, arXiv 1706.03825, section 3.

    Attributes:
        samples: number of noisy copies.
        sd: standard deviation, as a share of the image's range.

    Raises:
        InputError: no samples, or a negative deviation.
    """

    samples: int = 25
    sd: float = 0.15

    def __post_init__(self) -> None:
        if self.samples < 1 or self.sd < 0:
            raise InputError(
                f"Noise needs at least one sample and sd >= 0, but came samples={self.samples}, sd={self.sd}."
            )

    @property
    def weights(self) -> tuple[float, ...]:  # noqa: D102
        return (1 / self.samples,) * self.samples

    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int]) -> Rows:  # noqa: D102
        generator = torch.Generator()
        noise = torch.empty(images.shape, dtype=torch.float32)
        for row, key, sample in zip(noise, keys, samples, strict=True):
            # Drawn on the CPU in one precision: every device and dtype then sees the same noise.
            generator.manual_seed(seed_of(key, "noise", sample))
            row.normal_(generator=generator)
        flat = images.flatten(1)
        scale = self.sd * (flat.amax(1) - flat.amin(1))
        return images + noise.to(images) * scale.view(-1, 1, 1, 1)
