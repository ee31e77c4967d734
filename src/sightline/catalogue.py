"""The catalogue: every named method, as a row of sampling x propagation x aggregation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from sightline.aggregation import Aggregation, GradCAM, InputSignal, InputTimesSignal, Sign
from sightline.errors import InputError, alternatives
from sightline.operations import INPUT
from sightline.propagation import DECONVNET, GRADIENT, GUIDED_BACKPROP, Propagation
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
        if self.sampling.reduces_signals and tuple(self.aggregation.places) != (INPUT,):
            raise InputError(
                f"A path is integrated at the input; {type(self.aggregation).__name__} reads another layer, where the "
                "path is none. Use an aggregation of the input, or Noise."
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

    def at(self, layer: str) -> "Method":
        """The same method reading another layer.

        Raises:
            InputError: the method reads no layer.
        """
        if not isinstance(self.aggregation, GradCAM):
            raise InputError(f"{self.name} reads no layer, so it cannot be moved to {layer!r}.")
        return replace(self, aggregation=replace(self.aggregation, layer=layer), name=f"{self.name}@{layer}")


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
