"""The saliency methods of the paper's tables.

Mazini Rodrigues et al. 2024, arXiv 2401.14434, section 6.
"""

from dataclasses import replace

from sightline.methods import Method, catalogue
from sightline.sampling import Path

PAPER_METHODS = ("saliency", "deconvnet", "input_x_gradient", "guided_backprop", "integrated_gradients")
"""Its S, D, GxI, GB, IG."""


def paper_methods() -> list[Method]:
    """The five with its settings, as far as they can be told from the authors' neighbouring code.

    Channels are joined by their mean, for Saliency too; Integrated Gradients goes from a black picture, 50 points.
    """
    rows = {name: replace(catalogue()[name], reduction="mean") for name in PAPER_METHODS}
    rows["integrated_gradients"] = replace(rows["integrated_gradients"], sampling=Path(50, "black"))
    return list(rows.values())
