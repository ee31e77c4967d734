"""Consistency: the pixels that stay important in the original network and in every support network."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline._common.equality import Compared
from sightline.errors import InputError
from sightline.evaluation import By, Important, places


class Reading(StrEnum):
    """What "important in all maps" means, which the paper leaves open."""

    NESTED = "nested"
    MEAN = "mean"
    RANK = "rank"
    MINMAX = "minmax"
    POSITIVE = "positive"


_RULES = {Reading.RANK: By.RANK, Reading.MINMAX: By.MINMAX, Reading.POSITIVE: By.POSITIVE}
_RETHRESHOLDED = {Reading.MEAN, Reading.MINMAX, Reading.POSITIVE}
"""Readings that threshold GAD's own map, instead of the map of each network."""


@dataclass(frozen=True, eq=False)
class Consistent(Compared):
    """What stayed important, for each image.

    Attributes:
        heatmaps: shape (batch, height, width): the score where a pixel stayed important, 0 elsewhere.
        scores: shape (batch, height, width): how important each pixel stayed, by which pixels can be put in order.
        pixels: true where a pixel stayed important.
        original: true where it was important in the original network.
    """

    heatmaps: Float[Tensor, "batch height width"]
    scores: Float[Tensor, "batch height width"]
    pixels: Bool[Tensor, "batch height width"]
    original: Bool[Tensor, "batch height width"]

    @property
    def new(self) -> Float[Tensor, " batch"]:
        """The share of pixels that were not important originally; NaN where none stayed."""
        return (self.pixels & ~self.original).flatten(1).sum(1) / self.pixels.flatten(1).sum(1)


@dataclass(frozen=True)
class Consistency:
    """One reading of "present in all maps" (Mazini Rodrigues et al. 2024, arXiv 2401.14434, section 4.3).

    With n_k = max(v_k, 0) / max v_k for the map of each network k, 0 being the original one:

    - `nested`: s = min_k n_k, and a pixel stays where s >= share. It was then important originally, by construction.
    - `mean`: s = mean_k n_k where all n_k > 0, else 0, and a pixel stays where s >= share * max s.
    - `rank`: s = min_k of the share of pixels that are not higher in map k, 0 where v_k <= 0, and it stays where s is
      above 1 - share: where it is positive and among the highest `share` of pixels in every map. Also nested.

    Two readings take new pixels, as the paper's table 1 shows; s is that of `mean`:

    - `minmax`: the map s is scaled to 0..1 by its minimum and maximum, as maps are usually displayed, and a pixel stays
      where the result is >= share. Originally important is v_0, scaled in the same way, >= share. In a signed map zero
      lies near the middle of 0..1, so at 0.5 about half of the original map is important, and GAD's smaller hull is
      due to leaving out what is not positive: see the control `clipped`. This reading reproduces the paper's tables.
    - `positive`: the same s, and a pixel stays where it is among the highest `share` of the pixels with s > 0.
      Originally important is the highest `share` of the pixels with v_0 > 0.

    Attributes:
        reading: which.
        share: the threshold; the same decides what was important originally (of the maximum, or of the pixels).
        allow_new: whether a pixel may stay that was not important originally, which the paper's section 4 forbids and
            its table 1 shows to have happened; by default so for `minmax` and `positive` only.

    Raises:
        InputError: the share is not above 0 and at most 1.
    """

    reading: Reading | str = Reading.NESTED
    share: float = 0.3
    allow_new: bool | None = None

    def __post_init__(self) -> None:
        if self.reading not in set(Reading):
            raise InputError(f"A reading is one of {', '.join(Reading)}; got {self.reading!r}.")
        object.__setattr__(self, "reading", Reading(self.reading))
        if self.allow_new is None:
            object.__setattr__(self, "allow_new", self.reading in {Reading.MINMAX, Reading.POSITIVE})
        _ = self._important

    @property
    def nested(self) -> bool:
        """Whether no pixel can be new, so that a smaller hull is no finding."""
        return self.reading not in _RETHRESHOLDED or not self.allow_new

    @property
    def name(self) -> str:
        """The reading in words, as tables name it; whether pixels may be new is said where it is not the default."""
        usual = Consistency(self.reading, self.share).allow_new
        new = "" if self.allow_new == usual or self.reading not in _RETHRESHOLDED else " with new"
        return f"{self.reading} {self.share:g}{new if self.allow_new or not new else ' without new'}"

    @property
    def _important(self) -> Important:
        return Important(self.share, _RULES.get(Reading(self.reading), By.MAXIMUM))

    def original(self, heatmaps: Float[Tensor, "batch height width"]) -> Bool[Tensor, "batch height width"]:
        """What is important in a single map."""
        return self._important(heatmaps)

    def scores(self, stack: Float[Tensor, "network batch height width"]) -> Float[Tensor, "batch height width"]:
        """How important each pixel stayed, 0 to 1."""
        if self.reading is Reading.RANK:
            return torch.stack([_later(heatmaps) for heatmaps in stack]).amin(0)
        positive = stack.clamp(min=0)
        normalised = positive / positive.amax((2, 3), keepdim=True).clamp(min=torch.finfo(stack.dtype).tiny)
        if self.reading is Reading.NESTED:
            return normalised.amin(0)
        return torch.where((normalised > 0).all(0), normalised.mean(0), 0)

    def __call__(self, stack: Float[Tensor, "network batch height width"]) -> Consistent:
        """Read the maps of the original network (first) and of the support networks."""
        scores, original = self.scores(stack), self.original(stack[0])
        if self.reading in _RETHRESHOLDED:
            pixels = self._important(scores)
            if not self.allow_new:
                # Whoever takes pixels by their scores takes none of the new ones either.
                pixels, scores = pixels & original, torch.where(original, scores, 0)
        else:
            pixels = torch.stack([self.original(heatmaps) for heatmaps in stack]).all(0)
        return Consistent(torch.where(pixels, scores, 0), scores, pixels, original)


def _later(heatmaps: Tensor) -> Tensor:
    """For each pixel, the share of pixels that are not higher; 0 where the map is not positive."""
    flat = heatmaps.flatten(1)
    shares = 1 - places(flat).above.to(flat) / flat.shape[1]
    return torch.where(flat > 0, shares, 0).view_as(heatmaps)


PAPER_LIKE = Consistency(Reading.MINMAX, 0.5)
"""The reading that reproduces the paper's tables, with networks trained in train mode and `question="class"`."""
