"""Sampling: at which inputs the network is asked, and how the answers are reduced.

- `base`: what a sampling is; `Image`, the image itself.
- `noise`: noisy copies (SmoothGrad).
- `path`: a path from a baseline (Integrated Gradients).
- `seeds`: randomness derived from names, never from positions.
"""

from sightline.sampling.base import Image, Sampling
from sightline.sampling.noise import Noise
from sightline.sampling.path import Path

__all__ = ["Image", "Noise", "Path", "Sampling"]
