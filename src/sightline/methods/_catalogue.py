"""The catalogue: every named method, as a row of sampling x propagation x aggregation."""

from collections.abc import Mapping
from types import MappingProxyType

from sightline.aggregation import CAM, FullGrad, InputSignal, InputTimesSignal, Pooling, Sign
from sightline.errors import InputError, alternatives
from sightline.methods._method import Method
from sightline.propagation import (
    DECONVNET,
    GUIDED_BACKPROP,
    contrastive_excitation_backprop,
    deep_taylor,
    epsilon_alpha2_beta1,
    epsilon_gamma_box,
    epsilon_plus,
    excitation_backprop,
    lrp_0,
    lrp_alpha_beta,
    lrp_epsilon,
    lrp_flat,
    lrp_gamma,
    lrp_w_squared,
    lrp_z_plus,
    rect_grad,
)
from sightline.sampling import Expected, Noise, Path, Reduction

GRAD_CAM = Method(
    name="grad_cam",
    aggregation=CAM(),
    formula="max(sum_k mean_ij(dz/dA^k_ij) A^k, 0)",
    source="Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2",
    cost=1,
    coincides=(
        ("hi_res_cam", "cut at zero, where global average pooling follows the layer"),
        ("x_grad_cam", "where global average pooling follows the layer"),
        ("grad_cam_positive", "where no gradient at the layer is negative"),
    ),
)

_NO_FRAME = (
    "the authors' code also zeroes the outermost pixels of the signal at convolutions that keep the size (its padding "
    "trick): rect_grad(padding_trick=True)"
)
_CORNERS = (
    "layers are resized with their borders on the image's, so that each cell stays where it looks; the authors' code "
    "aligns the centres of the corner cells instead: FullGrad(align_corners=True)"
)
_ROWS = (
    Method(
        name="gradient",
        formula="dz/dx",
        source="Simonyan et al. 2014, arXiv 1312.6034, section 3",
        cost=2,
    ),
    Method(
        name="saliency",
        aggregation=InputSignal(Sign.ABSOLUTE),
        formula="|dz/dx|",
        source="Simonyan et al. 2014, arXiv 1312.6034, section 3.1",
        cost=2,
        reduction="max",
        coincides=(("gradient", "its absolute value"),),
    ),
    Method(
        name="input_x_gradient",
        aggregation=InputTimesSignal(),
        formula="x * dz/dx",
        source="Shrikumar et al. 2016, arXiv 1605.01713",
        cost=2,
        coincides=(("lrp_0", "in networks of weighted layers, batch norms, ReLU, max-pooling and adds"),),
    ),
    Method(
        name="smooth_grad",
        sampling=Noise(samples=25, sd=0.15),
        formula="mean_n dz/dx(x + e_n), e ~ N(0, (0.15 (max x - min x))^2), n = 1..25",
        source="Smilkov et al. 2017, arXiv 1706.03825",
        cost=51,
        coincides=(("gradient", "where sd = 0"),),
    ),
    Method(
        name="smooth_grad_squared",
        sampling=Noise(samples=25, sd=0.15, reduction=Reduction.MEAN_SQUARE),
        formula="mean_n (dz/dx(x + e_n))^2, e_n as in smooth_grad",
        source="Hooker et al. 2019, arXiv 1806.10758, section 4.1",
        cost=51,
        coincides=(("var_grad", "plus the square of smooth_grad, for the same noise"),),
    ),
    Method(
        name="var_grad",
        sampling=Noise(samples=25, sd=0.15, reduction=Reduction.VARIANCE),
        formula="mean_n (dz/dx(x + e_n))^2 - (mean_n dz/dx(x + e_n))^2, e_n as in smooth_grad",
        source="Adebayo et al. 2018, arXiv 1810.03307, appendix",
        cost=51,
    ),
    Method(
        name="integrated_gradients",
        sampling=Path(steps=50),
        aggregation=InputTimesSignal(),
        formula="(x - x0) * integral_0^1 dz/dx(x0 + a (x - x0)) da, x0 = 0, 50 Gauss-Legendre points",
        source="Sundararajan et al. 2017, arXiv 1703.01365, equation 1",
        cost=102,
        coincides=(
            (
                "input_x_gradient",
                "where the baseline is zero and all is homogeneous: weighted layers without biases, ReLU, pooling",
            ),
        ),
    ),
    Method(
        name="expected_gradients",
        sampling=Expected(samples=50),
        aggregation=InputTimesSignal(),
        formula="mean_n (x - x0_n) * dz/dx(x0_n + a_n (x - x0_n)), x0_n of references, a_n ~ U(0, 1), n = 1..50",
        source="Erion et al. 2021, arXiv 1906.10670, equation 3",
        cost=101,
        coincides=(("integrated_gradients", "in expectation, where the only reference is its baseline"),),
    ),
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
    Method(
        name="lrp_0",
        propagation=lrp_0(),
        formula="R_i = sum_j x_i w_ij / z_j R_j",
        source="Bach et al. 2015, doi 10.1371/journal.pone.0130140, equation 56",
        cost=2,
        coincides=(("input_x_gradient", "in networks of weighted layers, batch norms, ReLU, max-pooling and adds"),),
    ),
    Method(
        name="lrp_epsilon",
        propagation=lrp_epsilon(),
        formula="R_i = sum_j x_i w_ij / (z_j + 0.001 sign z_j) R_j",
        source="Bach et al. 2015, doi 10.1371/journal.pone.0130140, equation 58",
        differs=(
            "sums, adds, averages and resampling have the stabiliser too, which the equation gives to weighted layers; "
            "lrp_epsilon(sums_epsilon=0) leaves them without, and 1e-6 there is what Zennit takes"
        ),
        cost=2,
        coincides=(("lrp_0", "as epsilon goes to zero"),),
    ),
    Method(
        name="lrp_gamma",
        propagation=lrp_gamma(),
        formula="R_i = sum_j x_i (w_ij + 0.25 w_ij^+) / sum_i(...) R_j, signs mirrored for z_j < 0 and x_i < 0",
        source="Montavon et al. 2019, doi 10.1007/978-3-030-28954-6_10, section 10.2",
        cost=5.26,
    ),
    Method(
        name="lrp_alpha1_beta0",
        propagation=lrp_alpha_beta(1, 0),
        formula="R_i = sum_j (x_i w_ij)^+ / (sum_i (x_i w_ij)^+ + b_j^+) R_j",
        source="Bach et al. 2015, doi 10.1371/journal.pone.0130140, equation 60",
        cost=3.07,
        coincides=(("lrp_z_plus", "where there are no biases"),),
    ),
    Method(
        name="lrp_alpha2_beta1",
        propagation=lrp_alpha_beta(2, 1),
        formula="R_i = sum_j (2 (x_i w_ij)^+ / P_j - (x_i w_ij)^- / N_j) R_j, P_j = sum_i (x_i w_ij)^+ + b_j^+",
        source="Bach et al. 2015, doi 10.1371/journal.pone.0130140, equation 60",
        cost=4,
    ),
    Method(
        name="lrp_z_plus",
        propagation=lrp_z_plus(),
        formula="R_i = sum_j (x_i w_ij)^+ / sum_i (x_i w_ij)^+ R_j",
        source="Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, section 4.1",
        cost=3.07,
        coincides=(
            ("lrp_alpha1_beta0", "where there are no biases"),
            ("excitation_backprop", "times the explained value"),
        ),
    ),
    Method(
        name="lrp_w_squared",
        propagation=lrp_w_squared(),
        formula="R_i = sum_j w_ij^2 / sum_i w_ij^2 R_j",
        source="Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, section 4.1",
        cost=3,
    ),
    Method(
        name="lrp_flat",
        propagation=lrp_flat(),
        formula="R_i = sum_j 1 / (number of inputs of j) R_j",
        source="Lapuschkin et al. 2019, doi 10.1038/s41467-019-08987-4",
        cost=3,
    ),
    Method(
        name="lrp_epsilon_plus",
        propagation=epsilon_plus(),
        formula="z+ with b_j^+ at convolutions, epsilon = 1e-6 at dense layers",
        source="Kohlbrenner et al. 2020, arXiv 1910.09840, section 2.2",
        cost=3.07,
    ),
    Method(
        name="lrp_epsilon_plus_flat",
        propagation=epsilon_plus(first="flat"),
        formula="as lrp_epsilon_plus, flat at the first layer",
        source="Kohlbrenner et al. 2020, arXiv 1910.09840, section 2.2",
        cost=3,
    ),
    Method(
        name="lrp_epsilon_alpha2_beta1",
        propagation=epsilon_alpha2_beta1(),
        formula="alpha = 2, beta = 1 at convolutions, epsilon = 1e-6 at dense layers",
        source="Kohlbrenner et al. 2020, arXiv 1910.09840, section 2.2",
        cost=4,
    ),
    Method(
        name="lrp_epsilon_alpha2_beta1_flat",
        propagation=epsilon_alpha2_beta1(first="flat"),
        formula="as lrp_epsilon_alpha2_beta1, flat at the first layer",
        source="Kohlbrenner et al. 2020, arXiv 1910.09840, section 2.2",
        cost=3.93,
    ),
    Method(
        name="lrp_epsilon_gamma_box",
        propagation=epsilon_gamma_box(),
        formula="z^B at the first layer, gamma = 0.25 at convolutions, epsilon = 1e-6 at dense layers",
        source="Montavon et al. 2019, doi 10.1007/978-3-030-28954-6_10, section 10.3",
        cost=5.13,
    ),
    Method(
        name="deep_taylor",
        propagation=deep_taylor(),
        formula="R = max(z, 0), z+ without biases, z^B at the first layer",
        source="Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, sections 4 and 5",
        cost=3.26,
    ),
    Method(
        name="deep_taylor_w_squared",
        propagation=deep_taylor(first="w_squared"),
        formula="R = max(z, 0), z+ without biases, w^2 at the first layer, for inputs that have no range",
        source="Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, sections 4.1 and 5",
        cost=3,
    ),
    Method(
        name="excitation_backprop",
        propagation=excitation_backprop(),
        formula="P = 1, P_i = sum_j (x_i w_ij)^+ / sum_i (x_i w_ij)^+ P_j",
        source="Zhang et al. 2016, arXiv 1608.00507, equation 2",
        cost=3.07,
        coincides=(("lrp_z_plus", "divided by the explained value"),),
    ),
    Method(
        name="contrastive_excitation_backprop",
        propagation=contrastive_excitation_backprop(),
        formula="as excitation_backprop, at the last layer less the same with -w",
        source="Zhang et al. 2016, arXiv 1608.00507, section 3.3",
        cost=3.07,
    ),
    GRAD_CAM,
    Method(
        name="grad_cam_positive",
        aggregation=CAM(sign=Sign.POSITIVE),
        formula="max(sum_k mean_ij(max(dz/dA^k_ij, 0)) A^k, 0)",
        source="Grad-CAM+: Lerma and Lucas 2022, arXiv 2205.10838",
        cost=1,
        coincides=(("grad_cam", "where no gradient at the layer is negative"),),
    ),
    Method(
        name="grad_cam_plus_plus",
        aggregation=CAM(Pooling.CURVATURE, Sign.POSITIVE),
        formula="max(sum_k w_k A^k, 0), w_k = sum_ij max(g^k_ij, 0) / (2 + g^k_ij sum_ab A^k_ab), g = dz/dA",
        source="Chattopadhay et al. 2018, arXiv 1710.11063, equation 19, for exp(z)",
        cost=1,
    ),
    Method(
        name="grad_cam_plus_plus_author",
        aggregation=CAM(Pooling.CURVATURE_SHARES, Sign.POSITIVE),
        formula="as grad_cam_plus_plus, 1 / (2 + g A) divided by its sum over the positions where g > 0",
        source="Chattopadhay et al. 2018, arXiv 1710.11063, as their code has it",
        cost=1,
        coincides=(
            (
                "grad_cam_positive",
                "where global average pooling follows the layer",
            ),
        ),
    ),
    Method(
        name="x_grad_cam",
        aggregation=CAM(Pooling.ACTIVATION),
        formula="max(sum_k w_k A^k, 0), w_k = sum_ij dz/dA^k_ij A^k_ij / sum_ij A^k_ij",
        source="Fu et al. 2020, arXiv 2008.02312, equation 8",
        cost=1,
        coincides=(("grad_cam", "where global average pooling follows the layer"),),
    ),
    Method(
        name="hi_res_cam",
        aggregation=CAM(Pooling.NONE, relu=False),
        formula="sum_k dz/dA^k * A^k",
        source="Draelos and Carin 2020, arXiv 2011.08891, equation 4",
        cost=1,
        coincides=(
            ("grad_cam", "up to the final max(., 0), where global average pooling follows the layer"),
            ("layer_cam", "where no gradient at the layer is negative and A >= 0"),
        ),
    ),
    Method(
        name="layer_cam",
        aggregation=CAM(Pooling.NONE, Sign.POSITIVE),
        formula="max(sum_k max(dz/dA^k, 0) * A^k, 0)",
        source="Jiang et al. 2021, doi 10.1109/TIP.2021.3089943, equations 3 and 4",
        cost=1,
        coincides=(("hi_res_cam", "where no gradient at the layer is negative and A >= 0"),),
    ),
    Method(
        name="guided_grad_cam",
        propagation=GUIDED_BACKPROP,
        times=GRAD_CAM,
        formula="guided_backprop * Up(grad_cam), Up bilinear",
        source="Selvaraju et al. 2017, arXiv 1610.02391, section 3.2",
        cost=2,
    ),
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
_CATALOGUE = MappingProxyType({method.name: method for method in _ROWS})


def catalogue() -> Mapping[str, Method]:
    """All named methods, by name."""
    return _CATALOGUE


_OWN = "sightline.from_callable(function) audits such a method of another library beside these."
_CHANGED = f"it asks the network about changed images, and Sightline on purpose reads the network's own signals. {_OWN}"
_ELSEWHERE = {
    **dict.fromkeys(
        (
            "lime", "shap", "kernelshap", "partitionshap", "shapley", "occlusion", "occlusionsensitivity", "rise",
            "scorecam", "ablationcam", "featureablation", "featurepermutation", "shapleyvaluesampling",
            "extremalperturbation", "meaningfulperturbation",
        ),
        _CHANGED,
    ),
    **dict.fromkeys(
        ("eigencam", "eigengradcam", "deeplift", "deepliftshap", "deepshap", "informationbottleneck"),
        f"it is not part of Sightline. {_OWN}",
    ),
    "gradientshap": "here it is expected_gradients, which needs references.",
    "deconvolution": "here it is deconvnet.",
    "vanillagradient": "here it is gradient.",
    "ig": "here it is integrated_gradients.",
}  # fmt: skip
"""Names by which people ask for methods of other libraries."""


def as_method(method: object) -> Method:
    """A method from its name, `NAME` or `NAME@LAYER`, or from itself.

    Raises:
        InputError: there is no method of that name; close names are given.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        raise InputError(f"A method is a name or a sightline.Method; got {method!r}.")
    name, _, layer = method.strip().partition("@")
    if name not in _CATALOGUE:
        plain = name.lower().replace("_", "").replace("-", "").replace(" ", "")
        if plain in _ELSEWHERE:
            raise InputError(f"There is no method {name!r}: {_ELSEWHERE[plain]}")
        raise InputError(f"There is no method {name!r}. {alternatives(name, list(_CATALOGUE))}")
    row = _CATALOGUE[name]
    return row.at(layer) if layer else row
