"""What both the audit and GAD measure with: pixels chosen by a map, occlusion, intervals and paired tests.

- `Important`, `By`, `places`: pixels chosen by a map; `hulls`, `hull_area`, `complexity`, `sensitivity`: of regions.
- `Fill`, `as_fill`, `occlude`: taking pixels out.
- `mean_interval`, `Values`, `FEWEST`: intervals of means; `sign_flips`: paired tests; `holm`: many at once.
"""

from sightline.evaluation._intervals import FEWEST, Values, holm, mean_interval
from sightline.evaluation._occlusion import Fill, as_fill, occlude
from sightline.evaluation._paired import sign_flips
from sightline.evaluation._regions import By, Important, complexity, hull_area, hulls, places, sensitivity

__all__ = [
    "FEWEST",
    "By",
    "Fill",
    "Important",
    "Values",
    "as_fill",
    "complexity",
    "holm",
    "hull_area",
    "hulls",
    "mean_interval",
    "occlude",
    "places",
    "sensitivity",
    "sign_flips",
]
