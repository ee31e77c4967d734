"""Questions put to a map: does it explain this model at all?

- `auditing`: `audit`, which puts them all; `options`: its options; `found`: what it finds; `questions/`: the tests;
  `verdicts`: their rules.
- `subjects`: methods, functions of the user's own, controls; `block`: their maps for some images; `store`: kept scores.
- `randomisation`: networks that lose what they learned, layer by layer; `layers`: in which order.
- `convergence`: at which layer a propagation has lost the class.
- `similarity`: how alike two maps are.
- `localisation`: how much of a map falls on a region that is known to decide; `faithfulness`: what happens to the score
  when pixels are taken out in the map's order.
- `controls`: maps that know nothing of the model, to stand beside every score.
"""

from sightline.auditing._auditing import audit
from sightline.auditing._found import Audit
from sightline.auditing._options import AuditOptions
from sightline.auditing.questions._subjects import CONTROLS, from_callable
from sightline.evaluation._controls import centre_map, edge_map
from sightline.evaluation._localisation import relevance_mass
from sightline.evaluation._randomisation import Order, Randomisation
from sightline.evaluation._similarity import JUDGED

__all__ = [
    "CONTROLS",
    "JUDGED",
    "Audit",
    "AuditOptions",
    "Order",
    "Randomisation",
    "audit",
    "centre_map",
    "edge_map",
    "from_callable",
    "relevance_mass",
]
