"""Leaving a model as it was found."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sightline._common.torch_private import buffers_of


@contextmanager
def untouched(model: Callable[..., Any]) -> Iterator[None]:
    """Put a model's buffers back if its own forward changes them (running statistics, counters), come what may.

    Nothing else of a model is ever changed by a pass: no hook, no flag, no gradient.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    # A scripted module keeps its buffers out of Python's reach.
    kept = [(module, dict(own)) for module in model.modules() if (own := buffers_of(module)) is not None]
    there = (buffer for _, before in kept for buffer in before.values() if buffer is not None)
    values = {id(buffer): (buffer, buffer.clone()) for buffer in there if not is_lazy(buffer)}
    try:
        yield
    finally:
        with torch.no_grad():
            for module, before in kept:
                # Buffers may also have been put in another's place, or added. Where none was, nothing is written, since
                # another thread may be running the same model.
                now = buffers_of(module)
                assert now is not None  # noqa: S101 - it had some above
                if now.keys() != before.keys() or any(now[name] is not before[name] for name in before):
                    now.clear()
                    now.update(before)
            for buffer, value in values.values():
                # By value and not by version, which writes through `.data` do not count.
                if not torch.equal(buffer, value):
                    with torch.inference_mode(buffer.is_inference()):
                        buffer.copy_(value)
