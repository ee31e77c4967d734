"""Bias terms that several kinds share."""

from typing import Any

import torch
from torch import Tensor

from sightline.operations._kept import wide
from sightline.operations._vocabulary import NO_BIAS, BiasTerm, Intercepted


def at_zero(call: Intercepted, *, constant: bool) -> BiasTerm | None:
    """What an affine operation gives where its signals are zero.

    Args:
        call: the operation.
        constant: whether its numbers may make a difference, as its tensors may.
    """
    if not constant and all(tensor.requires_grad for tensor in call.tensors):
        return NO_BIAS

    def zero(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.zeros_like(value) if value.requires_grad else value.clone()
        if isinstance(value, list | tuple):
            return type(value)(map(zero, value))
        return value

    args = tuple(map(zero, call.args))
    with torch.no_grad():
        result = call.func(*args, **{key: zero(value) for key, value in call.kwargs.items()})
    result = args[0] if call.name == "setitem" else result
    if isinstance(result, Tensor) and not result.any():
        return NO_BIAS
    return (wide(result), None) if isinstance(result, Tensor) else None


def remainder(call: Intercepted) -> BiasTerm | None:
    """What a function of each value by itself adds: h - h'(u) u."""
    leaves = {id(t): t.detach().clone().requires_grad_() for t in call.signals}

    def fresh(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        # A copy of the leaf, since the call may write in place.
        return leaves[id(value)].clone() if id(value) in leaves else value.clone()

    args = tuple(map(fresh, call.args))
    result = call.func(*args, **{key: fresh(value) for key, value in call.kwargs.items()})
    if not isinstance(result, Tensor) or any(leaf.shape != result.shape for leaf in leaves.values()):
        return None
    slopes = torch.autograd.grad(result, list(leaves.values()), torch.ones_like(result), allow_unused=True)
    # Where a function is constant, it is also at infinity; where its result is infinite, its input was.
    parts = [
        torch.where(slope == 0, 0.0, leaf * slope)
        for leaf, slope in zip(leaves.values(), slopes, strict=True)
        if slope is not None
    ]
    return wide((result - sum(parts)).masked_fill(result.isinf(), 0.0).detach()), None
