"""How much of a map falls on a region."""

from jaxtyping import Bool, Float
from torch import Tensor


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
