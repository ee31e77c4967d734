"""RectGrad: at rectifiers, only the signal that matters most for the activation goes on.

With R the signal arriving at a rectifier's result a:

    R_in = R * 1[a R > tau],   tau = the q-th percentile of a R over one image's whole result

Kim et al. 2019, arXiv 1902.04893, equation 4 and their code: the percentile is the nearest value, the comparison
strict, and the rectifier's own derivative is not applied (where tau < 0, which small q can give, closed units pass).
"""

from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from sightline.errors import InputError, RefusalError
from sightline.operations import Kind, Linear, Propagation, Rectified, Rule, by_settings, kinds, wide
from sightline.operations.kinds import Pooled
from sightline.propagation._rectified import MEANS, SCOPE, passed

_MEANS = replace(MEANS, minimality="sparse: most pixels are zero or nearly so")


def rect_grad(q: float = 98.0, *, padding_trick: bool = False, proportional_pooling: bool = False) -> Propagation:
    """RectGrad, section 4 of Kim et al. 2019.

    Args:
        q: the percentile, 0 to 100; 98 in the paper.
        padding_trick: zero the outermost frame of one pixel of the signal at each convolution's result, where its
            padding keeps the size and the result has at least 3 x 3 pixels (their appendix; against bright borders).
        proportional_pooling: redistribute at max-pooling in proportion to the activations, R_i = a_i / sum(a) R over
            each window, instead of to the largest (their appendix, "proportional redistribution rule").

    Raises:
        InputError: q is no percentile.
    """
    if not isinstance(q, int | float) or not 0 <= q <= 100:
        raise InputError(f"RectGrad's q is a percentile from 0 to 100; got {q!r}.")
    return _rect_grad(float(q), bool(padding_trick), bool(proportional_pooling))


@by_settings
def _rect_grad(q: float, padding_trick: bool, proportional_pooling: bool) -> Propagation:
    def rectify(signal: Tensor, rectified: Rectified) -> Tensor:
        product = (wide(rectified.result) * wide(signal)).flatten(1)
        # round() takes halves to the even number, as the authors' percentile does.
        rank = round(q / 100 * (product.shape[1] - 1)) + 1
        threshold = product.kthvalue(rank, dim=1, keepdim=True).values
        return signal * (product > threshold).reshape(signal.shape)

    rules: dict[Kind, Rule] = {kinds.RECTIFIER: rectify}
    if padding_trick:
        rules[kinds.LINEAR] = _without_frame
    if proportional_pooling:
        rules[kinds.MAX_POOLING] = _in_proportion
    options = (", padding trick" if padding_trick else "") + (", PRR" if proportional_pooling else "")
    passes = passed() - frozenset(rules) - ({kinds.MAXIMUM} if proportional_pooling else set())
    name = f"rect_grad(q={q:g}{options})"
    return Propagation(name, MappingProxyType(rules), passes, SCOPE, essential=kinds.RECTIFIER, means=_MEANS)


def _without_frame(signal: Tensor, layer: Linear) -> Tensor:
    if layer.form.padded_same and signal.dim() == 4 and min(signal.shape[2:]) >= 3:
        framed = torch.zeros_like(signal)
        framed[:, :, 1:-1, 1:-1] = signal[:, :, 1:-1, 1:-1]
        signal = framed
    return layer.pull_as_is(signal)


def _in_proportion(signal: Tensor, pooling: Pooled) -> tuple[Tensor]:
    if pooling.mean is None:
        raise RefusalError(
            f"RectGrad's proportional redistribution is not defined for {pooling.operation}: its windows are dilated. "
            "Use rect_grad without it."
        )
    (values,) = pooling.inputs
    with torch.enable_grad():
        leaf = values.detach().requires_grad_()
        mean = pooling.mean(leaf)
    (spread,) = torch.autograd.grad(mean, leaf, signal / (mean.detach() + 1e-10))
    return (values * spread,)
