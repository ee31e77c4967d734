"""Aggregation: which tensors make the map, with which sign handling.

- `base`: what an aggregation is, and the sign axis.
- `inputs`: maps of the input's own shape.
- `layers`: maps of an inner layer's height and width.
- `cam`: class activation maps, of a layer's height and width.
"""

from sightline.aggregation.base import Aggregation, Sign
from sightline.aggregation.cam import GradCAM
from sightline.aggregation.inputs import InputSignal, InputTimesSignal
from sightline.aggregation.layers import LayerSignal

__all__ = ["Aggregation", "GradCAM", "InputSignal", "InputTimesSignal", "LayerSignal", "Sign"]
