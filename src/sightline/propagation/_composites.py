"""Tables of several rules of relevance: the composites of LRP, Deep Taylor and Excitation Backprop."""

from typing import Literal

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.operations import Propagation, by_settings
from sightline.propagation import _shares as shares
from sightline.propagation._lrp import EPSILON, First, Table, at_least_0, stabiliser, titled
from sightline.propagation._shares import LayerRule


def _positive(values: Tensor) -> Tensor:
    return values.clamp(min=0)


@by_settings
def epsilon_plus(epsilon: float = EPSILON, *, first: First | None = None) -> Propagation:
    """The composite EpsilonPlus: z+ (alpha = 1, beta = 0) at convolutions, epsilon at dense layers.

    Args:
        epsilon: the stabiliser at dense layers; 1e-6 elsewhere.
        first: another rule for the first weighted layer; "flat" is EpsilonPlusFlat.
    """
    return _epsilon_composite("epsilon_plus", shares.alpha_beta_rule(1.0, 0.0, EPSILON), epsilon, first, positive=True)


@by_settings
def epsilon_alpha2_beta1(epsilon: float = EPSILON, *, first: First | None = None) -> Propagation:
    """The composite EpsilonAlpha2Beta1: alpha = 2, beta = 1 at convolutions, epsilon at dense layers.

    Args:
        epsilon: the stabiliser at dense layers; 1e-6 elsewhere.
        first: another rule for the first weighted layer; "flat" is EpsilonAlpha2Beta1Flat.
    """
    return _epsilon_composite("epsilon_alpha2_beta1", shares.alpha_beta_rule(2.0, 1.0, EPSILON), epsilon, first)


def _epsilon_composite(
    name: str, conv: LayerRule, epsilon: float, first: First | None, *, positive: bool = False
) -> Propagation:
    epsilon = stabiliser(epsilon)
    name = titled(name, first, epsilon=epsilon)
    return Table(name, conv, shares.epsilon_rule(epsilon), first=first, positive=positive).propagation()


def _limits(low: object, high: object) -> str:
    if (low is None) != (high is None):
        raise InputError("The range of a pixel needs both ends; only one came.")
    if low is None:
        return "range of a pixel as encoded"
    try:
        least, most = torch.as_tensor(low, dtype=torch.float64), torch.as_tensor(high, dtype=torch.float64)
        rising = least.numel() > 0 and bool((least < most).all() and least.isfinite().all() and most.isfinite().all())
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"The range of a pixel is two numbers, or one of each per channel; got {low!r} and {high!r}."
        ) from None
    if not rising:
        raise InputError(f"A pixel's lowest value must be finite and below its highest; got {low} and {high}.")
    return f"low={low}, high={high}"


@by_settings
def epsilon_gamma_box(
    low: object = None, high: object = None, gamma: float = 0.25, epsilon: float = EPSILON
) -> Propagation:
    """The composite EpsilonGammaBox: z^B at the first weighted layer, gamma at convolutions, epsilon at dense layers.

    Args:
        low: the lowest value of a pixel as the model sees it, a number or one per channel; by default from how the
            model encodes images.
        high: the highest.
        gamma: see `shares.gamma_rule`.
        epsilon: the stabiliser at dense layers; 1e-6 elsewhere.
    """
    gamma = at_least_0(gamma, "EpsilonGammaBox's gamma")
    epsilon = stabiliser(epsilon)
    name = f"epsilon_gamma_box(gamma={gamma:g}, epsilon={epsilon:g}, {_limits(low, high)})"
    conv, dense = shares.gamma_rule(gamma, EPSILON), shares.epsilon_rule(stabiliser(epsilon))
    return Table(name, conv, dense, first="box", box=(low, high)).propagation()


@by_settings
def deep_taylor(
    low: object = None,
    high: object = None,
    epsilon: float = EPSILON,
    *,
    first: Literal["box", "w_squared"] = "box",
) -> Propagation:
    """Deep Taylor decomposition: z+ without biases, another rule at the first weighted layer; starts at max(value, 0).

    Montavon et al. 2017, sections 4 and 5. z+ is used whether or not a rectifier follows the layer.

    Args:
        low: the lowest value of a pixel as the model sees it, a number or one per channel; by default from how the
            model encodes images.
        high: the highest.
        epsilon: the stabiliser everywhere.
        first: the rule of the first weighted layer: "box" is z^B, for inputs between `low` and `high` (their section
            4.2); "w_squared" is w^2, for inputs that can be any number, such as standardised measurements (4.1).

    Raises:
        InputError: another first rule, half a range, or a range for w^2, which has no use for it.

    Example:
        `Method(propagation=deep_taylor(first="w_squared"), name="unbounded")`
    """
    if first not in {"box", "w_squared"}:
        raise InputError(f'The first layer\'s rule of Deep Taylor is "box" or "w_squared"; got {first!r}.')
    epsilon = stabiliser(epsilon)
    limits = _limits(low, high)
    if first == "w_squared":
        if low is not None:
            raise InputError(
                'The w^2 rule is for inputs without a range, so low and high have no meaning with first="w_squared"; '
                "leave them out."
            )
        limits = "first=w_squared"
    name = f"deep_taylor(epsilon={epsilon:g}, {limits})"
    conv = shares.alpha_beta_rule(1.0, 0.0, epsilon, biases=False)
    return Table(
        name, conv, first=first, box=(low, high), epsilon=epsilon, start=_positive,
        starts="the explained value where that is positive, else to zero", positive=True,
    ).propagation()  # fmt: skip


@by_settings
def excitation_backprop(epsilon: float = EPSILON) -> Propagation:
    """Excitation Backprop: z+ without biases (alpha = 1, beta = 0); starts at 1, the winner's probability.

    Zhang et al. 2016, arXiv 1608.00507, equation 2.
    """
    rule = shares.alpha_beta_rule(1.0, 0.0, stabiliser(epsilon), biases=False)
    name = titled("excitation_backprop", None, epsilon=epsilon)
    return Table(name, rule, epsilon=epsilon, start=torch.ones_like, starts="one", positive=True).propagation()


@by_settings
def contrastive_excitation_backprop(epsilon: float = EPSILON) -> Propagation:
    """Contrastive Excitation Backprop: the last weighted layer sends its excitation less that by its negated weights.

    Zhang et al. 2016, section 3.3. Signed: what speaks for the class is positive.
    """
    rule = shares.alpha_beta_rule(1.0, 0.0, stabiliser(epsilon), biases=False)
    name = titled("contrastive_excitation_backprop", None, epsilon=epsilon)
    last = shares.contrastive_rule(epsilon)
    return Table(name, rule, last=last, epsilon=epsilon, start=torch.ones_like, positive=True).propagation()
