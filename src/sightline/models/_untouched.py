"""Leaving a model as it was found."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy


@contextmanager
def untouched(model: Callable[..., Any]) -> Iterator[None]:
    """Put a model's buffers back if its own forward changes them (running statistics, counters), come what may.

    Nothing else of a model is ever changed by a pass: no hook, no flag, no gradient.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    # A scripted module keeps its buffers out of Python's reach.
    kept = [(module, dict(module._buffers)) for module in model.modules() if type(module._buffers) is dict]
    there = (buffer for _, buffers in kept for buffer in buffers.values() if buffer is not None)
    values = {id(buffer): (buffer, buffer.clone()) for buffer in there if not is_lazy(buffer)}
    try:
        yield
    finally:
        with torch.no_grad():
            for module, buffers in kept:
                # Buffers may also have been put in another's place, or added. Where none was, nothing is written, since
                # another thread may be running the same model.
                now = module._buffers
                if now.keys() != buffers.keys() or any(now[name] is not buffers[name] for name in buffers):
                    now.clear()
                    now.update(buffers)
            for buffer, before in values.values():
                # By value and not by version, which writes through `.data` do not count.
                if not torch.equal(buffer, before):
                    with torch.inference_mode(buffer.is_inference()):
                        buffer.copy_(before)
