"""Which part of a model's output holds the class scores, where it cannot be told: the user says."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sightline.errors import InputError

ScoresOf = Callable[[Any], Tensor]
"""From a model's output to its class scores, shape (batch, classes)."""


def with_scores(model: nn.Module, target: ScoresOf) -> nn.Module:
    """The same model, its parameters and modules shared, whose output is its class scores.

    It is of a subclass of the model's own class, so that modules, parameters and the model's name stay what they are.

    Args:
        model: the model, which stays as it is.
        target: see `ScoresOf`.

    Raises:
        InputError: the target cannot be called.
    """
    if not callable(target):
        raise InputError(
            "target= of a fit must be a function from the model's output to its class scores, as in "
            f"lambda output: output['scores']; got {target!r}."
        )

    def forward(self: nn.Module, *given: Any, **named: Any) -> Tensor:
        return target(kind.forward(self, *given, **named))

    kind = type(model)
    found = copy.copy(model)
    found.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    return found
