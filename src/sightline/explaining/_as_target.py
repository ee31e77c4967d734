"""A target from what the user gave."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline._common.integers import as_integers, described
from sightline._common.words import counted
from sightline.errors import InputError
from sightline.explaining._functions import Function, WholeBatch
from sightline.explaining._layer_names import target_named
from sightline.explaining._target_names import read_target
from sightline.explaining._targets import Classes, IntegerArray, Pair, Target
from sightline.models import model_info

# Several are any sequence, since a list may hold Python's, numpy's and torch's integers.
TargetLike = (
    None
    | int
    | str
    | np.integer[Any]
    | Sequence[Any]
    | Tensor
    | IntegerArray
    | Target
    | WholeBatch
    | Callable[..., Tensor]
)


def target_of(model: Callable[..., Any], given: object, count: int) -> Target:
    """A target of this model: names of classes are read as the model has them, and layers are named.

    Args:
        model: the network.
        given: see `sightline.explain`.
        count: number of images.

    Raises:
        InputError: it is no target, or not one of this model.
    """
    names = model_info(model).class_names or ()
    return target_named(model, as_target(read_target(given, count, names), count))


def as_target(target: object, count: int) -> Target:
    """A target from what the user gave.

    Args:
        target: None (the predicted class of each image), a class, one class per image, a `Pair`, `Unit` or
            `Direction`, a callable from the model's output to one value per image, or a `WholeBatch`.
        count: number of images.

    Raises:
        InputError: the number of classes is not the number of images, or the type is none of these.
    """
    if target is None:
        return Classes(None, count)
    if isinstance(target, Pair):
        target.check(count)
    if isinstance(target, Target):
        return target
    classes = as_integers(target)
    if isinstance(classes, int):
        classes = [classes] * count
    if classes is not None:
        if len(classes) != count:
            raise InputError(
                f"A target list needs one class per image: {counted(count, 'image')}, but "
                f"{counted(len(classes), 'class', 'classes')}. For the "
                "difference of two classes, use sightline.Pair(a, b)."
            )
        if not all(0 <= c < 2**31 for c in classes):
            raise InputError(f"Target classes must be integers, 0 or above; got {list(classes)[:8]}.")
        return Classes(torch.tensor(list(classes), dtype=torch.long), count)
    if isinstance(target, WholeBatch):
        return Function(target.function, count, whole_batch=True)
    if callable(target):
        return Function(target, count)
    if isinstance(target, Sequence | Tensor | np.ndarray | np.generic | float | bool) and not isinstance(target, str):
        raise InputError(f"Target classes must be integers, one or one per image; got {described(target)}.")
    raise InputError(
        f"A target is None, a class by number or name, one class per image, a Pair, Unit or Direction, or a callable; "
        f"got {target!r}."
    )
