"""Whole numbers as people have them: Python's, numpy's and torch's, alone or several."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Integers = int | Sequence[int]
"""What `as_integers` gives."""


def as_integers(values: object) -> Integers | None:
    """One whole number, or a tuple of them; None where these are none.

    Args:
        values: a whole number of Python, numpy or torch (without an axis), a sequence of such, or what numpy reads as
            an array of them with one axis at most. A truth value is no number.
    """
    if isinstance(values, Tensor):
        if values.dim() > 1 or values.is_floating_point() or values.is_complex() or values.dtype is torch.bool:
            return None
        values = values.tolist()
    if isinstance(values, np.ndarray | np.generic) or (hasattr(values, "__array__") and not isinstance(values, type)):
        array: np.ndarray[Any, Any] = np.asarray(values)
        if array.ndim > 1 or (array.dtype != object and not np.issubdtype(array.dtype, np.integer)):
            return None
        values = array.tolist()
    if isinstance(values, int) and not isinstance(values, bool):
        return values
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        return None
    numbers = [as_integers(value) for value in values]
    return tuple(n for n in numbers if isinstance(n, int)) if all(isinstance(n, int) for n in numbers) else None


def described(values: object) -> str:
    """What came instead, in words: its type, and for an array or tensor its shape."""
    if isinstance(values, Tensor | np.ndarray):
        return f"{values.dtype} of shape {tuple(values.shape)}"
    if isinstance(values, Sequence) and not isinstance(values, str):
        kinds = dict.fromkeys(_kind(value) for value in values)
        return f"{list(values)[:8]!r} ({', '.join(kinds)})"
    return f"{values!r} ({_kind(values)})"


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor | np.ndarray | np.generic) else type(value).__name__
