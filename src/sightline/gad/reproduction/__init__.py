"""The paper's experiment from a data folder: a classifier, its support networks, and tables beside the published ones.

A guest: nothing in the core imports it.

- `reproduce`: all of it, at a `Scale`; `fine_tuned`: the classifier, trained as `Tuning` says
  and kept in `FILE`, and its `accuracy`; `with_outputs`: the network that it starts from.
- `published`: the paper's own figures.
- `on_truth`, `gains_on_truth`: what of the important pixels lies on the part that is known to decide.
"""

from sightline.gad.reproduction._classifier import FILE, Tuning, accuracy, fine_tuned, with_outputs
from sightline.gad.reproduction._published import published
from sightline.gad.reproduction._reproduce import NAMES, Scale, reproduce
from sightline.gad.reproduction._truth import gains_on_truth, on_truth

__all__ = [
    "FILE",
    "NAMES",
    "Scale",
    "Tuning",
    "accuracy",
    "fine_tuned",
    "gains_on_truth",
    "on_truth",
    "published",
    "reproduce",
    "with_outputs",
]
