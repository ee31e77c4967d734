"""Guided Backprop and Deconvnet: the gradient, except at rectifiers, where only positive signal goes on.

With G the signal arriving at a rectifier's result and h its input:

    gradient         G * 1[h > 0]
    Guided Backprop  max(G, 0) * 1[h > 0]     Springenberg et al. 2015, arXiv 1412.6806, section 3.4
    Deconvnet        max(G, 0)                Zeiler and Fergus 2014, arXiv 1311.2901, section 2.1

ReLU6 is a rectifier that also closes at its upper bound: 1[h > 0] becomes 1[0 < h < 6]. Max-pooling keeps its
gradient, which is Zeiler and Fergus's unpooling by switches.
"""

from types import MappingProxyType

from torch import Tensor

from sightline._common.meaning import FEWER, Meaning
from sightline.operations import KINDS, Kind, Propagation, Rectified, Rule, by_settings, kinds

SCOPE = "It is defined for rectifiers (ReLU, ReLU6) and for networks whose other operations keep their gradient."

MEANS = Meaning(
    directness="low: a derivative with negative or small signals taken out on the way, so it derives nothing",
    minimality=FEWER,
    coherence="crisp outlines, which it draws for edges whether or not the model uses them",
)


def _guided(signal: Tensor, rectified: Rectified) -> Tensor:
    return rectified.shut(signal.clamp(min=0))


def _deconvnet(signal: Tensor, _rectified: Rectified) -> Tensor:
    return signal.clamp(min=0)


def passed() -> frozenset[Kind]:
    """Everything but the activations for which the papers say nothing, and what the vocabulary does not know."""
    return frozenset(kind for kind in KINDS if kind.known and not kind.activates)


def _table(name: str, rule: Rule) -> Propagation:
    rules: dict[Kind, Rule] = {kinds.RECTIFIER: rule}
    return Propagation(name, MappingProxyType(rules), passed(), SCOPE, essential=kinds.RECTIFIER, means=MEANS)


@by_settings
def _guided_backprop() -> Propagation:
    return _table("guided_backprop", _guided)


@by_settings
def _deconvnet_table() -> Propagation:
    return _table("deconvnet", _deconvnet)


GUIDED_BACKPROP = _guided_backprop()
DECONVNET = _deconvnet_table()
