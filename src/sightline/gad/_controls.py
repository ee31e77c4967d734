"""Controls: the same number of pixels, or a hull of the same area, from what knows nothing of distancing."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from sightline.errors import InputError
from sightline.evaluation import hull_area, hulls
from sightline.gad._networks import Kind

Pixels = NDArray[np.intp]


class Control(StrEnum):
    """What GAD is compared with.

    `shuffled`: distancing with labels given at random. `threshold`: the original map, cut higher. `random`: any of the
    originally important pixels. `pair`: of the originally important pixels those that are highest in the original
    network's map of why one class and not the other (the difference of both logits), for which nothing is trained.
    `pair_free`: the highest pixels of that map, wherever they lie.

    On request (`controls=` of `GAD.evaluate`): `noise`: consistency with as many copies of the original network whose
    weights carry 10 % of noise, for which nothing is trained. `tuned`: consistency with copies that were trained on as
    the classifier they are, without distancing (`GAD.fit(data, controls=["shuffled", "tuned"])`). `hirescam` and
    `lrp`: the highest pixels of the original network's map of the pair, by HiResCAM at the layer `middle` and by
    LRP-gamma.

    A further one, the arm `clipped` of an evaluation, has its own number of pixels: the original map clipped at zero
    and thresholded as the reading says. With `minmax` it wins the paper's tables without any distancing.
    """

    SHUFFLED = "shuffled"
    THRESHOLD = "threshold"
    RANDOM = "random"
    PAIR = "pair"
    PAIR_FREE = "pair_free"
    NOISE = "noise"
    TUNED = "tuned"
    HIRESCAM = "hirescam"
    LRP = "lrp"


OWN, MATCHED = "own", ("pixels", "area")
"""A region is as large as it is (`own`), or agrees with GAD's in its number of pixels or in the area of its hull."""
STANDARD = (Control.SHUFFLED, Control.THRESHOLD, Control.RANDOM, Control.PAIR, Control.PAIR_FREE)
"""What every evaluation has; others cost more networks, or do not exist for every network."""
SINGLE = {Control.HIRESCAM: "hi_res_cam@middle", Control.LRP: "lrp_gamma"}
"""Controls that are one method's map of the pair, whatever method GAD uses."""
COPIES: dict[Control, Kind] = {Control.NOISE: "noise", Control.TUNED: "tuned"}
"""Controls that are consistency with other copies of the network."""


def as_controls(given: Sequence[Control | str] | Literal["all"] | None) -> tuple[Control, ...]:
    """The controls of an evaluation: the standard ones, and those that are named besides; or all.

    Raises:
        InputError: there is no such control.
    """
    names = [*Control] if given == "all" else list(given or ())
    for name in names:
        if name not in set(Control):
            raise InputError(f"A control is one of {', '.join(Control)}, or all; got {name!r}.")
    return tuple(control for control in Control if control in STANDARD or control in names)


def orders(
    original: Tensor,
    important: Tensor,
    shuffled: Tensor | None,
    pair: Tensor | None,
    seeds: Sequence[int],
    others: Mapping[Control, Tensor] | None = None,
) -> dict[Control, Pixels]:
    """For each control, the order in which it takes the pixels of each image; what is equal to it is taken at random.

    Args:
        original: shape (batch, height, width): the maps of the original network.
        important: what is important there.
        shuffled: the scores of consistency with networks of shuffled labels, where there are some.
        pair: the original network's maps of the class rather than the other, where there are some.
        seeds: for each image, of its random order, which also decides between equal pixels.
        others: the scores of further controls.

    Returns:
        For each control, shape (batch, pixel).
    """
    drawn = torch.stack(
        [torch.rand(original[0].shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    ).to(original)
    found = {
        Control.THRESHOLD: ordered(original, drawn),
        Control.RANDOM: ordered(important.to(original), drawn),
    }
    if shuffled is not None:
        found[Control.SHUFFLED] = ordered(shuffled, original, drawn)
    if pair is not None:
        found[Control.PAIR] = ordered(important.to(original), pair, original, drawn)
        found[Control.PAIR_FREE] = ordered(pair, original, drawn)
    for control, scores in (others or {}).items():
        found[control] = ordered(scores, original, drawn)
    return {control: order.cpu().numpy() for control, order in found.items()}


def ordered(*keys: Float[Tensor, "batch height width"]) -> Int[Tensor, "batch pixel"]:
    """The pixels of each image from the highest first key down; among equals, from the highest of the next key down."""
    found = keys[-1].flatten(1).argsort(dim=1, descending=True, stable=True)
    for key in reversed(keys[:-1]):
        found = found.gather(1, key.flatten(1).gather(1, found).argsort(dim=1, descending=True, stable=True))
    return found


def as_many(order: Pixels, count: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The first so many pixels of an order."""
    mask = np.zeros(shape, dtype=bool)
    mask.flat[order[:count]] = True
    return mask


def as_wide(order: Pixels, area: int, shape: tuple[int, int], *, per_component: bool = False) -> NDArray[np.bool_]:
    """As many pixels of an order as give the hull (or hulls) whose area is nearest to the one asked for."""
    rows, columns = np.unravel_index(order, shape)

    def width(count: int) -> int:
        if not per_component:
            return hull_area(rows[:count], columns[:count])
        taken = torch.from_numpy(as_many(order, count, shape))
        return int(hulls(taken[None], per_component=True).areas[0])

    low, high = 1, len(order)
    while low < high:
        middle = (low + high) // 2
        if width(middle) >= area:
            high = middle
        else:
            low = middle + 1
    below, above = (abs(width(n) - area) for n in (max(low - 1, 1), low))
    return as_many(order, low - 1 if low > 1 and below <= above else low, shape)
