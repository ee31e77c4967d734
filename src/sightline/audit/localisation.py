"""How much of a map falls on a region."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.errors import InputError
from sightline.regions import first, order


def relevance_mass(
    heatmaps: Float[Tensor, "batch height width"], regions: Bool[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """The share of a map's magnitude that lies in a region: sum over the region of |M| / sum of |M|.

    Relevance mass accuracy of Arras et al. 2022, arXiv 2003.07258, section 3.3, taken on magnitudes so that signed
    maps have one too.

    Args:
        heatmaps: the maps, of any sign and scale.
        regions: true in the region.

    Returns:
        0 to 1; NaN for a map that is zero everywhere.
    """
    magnitude = heatmaps.double().abs()
    shares = (magnitude * regions).sum((1, 2)) / magnitude.sum((1, 2))
    return shares.to(heatmaps.dtype)


def rank_accuracy(
    heatmaps: Float[Tensor, "batch height width"], regions: Bool[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """The share of the K highest pixels of |M| that lie in a region of K pixels.

    Relevance rank accuracy of Arras et al. 2022, arXiv 2003.07258, section 3.3, taken on magnitudes as
    `relevance_mass` is.

    Args:
        heatmaps: the maps, of any sign and scale; among equal magnitudes the first by position (row by row) is higher.
        regions: true in the region.

    Returns:
        0 to 1; NaN for an empty region, and for a map that is not finite or whose magnitude is the same everywhere.
    """
    magnitude = heatmaps.detach().abs().flatten(1)
    inside = regions.flatten(1)
    sizes = inside.sum(1)
    found = (first(order(magnitude), sizes) & inside).sum(1)
    return torch.where(_varies(magnitude), found.double() / sizes, torch.nan).to(heatmaps.dtype)


def energy(
    heatmaps: Float[Tensor, "batch height width"], regions: Bool[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """The share of a map's positive part that lies in a region: sum over the region of max(M, 0) / sum of max(M, 0).

    Energy-based pointing game of Wang et al. 2020 (Score-CAM), arXiv 1910.01279, section 4. The paper's regions are
    boxes and its maps nowhere negative; here what is negative speaks against the class and is left out.

    Args:
        heatmaps: the maps, of any sign and scale.
        regions: true in the region.

    Returns:
        0 to 1; NaN for a map that is not finite, or has nothing positive.
    """
    positive = heatmaps.double().clamp(min=0)
    shares = (positive * regions).sum((1, 2)) / positive.sum((1, 2))
    return torch.where(_finite(heatmaps.flatten(1)), shares, torch.nan).to(heatmaps.dtype)


def pointing_game(
    heatmaps: Float[Tensor, "batch height width"], regions: Bool[Tensor, "batch height width"], radius: float = 15.0
) -> Float[Tensor, " batch"]:
    """Whether a map's highest pixel hits a region: 1 where a pixel of the region is less than the radius away, else 0.

    Pointing game of Zhang et al. 2018 (Excitation Backprop), arXiv 1608.00507, section 4, with the tolerance as
    TorchRay has it: distances are Euclidean, between the centres of pixels, and a pixel at the radius itself is out.

    Args:
        heatmaps: the maps, of any sign and scale; of several highest pixels the first by position (row by row) counts.
        regions: true in the region; an empty one is never hit.
        radius: in pixels; at 1 the highest pixel has to lie in the region itself.

    Returns:
        0 or 1; NaN for a map that is not finite or the same everywhere, which points nowhere.

    Raises:
        InputError: the radius is not above 0.
    """
    if not radius > 0:
        raise InputError(
            f"The radius of the pointing game is above 0 pixels; came {radius}. At 1 nothing is tolerated."
        )
    height, width = heatmaps.shape[1:]
    flat = heatmaps.detach().flatten(1)
    highest = flat.argmax(1)[:, None, None]
    down = torch.arange(height, device=heatmaps.device)[:, None] - highest // width
    across = torch.arange(width, device=heatmaps.device) - highest % width
    # The root, not the radius, is rounded, so that a radius of sqrt(2) leaves the diagonal neighbours out.
    near = (down**2 + across**2).double().sqrt() < radius
    hits = (near & regions).flatten(1).any(1)
    return torch.where(_varies(flat), hits.double(), torch.nan).to(heatmaps.dtype)


def _finite(flat: Float[Tensor, "batch pixel"]) -> Bool[Tensor, " batch"]:
    return flat.isfinite().all(1)


def _varies(flat: Float[Tensor, "batch pixel"]) -> Bool[Tensor, " batch"]:
    """Whether a map is finite and has an order at all."""
    return _finite(flat) & (flat.amin(1) < flat.amax(1))
