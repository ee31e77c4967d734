"""What a network does, operation by operation: the vocabulary, the interception, and the walk that checks it.

- `vocabulary`: every spelling of an operation (`nn.ReLU`, `F.relu`, `x.relu_()`) in a few kinds.
- `interception`: the one mode that sees every operation a model performs.
- `apart`: whether a model's answer for an image depends on the images beside it.
- `chance`: whether a model says something else each time it is asked.
- `reading`: what a call is where its arguments decide it.
- `tape`: what one pass leaves behind, from which signals are pulled back.
- `performer`: a call done by torch, or by a node of ours where its kind is ruled.
- `rectifier`, `linear`, `calls`: those nodes, whose backward is chosen when the backward runs.
- `branches`: sums of parallel layers on one input, which relevance takes as one layer.
- `forms`: weighted layers and batch norms as mathematics, read from calls.
- `active`: that choice, as the nodes look it up, and the ledger of relevance.
- `kept`: values that rules need, kept as they were.
- `origins`: where tensors come from, as far as the graph does not tell.
- `intercepts`: what each operation gives without a signal, for FullGrad.
- `graph`: the walk over the recorded graph that finds what escaped.
- `layout`: what each axis of a result is, and where its places lie in the image.
- `steady`: norms whose backward in torch depends on the layout of the signal's memory.
- `modules`, `places`: where in the model an operation runs, and the inner results asked for.
"""

from sightline.operations._apart import refuse_mixing
from sightline.operations._chance import refuse_chance
from sightline.operations._intercepts import Intercept
from sightline.operations._kept import wide
from sightline.operations._places import DEPTHS, INPUT, LAST_SPATIAL, NO_PATH, Seen, place_of
from sightline.operations._tape import RuledPassError, Tape
from sightline.operations._vocabulary import KINDS, Kind, Operation
from sightline.operations.layout import Grid, Unreadable

__all__ = [
    "DEPTHS",
    "INPUT",
    "KINDS",
    "LAST_SPATIAL",
    "NO_PATH",
    "Grid",
    "Intercept",
    "Kind",
    "Operation",
    "RuledPassError",
    "Seen",
    "Tape",
    "Unreadable",
    "place_of",
    "refuse_chance",
    "refuse_mixing",
    "wide",
]
