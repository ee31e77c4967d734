"""Propagation: how the signal flows back through each operation.

- `base.Propagation`: a table from the vocabulary's kinds to rules.
- `gradient.GRADIENT`: the ordinary derivative.
- `rectified`: Guided Backprop and Deconvnet, which change rectifiers only.
- `rect_grad`: RectGrad, which lets only the most important signal through rectifiers.
- `shares`: rules of relevance for one weighted layer.
- `lrp`: tables of one such rule: LRP.
- `composites`: tables of several: LRP's composites, Deep Taylor, Excitation Backprop.
"""

from sightline.propagation._base import Propagation, Rule
from sightline.propagation._composites import (
    contrastive_excitation_backprop,
    deep_taylor,
    epsilon_alpha2_beta1,
    epsilon_gamma_box,
    epsilon_plus,
    excitation_backprop,
)
from sightline.propagation._gradient import GRADIENT
from sightline.propagation._lrp import (
    lrp_0,
    lrp_alpha_beta,
    lrp_epsilon,
    lrp_flat,
    lrp_gamma,
    lrp_w_squared,
    lrp_z_plus,
)
from sightline.propagation._rect_grad import rect_grad
from sightline.propagation._rectified import DECONVNET, GUIDED_BACKPROP

__all__ = [
    "DECONVNET",
    "GRADIENT",
    "GUIDED_BACKPROP",
    "Propagation",
    "Rule",
    "contrastive_excitation_backprop",
    "deep_taylor",
    "epsilon_alpha2_beta1",
    "epsilon_gamma_box",
    "epsilon_plus",
    "excitation_backprop",
    "lrp_0",
    "lrp_alpha_beta",
    "lrp_epsilon",
    "lrp_flat",
    "lrp_gamma",
    "lrp_w_squared",
    "lrp_z_plus",
    "rect_grad",
]
