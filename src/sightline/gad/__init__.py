"""Gradient Artificial Distancing: distance two classes, train, keep what stays important, and see whether it helped.

- `targets`: what the support networks are trained to say.
- `training`: one support network; `networks`: all of them, in files.
- `distancing`: `GAD`, which joins them to a network and explains with them.
- `consistency`: readings of "important in all maps"; `explained`: maps read that way.
- `controls`, `evaluation`: the paper's tables beside what can be had without
  distancing; `paper`: its own figures.
- `classifier`, `reproduce`: from a data folder to all of that.
"""

from sightline.gad._consistency import PAPER_LIKE, Consistency, Consistent, Reading
from sightline.gad._controls import Control
from sightline.gad._distancing import GAD
from sightline.gad._evaluation import Evaluation
from sightline.gad._explained import GADExplanation
from sightline.gad._targets import distanced

__all__ = [
    "GAD",
    "PAPER_LIKE",
    "Consistency",
    "Consistent",
    "Control",
    "Evaluation",
    "GADExplanation",
    "Reading",
    "distanced",
]
