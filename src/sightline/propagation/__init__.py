"""Propagation: how the signal flows back through each operation.

- `base.Propagation`: a table from the vocabulary's kinds to rules.
- `gradient.GRADIENT`: the ordinary derivative.
- `rectified`: Guided Backprop and Deconvnet, which change rectifiers only.
"""

from sightline.propagation.base import Propagation, Rule
from sightline.propagation.gradient import GRADIENT
from sightline.propagation.rectified import DECONVNET, GUIDED_BACKPROP

__all__ = ["DECONVNET", "GRADIENT", "GUIDED_BACKPROP", "Propagation", "Rule"]
