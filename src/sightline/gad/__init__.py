"""Gradient Artificial Distancing: distance two classes, train, keep what stays important, and see whether it helped.

- `GAD`: explains and evaluates by support networks; it is a `Fit` of them, which holds and saves them. `fit_networks`
  trains some of them, and `merge_fits` joins folders in which parts of a fit were trained.
- `Training`, `Measurement`: the settings of a fit and of an evaluation; `Stage`: how far a fit is.
- `Consistency` (`PAPER_LIKE`): what "stays important" means; `GADExplanation`: maps read that way.
- `Evaluation`: the paper's tables beside each `Control`, which needs no distancing; `paper_methods`: the paper's five.
- `distanced`: what support networks are trained to say; `steps_of`: the distances as pairs.

The paper's experiment from a data folder is a guest, `sightline.gad.reproduction`.
"""

from sightline.gad._consistency import PAPER_LIKE, Consistency, Consistent, Reading
from sightline.gad._controls import MATCHED, OWN, Control
from sightline.gad._distancing import GAD
from sightline.gad._evaluation import Evaluation
from sightline.gad._explained import GADExplanation
from sightline.gad._fit import Fit
from sightline.gad._fitting import fit_networks
from sightline.gad._networks import Kind
from sightline.gad._paper import PAPER_METHODS, paper_methods
from sightline.gad._record import merge_fits
from sightline.gad._settings import Measurement, Mode, Question, Strategy, Training
from sightline.gad._survey import Outputs, agreement, doubts, fidelities
from sightline.gad._targets import Alpha, Step, distanced, steps_of
from sightline.gad._training import Stage

__all__ = [
    "GAD",
    "MATCHED",
    "OWN",
    "PAPER_LIKE",
    "PAPER_METHODS",
    "Alpha",
    "Consistency",
    "Consistent",
    "Control",
    "Evaluation",
    "Fit",
    "GADExplanation",
    "Kind",
    "Measurement",
    "Mode",
    "Outputs",
    "Question",
    "Reading",
    "Stage",
    "Step",
    "Strategy",
    "Training",
    "agreement",
    "distanced",
    "doubts",
    "fidelities",
    "fit_networks",
    "merge_fits",
    "paper_methods",
    "steps_of",
]
