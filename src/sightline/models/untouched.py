"""Leaving a model as it was found."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def untouched(model: Callable[..., Any]) -> Iterator[None]:
    """Put a model's buffers back if its own forward changes them (running statistics, counters), come what may.

    Nothing else of a model is ever changed by a pass: no hook, no flag, no gradient.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    kept: list[tuple[nn.Module, str, Tensor, int, Tensor]] = [
        (module, name, buffer, buffer._version, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, version, values in kept:
                module._buffers[name] = buffer
                if buffer._version != version:
                    buffer.copy_(values)
