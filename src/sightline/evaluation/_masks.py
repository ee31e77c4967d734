"""Masks: which pixels of each image belong to the object, and which belong neither to it nor to the background."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from sightline._common.integers import described
from sightline.errors import InputError

_SHOWN = 6
"""Values that a message names."""


@dataclass(frozen=True, eq=False)
class Masks:
    """The objects of some images.

    Attributes:
        objects: shape (batch, height, width): true on the object.
        counted: shape (batch, height, width): true where a pixel counts at all, as object or as background.
    """

    objects: Bool[Tensor, "batch height width"]
    counted: Bool[Tensor, "batch height width"]

    def __getitem__(self, rows: slice) -> "Masks":
        return Masks(self.objects[rows], self.counted[rows])

    def to(self, device: torch.device) -> "Masks":
        """The same on another device."""
        return Masks(self.objects.to(device), self.counted.to(device))


def as_masks(
    given: object, shape: tuple[int, int, int], *, threshold: float | int | None = None, ignore: object = None
) -> Masks:
    """Masks from what a user has: a tensor, an array or lists, one mask for each image.

    Args:
        given: truth values; or 0 and 1 of any type; or, with a threshold, numbers from 0 to 1. Of shape
            (batch, height, width) or (batch, 1, height, width).
        shape: the batch, height and width that are expected.
        threshold: from which number on, above 0 and at most 1, a pixel belongs to the object.
        ignore: the value, or values, of pixels that are neither object nor background, such as 255 or NaN.

    Raises:
        InputError: the shape is another one, a value is none of these, or the threshold is outside its range.

    Example:
        >>> as_masks([[[0, 1, 255]]], (1, 1, 3), ignore=255).counted.tolist()
        [[[True, True, False]]]
    """
    values = _values(given)
    batch, height, width = shape
    if values.shape not in {shape, (batch, 1, height, width)}:
        raise InputError(
            f"masks must have the shape {shape} (batch, height, width), or {(batch, 1, height, width)}, one mask for "
            f"each image; got {tuple(values.shape)}."
        )
    values = values.reshape(shape)
    if threshold is not None and not (_is_number(threshold) and 0 < threshold <= 1):
        raise InputError(f"threshold must be a number above 0 and at most 1; got {threshold!r}.")
    left_out = torch.zeros(shape, dtype=torch.bool, device=values.device)
    for value in _listed(ignore):
        left_out |= values.isnan() if math.isnan(value) else values == value
    allowed = (values == 0) | (values == 1) if threshold is None else (values >= 0) & (values <= 1)
    if bool((~allowed & ~left_out).any()):
        raise InputError(_refused(values[~left_out], threshold))
    objects = values >= (1 if threshold is None else threshold)
    return Masks(objects & ~left_out, ~left_out)


def check_regions(what: str, regions: object, shape: tuple[int, ...]) -> None:
    """Check that regions are truth values of a shape, as functions on tensors take them.

    Raises:
        InputError: they are not.
    """
    if not isinstance(regions, Tensor) or regions.dtype is not torch.bool or tuple(regions.shape) != shape:
        came = described(regions) if isinstance(regions, Tensor | np.ndarray) else type(regions).__name__
        raise InputError(
            f"{what} must be a tensor of truth values of shape {shape}; got {came}. A comparison makes one, as in "
            "mask > 0.5."
        )


def _values(given: object) -> Tensor:
    """The values as a tensor of numbers."""
    if isinstance(given, Tensor):
        found = given.detach()
    else:
        try:
            found = torch.from_numpy(_array(given).astype(np.float64))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                "masks must be a tensor, an array or lists of numbers, the masks of all images of one size; got "
                f"{type(given).__name__} that cannot be read so ({error})."
            ) from error
    if found.is_complex() or found.is_sparse or found.is_quantized:
        raise InputError(f"masks must be a plain tensor of truth values or of real numbers; got {found.dtype}.")
    return found.double()


def _array(given: object) -> "np.ndarray[Any, np.dtype[Any]]":
    if isinstance(given, Tensor):
        return given.detach().cpu().double().numpy()
    if isinstance(given, list | tuple) and given and not isinstance(given[0], bool | int | float):
        # Lists of tensors on a device, or of pictures, are no array by themselves.
        return np.stack([_array(one) for one in given])
    if np.ma.isMaskedArray(given):
        raise TypeError("it is a masked array, whose mask would be lost; fill it, and name the value with ignore=")
    found = np.asarray(given)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"its values are of type {found.dtype}")
    return found


def _listed(ignore: Any) -> list[float]:
    """The values of `ignore=`."""
    if ignore is None:
        return []
    if isinstance(ignore, Tensor | np.ndarray):
        ignore = ignore.reshape(-1).tolist()
    values = ignore if isinstance(ignore, list | tuple | set | frozenset) else [ignore]
    if not all(map(_is_number, values)):
        raise InputError(f"ignore must be a number, or several, such as 255 or (0, 255); got {ignore!r}.")
    return [float(value) for value in values]


def _is_number(value: object) -> bool:
    return isinstance(value, Real | np.generic) and not isinstance(value, bool | np.bool_)


def _refused(values: Tensor, threshold: float | None) -> str:
    """What to say of values that are neither object nor background."""
    found = values.unique()
    known = [f"{value:g}" for value in found[~found.isnan()].tolist()] + ["nan"] * bool(values.isnan().any())
    shown = ", ".join(known) if len(known) <= _SHOWN else f"{len(known)} values from {known[0]} to {known[-1]}"
    if "nan" in known:
        remedy = "Give ignore=float('nan') where NaN marks pixels to leave out."
    elif threshold is None and bool(((values >= 0) & (values <= 1)).all()):
        remedy = "Probabilities need a threshold, as in threshold=0.5."
    else:
        remedy = (
            "Compare with the object's value, as in masks == 1, and name values of pixels to leave out, as in "
            "ignore=255."
        )
    expected = "0 and 1" if threshold is None else "numbers from 0 to 1"
    return f"masks must be truth values or {expected}; got {shown}. {remedy}"
