"""Equality by value, of settings and of results, where tensors and tables by themselves compare element by element."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ByValue:
    """A tensor among settings; it equals another of the same values, type and device."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByValue) and same(self.tensor, other.tensor)

    def __hash__(self) -> int:
        return hash((self.tensor.dtype, tuple(self.tensor.shape)))


class Compared:
    """A result, a dataclass: two are equal whose attributes are, tensor by tensor."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        names = [one.name for one in fields(self)]  # type: ignore[arg-type]  # a dataclass
        return all(same(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]  # as of lists: what holds tensors is no key


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, NaN included: all elements of tensors and tables, all entries of mappings."""
    if one is other:
        return True
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and _same_tensors(one, other)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and one.dtype == other.dtype and _same_arrays(one, other)
    # Where there is a table, pandas has been imported; it costs too much to be imported for this question.
    if (pd := sys.modules.get("pandas")) and (isinstance(one, pd.DataFrame) or isinstance(other, pd.DataFrame)):
        return type(one) is type(other) and one.equals(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (one != one and other != other)
    return bool(one == other)


def _same_tensors(one: Tensor, other: Tensor) -> bool:
    if (one.dtype, one.device, one.shape) != (other.dtype, other.device, other.shape):
        return False
    return torch.equal(one, other) or bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())


def _same_arrays(one: Any, other: Any) -> bool:
    return np.array_equal(one, other, equal_nan=np.issubdtype(one.dtype, np.inexact))
