"""Values that a rule needs when the backward runs, kept as they were whatever the model writes over them later.

torch lets a model overwrite a tensor that its own backward does not need; a rule may need it. So a kept tensor is
noted on itself, and a write that the interception sees copies it first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline._common.torch_private import is_view, version_of
from sightline.errors import RefusalError
from sightline.operations._notes import Note


class Kept:
    """The values of a tensor at one time."""

    __slots__ = ("_nonnegative", "_tensor", "_version")

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version = tensor.detach(), version_of(tensor)
        self._nonnegative: bool | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self._tensor.nbytes

    @property
    def dtype(self) -> torch.dtype:
        """Their type."""
        return self._tensor.dtype

    @property
    def intact(self) -> bool:
        """Whether nothing was written over the values."""
        return version_of(self._tensor) == self._version

    @property
    def values(self) -> Tensor:
        """The values.

        Raises:
            RefusalError: something out of sight wrote over them.
        """
        if not self.intact:
            raise RefusalError(
                f"The model writes over a result of shape {tuple(self._tensor.shape)} in place, where it cannot be "
                "seen, and a rule needs that result. Use that operation out of place."
            )
        return self._tensor

    @property
    def nonnegative(self) -> bool:
        """Whether no value is below zero."""
        if self._nonnegative is None:
            self._nonnegative = bool(self.values.amin() >= 0) if self.values.numel() else True
        return self._nonnegative

    def secure(self) -> None:
        """Copy the values, because they are about to be written over."""
        if self.intact:
            self._tensor = self._tensor.clone()
            self._version = version_of(self._tensor)


class Constants:
    """Tensors that do not depend on the input, with a watch on whether they change after they were used."""

    __slots__ = ("_seen",)

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._seen = [(tensor, version_of(tensor)) for tensor in tensors]

    def check(self) -> None:
        """Raise where one of them changed.

        Raises:
            RefusalError: the model wrote over one.
        """
        for tensor, version in self._seen:
            if version_of(tensor) != version:
                raise RefusalError(
                    f"The model writes over a constant of shape {tuple(tensor.shape)} in place after it was used, and "
                    "a rule needs its value at that time. Use that operation out of place."
                )


_OWN = Note[Kept]("kept")  # shared by all who keep the tensor
_ALL = Note[list[Kept]]("kept_all", on_memory=True)


def keep(tensor: Tensor) -> Kept:
    """Keep the values that a tensor has now."""
    found = _OWN.of(tensor)
    if found is not None and found.intact and found._tensor.data_ptr() == tensor.data_ptr():
        return found
    kept = Kept(tensor)
    _OWN.put(tensor, kept)
    others = _ALL.of(tensor)
    if others is None:
        _ALL.put(tensor, [kept])
    else:
        others.append(kept)
    return kept


def secure(tensor: Tensor) -> None:
    """Before a write into `tensor`: copy all that is kept of its memory."""
    for kept in _ALL.of(tensor) or ():
        kept.secure()


def wide(values: Tensor) -> Tensor:
    """Values in single precision at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def unaliased(result: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """A node's result as a tensor of its own, with the same memory and strides.

    Composite operations (a linear layer over tokens, a convolution in one dimension) end in a view of what they
    computed, and torch forbids to write into a view that an `autograd.Function` returns. A view of an input stays one,
    since what the model writes into it must reach that input.
    """
    if not is_view(result):
        return result
    memory = result.untyped_storage()
    if any(tensor is result or tensor.untyped_storage().data_ptr() == memory.data_ptr() for tensor in inputs):
        return result
    return result.new_empty(0).set_(memory, result.storage_offset(), result.size(), result.stride())
