"""Where a network works, and in which precision it wants its images."""

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sightline._common.torch_private import without_dispatch_modes
from sightline.models._untouched import untouched
from sightline.operations import eager

_PRECISIONS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def home_of(model: Callable[..., Any], images: Tensor) -> tuple[torch.device, torch.dtype]:
    """The device a network works on, and the precision of the images that it takes.

    Where all its parameters are of one precision, it is that; where it has none, or several (a temperature in double
    precision, a half backbone behind a stem in single), it is the images' own if the network runs with it, and else the
    first of its own with which it does. That is asked of one image.

    Args:
        model: the network.
        images: images as they came.
    """
    if not isinstance(model, nn.Module):
        return images.device, images.dtype
    parameters, buffers = _floating(model.parameters()), _floating(model.buffers())
    first = next(iter([*parameters, *buffers]), images)
    own = dict.fromkeys(one.dtype for one in [*parameters, *buffers])
    weights = dict.fromkeys(one.dtype for one in parameters)
    tried = [*weights, images.dtype, *own] if len(weights) == 1 else [images.dtype, *own]
    candidates = list(dict.fromkeys(tried))
    if len(weights) == 1 and len(own) == 1:
        return first.device, first.dtype
    key = (tuple(images.shape[1:]), first.device, tuple(candidates))
    with _LOCK:
        known = _KNOWN.setdefault(model, {})
    if key not in known:
        row = images[:1].detach().to(first.device)
        known[key] = next((dtype for dtype in candidates if runs_with(model, row.to(dtype))), first.dtype)
    return first.device, known[key]


_LOCK = threading.Lock()
_KNOWN: "WeakKeyDictionary[nn.Module, dict[Hashable, torch.dtype]]" = WeakKeyDictionary()


def _floating(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [one for one in tensors if one.dtype in _PRECISIONS]


def runs_with(model: nn.Module, row: Tensor) -> bool:
    """Whether a model runs on an image without an error; the model comes back as it was."""
    try:
        with without_dispatch_modes(), eager(), torch.no_grad(), untouched(model):
            model(row.clone())
    except (Exception, SystemExit):  # noqa: BLE001
        return False
    return True
