"""What maps are measured with, as pure functions: audits, distancing (`gad`) and studies share them.

- `similarity`: how alike two maps are; `localisation`: how much of a map falls on a region that is known to decide,
  with regions from `masks`; `faithfulness`: what happens to the score when pixels are removed in the map's order, by a
  fill of `occlusion`; `convergence`: at which layer a propagation has lost the class.
- `randomisation`: networks that lose what they learned, layer by layer; `layers`: in which order.
- `encoding`: the same function of the same pictures in another encoding.
- `controls`: maps that know nothing of the model, to stand beside every score.
- `regions`: pixels chosen by a map; `intervals`, `paired`: how sure a mean or a difference is.
"""

from sightline.evaluation._faithfulness import Curve, curve, deletion, insertion, patch_flipping
from sightline.evaluation._occlusion import Fill, occlude

__all__ = ["Curve", "Fill", "curve", "deletion", "insertion", "occlude", "patch_flipping"]
