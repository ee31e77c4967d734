"""The catalogue: every named method, as a row of sampling x propagation x aggregation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from sightline.aggregation import Aggregation, GradCAM, InputSignal, InputTimesSignal, LayerSignal, Sign
from sightline.errors import InputError, alternatives
from sightline.operations import INPUT
from sightline.propagation import (
    DECONVNET,
    GRADIENT,
    GUIDED_BACKPROP,
    Propagation,
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
from sightline.sampling import Image, Noise, Path, Sampling

Reduction = Literal["mean", "max"]


@dataclass(frozen=True)
class Method:
    """A saliency method: three choices, and what is known of them.

    Attributes:
        sampling: at which inputs the network is asked, and how the answers are reduced.
        propagation: how the signal flows back through each operation.
        aggregation: which tensors make the map, with which sign handling.
        name: its name in results; for a method of your own, made from the three choices unless given.
        formula: the map as a formula.
        source: the paper and place it is defined in.
        reduction: how `heatmap` joins the channels of an input-space map: the signed `mean`, or the `max`.

    Raises:
        InputError: the combination has no defined meaning.
    """

    sampling: Sampling = field(default_factory=Image)
    propagation: Propagation = GRADIENT
    aggregation: Aggregation = field(default_factory=InputSignal)
    name: str = ""
    formula: str = ""
    source: str = ""
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        for choice, wanted in (("sampling", Sampling), ("propagation", Propagation), ("aggregation", Aggregation)):
            came = getattr(self, choice)
            if isinstance(came, type) or not isinstance(came, wanted):
                raise InputError(
                    f"A method's {choice} is a {wanted.__name__}; came {came!r}. A function or class that makes one "
                    "has to be called, as in lrp_epsilon()."
                )
        if self.sampling.reduces_signals and tuple(self.aggregation.places) != (INPUT,):
            raise InputError(
                f"A path is integrated at the input; {type(self.aggregation).__name__} reads another layer, where the "
                "path is none. Use an aggregation of the input, or Noise."
            )
        if self.propagation.relevance and (
            self.sampling.reduces_signals or isinstance(self.aggregation, InputTimesSignal)
        ):
            raise InputError(
                f"{self.propagation.name} gives relevance, which already holds the input as a factor; multiplying it "
                "by the input or integrating it along a path has no defined meaning. Use InputSignal or Noise."
            )
        if not self.name:
            parts = (type(self.sampling).__name__, self.propagation.name, type(self.aggregation).__name__)
            object.__setattr__(self, "name", " x ".join(parts))

    @property
    def complete(self) -> bool:
        """Whether the map must sum to the value's difference between image and baseline, up to quadrature."""
        return (
            self.sampling.reduces_signals
            and self.propagation is GRADIENT
            and isinstance(self.aggregation, InputTimesSignal)
        )

    @property
    def has_books(self) -> bool:
        """Whether the map is all the relevance of one pass, so that it can be told where the rest went."""
        return (
            self.propagation.conserves
            and isinstance(self.sampling, Image)
            and isinstance(self.aggregation, InputSignal)
            and self.aggregation.sign is Sign.SIGNED
        )

    def at(self, layer: str) -> "Method":
        """The same method reading another layer: a class activation map's, or relevance as it arrives there.

        Raises:
            InputError: the method reads no layer.
        """
        name = f"{self.name}@{layer}"
        if isinstance(self.aggregation, GradCAM | LayerSignal):
            return replace(self, aggregation=replace(self.aggregation, layer=layer), name=name)
        if self.propagation.relevance and isinstance(self.aggregation, InputSignal):
            return replace(self, aggregation=LayerSignal(layer), name=name)
        raise InputError(f"{self.name} reads no layer, so it cannot be moved to {layer!r}.")


_ROWS = (
    Method(
        name="gradient",
        formula="dz/dx",
        source="Simonyan et al. 2014, arXiv 1312.6034, section 3",
    ),
    Method(
        name="saliency",
        aggregation=InputSignal(Sign.ABSOLUTE),
        formula="|dz/dx|",
        source="Simonyan et al. 2014, arXiv 1312.6034, section 3.1",
        reduction="max",
    ),
    Method(
        name="input_x_gradient",
        aggregation=InputTimesSignal(),
        formula="x * dz/dx",
        source="Shrikumar et al. 2016, arXiv 1605.01713",
    ),
    Method(
        name="smooth_grad",
        sampling=Noise(samples=25, sd=0.15),
        formula="mean_n dz/dx(x + e_n), e ~ N(0, (0.15 (max x - min x))^2), n = 1..25",
        source="Smilkov et al. 2017, arXiv 1706.03825",
    ),
    Method(
        name="integrated_gradients",
        sampling=Path(steps=50),
        aggregation=InputTimesSignal(),
        formula="(x - x0) * integral_0^1 dz/dx(x0 + a (x - x0)) da, x0 = 0, 50 Gauss-Legendre points",
        source="Sundararajan et al. 2017, arXiv 1703.01365, equation 1",
    ),
    Method(
        name="guided_backprop",
        propagation=GUIDED_BACKPROP,
        formula="dz/dx with max(G, 0) * 1[h > 0] at each rectifier",
        source="Springenberg et al. 2015, arXiv 1412.6806, section 3.4",
    ),
    Method(
        name="deconvnet",
        propagation=DECONVNET,
        formula="dz/dx with max(G, 0) at each rectifier",
        source="Zeiler and Fergus 2014, arXiv 1311.2901, section 2.1",
    ),
    Method(
        name="rect_grad",
        propagation=rect_grad(),
        aggregation=InputTimesSignal(),
        formula="x * dz/dx with R * 1[a R > 98th percentile of a R] at each rectifier",
        source="Kim et al. 2019, arXiv 1902.04893, equation 4",
    ),
    Method(
        name="rect_grad_prr",
        propagation=rect_grad(padding_trick=True, proportional_pooling=True),
        aggregation=InputTimesSignal(),
        formula="as rect_grad, a_i / sum(a) R over the windows of max-pooling, frames of convolutions zeroed",
        source="Kim et al. 2019, arXiv 1902.04893, appendix",
    ),
    Method(
        name="rect_grad_no_input",
        propagation=rect_grad(),
        formula="dz/dx with R * 1[a R > 98th percentile of a R] at each rectifier",
        source="Brocki and Chung 2020, arXiv 2011.05002",
    ),
    Method(
        name="lrp_0",
        propagation=lrp_0(),
        formula="R_i = sum_j x_i w_ij / z_j R_j",
        source="Bach et al. 2015, doi 10.1371/journal.pone.0130140, equation 56",
    ),
    Method(
        name="lrp_epsilon",
        propagation=lrp_epsilon(),
        formula="R_i = sum_j x_i w_ij / (z_j + 0.001 sign z_j) R_j",
        source="Bach et al. 2015, doi 10.1371/journal.pone.0130140, equation 58",
    ),
    Method(
        name="lrp_gamma",
        propagation=lrp_gamma(),
        formula="R_i = sum_j x_i (w_ij + 0.25 w_ij^+) / sum_i(...) R_j, signs mirrored for z_j < 0 and x_i < 0",
        source="Montavon et al. 2019, doi 10.1007/978-3-030-28954-6_10, section 10.2",
    ),
    Method(
        name="lrp_alpha1_beta0",
        propagation=lrp_alpha_beta(1, 0),
        formula="R_i = sum_j (x_i w_ij)^+ / (sum_i (x_i w_ij)^+ + b_j^+) R_j",
        source="Bach et al. 2015, doi 10.1371/journal.pone.0130140, equation 60",
    ),
    Method(
        name="lrp_alpha2_beta1",
        propagation=lrp_alpha_beta(2, 1),
        formula="R_i = sum_j (2 (x_i w_ij)^+ / P_j - (x_i w_ij)^- / N_j) R_j, P_j = sum_i (x_i w_ij)^+ + b_j^+",
        source="Bach et al. 2015, doi 10.1371/journal.pone.0130140, equation 60",
    ),
    Method(
        name="lrp_z_plus",
        propagation=lrp_z_plus(),
        formula="R_i = sum_j (x_i w_ij)^+ / sum_i (x_i w_ij)^+ R_j",
        source="Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, section 4.1",
    ),
    Method(
        name="lrp_w_squared",
        propagation=lrp_w_squared(),
        formula="R_i = sum_j w_ij^2 / sum_i w_ij^2 R_j",
        source="Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, section 4.1",
    ),
    Method(
        name="lrp_flat",
        propagation=lrp_flat(),
        formula="R_i = sum_j 1 / (number of inputs of j) R_j",
        source="Lapuschkin et al. 2019, doi 10.1038/s41467-019-08987-4",
    ),
    Method(
        name="lrp_epsilon_plus",
        propagation=epsilon_plus(),
        formula="z+ with b_j^+ at convolutions, epsilon = 1e-6 at dense layers",
        source="Kohlbrenner et al. 2020, arXiv 1910.09840, section 2.2",
    ),
    Method(
        name="lrp_epsilon_plus_flat",
        propagation=epsilon_plus(first="flat"),
        formula="as lrp_epsilon_plus, flat at the first layer",
        source="Kohlbrenner et al. 2020, arXiv 1910.09840, section 2.2",
    ),
    Method(
        name="lrp_epsilon_alpha2_beta1",
        propagation=epsilon_alpha2_beta1(),
        formula="alpha = 2, beta = 1 at convolutions, epsilon = 1e-6 at dense layers",
        source="Kohlbrenner et al. 2020, arXiv 1910.09840, section 2.2",
    ),
    Method(
        name="lrp_epsilon_alpha2_beta1_flat",
        propagation=epsilon_alpha2_beta1(first="flat"),
        formula="as lrp_epsilon_alpha2_beta1, flat at the first layer",
        source="Kohlbrenner et al. 2020, arXiv 1910.09840, section 2.2",
    ),
    Method(
        name="lrp_epsilon_gamma_box",
        propagation=epsilon_gamma_box(),
        formula="z^B at the first layer, gamma = 0.25 at convolutions, epsilon = 1e-6 at dense layers",
        source="Montavon et al. 2019, doi 10.1007/978-3-030-28954-6_10, section 10.3",
    ),
    Method(
        name="deep_taylor",
        propagation=deep_taylor(),
        formula="R = max(z, 0), z+ without biases, z^B at the first layer",
        source="Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, sections 4 and 5",
    ),
    Method(
        name="excitation_backprop",
        propagation=excitation_backprop(),
        formula="P = 1, P_i = sum_j x_i w_ij^+ / sum_i x_i w_ij^+ P_j",
        source="Zhang et al. 2016, arXiv 1608.00507, equation 2",
    ),
    Method(
        name="contrastive_excitation_backprop",
        propagation=contrastive_excitation_backprop(),
        formula="as excitation_backprop, at the last layer less the same with -w",
        source="Zhang et al. 2016, arXiv 1608.00507, section 3.3",
    ),
    Method(
        name="grad_cam",
        aggregation=GradCAM(),
        formula="max(sum_k mean_ij(dz/dA^k_ij) A^k, 0)",
        source="Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2",
    ),
)
_CATALOGUE = MappingProxyType({method.name: method for method in _ROWS})


def catalogue() -> Mapping[str, Method]:
    """All named methods, by name."""
    return _CATALOGUE


def as_method(method: object) -> Method:
    """A method from its name, `NAME` or `NAME@LAYER`, or from itself.

    Raises:
        InputError: there is no method of that name; close names are given.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        raise InputError(f"A method is a name or a sightline.Method; came {method!r}.")
    name, _, layer = method.strip().partition("@")
    if name not in _CATALOGUE:
        raise InputError(f"There is no method {name!r}. {alternatives(name, list(_CATALOGUE))}")
    row = _CATALOGUE[name]
    return row.at(layer) if layer else row
