"""Asking a network for its logits, leaving it as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import RefusalError
from sightline.models.outputs import class_scores
from sightline.models.untouched import untouched
from sightline.operations import wide


def ask(model: Callable[..., Any], images: Tensor, size: int) -> Tensor:
    """The logits of some images, in evaluation mode, at least in single precision and on the CPU.

    Args:
        model: the network.
        images: encoded images.
        size: how many go through it at once.

    Raises:
        RefusalError: it gives no class scores, or draws random numbers.
    """
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    like = next((p for p in parameters if p.is_floating_point()), images)
    with without_chance(like.device), torch.no_grad(), evaluating(model), untouched(model):
        parts = [class_scores(model(part.to(like.device, like.dtype)), len(part)) for part in images.split(size)]
    return wide(torch.cat(parts)).cpu()


@contextmanager
def evaluating(model: Callable[..., Any]) -> Iterator[None]:
    """Evaluation mode, and each module back to its own after it."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    before = {module: module.training for module in modules}
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def without_chance(device: torch.device) -> Iterator[None]:
    """See that nothing is drawn, and leave torch's generators as they were.

    Raises:
        RefusalError: the network draws random numbers in evaluation mode.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        before = torch.get_rng_state()
        yield
        if not torch.equal(before, torch.get_rng_state()):
            raise RefusalError(
                "The network draws random numbers in evaluation mode (dropout that is always on, noise), so what it "
                "says of an image is an accident. Switch that off first."
            )
