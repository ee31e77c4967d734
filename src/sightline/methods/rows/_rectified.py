"""Methods that change the gradient at rectifiers."""

from sightline.aggregation import InputTimesSignal
from sightline.methods._method import Method
from sightline.propagation import DECONVNET, GUIDED_BACKPROP, rect_grad

_NO_FRAME = (
    "the authors' code also zeroes the outermost pixels of the signal at convolutions that keep the size (its padding "
    "trick): rect_grad(padding_trick=True)"
)
ROWS = (
    Method(
        name="guided_backprop",
        propagation=GUIDED_BACKPROP,
        formula="dz/dx with max(G, 0) * 1[h > 0] at each rectifier",
        source="Springenberg et al. 2015, arXiv 1412.6806, section 3.4",
        cost=2,
    ),
    Method(
        name="deconvnet",
        propagation=DECONVNET,
        formula="dz/dx with max(G, 0) at each rectifier",
        source="Zeiler and Fergus 2014, arXiv 1311.2901, section 2.1",
        cost=2,
    ),
    Method(
        name="rect_grad",
        propagation=rect_grad(),
        aggregation=InputTimesSignal(),
        formula="x * dz/dx with R * 1[a R > 98th percentile of a R] at each rectifier",
        source="Kim et al. 2019, arXiv 1902.04893, equation 4",
        cost=2,
        differs=_NO_FRAME,
        coincides=(
            ("rect_grad_no_input", "times the input"),
            ("guided_backprop", "times the input, where only what is positive passes"),
        ),
    ),
    Method(
        name="rect_grad_prr",
        propagation=rect_grad(padding_trick=True, proportional_pooling=True),
        aggregation=InputTimesSignal(),
        formula="as rect_grad, a_i / sum(a) R over the windows of max-pooling, frames of convolutions zeroed",
        source="Kim et al. 2019, arXiv 1902.04893, appendix",
        cost=2,
    ),
    Method(
        name="rect_grad_no_input",
        propagation=rect_grad(),
        formula="dz/dx with R * 1[a R > 98th percentile of a R] at each rectifier",
        source="Brocki and Chung 2020, arXiv 2011.05002",
        differs=_NO_FRAME,
        cost=2,
    ),
)
