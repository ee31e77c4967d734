"""Propagation: how the signal flows back through each operation.

- `Propagation`: a table from kinds of operations to rules, defined in `operations`, which apply it. A new one is a
  function under `by_settings`, so that equal settings share their passes.
- `gradient.GRADIENT`: the ordinary derivative.
- `rectified`: Guided Backprop and Deconvnet, which change rectifiers only.
- `rect_grad`: RectGrad, which lets only the most important signal through rectifiers.
- `shares`: rules of relevance for one weighted layer.
- `lrp`: tables of one such rule: LRP.
- `composites`: tables of several: LRP's composites, Deep Taylor, Excitation Backprop.
"""

from sightline.operations import Propagation, Rule, Treatment, by_settings
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
    "Treatment",
    "by_settings",
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
