"""Devices by name."""

from collections.abc import Callable
from typing import Any

import torch

from sightline.errors import InputError


def device_named(name: str) -> str:
    """The device that an option names.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    there: dict[str, Callable[[], Any]] = {
        "cpu": lambda: True,
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if name not in there:
        raise InputError(f"--device is auto, cpu, cuda or mps (in a recipe: device = ...); came {name!r}.")
    if not there[name]():
        raise InputError(f"--device {name} was asked for, but torch finds no such device here. Use --device auto.")
    return name
