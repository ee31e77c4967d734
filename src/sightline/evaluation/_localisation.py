"""How much of a map falls on a region.

Every function takes maps of shape (batch, height, width), of any sign and scale, regions (truth values) of the same
shape, and, as `counted`, which pixels count at all: the others are neither region nor background, as the border of an
object that nobody labelled. Pixels of equal value count alike: where a rank would have to cut between them, each has
the same share in what is left, which is the mean over all orders of theirs.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.errors import InputError
from sightline.evaluation._masks import check_regions


def relevance_mass(
    heatmaps: Float[Tensor, "batch height width"],
    regions: Tensor,
    *,
    counted: Tensor | None = None,
) -> Float[Tensor, " batch"]:
    """The share of a map's magnitude that lies in a region: sum over the region of |M| / sum of |M|.

    Relevance mass accuracy of Arras et al. 2022, arXiv 2003.07258, section 3.3, taken on magnitudes so that signed
    maps have one too.

    Args:
        heatmaps: the maps.
        regions: shape (batch, height, width): true in the region.
        counted: shape (batch, height, width): true at the pixels that count; by default all.

    Returns:
        0 to 1; NaN for a map that is zero everywhere, or without a pixel that counts.

    Raises:
        InputError: regions are no truth values, or not of the maps' shape.
    """
    inside, allowed = _checked(heatmaps, regions, counted)
    magnitude = torch.where(allowed, heatmaps.flatten(1).double().abs(), 0)
    return ((magnitude * inside).sum(1) / magnitude.sum(1)).to(heatmaps.dtype)


def rank_accuracy(
    heatmaps: Float[Tensor, "batch height width"],
    regions: Tensor,
    *,
    counted: Tensor | None = None,
) -> Float[Tensor, " batch"]:
    """The share of the K highest pixels of |M| that lie in a region of K pixels.

    Relevance rank accuracy of Arras et al. 2022, arXiv 2003.07258, section 3.3, taken on magnitudes as
    `relevance_mass` is. Of equal magnitudes that the K-th place divides, each counts with the share that has a place.

    Args:
        heatmaps: the maps.
        regions: shape (batch, height, width): true in the region.
        counted: shape (batch, height, width): true at the pixels that count; by default all.

    Returns:
        0 to 1; NaN for an empty region, and for a map that is not finite or whose magnitude is the same everywhere.

    Raises:
        InputError: see `relevance_mass`.
    """
    inside, allowed = _checked(heatmaps, regions, counted)
    magnitude = heatmaps.detach().abs().flatten(1)
    sizes = inside.sum(1, keepdim=True)
    # What does not count comes last.
    placed = torch.where(allowed, magnitude, -1).sort(1, descending=True).values
    lowest = placed.gather(1, (sizes - 1).clamp(min=0))
    above, equal = allowed & (magnitude > lowest), allowed & (magnitude == lowest)
    left = sizes.squeeze(1) - above.sum(1)
    found = (above & inside).sum(1) + left * (equal & inside).sum(1) / equal.sum(1).double()
    return torch.where(_varies(magnitude, allowed), found / sizes.squeeze(1), torch.nan).to(heatmaps.dtype)


def energy(
    heatmaps: Float[Tensor, "batch height width"],
    regions: Tensor,
    *,
    counted: Tensor | None = None,
) -> Float[Tensor, " batch"]:
    """The share of a map's positive part that lies in a region: sum over the region of max(M, 0) / sum of max(M, 0).

    Energy-based pointing game of Wang et al. 2020 (Score-CAM), arXiv 1910.01279, section 4. The paper's regions are
    boxes and its maps nowhere negative; here what is negative speaks against the class and is left out.

    Args:
        heatmaps: the maps.
        regions: shape (batch, height, width): true in the region.
        counted: shape (batch, height, width): true at the pixels that count; by default all.

    Returns:
        0 to 1; NaN for a map that is not finite, or has nothing positive.

    Raises:
        InputError: see `relevance_mass`.
    """
    inside, allowed = _checked(heatmaps, regions, counted)
    flat = heatmaps.flatten(1)
    positive = torch.where(allowed, flat.double().clamp(min=0), 0)
    shares = (positive * inside).sum(1) / positive.sum(1)
    return torch.where(_finite(flat, allowed), shares, torch.nan).to(heatmaps.dtype)


def pointing_game(
    heatmaps: Float[Tensor, "batch height width"],
    regions: Tensor,
    radius: float = 15.0,
    *,
    counted: Tensor | None = None,
) -> Float[Tensor, " batch"]:
    """Whether a map's highest pixel hits a region: 1 where a pixel of the region is less than the radius away, else 0.

    Pointing game of Zhang et al. 2018 (Excitation Backprop), arXiv 1608.00507, section 4, with the tolerance as
    TorchRay has it: distances are Euclidean, between the centres of pixels, and a pixel at the radius itself is out.

    Args:
        heatmaps: the maps; of several highest pixels the share that hits counts.
        regions: shape (batch, height, width): true in the region; an empty one is never hit.
        radius: in pixels; at 1 the highest pixel has to lie in the region itself.
        counted: shape (batch, height, width): true at the pixels that count; by default all.

    Returns:
        0 to 1; NaN for a map that is not finite or the same everywhere, which points nowhere.

    Raises:
        InputError: the radius is not above 0; see `relevance_mass`.
    """
    if not radius > 0:
        raise InputError(
            f"The radius of the pointing game must be above 0 pixels; got {radius}. At 1 it tolerates none."
        )
    inside, allowed = _checked(heatmaps, regions, counted)
    flat = heatmaps.detach().flatten(1)
    width = heatmaps.shape[2]
    top = torch.where(allowed, flat, -torch.inf).amax(1, keepdim=True)
    highest, varies = allowed & (flat == top), _varies(flat, allowed)
    shares = torch.full((len(flat),), torch.nan, dtype=torch.float64, device=flat.device)
    for number in varies.nonzero().flatten().tolist():
        places = highest[number].nonzero().flatten()
        region = inside[number].nonzero().flatten()
        hits = torch.zeros(len(places), dtype=torch.bool, device=flat.device)
        # A map of few values has many highest pixels, whose distances to a whole region would not fit.
        for rows, part in zip(hits.split(_AT_ONCE), places.split(_AT_ONCE), strict=True):
            down = part[:, None] // width - region // width
            across = part[:, None] % width - region % width
            # The root, not the radius, is rounded, so that a radius of sqrt(2) leaves the diagonal neighbours out.
            rows |= ((down**2 + across**2).double().sqrt() < radius).any(1)
        shares[number] = hits.double().mean()
    return shares.to(heatmaps.dtype)


_AT_ONCE = 64
"""Highest pixels whose distances to a region are computed together."""


def _checked(heatmaps: Tensor, regions: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor]:
    """The regions and what counts, shape (batch, pixel)."""
    shape = tuple(heatmaps.shape)
    check_regions("regions", regions, shape)
    if counted is None:
        return regions.flatten(1), torch.ones_like(regions).flatten(1)
    check_regions("counted", counted, shape)
    return (regions & counted).flatten(1), counted.flatten(1)


def _finite(flat: Float[Tensor, "batch pixel"], allowed: Bool[Tensor, "batch pixel"]) -> Bool[Tensor, " batch"]:
    return (flat.isfinite() | ~allowed).all(1)


def _varies(flat: Float[Tensor, "batch pixel"], allowed: Bool[Tensor, "batch pixel"]) -> Bool[Tensor, " batch"]:
    """Whether a map is finite and has an order at all."""
    low, high = torch.where(allowed, flat, torch.inf).amin(1), torch.where(allowed, flat, -torch.inf).amax(1)
    return _finite(flat, allowed) & (low < high)
