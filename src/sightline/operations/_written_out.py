"""Operations that are several in one, written out, so that each part has its own rule."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _glu(_in_place: bool, input: Tensor, dim: int = -1) -> Tensor:  # noqa: A002 - torch's names
    """One half of the values, gated by the other."""
    values, gates = input.chunk(2, dim)
    return values * torch.sigmoid(gates)


def _addcmul(in_place: bool, input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:  # noqa: A002
    product = tensor1 * tensor2
    product = product if value == 1 else product * value
    return input.add_(product) if in_place else input + product


WRITTEN_OUT: dict[str, Callable[..., Any]] = {"glu": _glu, "addcmul": _addcmul}
"""By name: (whether it is in place, arguments of the call) -> its result."""
