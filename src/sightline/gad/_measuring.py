"""Measuring: the regions of GAD and of its controls, and what occluding them does to both logits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sightline._common.seeds import seed_of
from sightline.arrays import ImageBatch, ends_of
from sightline.errors import InputError
from sightline.evaluation import Fill, as_fill, complexity, hulls, occlude, sensitivity
from sightline.gad._asking import controlled, encoded
from sightline.gad._consistency import Consistency
from sightline.gad._controls import MATCHED, OWN, SINGLE, Control, as_many, as_wide, orders
from sightline.gad._evaluation import Evaluation
from sightline.gad._explained import Controlled
from sightline.gad._fit import Fit
from sightline.gad._settings import Measurement, Question
from sightline.methods import Method, as_method
from sightline.models import ask

_PIXELS_AT_ONCE = 1 << 20


class Block(NamedTuple):
    """Some of the images.

    Attributes:
        start: the number of the first one.
        images: shape (image, channel, height, width).
        labels: of each, where known.
        logits: the original network's, shape (image, output).
    """

    start: int
    images: Tensor
    labels: Sequence[str | None]
    logits: Tensor


class Maps(NamedTuple):
    """The maps of one method for one class of the pair, blurred, each of shape (image, height, width).

    Attributes:
        stack: of the original network (first) and of the support networks, shape (network, image, height, width).
        shuffled: the same with support networks of shuffled labels, where there are some.
        pair: of the original network asked why one class and not the other, where that is a control.
        copies: by control, consistency with other copies of the network, as `stack`.
        single: by control, one method's map of the pair.
    """

    stack: Tensor
    shuffled: Tensor | None
    pair: Tensor | None
    copies: Mapping[Control, Tensor]
    single: Mapping[Control, Tensor]


class Arm(NamedTuple):
    """The regions of one side of a comparison.

    Attributes:
        name: `original`, `gad`, `supplementary`, `clipped`, or a control.
        matched: what they agree in with GAD's: `pixels`, `area`, or `own` where they are as large as they are.
        pixels: for each image, how many are important.
        masks: their hulls, shape (image, height, width).
        degenerate: for each image, whether there is no hull.
    """

    name: str
    matched: str
    pixels: list[int]
    masks: NDArray[np.bool_]
    degenerate: list[bool]


def evaluate(
    fit: Fit,
    images: Tensor | ImageBatch,
    methods: Sequence[Any],
    measurement: Measurement,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure the regions of some images; see `GAD.evaluate`.

    Raises:
        InputError: no method could be evaluated, or a black pixel has other channels than the images.
    """
    batch = encoded(images)
    measurement = replace(measurement, black=_black(fit, images, batch.shape[1], measurement.black))
    labels = images.labels if isinstance(images, ImageBatch) else [None] * len(batch)
    chosen = tuple(from_black(as_method(method), measurement.black) for method in methods)
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    step = max(1, min(64, _PIXELS_AT_ONCE // int(batch[0, 0].numel())))
    for start in range(0, len(batch), step):
        part = images[start : start + step] if isinstance(images, ImageBatch) else batch[start : start + step]
        tensor = part.tensor if isinstance(part, ImageBatch) else part
        logits = ask(fit.model, tensor, fit.training.batch_size)
        block = Block(start, tensor, labels[start : start + step], logits)
        for question, readings in measurement.questions(fit.question).items():
            explained = controlled(
                fit, part, chosen, None, readings[0], question, measurement.controls, measurement.seed
            )
            refused |= {f"control {name}": reason for name, reason in explained.missing.items()}
            for one in explained.gad:
                refused |= one.refused
            rows += _rows(fit, block, explained, question, readings, measurement)
        if progress is not None:
            progress(min(start + step, len(batch)), len(batch))
    if not rows:
        raise InputError(f"No method could be evaluated: {'; '.join(dict.fromkeys(refused.values()))}")
    named = {reading.name: reading for reading in measurement.readings}
    return Evaluation(pd.DataFrame(rows).assign(size=int(batch[0, 0].numel())), named, refused, chosen)


def _black(fit: Fit, images: Tensor | ImageBatch, channels: int, black: Tensor | None) -> Tensor | None:
    """A black pixel as given, or as images or model tell."""
    if black is None and (ends := ends_of(fit.model, images, channels)) is not None:
        black = ends[0]
    if black is not None and black.shape != (channels,):
        raise InputError(
            f"A black pixel has a value for each of the {channels} channels; got shape {tuple(black.shape)}."
        )
    return black


def _rows(
    fit: Fit,
    block: Block,
    explained: Controlled,
    question: Question,
    readings: Sequence[Consistency],
    measurement: Measurement,
) -> Iterator[dict[str, Any]]:
    """The rows of some images, for each class, method, reading and fill."""
    for place, method, maps in _maps(explained, question, measurement.blur):
        seeds = [seed_of(measurement.seed, block.start + i, method, place) for i in range(len(block.images))]
        for reading in readings:
            arms, new = _arms(maps, reading, seeds, per_component=measurement.per_component)
            key = {"reading": reading.name, "question": question, "method": method, "class": place + 1}
            for fill in measurement.fills:
                for row in _measured(fit, block, place, arms, as_fill(fill), measurement.black):
                    yield {**key, **row, "new": float(new[row["image"] - block.start]), "fill": str(fill)}


def _maps(explained: Controlled, question: Question, blur: float) -> Iterator[tuple[int, str, Maps]]:
    """The maps of each class of the pair and each method: class, method, maps."""
    # Asked about the pair, GAD starts from the original's map of the pair: this control is its threshold.
    beside = explained.pair if question == "class" else []
    for place, found in enumerate(explained.gad):
        single = {
            Control(c): blurred(own[place].heatmap(SINGLE[Control(c)]), blur) for c, own in explained.single.items()
        }
        for method, stack in found.stacks.items():
            copies = {Control(c): own[place].stacks.get(method) for c, own in explained.copies.items()}
            pair = beside[place].heatmap(method) if beside and method in beside[place].maps else None
            yield place, method, Maps(
                blurred(stack, blur),
                blurred(explained.shuffled[place].stacks.get(method) if explained.shuffled else None, blur),
                blurred(pair, blur),
                {c: blurred(own, blur) for c, own in copies.items() if own is not None},
                single,
            )  # fmt: skip


@overload
def blurred(maps: Tensor, width: float) -> Tensor: ...
@overload
def blurred(maps: None, width: float) -> None: ...
@overload
def blurred(maps: Tensor | None, width: float) -> Tensor | None: ...
def blurred(maps: Tensor | None, width: float) -> Tensor | None:
    """Maps, shape (..., height, width), blurred by a Gaussian; as they are where the width is 0."""
    if maps is None or width == 0:
        return maps
    sigma = [0.0] * (maps.dim() - 2) + [width, width]
    return torch.from_numpy(gaussian_filter(maps.detach().cpu().numpy(), sigma))


def from_black(method: Method, black: Tensor | None) -> Method:
    """The method with a baseline called black in numbers, where a black pixel is given."""
    sampling: Any = method.sampling
    start = getattr(sampling, "start", None)
    starts = start if isinstance(start, tuple) else (start,)
    if black is None or not any(isinstance(one, str) and one == "black" for one in starts):
        return method
    named = tuple(black.view(-1, 1, 1) if isinstance(one, str) and one == "black" else one for one in starts)
    return replace(method, sampling=replace(sampling, start=named))


def _arms(maps: Maps, reading: Consistency, seeds: list[int], *, per_component: bool) -> tuple[list[Arm], Tensor]:
    """The regions of each arm, the original's first and GAD's second; and for each image the share of new pixels."""
    stack = maps.stack.cpu()
    kept = reading(stack)
    beside = None if maps.shuffled is None else reading(maps.shuffled.cpu())
    others = {control: reading(own.cpu()).scores for control, own in maps.copies.items()}
    others |= {control: own.to(stack) for control, own in maps.single.items()}
    taken = orders(stack[0], kept.original, None if beside is None else beside.scores, maps.pair, seeds, others)

    def arm(name: str, pixels: Tensor, matched: str = OWN) -> Arm:
        found = hulls(pixels, per_component=per_component)
        counts = pixels.flatten(1).sum(1).tolist()
        return Arm(name, matched, counts, found.masks.numpy(), found.degenerate.tolist())

    original, gad = arm("original", kept.original), arm("gad", kept.pixels)
    arms = [original, gad]
    if beside is not None:
        arms.append(arm(Control.SHUFFLED.value, beside.pixels))
    # What the reading makes of the original network alone, its map clipped at zero: no distancing at all.
    arms.append(arm("clipped", reading.original(stack[0].clamp(min=0))))
    for control, order in taken.items():
        for matched in MATCHED:
            pixels = torch.from_numpy(_as_large(order, gad, matched, per_component=per_component))
            arms.append(arm(control.value, pixels, matched))
    # What only the original marks; itself never a hull.
    fewer = [a - b for a, b in zip(original.pixels, gad.pixels, strict=True)]
    flat = [a or b for a, b in zip(original.degenerate, gad.degenerate, strict=True)]
    arms.append(Arm("supplementary", OWN, fewer, original.masks & ~gad.masks, flat))
    return arms, kept.new


def _as_large(order: NDArray[np.intp], gad: Arm, matched: str, *, per_component: bool) -> NDArray[np.bool_]:
    """Of each image the first pixels of an order, as many as GAD's or with as large a hull; none where GAD has none."""
    found = np.zeros_like(gad.masks)
    shape = (gad.masks.shape[1], gad.masks.shape[2])
    for i, row in enumerate(order):
        if gad.degenerate[i]:
            continue
        if matched == "pixels":
            found[i] = as_many(row, gad.pixels[i], shape)
        else:
            found[i] = as_wide(row, int(gad.masks[i].sum()), shape, per_component=per_component)
    return found


def _measured(
    fit: Fit, block: Block, place: int, arms: list[Arm], fill: Fill, black: Tensor | None
) -> Iterator[dict[str, Any]]:
    """What occluding each region does to the logit of the class at a place of the pair, and to that less the other."""
    count = len(block.images)
    # Shapes (arm * image, ...): all images of an arm after those of the arm before.
    masks = torch.from_numpy(np.concatenate([arm.masks for arm in arms]))
    rows = torch.arange(count).repeat(len(arms))
    after = _occluded(fit, block.images, rows, masks, fill, black)
    own, other = fit.classes[place], fit.classes[1 - place]
    before = block.logits[rows]
    areas = masks.flatten(1).sum(1)
    rs = sensitivity(before[:, own], after[:, own], areas)
    rs_pair = sensitivity(before[:, own] - before[:, other], after[:, own] - after[:, other], areas)
    # The first arm is the original's.
    rc = complexity(areas, areas[:count].repeat(len(arms)))
    change = before[:, own] - after[:, own]
    for number, row in enumerate(rows.tolist()):
        arm = arms[number // count]
        flat = arm.degenerate[row]
        yield {
            "image": block.start + row,
            "label": block.labels[row],
            "arm": arm.name,
            "matched": arm.matched,
            "pixels": arm.pixels[row],
            "area": int(areas[number]),
            "rc": float("nan") if flat or arms[0].degenerate[row] else float(rc[number]),
            "degenerate": flat,
            "change": float(change[number]),
            "rs": float("nan") if flat else float(rs[number]),
            "rs pair": float("nan") if flat else float(rs_pair[number]),
        }


def _occluded(fit: Fit, images: Tensor, rows: Tensor, masks: Tensor, fill: Fill, black: Tensor | None) -> Tensor:
    """The original network's logits of images with a region occluded each, shape (region, output)."""
    # Equal regions of an image are asked once: rounding must not tell two arms apart that take the same pixels.
    packed = np.packbits(masks.flatten(1).numpy(), axis=1)
    _, first, which = np.unique(np.c_[rows.numpy(), packed], axis=0, return_index=True, return_inverse=True)
    logits = [
        ask(fit.model, occlude(images[rows[part]].cpu(), masks[part], fill, black=black), fit.training.batch_size)
        for part in torch.from_numpy(first).split(256)
    ]
    return torch.cat(logits)[torch.from_numpy(which).flatten()]
