"""What a network does, operation by operation: the vocabulary, the interception, and the walk that checks it.

- `vocabulary`: what a kind of operation states of itself, whatever the spelling (`nn.ReLU`, `F.relu`, `x.relu_()`).
- `kinds`: the kinds, one or a tight family in each file.
- `interception`: the one mode that sees every operation a model performs.
- `apart`: whether a model's answer for an image depends on the images beside it.
- `chance`: whether a model says something else each time it is asked.
- `reading`: the arguments of a call.
- `tape`: what one pass leaves behind, from which signals are pulled back.
- `recorder`: the recording of a pass: each call is performed and noted.
- `backward`: the pulling back, under the rules of one propagation.
- `performer`: a call done by torch, or by its kind's own node where that is ruled.
- `pixels`: what was done to the image's pixels, for rules that need their range.
- `rectifier`, `linear`, `calls`: those nodes, whose backward is chosen when the backward runs.
- `branches`: sums of parallel layers on one input, which relevance takes as one layer.
- `forms`: weighted layers and batch norms as mathematics, read from calls.
- `propagation`: the type of that choice: a rule for each kind of operation, its ordinary gradient, or a refusal.
- `active`: the propagation in effect, as the nodes look it up, and the ledger of relevance.
- `kept`: values that rules need, kept as they were.
- `origins`: where tensors come from, as far as the graph does not tell.
- `intercepts`: what each operation gives without a signal, for FullGrad.
- `graph`: the walk over the recorded graph that finds what escaped.
- `layout`: what each axis of a result is, and where its places lie in the image.
- `steady`: norms whose backward in torch depends on the layout of the signal's memory.
- `modules`, `places`, `feature_maps`: where in the model an operation runs, and the inner results asked for.
"""

from sightline.operations._active import Growth, Rounding
from sightline.operations._apart import refuse_mixing
from sightline.operations._backward import RecomputationError, recomputed
from sightline.operations._calls import Call
from sightline.operations._chance import refuse_chance
from sightline.operations._graph import avoids, is_folded, nodes_behind
from sightline.operations._interception import eager
from sightline.operations._intercepts import Intercept
from sightline.operations._kept import wide
from sightline.operations._linear import Linear
from sightline.operations._places import DEPTHS, INPUT, LAST_SPATIAL, NO_PATH, Seen, place_of
from sightline.operations._propagation import Propagation, Rule, Treatment, by_settings, without_input_of
from sightline.operations._rectifier import Rectified
from sightline.operations._reuse import Reuse, reusing
from sightline.operations._steady import steady_unseen
from sightline.operations._tape import RuledPassError, Tape
from sightline.operations._vocabulary import KINDS, Kind, Operation
from sightline.operations.layout import Grid, Unreadable

__all__ = [
    "DEPTHS",
    "INPUT",
    "KINDS",
    "LAST_SPATIAL",
    "NO_PATH",
    "Call",
    "Grid",
    "Growth",
    "Intercept",
    "Kind",
    "Linear",
    "Operation",
    "Propagation",
    "RecomputationError",
    "Rectified",
    "Reuse",
    "Rounding",
    "Rule",
    "RuledPassError",
    "Seen",
    "Tape",
    "Treatment",
    "Unreadable",
    "avoids",
    "by_settings",
    "eager",
    "is_folded",
    "nodes_behind",
    "place_of",
    "recomputed",
    "refuse_chance",
    "refuse_mixing",
    "reusing",
    "steady_unseen",
    "wide",
    "without_input_of",
]
