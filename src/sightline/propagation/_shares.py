"""Rules of relevance for one weighted layer y_j = sum_i x_i w_ij + b_j: how R_j is shared among the inputs i.

Each takes the relevance at the layer's result and the layer, and gives the relevance at its input. Denominators are
stabilised: stab(z) = z + epsilon sign(z), sign(0) = 1; with epsilon 0, a quotient with z = 0 counts as 0. Positive and
negative parts: a^+ = max(a, 0), a^- = min(a, 0).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from sightline.operations import Linear


class Keeps(IntEnum):
    """How much of a layer's relevance its inputs receive, up to the stabiliser; the least comes first."""

    NO_FIXED_SHARE = 0
    """No fixed share."""
    BUT_BIASES = 1
    """All but what the biases receive, which is their share of the denominator."""
    ALL = 2
    """All, since biases have no part in the denominator."""


@dataclass(frozen=True)
class LayerRule:
    """A rule, with what follows from its formula.

    Attributes:
        share: (relevance at the result, layer) -> relevance at the input.
        keeps: how much of the relevance the inputs receive.
        times_input: whether each share has the input x_i as a factor.
    """

    share: Callable[[Tensor, Linear], Tensor]
    keeps: Keeps
    times_input: bool = True

    def __call__(self, relevance: Tensor, layer: Linear) -> Tensor:
        """The relevance at the layer's input."""
        return self.share(relevance, layer)


def divide(relevance: Tensor, z: Tensor, epsilon: float) -> Tensor:
    """R / stab(z)."""
    if epsilon == 0:
        return torch.where(z == 0, 0.0, relevance / z)
    z = z + 0.0  # a negative zero becomes a positive one
    stable = torch.copysign(z.new_tensor(epsilon), z).add_(z)
    # Large new tensors cost more than the arithmetic on them.
    return torch.div(relevance, stable, out=stable if stable.dtype == relevance.dtype else None)


def epsilon_rule(epsilon: float, *, signed: bool = True) -> LayerRule:
    """LRP-epsilon, R_i = sum_j x_i w_ij / stab(z_j) R_j; unsigned: z_j + epsilon, which has a pole at -epsilon.

    Bach et al. 2015, doi 10.1371/journal.pone.0130140, equation 58.
    """

    def rule(relevance: Tensor, layer: Linear) -> Tensor:
        z = layer.result
        shares = divide(relevance, z, epsilon) if signed else relevance / (z + epsilon)
        layer.to_biases(shares, layer.bias)
        return layer.pull_weights(shares).mul_(layer.x)

    return LayerRule(rule, Keeps.BUT_BIASES if signed else Keeps.NO_FIXED_SHARE)


def gradient_rule(epsilon: float) -> LayerRule:
    """The epsilon rule without the input as a factor, R_i = sum_j w_ij / stab(z_j) R_j.

    Over LRP-0 in a network of rectifiers it gives the plain gradient.
    """

    def rule(relevance: Tensor, layer: Linear) -> Tensor:
        return layer.pull_weights(divide(relevance, layer.result, epsilon))

    return LayerRule(rule, Keeps.NO_FIXED_SHARE, times_input=False)


def alpha_beta_rule(alpha: float, beta: float, epsilon: float, *, biases: bool = True) -> LayerRule:
    """R_i = sum_j (alpha (x_i w_ij)^+ / stab(P_j) - beta (x_i w_ij)^- / stab(N_j)) R_j.

    P_j = sum_i (x_i w_ij)^+ + b_j^+ and N_j likewise; without biases, b counts as 0. Bach et al. 2015, equation 60.
    alpha = 1, beta = 0 is the z+ rule of Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, section 4.1.
    """

    def rule(relevance: Tensor, layer: Linear) -> Tensor:
        bias = layer.bias if biases else None
        if layer.nonnegative:
            return of_nonnegative(relevance, layer, bias)
        return of_signed(relevance, layer, bias)

    def of_nonnegative(relevance: Tensor, layer: Linear, bias: Tensor | None) -> Tensor:
        x = layer.x
        if beta == 0:
            kept = layer.fresh_weight().clamp_(min=0)
            up = None if bias is None else bias.clamp(min=0)
            shares = divide(relevance, layer.once("P", lambda: layer.product(x, kept, up)), epsilon).mul_(alpha)
            layer.to_biases(shares, up)
            return layer.pull(shares, kept).mul_(x)
        # The negative part by itself and the positive as the rest: where the result is positive, which is where
        # relevance is, nothing cancels.
        kept, down = layer.fresh_weight().clamp_(max=0), None if bias is None else bias.clamp(max=0)
        negative = layer.once("N", lambda: layer.product(x, kept, down))
        whole = _without_bias(layer) if bias is None else layer.exact
        positive = _above_rounding(whole - negative, negative)
        plus = divide(relevance, positive, epsilon).mul_(positive != 0).mul_(alpha)
        minus = divide(relevance, negative, epsilon).mul_(beta)
        if bias is not None:
            layer.to_biases(plus, bias.clamp(min=0))
            layer.to_biases(-minus, down)
        pulled = layer.pull(minus, kept).neg_()
        return pulled.add_(layer.pull(plus, layer.fresh_weight().clamp_(min=0))).mul_(x)

    def of_signed(relevance: Tensor, layer: Linear, bias: Tensor | None) -> Tensor:
        # With |x| and |w|, both parts come from one more product and two transposes, whatever the signs.
        x = layer.x
        size, heft = x.abs(), layer.fresh_weight().abs_()
        total = layer.once("|z|", lambda: layer.product(size, heft, None if bias is None else bias.abs()))
        whole = _without_bias(layer) if bias is None else layer.exact
        positive = _above_rounding((total + whole).div_(2), total)
        plus = divide(relevance, positive, epsilon).mul_(positive != 0).mul_(alpha)
        if bias is not None:
            layer.to_biases(plus, bias.clamp(min=0))
        if beta == 0:
            pulled = layer.pull_weights(plus).mul_(x)
            return pulled.add_(layer.pull(plus, heft).mul_(size)).div_(2)
        negative = _above_rounding((whole - total).div_(2), total)
        minus = divide(relevance, negative, epsilon).mul_(negative != 0).mul_(beta)
        if bias is not None:
            layer.to_biases(-minus, bias.clamp(max=0))
        pulled = layer.pull_weights(plus - minus).mul_(x)
        return pulled.add_(layer.pull(plus.add_(minus), heft).mul_(size)).div_(2)

    # Where all contributions to a result have one sign, the other part's share goes nowhere.
    keeps = Keeps.BUT_BIASES if biases else Keeps.ALL
    return LayerRule(rule, keeps if math.isclose(alpha - beta, 1) else Keeps.NO_FIXED_SHARE)


def _without_bias(layer: Linear) -> Tensor:
    bias = layer.bias
    return layer.exact if bias is None else layer.exact - layer.over_channels(bias, layer.exact)


def _above_rounding(part: Tensor, of: Tensor) -> Tensor:
    """A part of a sum that came as a difference, 0 where it is no larger than the rounding of that sum.

    There its quotients would be rounding blown up: up to 3 % of a map in single precision, for sparse inputs.
    """
    noise = of.abs().mul_(8 * torch.finfo(part.dtype).eps)
    return part.masked_fill_(part.abs() <= noise, 0.0)


def gamma_rule(gamma: float, epsilon: float) -> LayerRule:
    """LRP-gamma for inputs of any sign: weights (and biases) of the sign that a result has count 1 + gamma times.

    For z_j > 0 and x >= 0: R_i = sum_j x_i (w_ij + gamma w_ij^+) / stab(sum_i x_i (w_ij + gamma w_ij^+) + b_j +
    gamma b_j^+) R_j; mirrored for z_j < 0 and for x < 0; nothing for z_j = 0. Montavon et al. 2019, doi
    10.1007/978-3-030-28954-6_10, section 10.2; Andeol et al. 2021, arXiv 2106.13727, for the signed form.
    """

    def rule(relevance: Tensor, layer: Linear) -> Tensor:
        x, weight, bias, rounding = layer.x, layer.weight, layer.bias, layer.rounding
        up, down = weight + gamma * weight.clamp(min=0), weight + gamma * weight.clamp(max=0)
        high = None if bias is None else bias + gamma * bias.clamp(min=0)
        low = None if bias is None else bias + gamma * bias.clamp(max=0)
        found = torch.zeros_like(x)
        parts = [(x, 0)] if layer.nonnegative else [(x.clamp(min=0), 0), (x.clamp(max=0), 1)]
        for name, weights, constant, where in (
            ("up", (up, down), high, layer.result > 0),
            ("down", (down, up), low, layer.result < 0),
        ):

            def made(weights: tuple[Tensor, Tensor] = weights, constant: Tensor | None = constant) -> Tensor:
                products = [layer.product(part, weights[k], constant if k == 0 else None) for part, k in parts]
                total = products[0] if len(products) == 1 else products[0] + products[1]
                return total if rounding is None else total + rounding

            shares = divide(relevance, layer.once(name, made), epsilon) * where
            layer.to_biases(shares, constant)
            for part, k in parts:
                found = found + part * layer.pull(shares, weights[k])
        return found

    return LayerRule(rule, Keeps.BUT_BIASES)


def box_rule(low: object, high: object, epsilon: float) -> LayerRule:
    """z^B for pixels between l and h: R_i = sum_j c_ij / stab(sum_i c_ij) R_j, c = x_i w_ij - l_i w_ij^+ - h_i w_ij^-.

    Without biases. Montavon et al. 2017, section 4.2. The bounds are those of a pixel as the model sees it (a number,
    or one per channel); `None` takes them from how the model encodes images.
    """

    def rule(relevance: Tensor, layer: Linear) -> Tensor:
        least, most = layer.pixel_range(low, high)
        x, weight = layer.x, layer.weight
        terms = ((x, weight), (-least, weight.clamp(min=0)), (-most, weight.clamp(max=0)))
        return _shared(relevance, layer, terms, epsilon)

    return LayerRule(rule, Keeps.ALL, times_input=False)


def w_squared_rule(epsilon: float) -> LayerRule:
    """R_i = sum_j w_ij^2 / stab(sum_i w_ij^2) R_j, without biases. Montavon et al. 2017, section 4.1."""

    def rule(relevance: Tensor, layer: Linear) -> Tensor:
        return _shared(relevance, layer, ((torch.ones_like(layer.x), layer.weight.square()),), epsilon)

    return LayerRule(rule, Keeps.ALL, times_input=False)


def flat_rule(epsilon: float) -> LayerRule:
    """Evenly over the inputs of each result, without biases. Lapuschkin et al. 2019, doi 10.1038/s41467-019-08987-4."""

    def rule(relevance: Tensor, layer: Linear) -> Tensor:
        return _shared(relevance, layer, ((torch.ones_like(layer.x), torch.ones_like(layer.weight)),), epsilon)

    return LayerRule(rule, Keeps.ALL, times_input=False)


def contrastive_rule(epsilon: float) -> LayerRule:
    """Excitation by the weights less excitation by the negated weights.

    R_i = sum_j (x_i w_ij^+ / stab(sum_i x_i w_ij^+) - x_i w_ij^- / stab(sum_i x_i w_ij^-)) R_j for x >= 0. Zhang et
    al. 2016, arXiv 1608.00507, section 3.3.
    """
    return alpha_beta_rule(1.0, 1.0, epsilon, biases=False)


def _shared(relevance: Tensor, layer: Linear, terms: tuple[tuple[Tensor, Tensor], ...], epsilon: float) -> Tensor:
    """R_i = sum over terms of x_i w_ij / stab(sum of all x_i w_ij) R_j."""
    z = sum((layer.product(x, weight) for x, weight in terms[1:]), start=layer.product(*terms[0]))
    shares = divide(relevance, z, epsilon)
    return sum((x * layer.pull(shares, w) for x, w in terms[1:]), start=terms[0][0] * layer.pull(shares, terms[0][1]))
