"""Layer-wise relevance propagation: the explained value is shared among the inputs, operation by operation.

Relevance starts as the explained value. Weighted layers share it by the rule of the propagation (`shares`), a batch
norm that follows folded in; a batch norm by itself is a weighted layer to LRP-0 and LRP-epsilon, and passes it in all
others. Activations that keep zero pass it. Local response normalisation shares it by its Taylor expansion. Adds,
averages, sums and resampling share it in proportion to what each input contributes (evenly where weighted layers do not
look at inputs either). Max-pooling, and the larger of two signals, give it to the winner. A gate takes none;
multiplication by a constant passes it. Softmax, other normalisation by the image's own values, products of two signals
and all else are refused.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.operations import KINDS, Call, Kind, Linear, Propagation, Rule, by_settings, kinds
from sightline.operations.kinds import Gated, NormedByNeighbours
from sightline.propagation import _shares as shares
from sightline.propagation._shares import Keeps, LayerRule

First = Literal["gradient", "w_squared", "flat", "box"]
"""Rules for the first weighted layer that do not multiply by the input, so that no pixel value is invisible."""

SCOPE = (
    "Relevance has a rule for weighted layers, batch norm, local response norm, rectifiers and activations that keep "
    "zero, pooling, sums, adds, gates and reshaping."
)
EPSILON = 1e-6


def _pass(signal: Tensor, _seen: object) -> Tensor:
    return signal


def _pass_call(signal: Tensor, _call: Call) -> tuple[Tensor]:
    return (signal,)


def _scaled(signal: Tensor, call: Call) -> list[Tensor | None]:
    return _to_one(signal, call, call.signals.index(True))


def _gated(signal: Tensor, call: Gated) -> list[Tensor | None]:
    return _to_one(signal, call, 1 - call.gate)


def _to_one(signal: Tensor, call: Call, number: int) -> list[Tensor | None]:
    """All to one factor, where the others are not zero."""
    values = list(call.inputs)
    x = values[number]
    values[number] = torch.ones_like(x)
    found: list[Tensor | None] = [None] * len(values)
    found[number] = torch.where(call.again(*values) != 0, signal, 0.0).sum_to_size(x.shape)
    return found


def _in_proportion(epsilon: float) -> Rule:
    """R_i = x_i p_ij / stab(y_j) R_j for an operation y_j = sum_i x_i p_ij + c without weights."""

    def rule(signal: Tensor, call: Call) -> tuple[Tensor, ...]:
        result, pull = call.with_pull()
        quotients = shares.divide(signal, result, epsilon)
        values = call.inputs
        if call.kind.adds and sum(call.signals) == 1:
            # One signal and a constant, whose share is lost.
            silent = [torch.zeros_like(x) if carries else x for x, carries in zip(values, call.signals, strict=True)]
            given = quotients * call.again(*silent)
            call.constants = given.flatten(1).sum(1).double() if given.dim() > 1 else given.double()
        return tuple(x * part for x, part in zip(values, pull(quotients), strict=True))

    return rule


def _response_norm(epsilon: float) -> Rule:
    """R_j = sum_k c_jk / stab(sum_i c_ik) R_k for y_k = x_k / d_k^beta, d_k = k0 + a sum_i x_i^2 over k's window.

    c_kk = x_k / (k0 + a x_k^2)^beta, and c_jk = -2 a beta x_k x_j^2 / d_k^(beta + 1) for the others in the window: the
    first order of the Taylor expansion from x to where only x_k is not zero. Binder et al. 2016, arXiv 1604.00825.
    """

    def rule(signal: Tensor, call: NormedByNeighbours) -> tuple[Tensor]:
        (x,), norm = call.inputs, call.response
        weight, squares = norm.alpha / norm.size, x.square()
        own = x * (norm.k + weight * squares).pow(-norm.beta)
        slopes = -2 * weight * norm.beta * x * norm.denominators(x).pow(-norm.beta - 1)
        quotients = shares.divide(signal, own + slopes * (norm.sums(squares) - squares), epsilon)
        others = slopes * quotients
        return (own * quotients + squares * (norm.sums(others, onto=True) - others),)

    return rule


def _evenly(signal: Tensor, call: Call) -> tuple[Tensor, ...]:
    """To all inputs of a result alike, constants left out: what w^2 and flat are for an operation without weights."""
    if call.kind.adds:
        return tuple((signal / sum(call.signals)).sum_to_size(x.shape) for x in call.inputs)
    (x,) = call.inputs
    result, pull = call.with_pull()
    weights = call.again(torch.ones_like(x)) - call.again(torch.zeros_like(x))
    return pull(signal.to(result.dtype) / weights)


_ALONE = LayerRule(_pass, Keeps.ALL, times_input=False)


@dataclass(frozen=True)
class Table:
    """Rules of relevance by kind of operation.

    Attributes:
        name: the propagation's name.
        conv: the rule of convolutions.
        dense: the rule of dense layers; by default the same.
        first: the rule of the first weighted layer, if another.
        box: the range of a pixel, for the rule of that name.
        last: the rule of the last weighted layer, if another.
        alone: the rule of a batch norm that follows no weighted layer.
        sums: the rule of sums, adds, averages and resampling; by default in proportion to what each input contributes.
        epsilon: the stabiliser of the first layer's rule and of operations without weights.
        sums_epsilon: the stabiliser of sums, adds, averages and resampling, if another.
        start: (explained values) -> the relevance that sets out.
        starts: the same in words.
        notes: sentences that go with every map.
        positive: see `Propagation`.
    """

    name: str
    conv: LayerRule
    dense: LayerRule | None = None
    _: KW_ONLY
    first: First | None = None
    box: tuple[object, object] = (None, None)
    last: LayerRule | None = None
    alone: LayerRule = _ALONE
    sums: Rule | None = None
    epsilon: float = EPSILON
    sums_epsilon: float | None = None
    start: Callable[[Tensor], Tensor] = torch.clone
    starts: str = "the explained value"
    notes: tuple[str, ...] = ()
    positive: bool = False

    def propagation(self) -> Propagation:
        """The propagation of these rules."""
        conv, dense, last = self.conv, self.dense or self.conv, self.last
        entry = _first(self.first, self.epsilon, *self.box)

        def weighted(signal: Tensor, layer: Linear) -> Tensor:
            if last is not None and layer.last:
                return last(signal, layer)
            if entry is not None and layer.first:
                return entry(signal, layer)
            return dense(signal, layer) if layer.dense else conv(signal, layer)

        def without_input() -> Propagation:
            return replace(self, name=f"{self.name} without the input", first="gradient").propagation()

        shared = self.sums or _in_proportion(self.epsilon if self.sums_epsilon is None else self.sums_epsilon)
        rules: dict[Kind, Rule] = {
            kinds.LINEAR: weighted,
            kinds.BATCH_NORM: self.alone,
            kinds.RECTIFIER: _pass,
            kinds.ACTIVATION: _pass_call,
            # Where no rule looks at the values, each keeps its own.
            kinds.RESPONSE_NORM: _response_norm(self.epsilon) if self.sums is None else _pass_call,
            kinds.SCALING: _scaled,
            kinds.GATING: _gated,
            **dict.fromkeys((kinds.ADD, kinds.AVERAGE_POOLING, kinds.REDUCTION, kinds.RESAMPLING), shared),
        }
        return Propagation(
            self.name,
            MappingProxyType(rules),
            frozenset(kind for kind in KINDS if kind.selects),
            SCOPE,
            relevance=True,
            conserves=self.first != "gradient",
            promise=_promise(self.starts, [conv, dense, self.alone, entry or conv, last or conv]),
            # A probability of one, or an even share, knows no sign by which two classes could differ.
            explains_pairs=self.start is not torch.ones_like and self.sums is not _evenly,
            start=self.start,
            contrasts=last is not None,
            warnings=self.notes,
            without_input=without_input if (entry or conv).times_input else None,
            positive=self.positive,
        )


def _promise(starts: str, rules: list[LayerRule]) -> str:
    """To what a map made by these rules adds up, and under which condition; empty where it need not add up."""
    match min(rule.keeps for rule in rules):
        case Keeps.ALL:
            return (
                f"{starts}, whatever the biases; constants that the model adds or pads with receive their share, and "
                "that of a result to which nothing contributes is lost"
            )
        case Keeps.BUT_BIASES:
            return (
                f"{starts} where the model adds no constants; biases, and shifts of batch norms, receive their share "
                "of it"
            )
        case _:
            return ""


def _first(rule: First | None, epsilon: float, low: object = None, high: object = None) -> LayerRule | None:
    match rule:
        case None:
            return None
        case "gradient":
            return shares.gradient_rule(epsilon)
        case "w_squared":
            return shares.w_squared_rule(epsilon)
        case "flat":
            return shares.flat_rule(epsilon)
        case "box":
            return shares.box_rule(low, high, epsilon)
    raise InputError(f"The first layer's rule is one of {', '.join(get_args(First))}, or None; got {rule!r}.")


def titled(name: str, first: First | None, **settings: float) -> str:
    """A name with its settings."""
    parts = [f"{key}={value:g}" for key, value in settings.items()] + ([f"first={first}"] if first else [])
    return f"{name}({', '.join(parts)})" if parts else name


def stabiliser(epsilon: float) -> float:
    """A stabiliser, checked."""
    return at_least_0(epsilon, "A stabiliser epsilon")


def at_least_0(value: object, what: str) -> float:
    """A setting, checked."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
        raise InputError(f"{what} is a number of at least 0; got {value!r}.")
    return float(value)


@by_settings
def lrp_0(*, first: First | None = None) -> Propagation:
    """LRP-0, the epsilon rule with epsilon = 0; in networks of rectifiers it equals input x gradient.

    Args:
        first: another rule for the first weighted layer; "gradient" gives the plain gradient.
    """
    rule = shares.epsilon_rule(0.0)
    return Table(titled("lrp_0", first), rule, first=first, alone=rule, epsilon=0.0).propagation()


def lrp_epsilon(
    epsilon: float = 1e-3, *, signed: bool = True, first: First | None = None, sums_epsilon: float | None = None
) -> Propagation:
    """LRP-epsilon: R_i = sum_j x_i w_ij / (z_j + epsilon sign(z_j)) R_j at weighted layers, sums, adds and averages.

    Args:
        epsilon: the stabiliser, in units of the layers' results.
        signed: whether it has the sign of z; without (as some print the rule), it has a pole at z = -epsilon.
        first: another rule for the first weighted layer.
        sums_epsilon: the stabiliser of operations without weights (sums, adds, average pooling, resampling); by
            default the same. 0 stabilises weighted layers only, 1e-6 is what Zennit takes.

    Raises:
        InputError: a stabiliser is negative or not finite.

    Example:
        `Method(propagation=lrp_epsilon(0.01, sums_epsilon=0), name="layers_only")`
    """
    at_sums = None if sums_epsilon is None else at_least_0(sums_epsilon, "The stabiliser sums_epsilon")
    if signed:
        return _epsilon(stabiliser(epsilon), signed, first, (), at_sums)
    note = (
        f"The stabiliser of this LRP-epsilon has no sign, so relevance explodes where a result is near {-epsilon:g}. "
        "Use the signed form."
    )
    warnings.warn(note, stacklevel=2)
    return _epsilon(stabiliser(epsilon), signed, first, (note,), at_sums)


@by_settings
def _epsilon(
    epsilon: float, signed: bool, first: First | None, notes: tuple[str, ...], sums_epsilon: float | None
) -> Propagation:
    rule = shares.epsilon_rule(epsilon, signed=signed)
    settings = {"epsilon": epsilon} | ({} if sums_epsilon is None else {"sums_epsilon": sums_epsilon})
    name = titled("lrp_epsilon" + ("" if signed else "_unsigned"), first, **settings)
    return Table(
        name, rule, first=first, alone=rule, epsilon=epsilon, sums_epsilon=sums_epsilon, notes=notes
    ).propagation()


@by_settings
def lrp_gamma(gamma: float = 0.25, epsilon: float = EPSILON, *, first: First | None = None) -> Propagation:
    """LRP-gamma at every weighted layer; see `shares.gamma_rule`.

    Raises:
        InputError: gamma or epsilon is negative or not finite.
    """
    gamma = at_least_0(gamma, "LRP-gamma's gamma")
    rule = shares.gamma_rule(gamma, stabiliser(epsilon))
    return Table(
        titled("lrp_gamma", first, gamma=gamma, epsilon=epsilon), rule, first=first, epsilon=epsilon
    ).propagation()


def lrp_alpha_beta(alpha: float, beta: float, epsilon: float = EPSILON, *, first: First | None = None) -> Propagation:
    """LRP-alpha-beta at every weighted layer; see `shares.alpha_beta_rule`.

    Raises:
        InputError: alpha - beta is not 1, which would not conserve relevance. Only (1, 1), which a survey prints, is
            accepted, with a warning.
    """
    alpha, beta = at_least_0(alpha, "LRP-alpha-beta's alpha"), at_least_0(beta, "LRP-alpha-beta's beta")
    notes: tuple[str, ...] = ()
    if (alpha, beta) == (1, 1):
        notes = (
            "LRP-alpha-beta with alpha = 1 and beta = 1 does not conserve relevance (alpha - beta must be 1), and it "
            "is not Excitation Backprop, which is alpha = 1, beta = 0.",
        )
        warnings.warn(notes[0], stacklevel=2)
    elif not math.isclose(alpha - beta, 1):
        raise InputError(
            f"LRP-alpha-beta needs alpha, beta >= 0 and alpha - beta = 1, or relevance is not conserved; got "
            f"alpha={alpha}, beta={beta}. Use (1, 0) or (2, 1)."
        )
    return _alpha_beta(alpha, beta, stabiliser(epsilon), first, notes)


@by_settings
def _alpha_beta(alpha: float, beta: float, epsilon: float, first: First | None, notes: tuple[str, ...]) -> Propagation:
    rule = shares.alpha_beta_rule(alpha, beta, epsilon)
    name = titled("lrp_alpha_beta", first, alpha=alpha, beta=beta, epsilon=epsilon)
    return Table(name, rule, first=first, epsilon=epsilon, notes=notes, positive=beta == 0).propagation()


@by_settings
def lrp_z_plus(epsilon: float = EPSILON, *, first: First | None = None) -> Propagation:
    """The z+ rule without biases at every weighted layer: alpha-beta with alpha = 1, beta = 0 and b = 0."""
    rule = shares.alpha_beta_rule(1.0, 0.0, stabiliser(epsilon), biases=False)
    return Table(
        titled("lrp_z_plus", first, epsilon=epsilon), rule, first=first, epsilon=epsilon, positive=True
    ).propagation()


@by_settings
def lrp_w_squared(epsilon: float = EPSILON) -> Propagation:
    """The w^2 rule at every weighted layer; see `shares.w_squared_rule`. Sums, adds and averages share evenly.

    Nothing but max-pooling and gates looks at the image then: without them the map is the same for every image.
    """
    return Table(
        titled("lrp_w_squared", None, epsilon=epsilon), shares.w_squared_rule(stabiliser(epsilon)), sums=_evenly
    ).propagation()


@by_settings
def lrp_flat(epsilon: float = EPSILON) -> Propagation:
    """The flat rule at every weighted layer; see `shares.flat_rule`. Sums, adds and averages share evenly.

    Nothing but max-pooling and gates looks at the image then: without them the map is the same for every image.
    """
    return Table(
        titled("lrp_flat", None, epsilon=epsilon), shares.flat_rule(stabiliser(epsilon)), sums=_evenly
    ).propagation()
