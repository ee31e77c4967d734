"""What must be the same for maps to belong together."""

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from sightline._common.memory import allowance
from sightline._common.version import versions
from sightline.models import fingerprint, model_info
from sightline.runs._recipe import Recipe
from sightline.runs._source import Files, Rows, identity_of

FREE = {"memory", "threads"}
"""What may differ between two sittings; that of the first one is kept."""


def identity_now(recipe: Recipe, network: nn.Module, source: Files | Rows, device: torch.device) -> dict[str, Any]:
    """What must be the same for maps to belong together, but for the content of the images; see `contents_of`."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "model": fingerprint(network),
        "preprocessing": {key: str(value) for key, value in asdict(model_info(network).preprocessing).items()},
        "output": model_info(network).output,
        "images": identity_of(source),
        "seed": recipe.seed,
        "precision": recipe.output.precision,
        "side": recipe.output.side,
        "channels": recipe.output.channels,
        "chunk": recipe.output.chunk,
        "device": name,
        "versions": {name: version for name, version in versions().items() if name != "python"},
        "memory": allowance(device),
        "threads": recipe.engine.threads if recipe.engine.name == "ray" else torch.get_num_threads(),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In what two sittings differ that would not belong together."""
    return [key for key in now if key not in FREE and before.get(key) != now[key]]
