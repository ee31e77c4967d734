"""How alike two maps of an image are: one number per image, from two batches of maps.

Every measure ignores a positive factor on either map, works in float64 on the maps' device, and has no number, so NaN,
for a map that is not finite or says nothing: one that is constant, for `cosine` one that is zero. `likeness` gives all
of them at once, and shares what they have in common; there, a map that says nothing and one that says something are not
alike, which is 0.
"""

from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.errors import InputError

WINDOW = 7


def spearman(
    first: Float[Tensor, "batch height width"], second: Float[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """The rank correlation over pixels: Pearson's correlation of their ranks, ties at their average rank.

    Spearman 1904, The proof and measurement of association between two things.

    Returns:
        -1 to 1; NaN where a map is constant or not finite.

    Raises:
        InputError: the shapes differ, or are not those of maps.
    """
    _check(first, second)
    return _cosine(_centred_ranks(first).double(), _centred_ranks(second).double())


def spearman_abs(
    first: Float[Tensor, "batch height width"], second: Float[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """The rank correlation of magnitudes: `spearman` of |first| and |second|.

    As Adebayo et al. 2018, arXiv 1810.03292, compare maps whose sign means nothing.

    Returns:
        -1 to 1; NaN where a map has one magnitude everywhere or is not finite.

    Raises:
        InputError: the shapes differ, or are not those of maps.
    """
    return spearman(first.abs(), second.abs())


def flip_spearman(
    first: Float[Tensor, "batch height width"], second: Float[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """The rank correlation with a map or with its negative: |`spearman`|.

    A propagation that has lost the class sends one and the same map down, times each class's own logit: a negative
    logit turns its sign and nothing else. As `flip_ssim`, after Sixt et al. 2020, arXiv 1912.09818.

    Returns:
        0 to 1; NaN where `spearman` is.

    Raises:
        InputError: the shapes differ, or are not those of maps.
    """
    return spearman(first, second).abs()


def ssim(
    first: Float[Tensor, "batch height width"], second: Float[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """Structural similarity: the mean over windows of l * s.

    l = (2 μ₁ μ₂ + C₁) / (μ₁² + μ₂² + C₁), s = (2 σ₁₂ + C₂) / (σ₁² + σ₂² + C₂), C₁ = (0.01 R)², C₂ = (0.03 R)²,
    with the means μ and the sample variances and covariance σ of each window that lies within the image. Windows are
    7 x 7, in a smaller image of the largest odd side that fits.

    Wang et al. 2004, Image quality assessment: from error visibility to structural similarity, equation 13, with even
    weights as in scikit-image. A map is first divided by its root mean square, as in Binder et al. 2023, arXiv
    2211.12486, which makes scales comparable and leaves zero where it is. R is the larger of both maps' ranges, maximum
    minus minimum, after that.

    Turning the sign of one map turns both l and s, so that a signed map and its negative can come out alike.

    Returns:
        -1 to 1; NaN where a map is constant or not finite, and for images of less than 3 pixels on a side.

    Raises:
        InputError: the shapes differ, or are not those of maps.
    """
    _check(first, second)
    return _structural(first, second)[0]


def flip_ssim(
    first: Float[Tensor, "batch height width"], second: Float[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """The structural similarity to a map or to its negative: max(ssim(first, second), ssim(first, -second)).

    Sixt et al. 2020, arXiv 1912.09818: the sign of some maps is arbitrary.

    Returns:
        -1 to 1; NaN where `ssim` is.

    Raises:
        InputError: the shapes differ, or are not those of maps.
    """
    _check(first, second)
    return torch.maximum(*_structural(first, second))


def cosine(
    first: Float[Tensor, "batch height width"], second: Float[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """The cosine of the angle between two maps: <first, second> / (|first| |second|).

    Returns:
        -1 to 1; NaN where a map is zero everywhere or not finite.

    Raises:
        InputError: the shapes differ, or are not those of maps.
    """
    _check(first, second)
    return _cosine(_scaled(first).flatten(1), _scaled(second).flatten(1))


def entropy(maps: Float[Tensor, "batch height width"], bins: int = 100) -> Float[Tensor, " batch"]:
    """Shannon's entropy of the histogram of a map's values, - sum p log p, in nats.

    Bins are equally wide from the map's lowest value to its highest. Hedström et al. 2024, arXiv 2405.02383.

    Returns:
        0 to log(bins); NaN for a map that is constant or not finite.
    """
    flat = _normalised(maps).flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    places = ((flat - low) / (high - low) * bins).nan_to_num(0).long().clamp(max=bins - 1)
    shares = flat.new_zeros(len(flat), bins).scatter_add_(1, places, torch.ones_like(flat)) / flat.shape[1]
    found = torch.special.entr(shares).sum(1)
    return torch.where(flat.isfinite().all(1), found, torch.nan)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    measure.__name__: measure for measure in (spearman, spearman_abs, flip_spearman, ssim, flip_ssim, cosine)
}
JUDGED = flip_spearman.__name__
"""By which verdicts are made and curves drawn: a map that only turns its sign is no other map."""


class Ranked:
    """Maps that are compared more than once, and whose ranks are found once.

    Args:
        maps: shape (batch, height, width).
    """

    def __init__(self, maps: Float[Tensor, "batch height width"]) -> None:
        self.maps = maps

    @cached_property
    def ranks(self) -> Int[Tensor, "batch pixels"]:
        """Twice the rank of each pixel less the mean rank; 0 everywhere for maps that are constant or not finite."""
        return _centred_ranks(self.maps)

    @cached_property
    def magnitude_ranks(self) -> Int[Tensor, "batch pixels"]:
        """The same of magnitudes."""
        return _centred_ranks(self.maps.abs())


def likeness(first: Ranked, second: Ranked) -> dict[str, Float[Tensor, " batch"]]:
    """All measures at once, by name.

    Where one map is empty (constant, for `cosine` zero) and the other is not, they are not alike: 0. Where both are
    empty, or one is not finite, there is no number: NaN.

    Raises:
        InputError: the shapes differ, or are not those of maps.
    """
    _check(first.maps, second.maps)
    signed = _cosine(first.ranks.double(), second.ranks.double())
    plain, flipped = _structural(first.maps, second.maps)
    found = {
        "spearman": signed,
        "spearman_abs": _cosine(first.magnitude_ranks.double(), second.magnitude_ranks.double()),
        "flip_spearman": signed.abs(),
        "ssim": plain,
        "flip_ssim": torch.maximum(plain, flipped),
        "cosine": cosine(first.maps, second.maps),
    }
    pairs = {
        "cosine": (_zero(first.maps), _zero(second.maps)),
        "spearman_abs": (_constant(first.maps.abs()), _constant(second.maps.abs())),
    }
    constant = _constant(first.maps), _constant(second.maps)
    finite = first.maps.isfinite().all((1, 2)) & second.maps.isfinite().all((1, 2))
    for name, values in found.items():
        one, other = pairs.get(name, constant)
        found[name] = torch.where(finite & (one ^ other), torch.zeros_like(values), values)
    return found


def _check(first: Tensor, second: Tensor) -> None:
    if first.dim() != 3 or first.shape != second.shape:
        raise InputError(
            "Maps are compared in two batches of one shape (batch, height, width); "
            f"came {tuple(first.shape)} and {tuple(second.shape)}."
        )


def _scaled(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
    """Each map by its largest magnitude, against over- and underflow of squares; NaN for zero and non-finite maps."""
    wide = maps.double()
    return wide / wide.abs().amax((1, 2), keepdim=True)


def _normalised(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
    """Each map by its root mean square; NaN for constant and non-finite maps."""
    scaled = _scaled(maps)
    varied = scaled.amax((1, 2), keepdim=True) > scaled.amin((1, 2), keepdim=True)
    return torch.where(varied, scaled / scaled.square().mean((1, 2), keepdim=True).sqrt(), torch.nan)


def _constant(maps: Float[Tensor, "batch height width"]) -> Bool[Tensor, " batch"]:
    return maps.amax((1, 2)) == maps.amin((1, 2))


def _zero(maps: Float[Tensor, "batch height width"]) -> Bool[Tensor, " batch"]:
    return (maps == 0).all(2).all(1)


def _cosine(first: Float[Tensor, "batch pixels"], second: Float[Tensor, "batch pixels"]) -> Float[Tensor, " batch"]:
    return (first * second).sum(1) / (first.square().sum(1) * second.square().sum(1)).sqrt()


def _structural(
    first: Float[Tensor, "batch height width"], second: Float[Tensor, "batch height width"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The structural similarity to the second map, and to its negative."""
    side = (min(WINDOW, *first.shape[1:]) - 1) | 1
    if side < 3:
        none = torch.full((len(first),), torch.nan, dtype=torch.float64, device=first.device)
        return none, none
    maps = torch.stack([_normalised(first), _normalised(second)])
    means = maps.mean((2, 3), keepdim=True)
    # Variances as a difference of squares keep their digits only where the means are small.
    centred = maps - means
    local, squares = _averaged(centred, side), _averaged(centred.square(), side)
    product = _averaged(centred[0] * centred[1], side)
    unbiased = side**2 / (side**2 - 1)
    variances = unbiased * (squares - local.square()).sum(0)
    covariance = 2 * unbiased * (product - local[0] * local[1])
    local = local + means
    largest = (centred.amax((2, 3)) - centred.amin((2, 3))).amax(0)[:, None, None]
    c1, c2 = (0.01 * largest) ** 2, (0.03 * largest) ** 2
    together = 2 * local[0] * local[1]
    # The negative of a map has other signs of its mean and of the covariance, and nothing else.
    below = (local.square().sum(0) + c1) * (variances + c2)
    plain, flipped = ((sign * together + c1) * (sign * covariance + c2) / below for sign in (1, -1))
    return plain.mean((1, 2)), flipped.mean((1, 2))


def _averaged(
    maps: Float[Tensor, "*batch height width"], side: int
) -> Float[Tensor, "*batch windows_down windows_across"]:
    """The mean of each window, along one axis and then along the other, which is faster than average pooling."""
    return maps.unfold(-2, side, 1).sum(-1).unfold(-1, side, 1).sum(-1) / side**2


def _centred_ranks(maps: Float[Tensor, "batch height width"]) -> Int[Tensor, "batch pixels"]:
    """Twice the average rank of each pixel less the mean rank, exact; 0 for maps that are constant or not finite."""
    ordered, places = maps.detach().flatten(1).sort(1)
    count = ordered.shape[1]
    number = torch.arange(count, dtype=torch.int32, device=maps.device).expand_as(ordered)
    # Equal values share the mean of the first and the last place that they take.
    steps = ordered[:, 1:] != ordered[:, :-1]
    edge = steps.new_ones(len(ordered), 1)
    first = torch.where(torch.cat([edge, steps], 1), number, 0).cummax(1).values
    last = torch.where(torch.cat([steps, edge], 1), number, count).flip(1).cummin(1).values.flip(1)
    finite = ordered.isfinite().all(1, keepdim=True)
    ranks = torch.where(finite, first + last - (count - 1), 0)
    return torch.empty_like(ranks).scatter(1, places, ranks)
