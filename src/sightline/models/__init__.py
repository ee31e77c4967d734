"""Models: from a name or a file to a network that says what it expects of its pictures, and how any network is run.

- `load_model`, `load_weights`, `ModelInfo`, `model_info`: a network and what is known of it.
- `Preprocessing`, `default_preprocessing`, `own_preprocessing`: how its images are encoded.
- `OutputKind`, `as_kind`, `output_of`: what its outputs are.
- `ask`, `class_scores`: its scores; `evaluating`, `untouched`: it comes back as it was.
- `home_of`: the device and the precision in which it works.
"""

from sightline.models._asking import ask, evaluating, output_of
from sightline.models._home import home_of
from sightline.models._info import ModelInfo, model_info, own_preprocessing
from sightline.models._load import load_model
from sightline.models._output_kind import OutputKind, as_kind
from sightline.models._outputs import class_scores
from sightline.models._preprocessing import Preprocessing, default_preprocessing
from sightline.models._untouched import untouched
from sightline.models._weights import load_weights

__all__ = [
    "ModelInfo",
    "OutputKind",
    "Preprocessing",
    "as_kind",
    "ask",
    "class_scores",
    "default_preprocessing",
    "evaluating",
    "home_of",
    "load_model",
    "load_weights",
    "model_info",
    "output_of",
    "own_preprocessing",
    "untouched",
]
