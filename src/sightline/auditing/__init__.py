"""Questions put to a map: does it explain this model at all?

- `audit` puts them all, with `AuditOptions`, to a model's methods; `Audit` is what it finds, `Plan` the same as blocks
  of images that others may see to.
- `Question` is one of them, registered by name in `QUESTIONS`. A question of your own gets a `Block` of images with
  their maps, gives a `Score` for each number, and judges by its `Rule`s; `Setup` is what it may know beforehand.
- `from_callable` makes a method of any function; `CONTROLS` are audited beside every method; `Randomisation` says how
  networks lose what they learned; `JUDGED` is the measure of likeness that decides.
- `relevance_mass`, `centre_map`, `edge_map`: a score of localisation, and maps without knowledge of the model.
- Inside: `plan`, `store` (kept scores), `judging` and `verdicts` (from scores to verdicts), `judged` (figures),
  `advice`, `found`; `questions/`, one a file. Measures are in `sightline.evaluation`.
"""

from sightline.auditing._auditing import audit
from sightline.auditing._found import Audit, is_saved
from sightline.auditing._grouping import groups_of
from sightline.auditing._options import TESTS, AuditOptions
from sightline.auditing._pairs import Sample
from sightline.auditing._plan import Plan
from sightline.auditing._verdict_table import verdict_table
from sightline.auditing.questions import (
    CONTROLS,
    QUESTIONS,
    Block,
    Finding,
    Question,
    Rule,
    Score,
    Setup,
    blind_to,
    from_callable,
    questions_of,
)
from sightline.evaluation import JUDGED, Order, Randomisation, centre_map, edge_map, relevance_mass

__all__ = [
    "CONTROLS",
    "JUDGED",
    "QUESTIONS",
    "TESTS",
    "Audit",
    "AuditOptions",
    "Block",
    "Finding",
    "Order",
    "Plan",
    "Question",
    "Randomisation",
    "Rule",
    "Sample",
    "Score",
    "Setup",
    "audit",
    "blind_to",
    "centre_map",
    "edge_map",
    "from_callable",
    "groups_of",
    "is_saved",
    "questions_of",
    "relevance_mass",
    "verdict_table",
]
