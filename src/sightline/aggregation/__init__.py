"""Aggregation: which tensors make the map, with which sign handling.

- `base`: what an aggregation is, and the sign axis.
- `reader`: how it reads one backward.
- `inputs`: maps of the input's own shape.
- `layers`: maps of an inner layer's height and width.
- `cam`: class activation maps, of a layer's height and width.
- `full_grad`: FullGrad, which joins the input's part and every bias's.
- `placement`, `resize`: where the cells of a map lie in the image, and bringing maps to the image's size.
"""

from sightline.aggregation._base import Aggregation, Reads, Sign
from sightline.aggregation._cam import CAM, Pooling, Stage
from sightline.aggregation._full_grad import FullGrad
from sightline.aggregation._inputs import InputSignal, InputTimesSignal
from sightline.aggregation._layers import LayerSignal
from sightline.aggregation._placement import Placement
from sightline.aggregation._reader import Amount, Backward, Map, Part, Reader, Remark
from sightline.aggregation._resize import resized

__all__ = [
    "CAM",
    "Aggregation",
    "Amount",
    "Backward",
    "FullGrad",
    "InputSignal",
    "InputTimesSignal",
    "LayerSignal",
    "Map",
    "Part",
    "Placement",
    "Pooling",
    "Reader",
    "Reads",
    "Remark",
    "Sign",
    "Stage",
    "resized",
]
