"""Models: from a name or a file to a network that says what it expects of its pictures."""

from sightline.models._info import ModelInfo, model_info
from sightline.models._load import load_model
from sightline.models._preprocessing import Preprocessing, default_preprocessing
from sightline.models._weights import load_weights

__all__ = ["ModelInfo", "Preprocessing", "default_preprocessing", "load_model", "load_weights", "model_info"]
