"""Models: from a name or a file to a network that says what it expects of its pictures, and how any network is run.

- `load_model`, `load_weights`, `ModelInfo`, `model_info`: a network and what is known of it.
- `Preprocessing`, `default_preprocessing`, `own_preprocessing`: how its images are encoded.
- `OutputKind`, `Kind`, `as_kind`, `output_of`: what its outputs are; `layer_before`: which layer gives the logits.
- `ask`, `class_scores`: its scores; `evaluating`, `untouched`: it comes back as it was.
- `home_of`: the device and the precision in which it works.
"""

from sightline.models._asking import ask, evaluating, layer_before, output_of, same_each_time
from sightline.models._channels import check_channels, with_channels
from sightline.models._device import device_named
from sightline.models._fingerprint import fingerprint
from sightline.models._home import home_of
from sightline.models._info import ModelInfo, model_info, own_preprocessing
from sightline.models._load import load_model
from sightline.models._output_kind import Kind, OutputKind, as_kind
from sightline.models._outputs import NoScoresError, class_scores
from sightline.models._preprocessing import Box, Number, Preprocessing, default_preprocessing
from sightline.models._untouched import untouched
from sightline.models._weights import load_weights

__all__ = [
    "Box",
    "Kind",
    "ModelInfo",
    "NoScoresError",
    "Number",
    "OutputKind",
    "Preprocessing",
    "as_kind",
    "ask",
    "check_channels",
    "class_scores",
    "default_preprocessing",
    "device_named",
    "evaluating",
    "fingerprint",
    "home_of",
    "layer_before",
    "load_model",
    "load_weights",
    "model_info",
    "output_of",
    "own_preprocessing",
    "same_each_time",
    "untouched",
    "with_channels",
]
