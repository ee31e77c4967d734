"""FullGrad and its relatives."""

from sightline.aggregation import FullGrad, Sign
from sightline.methods._method import Method
from sightline.sampling import Noise

_CORNERS = (
    "layers are resized with their borders on the image's, so that each cell stays where it looks; the authors' code "
    "aligns the centres of the corner cells instead: FullGrad(align_corners=True)"
)
ROWS = (
    Method(
        name="full_grad",
        aggregation=FullGrad(),
        formula="p(x * dz/dx) + sum_l Up(p(b_l * dz/dh_l)), p(t) = sum over channels of |t| brought to 0..1",
        source="Srinivas and Fleuret 2019, arXiv 1905.00780, equation 4",
        differs=_CORNERS,
        cost=2,
    ),
    Method(
        name="full_grad_positive",
        aggregation=FullGrad(Sign.POSITIVE),
        formula="as full_grad, max(t, 0) in place of |t|",
        source="full_grad with another sign; the name is ours",
        differs=_CORNERS,
        cost=2,
    ),
    Method(
        name="full_grad_signed",
        aggregation=FullGrad(Sign.SIGNED, rescale=False),
        formula="sum_c x * dz/dx + sum_l Up(sum_c b_l * dz/dh_l), Up keeps sums",
        source="Srinivas and Fleuret 2019, arXiv 1905.00780, equation 2, drawn as it is; the name is ours",
        cost=2,
        coincides=(("input_x_gradient", "summed over channels, where no operation adds a constant"),),
    ),
    Method(
        name="simple_full_grad",
        aggregation=FullGrad(biases=False),
        formula="p(x * dz/dx) + sum_l Up(p(dz/dh_l)) over the layers l that have a bias",
        source="the authors' code of full_grad",
        differs=_CORNERS,
        cost=2,
    ),
    Method(
        name="smooth_full_grad",
        sampling=Noise(samples=25, sd=0.15, before=True),
        aggregation=FullGrad(join_input=True),
        formula="as full_grad, each term averaged over x + e_n, as in smooth_grad; the input's channels summed first",
        source="the authors' code of full_grad",
        differs=_CORNERS,
        cost=51,
    ),
)
