"""Class activation maps: a layer's feature maps, weighted by the signal that flowed back to them."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sightline.aggregation.base import Map
from sightline.errors import RefusalError
from sightline.operations import LAST_SPATIAL


@dataclass(frozen=True)
class GradCAM:
    """Grad-CAM: M = max(sum_k w_k A^k, 0), w_k = mean over positions of the signal at channel k.

    Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2. Shape: (batch, 1, h, w) of the layer.

    Attributes:
        layer: the module whose result A is read; by default the last spatial feature map.
        relu: whether negative sums are cut, as in the paper.

    Raises:
        RefusalError: the layer's result is not of shape (batch, channel, h, w).
    """

    layer: str = LAST_SPATIAL
    relu: bool = True

    @property
    def places(self) -> tuple[str, ...]:  # noqa: D102
        return (self.layer,)

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:  # noqa: D102
        features, signal = results[self.layer], signals[self.layer]
        if features.dim() != 4:
            raise RefusalError(
                f"A class activation map needs a result of shape (batch, channel, height, width); the layer "
                f"{self.layer!r} gives {tuple(features.shape)}. Name a convolutional layer."
            )
        weights = signal.mean(dim=(2, 3), keepdim=True)
        summed = (weights * features).sum(dim=1, keepdim=True)
        return summed.clamp(min=0) if self.relu else summed
