"""Sampling: at which inputs the network is asked, and how the answers are reduced.

- `base`: what a sampling is; `Image`, the image itself.
- `noise`: noisy copies (SmoothGrad, SmoothGrad-squared, VarGrad).
- `path`: a path from one baseline or several (Integrated Gradients).
- `adaptive`: a path that asks until the completeness residual is small enough.
- `expected`: paths from drawn reference images (Expected Gradients, GradientSHAP).
"""

from sightline.sampling._adaptive import AdaptivePath
from sightline.sampling._base import Answer, Context, Image, Points, Reduction, Row, Rows, Sampling
from sightline.sampling._expected import Expected
from sightline.sampling._noise import Noise
from sightline.sampling._path import Path

__all__ = [
    "AdaptivePath",
    "Answer",
    "Context",
    "Expected",
    "Image",
    "Noise",
    "Path",
    "Points",
    "Reduction",
    "Row",
    "Rows",
    "Sampling",
]
