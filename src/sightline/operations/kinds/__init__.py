"""The kinds of operations, one or a tight family in each file.

A kind says of itself all that the rest of Sightline asks: its spellings, how a call is read, how it is performed so
that a rule is called and what the rule is given, its bias term, and how it maps layouts. To add one, write a file that
registers it (`KINDS.register`) and import it below.
"""

# isort: off
from sightline.operations.kinds._rulable import Rulable as Rulable
from sightline.operations.kinds._weighted import LINEAR as LINEAR, MATMUL as MATMUL
from sightline.operations.kinds._norms import BATCH_NORM as BATCH_NORM, NORMALISATION as NORMALISATION
from sightline.operations.kinds._response_norm import (
    RESPONSE_NORM as RESPONSE_NORM,
    NormedByNeighbours as NormedByNeighbours,
)
from sightline.operations.kinds._rectifier import RECTIFIER as RECTIFIER
from sightline.operations.kinds._pointwise import ACTIVATION as ACTIVATION, GATE as GATE, POINTWISE as POINTWISE
from sightline.operations.kinds._softmax import SOFTMAX as SOFTMAX
from sightline.operations.kinds._pooling import AVERAGE_POOLING as AVERAGE_POOLING, MAX_POOLING as MAX_POOLING
from sightline.operations.kinds._pooling import MAXIMUM as MAXIMUM, Pooled as Pooled
from sightline.operations.kinds._reduction import REDUCTION as REDUCTION
from sightline.operations.kinds._resampling import RESAMPLING as RESAMPLING
from sightline.operations.kinds._add import ADD as ADD
from sightline.operations.kinds._product import GATING as GATING, PRODUCT as PRODUCT, SCALING as SCALING, Gated as Gated
from sightline.operations.kinds._reshape import RESHAPE as RESHAPE
from sightline.operations.kinds._identity import IDENTITY as IDENTITY
from sightline.operations.kinds._unknown import DERIVED_FACTOR as DERIVED_FACTOR, UNKNOWN as UNKNOWN
