"""Class activation maps, and Guided Grad-CAM."""

from sightline.aggregation import CAM, Pooling, Sign
from sightline.methods._method import Method
from sightline.propagation import GUIDED_BACKPROP

_GRAD_CAM = Method(
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
ROWS = (
    _GRAD_CAM,
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
        times=_GRAD_CAM,
        formula="guided_backprop * Up(grad_cam), Up bilinear",
        source="Selvaraju et al. 2017, arXiv 1610.02391, section 3.2",
        cost=2,
    ),
)
