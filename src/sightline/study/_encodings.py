"""Claim 4: are methods that multiply by the input biased by how pixels are encoded, and does leaving it out cure them?

Rule, the same for every network, whose bound was chosen when figures for ResNet-20, SqueezeNet and a VGG-like network
were known: the same function is given the same pictures in other encodings. A map changes if in any
of them the interval of its cosine with the map of the first encoding lies below 0.9, and stays if in all of them it
lies above. A method that has the factor of the input is paired with itself without the factor: the pair speaks for the
claim if the first changes and the second stays, and against it if the first stays (`sightline.study._rule.answer`).
"""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from sightline.arrays import ends_of
from sightline.errors import RefusalError
from sightline.evaluation import Asked, cosine, reencoded, shifted, spearman, values_of
from sightline.methods import catalogue
from sightline.study._part import Interval, Part, interval, too_few
from sightline.study._rule import answer
from sightline.study._survey import Step, maps_of

METHODS = ("gradient", "input_x_gradient", "integrated_gradients", "rect_grad", "rect_grad_no_input", "lrp_epsilon",
           "lrp_epsilon_plus", "guided_backprop")  # fmt: skip
BOUND = 0.9
FIRST = "0 ... 1"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLAIM = "The factor of the input makes maps depend on the encoding, and leaving it out cures that"
_TITLE = "Input bias"
_QUESTION = "Do the maps of a method change with the encoding of the pixels, while function and pictures stay the same?"
_RULE = (
    f"a map changes if in any encoding the interval of its cosine with that of {FIRST} lies below {BOUND}, and stays "
    "if in all of them it lies above. A method speaks for the claim if it changes, and stays without its factor of the "
    "input, and against it if it stays with the factor. The claim is undecided where fewer than half of the methods "
    "are decided; of those, three quarters must agree."
)


def encodings(model: Callable[..., Any], images: Asked) -> Iterator[tuple[str, nn.Module, Asked]]:
    """The same function of the same pictures, whose values are encoded in other ways.

    Standardised values are those of ImageNet's statistics, and are left out where there are not three channels.

    Raises:
        RefusalError: the network has no first layer that could be corrected for another encoding.
    """
    values = values_of(images)
    channels = values.shape[1]
    ends = ends_of(model, images, channels)
    black, white = ends if ends is not None else (values.min().expand(channels), values.max().expand(channels))
    black, white = black.double().cpu(), white.double().cpu()
    if bool((white == black).any()):
        raise RefusalError("All pixels of the images have one value, so that there is no range to encode.")
    ways: list[tuple[str, Tensor, Tensor]] = [
        (name, torch.full((channels,), scale).double(), torch.full((channels,), shift).double())
        for name, scale, shift in ((FIRST, 1.0, 0.0), ("-1 ... 1", 2.0, -1.0), ("-1 ... 0", 1.0, -1.0))
    ]
    if channels == len(_MEAN):
        mean, std = torch.tensor(_MEAN).double(), torch.tensor(_STD).double()
        ways.append(("standardised", 1 / std, -mean / std))
    for name, scale, shift in ways:
        a, c = scale / (white - black), shift - scale * black / (white - black)
        network, moved = shifted(model, values, c, a)
        yield name, network, reencoded(images, moved, c, a)


def bias(model: Callable[..., Any], images: Asked, *, seed: int = 0, step: Step | None = None) -> Part:
    """Compare maps across encodings of the same function.

    Args:
        model: the network; one that cannot be re-encoded is answered with a note.
        images: see `sightline.explain`; at least twenty for an answer.
        seed: base of all randomness.
        step: called with the encodings done and all encodings.

    Raises:
        InputError: see `sightline.explain`.
    """
    rows = [catalogue()[name] for name in METHODS]
    local = {one.name: found for one in rows if (found := one.without_input) is not None}
    methods = [*rows, *local.values()]
    kept: dict[str, dict[str, Tensor]] = {}
    magnitudes: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    try:
        for name, network, moved in encodings(model, images):
            kept[name], said = maps_of(network, moved, methods, seed=seed)
            refused |= said
            magnitudes[name] = values_of(moved).abs().mean(1)
            if step is not None:
                step(len(kept), 4 if values_of(images).shape[1] == len(_MEAN) else 3)
    except RefusalError as error:
        note = f"The network cannot be given another encoding: {error}"
        return Part(_TITLE, _QUESTION, _RULE, answers={_CLAIM: "undecided"}, notes=[note])
    table, verdicts = [], {}
    for one in methods:
        if one.name in refused:
            continue
        figures = []
        for name, maps in kept.items():
            alike = interval(cosine(maps[one.name], kept[FIRST][one.name]))
            follows = interval(spearman(maps[one.name].abs(), magnitudes[name].to(maps[one.name])))
            row = {"method": one.name, "encoding": name, "raw cosine": alike.mean, "low": alike.low, "high": alike.high}
            row |= {"rank with |input|": follows.mean, "rank low": follows.low, "rank high": follows.high}
            table.append(row | {"images": alike.images, "networks": 0})
            figures += [alike] if name != FIRST else []
        verdicts[one.name] = _verdict(figures)
    pairs = [(name, other.name) for name, other in local.items()]
    notes = too_few(len(images))
    if ends_of(model, images, values_of(images).shape[1]) is None:
        notes.append("The encoding of the images is not known; their lowest and highest values are taken as 0 and 1.")
    return Part(_TITLE, _QUESTION, _RULE, pd.DataFrame(table), {_CLAIM: answer(verdicts, pairs)}, refused, notes)


def _verdict(figures: list[Interval]) -> str:
    """`fail` for a map that changes, `pass` for one that stays."""
    if any(one.high < BOUND for one in figures):
        return "fail"
    return "pass" if all(one.low > BOUND for one in figures) else "undecided"
