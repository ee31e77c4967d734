"""Which pictures a network decides by the parts that decide the label, and by nothing else."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sightline.demo.creatures._creature import PARTS, Part
from sightline.demo.creatures._dataset import Creatures, encode
from sightline.errors import InputError


def passes_twin_test(model: nn.Module, creatures: Creatures, seed: int = 0) -> Bool[Tensor, " batch"]:
    """Tells the pictures on which each deciding part, and nothing else, decides what the model says of it.

    What the model says of a part is the variant whose best class has the higher logit. It must turn when only
    this part is swapped, and stay when everything but this part is swapped (the other part included).

    Args:
        model: Takes encoded pictures, gives one logit per class; used in the mode in which it is.
        creatures: The pictures; their labels play no part.
        seed: Chooses what comes in the place of everything else.

    Returns:
        Whether each picture passes for every part that decides the task.

    Raises:
        InputError: If the model's logits do not fit the task's classes.
    """
    passed = torch.ones(len(creatures), dtype=torch.bool)
    said = _say(model, creatures)
    for part in creatures.deciding_parts:
        swapped = _say(model, creatures.twins(part))[part]
        other = _say(model, creatures.elsewhere(seed, keep=(part,)))[part]
        passed &= (swapped != said[part]) & (other == said[part])
    return passed


def _say(model: nn.Module, creatures: Creatures) -> dict[Part, Bool[Tensor, " batch"]]:
    """The variant the model sees of each deciding part."""
    logits = predict(model, creatures.pixels)
    if logits.shape[1:] != (len(creatures.class_names),):
        raise InputError(
            f"The task has {len(creatures.class_names)} classes, but the model gave logits of shape "
            f"{tuple(logits.shape)}; train it on creatures of the same task."
        )
    by_part = logits.unflatten(1, (2,) * len(creatures.deciding_parts))
    return {
        part: by_part.movedim(1 + axis, 1).reshape(len(logits), 2, -1).amax(dim=2).diff(dim=1)[:, 0] > 0
        for axis, part in enumerate(p for p in PARTS if p in creatures.deciding_parts)
    }


@torch.no_grad()
def predict(model: nn.Module, pixels: Tensor, batch: int = 256) -> Float[Tensor, "batch classes"]:
    """The model's logits for pictures in bytes (batch, height, width, 3), some at a time to spare memory."""
    return torch.cat([model(encode(some)) for some in pixels.split(batch)])
