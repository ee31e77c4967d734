"""Class activation maps: a layer's feature maps A^k, weighted by the gradients g^k that flowed back to them.

M = r(sum_k c(w_k A^k)), with r the final max(., 0) or nothing. The members differ in how the weights are pooled from
the gradients, and in where signs are handled: on the gradients before pooling, on the weights after it, or on the
contributions w_k A^k (c).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum

import torch
from torch import Tensor, nn

from sightline._common.meaning import Meaning
from sightline.aggregation._base import Aggregation, Reads, Sign, check_spatial
from sightline.aggregation._reader import Backward, Map, Part, Reader
from sightline.errors import InputError
from sightline.operations import LAST_SPATIAL, place_of, wide


class Pooling(StrEnum):
    """How the weights of the feature maps come from gradients f(g), f the sign handling where it is on gradients."""

    MEAN = "mean"
    """w_k = mean_ij f(g^k_ij): Grad-CAM."""
    ACTIVATION = "activation"
    """w_k = sum_ij f(g^k_ij) A^k_ij / sum_ij A^k_ij: XGrad-CAM."""
    CURVATURE = "curvature"
    """w_k = sum_ij a^k_ij f(g^k_ij), a = 1 / (2 + g sum_ab A^k_ab) and 0 where g = 0: Grad-CAM++."""
    CURVATURE_SHARES = "curvature shares"
    """The same with a^k divided by its sum over the positions where g > 0: Grad-CAM++ as its authors' code has it."""
    NONE = "none"
    """w^k_ij = f(g^k_ij): HiResCAM, Layer-CAM."""


class Stage(StrEnum):
    """On what signs are handled."""

    GRADIENTS = "gradients"
    WEIGHTS = "weights"
    CONTRIBUTIONS = "contributions"


_EVEN = (
    "the gradient is the same at every position (global average pooling follows), so that {} agree there up to the "
    "final max(., 0), whether signs are handled before pooling or after it"
)


class Coincidence(Enum):
    """What about a layer makes choices of the CAM family coincide."""

    EVEN_GRADIENT = _EVEN.format("Grad-CAM, HiResCAM and XGrad-CAM")
    EVEN_GRADIENT_EMPTY_SUM = _EVEN.format("Grad-CAM and HiResCAM")
    NO_NEGATIVE_GRADIENT = (
        "no gradient is negative, so that signed, positive and absolute handling of gradients agree, and a map that "
        "keeps positive gradients only shows no harm there"
    )
    NO_POSITIVE_GRADIENT = "no gradient is positive, so that handling only positive gradients leaves nothing"
    NOTHING_NEGATIVE = "neither gradients nor feature maps are negative, so that the final max(., 0) cuts nothing"

    def describe(self) -> str:
        """In words, as the end of a sentence about the layer."""
        return self.value


@dataclass(frozen=True)
class CAM(Aggregation):
    """M = r(sum_k c(w_k A^k)): class activation maps. Shape: (batch, 1, h, w) of the layer.

    Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2, and its successors, see `Pooling`.

    Attributes:
        pooling: how weights come from gradients.
        sign: which part is kept of what `stage` names.
        stage: on what signs are handled.
        relu: whether negative sums are cut.
        layer: the module whose result A is read, its name, or a depth ("early", "middle", "late"); by default the last
            spatial feature map.

    Raises:
        InputError: an unknown pooling, sign or stage, or signs of weights where there is no pooling.
        RefusalError: the layer's result is not of shape (batch, channel, h, w).
    """

    pooling: Pooling = Pooling.MEAN
    sign: Sign = Sign.SIGNED
    stage: Stage = Stage.GRADIENTS
    relu: bool = True
    layer: str | nn.Module = LAST_SPATIAL

    def __post_init__(self) -> None:
        for field, kind in (("pooling", Pooling), ("sign", Sign), ("stage", Stage)):
            try:
                object.__setattr__(self, field, kind(getattr(self, field)))
            except ValueError:
                raise InputError(
                    f"The {field} of a class activation map is one of {', '.join(kind)}; got {getattr(self, field)!r}."
                ) from None
        if self.pooling is Pooling.NONE and self.stage is Stage.WEIGHTS:
            raise InputError("Without pooling, weights are the gradients: handle signs on gradients or contributions.")

    on_grid = True
    needs = ("needs a feature map of shape (batch, channel, height, width)",)

    @property
    def places(self) -> tuple[str, ...]:
        return (place_of(self.layer),)

    @property
    def reads(self) -> Reads:
        match self.pooling:
            case Pooling.MEAN:
                return Reads.SIGNAL
            case Pooling.CURVATURE | Pooling.CURVATURE_SHARES:
                return Reads.DERIVATIVE
            case _:
                return Reads.PRODUCT

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        # Sums over positions and products of gradients leave the range of half precision.
        (place,) = self.places
        features, gradients = wide(results[place]), wide(signals[place])
        check_spatial(place, features)
        weights = self._weights(features, gradients)
        contributions = weights * features
        if self.stage is Stage.CONTRIBUTIONS:
            contributions = self.sign(contributions)
        summed = contributions.sum(1, keepdim=True)
        return summed.clamp(min=0) if self.relu else summed

    def _weights(self, features: Tensor, gradients: Tensor) -> Tensor:
        kept = self.sign(gradients) if self.stage is Stage.GRADIENTS else gradients
        match self.pooling:
            case Pooling.NONE:
                return kept
            case Pooling.MEAN:
                weights = kept.mean((2, 3), keepdim=True)
            case Pooling.ACTIVATION:
                total = features.sum((2, 3), keepdim=True)
                weights = (kept * features).sum((2, 3), keepdim=True) / torch.where(total == 0, 1, total)
            case Pooling.CURVATURE | Pooling.CURVATURE_SHARES:
                shares = curvature(features, gradients)
                if self.pooling is Pooling.CURVATURE_SHARES:
                    total = torch.where(gradients > 0, shares, 0).sum((2, 3), keepdim=True)
                    shares = shares / torch.where(total == 0, 1, total)
                weights = (shares * kept).sum((2, 3), keepdim=True)
        return self.sign(weights) if self.stage is Stage.WEIGHTS else weights

    def reader(self, backward: Backward, average: Callable[[int, Part], None] | None = None) -> Reader:
        del average
        return _Reader(self, backward)

    def meaning(self, signal: Meaning) -> Meaning:
        return replace(
            super().meaning(signal),
            directness="medium: how much a coarse position adds, to first order, with weights shared or not by "
            "positions",
            minimality="one or few blobs, as coarse as the layer",
            coherence="smooth blobs; their edges are interpolation, not evidence",
        )

    def at(self, layer: str | nn.Module, *, relevance: bool) -> Aggregation:
        del relevance
        return replace(self, layer=layer)

    def coincidences(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> frozenset[Coincidence]:
        """What about this layer makes choices of this family coincide, for these rows."""
        (place,) = self.places
        features, gradients = wide(results[place]), wide(signals[place])
        low, high = gradients.amin((2, 3)), gradients.amax((2, 3))
        found = set()
        if bool((high - low <= 1e-5 * torch.maximum(low.abs(), high.abs())).all()):
            # XGrad-CAM divides by the sum of a feature map, and takes no weight where that is zero.
            empty = (high == 0) | ~features.flatten(2).any(2)
            weighed = bool(((features.sum((2, 3)) != 0) | empty).all())
            found.add(Coincidence.EVEN_GRADIENT if weighed else Coincidence.EVEN_GRADIENT_EMPTY_SUM)
        if bool((low >= 0).all()):
            found.add(Coincidence.NO_NEGATIVE_GRADIENT)
        elif bool((high <= 0).all()):
            found.add(Coincidence.NO_POSITIVE_GRADIENT)
        if bool((low >= 0).all()) and bool((features >= 0).all()):
            found.add(Coincidence.NOTHING_NEGATIVE)
        return frozenset(found)


class _Reader(Reader):
    """Also says where the layer makes choices of this family coincide, which is the same for all that read it."""

    def __init__(self, cam: CAM, backward: Backward) -> None:
        super().__init__(cam)
        self._cam, self._backward = cam, backward

    def map(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map | None:
        made = super().map(results, signals)
        if self._backward.derivative:
            key = (CAM, self._cam.places)
            self.remarks = self._backward.shared(key, lambda: self._cam.coincidences(results, signals))
        return made


def curvature(features: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++'s a = g^2 / (2 g^2 + g^3 sum_ab A_ab) = 1 / (2 + g sum_ab A_ab), 0 where g = 0 or the sum is.

    Chattopadhay et al. 2018, arXiv 1710.11063, equation 19, for an exponential of the explained value, which cancels.
    """
    below = 2 + gradients * features.sum((2, 3), keepdim=True)
    return torch.where((gradients == 0) | (below == 0), 0, 1 / torch.where(below == 0, 1, below))
