"""Layers in the order in which a forward pass uses their parameters, whatever their place in the model's own order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sightline._common.torch_private import tree_leaves
from sightline.errors import InputError
from sightline.models import untouched


@dataclass(frozen=True)
class Layer:
    """A module with parameters of its own.

    Attributes:
        name: its name in the model.
        parameters: names of its parameters; one that several modules share belongs to the first that names it.
        used: whether a pass was seen to use any of them.
    """

    name: str
    parameters: tuple[str, ...]
    used: bool


class _FirstUse(TorchFunctionMode):
    """Notes when each tensor is first given to an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[int, int] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, nn.Parameter):
                self.times.setdefault(id(tensor), len(self.times))
        return func(*args, **(kwargs or {}))


def layers_of(model: nn.Module, image: Tensor) -> list[Layer]:
    """The layers of a model, from the input to the output.

    Every parameter belongs to one of them. Parameters that are not seen in use (of scripted modules, or of branches
    that this image does not take) stand where the model's own order puts them: after the one before.

    Args:
        model: the network.
        image: shape (1, channel, height, width): what is passed through.

    Raises:
        InputError: the model has no parameters.
    """
    named = dict(model.named_parameters())
    if not named:
        raise InputError("The model has no parameters, so there is nothing in it to randomise.")
    seen = _FirstUse()
    with torch.no_grad(), untouched(model), seen:
        model(image)
    times: dict[str, float] = {}
    last = -1.0
    for name, parameter in named.items():
        last = times[name] = seen.times.get(id(parameter), last + 1e-9)
    owners: dict[str, list[str]] = {}
    for name in named:
        owners.setdefault(name.rpartition(".")[0], []).append(name)
    ordered = sorted(owners.items(), key=lambda item: min(times[name] for name in item[1]))
    return [
        Layer(owner, tuple(names), any(id(named[name]) in seen.times for name in names)) for owner, names in ordered
    ]
