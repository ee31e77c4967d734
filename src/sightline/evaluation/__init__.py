"""What maps are measured with, as pure functions: audits, distancing (`gad`) and studies share them.

- `similarity`: how alike two maps are; `localisation`: how much of a map falls on a region that is known to decide,
  with regions from `masks`; `faithfulness`: what happens to the score when pixels are removed in the map's order, by a
  fill of `occlusion`; `convergence`: at which layer a propagation has lost the class.
- `randomisation`: networks that lose what they learned, layer by layer; `layers`: in which order.
- `encoding`: the same function of the same pictures in another encoding.
- `controls`: maps that know nothing of the model, to stand beside every score.
- `regions`: pixels chosen by a map; `intervals`, `paired`: how sure a mean or a difference is.
"""

from sightline.evaluation._controls import centre_map, edge_map
from sightline.evaluation._convergence import convergence, first_lost
from sightline.evaluation._encoding import reencoded, shifted
from sightline.evaluation._faithfulness import Curve, curve, deletion, insertion, patch_flipping
from sightline.evaluation._images import Asked, values_of, with_values
from sightline.evaluation._intervals import FEWEST, Values, holm, mean_interval
from sightline.evaluation._localisation import energy, pointing_game, rank_accuracy, relevance_mass
from sightline.evaluation._masks import Masks, as_masks
from sightline.evaluation._occlusion import Fill, as_fill, occlude
from sightline.evaluation._paired import sign_flips
from sightline.evaluation._randomisation import Explained, Order, Randomisation, Stage
from sightline.evaluation._regions import By, Important, complexity, hull_area, hulls, places, sensitivity
from sightline.evaluation._similarity import JUDGED, MEASURES, Ranked, cosine, entropy, likeness, spearman

__all__ = [
    "FEWEST",
    "JUDGED",
    "MEASURES",
    "Asked",
    "By",
    "Curve",
    "Explained",
    "Fill",
    "Important",
    "Masks",
    "Order",
    "Randomisation",
    "Ranked",
    "Stage",
    "Values",
    "as_fill",
    "as_masks",
    "centre_map",
    "complexity",
    "convergence",
    "cosine",
    "curve",
    "deletion",
    "edge_map",
    "energy",
    "entropy",
    "first_lost",
    "holm",
    "hull_area",
    "hulls",
    "insertion",
    "likeness",
    "mean_interval",
    "occlude",
    "patch_flipping",
    "places",
    "pointing_game",
    "rank_accuracy",
    "reencoded",
    "relevance_mass",
    "sensitivity",
    "shifted",
    "sign_flips",
    "spearman",
    "values_of",
    "with_values",
]
