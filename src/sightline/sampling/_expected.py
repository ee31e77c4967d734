"""Paths from drawn reference images: Expected Gradients and GradientSHAP."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sightline._common.equality import ByValue
from sightline._common.seeds import seed_of
from sightline.arrays import as_images, whole
from sightline.errors import InputError, RefusalError
from sightline.sampling._base import Context, Points, Rows, Sampling
from sightline.sampling._noise import normal


@dataclass(frozen=True)
class Expected(Sampling):
    """x0 + a (x + e - x0), x0 drawn from references, a ~ U(0, 1), e ~ N(0, (sd * (max x - min x))^2).

    With `InputTimesSignal` the map is mean_n (x + e_n - x0_n) * R_n: Expected Gradients (Erion et al. 2021, arXiv
    1906.10670, equation 3), and GradientSHAP where sd > 0. In expectation it sums to the mean of the explained value at
    x + e less its mean over the references.

    Attributes:
        samples: number of draws.
        sd: standard deviation of the noise, as a share of the image's range.
        references: shape (reference, channel, height, width), encoded like the images; by default those that
            `explain` is given.

    Raises:
        InputError: no samples, or references of the wrong shape.
    """

    samples: int = 50
    sd: float = 0.0
    references: Float[Tensor, "reference channel height width"] | None = field(default=None, compare=False)
    _identity: object = field(init=False, repr=False)

    from_baseline = True
    random = True
    averaged_over = "the way from the baseline"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("needs reference images",) if self.references is None else ()

    def __post_init__(self) -> None:
        whole("samples", self.samples)
        if not 0 <= self.sd < float("inf"):
            raise InputError(f"Expected needs a finite sd >= 0; got sd={self.sd}.")
        if self.references is not None:
            as_images(self.references, "References")
        object.__setattr__(self, "_identity", None if self.references is None else ByValue(self.references))

    @property
    def weights(self) -> tuple[float, ...]:
        return (1 / self.samples,) * self.samples

    def bind(self, context: Context) -> "Expected":
        if self.references is not None:
            return self
        if context.references is None:
            raise RefusalError(
                "Expected gradients compare with reference images, and none were given: "
                "sl.explain(..., references=images), --references FOLDER, or Expected(references=...)."
            )
        return replace(self, references=context.references)

    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int | float]) -> Points:
        references = self.references
        assert references is not None  # noqa: S101 - `bind` has seen to it
        if references.shape[1:] != images.shape[1:]:
            raise InputError(
                f"References have shape {tuple(references.shape[1:])} and images {tuple(images.shape[1:])}; load them "
                "for the same model."
            )
        generator = torch.Generator()
        which, shares = [], []
        for key, sample in zip(keys, samples, strict=True):
            generator.manual_seed(seed_of(key, "reference", sample))
            which.append(int(torch.randint(len(references), (), generator=generator)))
            shares.append(float(torch.rand((), generator=generator, dtype=torch.float64)))
        start = references.detach()[which].to(images)
        share = torch.tensor(shares, dtype=torch.float64).to(images).view(-1, 1, 1, 1)
        end = images
        if self.sd:
            flat = images.flatten(1)
            scale = self.sd * (flat.amax(1) - flat.amin(1))
            end = images + normal(images, keys, samples) * scale.view(-1, 1, 1, 1)
        return Points(start + share * (end - start), end - start)
