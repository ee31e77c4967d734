"""Questions put to a map.

- `localisation`: how much of it falls on a region that is known to decide.
- `controls`: maps that know nothing of the model, to stand beside every score.
"""

from sightline.audit.controls import centre_map, edge_map
from sightline.audit.localisation import relevance_mass

__all__ = ["centre_map", "edge_map", "relevance_mass"]
