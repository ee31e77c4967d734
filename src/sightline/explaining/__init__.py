"""From a question to maps with their checks.

- `explain`, `Options`: the question, and how it is answered. `Explanation`, `Checks`: what comes of it.
- `Pair`, `Unit`, `Direction`, `WholeBatch`, and their base `Target`: what is explained.
- `Conservation`, `Decomposition`: the checks of methods that share the explained value out.

Inside, `_planner`, `_passes`, `_totals` and `_layers` are the job, in which nothing is computed twice; `_assembling`
makes an `Explanation` of what it found, with the sentences of `_notes`; `_saved` reads one back.
"""

from sightline.explaining._conservation import Conservation
from sightline.explaining._decomposition import Decomposition
from sightline.explaining._explain import explain
from sightline.explaining._explanation import Checks, Explanation
from sightline.explaining._options import Options
from sightline.explaining._targets import Classes, Direction, Pair, Target, TargetLike, Unit, WholeBatch

__all__ = [
    "Checks",
    "Classes",
    "Conservation",
    "Decomposition",
    "Direction",
    "Explanation",
    "Options",
    "Pair",
    "Target",
    "TargetLike",
    "Unit",
    "WholeBatch",
    "explain",
]
