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
    kind, _, number = name.partition(":")
    if kind not in there or (":" in name and not (kind == "cuda" and number.isdecimal())):
        raise InputError(
            f"--device is auto, cpu, cuda, cuda:1 (the second one) or mps (in a recipe: device = ...); got {name!r}."
        )
    if there[kind]() and number and int(number) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise InputError(f"--device {name} was asked for, but the devices here end with cuda:{last}. Use one of these.")
    if not there[kind]():
        raise InputError(f"--device {name} was asked for, but torch finds no such device here. Use --device auto.")
    return name
