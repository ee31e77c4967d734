"""From a question to maps with their checks.

- `explain`, `Options`: the question, and how it is answered. `Explanation`, `Checks`: what comes of it.
- `Pair`, `Unit`, `Direction`, `WholeBatch`, and their base `Target`: what is explained; of one image, as a value,
  `Explained`. `target_of`, `as_target` make a target of what a user gave.
- `FORMAT`, `PICTURES`, `check_format`, `write_maps`, `map_of`, `described`: maps and manifests in files.
- `Conservation`, `Decomposition`: the checks of methods that share the explained value out.
- `methods_named`, `class_number`, `class_numbers`, `class_name`, `split_targets`: names that users give, and are told.
- `caption`, `STRETCHED`: words beneath pictures; `versions`: of what the numbers depend on.

Inside, `_planner` is the job, in which nothing is computed twice: `_passes` run each `_group` of methods on the
`_network` in `_chunks`, `_pass` is one of them, and `_totals` adds up what it gives. `_assembling` makes an
`Explanation` of what was found, with the sentences of `_notes`; `_saved` reads one back.
"""

from sightline.explaining._as_target import TargetLike, as_target, target_of
from sightline.explaining._assembling import STRETCHED
from sightline.explaining._captions import caption
from sightline.explaining._checks import Checks
from sightline.explaining._conservation import Conservation
from sightline.explaining._decomposition import Decomposition
from sightline.explaining._explain import explain
from sightline.explaining._explained import Explained, class_name
from sightline.explaining._explanation import Explanation, map_of
from sightline.explaining._functions import WholeBatch
from sightline.explaining._layer_names import methods_named
from sightline.explaining._manifest import FORMAT, PICTURES, check_format, write_maps
from sightline.explaining._method_record import described
from sightline.explaining._options import Options
from sightline.explaining._target_names import class_number, class_numbers, split_targets
from sightline.explaining._targets import Classes, ClassesLike, Direction, Pair, Target, Unit

__all__ = [
    "FORMAT",
    "PICTURES",
    "STRETCHED",
    "Checks",
    "Classes",
    "ClassesLike",
    "Conservation",
    "Decomposition",
    "Direction",
    "Explained",
    "Explanation",
    "Options",
    "Pair",
    "Target",
    "TargetLike",
    "Unit",
    "WholeBatch",
    "as_target",
    "caption",
    "check_format",
    "class_name",
    "class_number",
    "class_numbers",
    "described",
    "explain",
    "map_of",
    "methods_named",
    "split_targets",
    "target_of",
    "write_maps",
]
