"""Distancing: what the support networks are trained to say."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.errors import InputError

Alpha = float | int | tuple[float | int, float | int]
Step = tuple[float, float]


def distanced(
    logits: Float[Tensor, "batch output"], labels: Int[Tensor, " batch"], classes: tuple[int, int], alphas: Step
) -> Float[Tensor, "batch output"]:
    """Targets that push two classes apart: y = z, but y_c'(I) = z_c'(I) - alpha_c.

    Here c is the label of image I, one of the two classes, and c' the other; images of further classes keep their
    logits. The order of the images in each logit stays, class by class, which is the premise of the method.

    Mazini Rodrigues et al. 2024, arXiv 2401.14434, sections 3 and 4.1.

    Args:
        logits: what the original network says, before any softmax.
        labels: the class of each image.
        classes: the pair.
        alphas: by how much images of the first and of the second class are pushed away from the other.
    """
    first, second = classes
    targets = logits.clone()
    targets[:, second] -= alphas[0] * (labels == first).to(logits)
    targets[:, first] -= alphas[1] * (labels == second).to(logits)
    return targets


def steps_of(alphas: object) -> tuple[Step, ...]:
    """The distances as pairs, one step for each support network; a leading 0 is the original and trains nothing.

    Raises:
        InputError: there are none, or they are not positive and rising from step to step.
    """
    try:
        steps = tuple(
            (float(a[0]), float(a[1])) if isinstance(a, tuple | list) and len(a) == 2 else (float(a), float(a))
            for a in cast("Sequence[Alpha]", alphas)
        )
    except (TypeError, ValueError):
        raise InputError(
            f"Distances are numbers, or pairs of numbers (one for each class), such as (2, 4, 6, 8); got {alphas!r}."
        ) from None
    if steps[:1] == ((0.0, 0.0),):
        steps = steps[1:]
    numbers = np.array([(0.0, 0.0), *steps])
    if not steps or not np.isfinite(numbers).all() or not (np.diff(numbers, axis=0) > 0).all():
        raise InputError(
            f"Distances must be above 0 and rise from each support network to the next, as in (2, 4, 6, 8) or, with "
            f"the original as 0, (0, 2, 4, 6, 8); got {alphas!r}."
        )
    return steps


def shuffled(labels: Int[Tensor, " batch"], seed: int) -> Int[Tensor, " batch"]:
    """The same labels, given to the images at random: distancing that knows nothing of the classes."""
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def told(alphas: Step) -> str:
    """A distance in words: one number where both classes are pushed by the same."""
    return f"{alphas[0]:g}" if alphas[0] == alphas[1] else f"{alphas[0]:g}, {alphas[1]:g}"
