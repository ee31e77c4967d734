"""Measuring: the regions of GAD and of its controls, and what occluding them does to both logits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sightline._common.seeds import seed_of
from sightline.arrays import ImageBatch, as_images, ends_of
from sightline.errors import InputError
from sightline.evaluation import Fill, as_fill, complexity, hulls, occlude, sensitivity
from sightline.gad._asking import Question, check_question
from sightline.gad._consistency import PAPER_LIKE, Consistency
from sightline.gad._controls import SINGLE, Control, as_many, as_wide, orders
from sightline.gad._evaluation import Evaluation
from sightline.methods import Method, as_method
from sightline.models import ask

if TYPE_CHECKING:
    from sightline.gad._distancing import GAD

_PIXELS_AT_ONCE = 1 << 20
MATCHED = ("pixels", "area")
"""What a control is made to agree in with GAD: the number of pixels, or the area of their hull."""


class Region(NamedTuple):
    """A region of one image, on behalf of one side of a comparison."""

    arm: str
    pixels: int
    mask: NDArray[np.bool_]
    degenerate: bool


def evaluate(
    gad: "GAD",
    images: Tensor | ImageBatch,
    methods: Sequence[Any],
    readings: Sequence[Consistency],
    *,
    question: Question | None = None,
    controls: Sequence[Control | str] | Literal["all"] | None = None,
    blur: float = 0.0,
    fills: Sequence[Fill | str] = (Fill.BLACK,),
    black: Tensor | None = None,
    per_component: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure the regions of some images; see `GAD.evaluate`."""
    batch = as_images(images.tensor if isinstance(images, ImageBatch) else images)
    if not 0 <= blur < float("inf"):
        raise InputError(f"blur is a width in pixels, 0 or above; got {blur}.")
    painted = [as_fill(fill) for fill in fills]
    if black is None and (ends := ends_of(gad.model, images, batch.shape[1])) is not None:
        black = ends[0]
    if black is not None and black.shape != (batch.shape[1],):
        raise InputError(
            f"A black pixel has a value for each of the {batch.shape[1]} channels; got shape {tuple(black.shape)}."
        )
    labels = images.labels if isinstance(images, ImageBatch) else [None] * len(batch)
    chosen = tuple(from_black(as_method(method), black) for method in methods)
    named = {reading.name: reading for reading in readings}
    questions: dict[Question, list[str]] = {}
    for name, reading in named.items():
        wanted = check_question(question or ("class" if reading == PAPER_LIKE else gad.question))
        questions.setdefault(wanted, []).append(name)
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    step = max(1, min(64, _PIXELS_AT_ONCE // int(batch[0, 0].numel())))
    for start in range(0, len(batch), step):
        part = images[start : start + step] if isinstance(images, ImageBatch) else batch[start : start + step]
        tensor = part.tensor if isinstance(part, ImageBatch) else part
        said = ask(gad.model, tensor, gad.recipe.batch_size)
        for asked, own in questions.items():
            explained = gad.explain_with_controls(part, chosen, question=asked, controls=controls, seed=seed)
            refused |= {f"control {name}": reason for name, reason in explained.missing.items()}
            found, control, pairs = explained.gad, explained.shuffled, explained.pair
            # Asked about the pair, GAD starts from the original's map of the pair: this control is its threshold.
            beside = pairs if asked == "class" else []
            for place, one in enumerate(found):
                refused |= one.refused
                for method in one.stacks:
                    stack = blurred(one.stacks[method], blur)
                    shuffled = control[place].stacks.get(method) if control else None
                    rather = beside[place].heatmap(method) if beside and method in beside[place].maps else None
                    shuffled, rather = blurred(shuffled, blur), blurred(rather, blur)
                    stacks = {c: blurred(own[place].stacks.get(method), blur) for c, own in explained.copies.items()}
                    maps = {
                        Control(c): blurred(own[place].heatmap(SINGLE[Control(c)]), blur)
                        for c, own in explained.single.items()
                    }
                    seeds = [seed_of(seed, start + i, method, place) for i in range(len(tensor))]
                    for name in own:
                        regions, new = _regions(
                            stack, named[name], shuffled, rather, seeds, stacks, maps, per_component=per_component
                        )
                        key = {"reading": name, "question": asked, "method": method, "class": place + 1}
                        for fill in painted:
                            for row in _measured(gad, tensor, said, place, regions, fill, black):
                                index = row["image"]
                                about = {"image": start + index, "label": labels[start + index]}
                                about["new"] = float(new[index])
                                rows.append({**key, **row, **about, "fill": fill.value})
        if progress is not None:
            progress(min(start + step, len(batch)), len(batch))
    if not rows:
        raise InputError(f"No method could be evaluated: {'; '.join(dict.fromkeys(refused.values()))}")
    frame = pd.DataFrame(rows)
    return Evaluation(frame.assign(size=int(batch[0, 0].numel())), named, refused, chosen)


@overload
def blurred(maps: Tensor, width: float) -> Tensor: ...
@overload
def blurred(maps: None, width: float) -> None: ...
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


def _regions(
    stack: Tensor,
    reading: Consistency,
    shuffled: Tensor | None,
    pair: Tensor | None,
    seeds: list[int],
    copies: Mapping[str, Tensor | None],
    single: Mapping[Control, Tensor],
    *,
    per_component: bool,
) -> tuple[list[list[Region]], Tensor]:
    """For each image, the regions of each arm; and the share of new pixels."""
    stack = stack.cpu()
    kept = reading(stack)
    beside = None if shuffled is None else reading(shuffled.cpu())
    others = {Control(c): reading(own.cpu()).scores for c, own in copies.items() if own is not None}
    others |= {control: own.to(stack) for control, own in single.items()}
    taken = orders(stack[0], kept.original, None if beside is None else beside.scores, pair, seeds, others)

    def drawn(arm: str, pixels: Tensor) -> list[Region]:
        found = hulls(pixels, per_component=per_component)
        counts, flat = pixels.flatten(1).sum(1).tolist(), found.degenerate.tolist()
        return [Region(arm, *of) for of in zip(counts, found.masks.numpy(), flat, strict=True)]

    arms = [drawn("original", kept.original), drawn("gad", kept.pixels)]
    if beside is not None:
        arms.append(drawn("shuffled", beside.pixels))
    # What the reading makes of the original network alone, its map clipped at zero: no distancing at all.
    arms.append(drawn("clipped", reading.original(stack[0].clamp(min=0))))
    shape = (int(stack.shape[2]), int(stack.shape[3]))
    for control, order in taken.items():
        for what in MATCHED:
            masks = [
                (
                    as_many(order[i], region.pixels, shape)
                    if what == "pixels"
                    else as_wide(order[i], int(region.mask.sum()), shape, per_component=per_component)
                )
                if not region.degenerate
                else np.zeros(shape, dtype=bool)
                for i, region in enumerate(arms[1])
            ]
            arms.append(drawn(f"{control.value} at equal {what}", torch.from_numpy(np.stack(masks))))
    # What only the original marks; itself never a hull.
    rest = [
        Region("supplementary", a.pixels - b.pixels, a.mask & ~b.mask, a.degenerate or b.degenerate)
        for a, b in zip(arms[0], arms[1], strict=True)
    ]
    return [list(regions) for regions in zip(*arms, rest, strict=True)], kept.new


def _measured(
    gad: "GAD",
    images: Tensor,
    before: Tensor,
    place: int,
    regions: list[list[Region]],
    fill: Fill,
    black: Tensor | None,
) -> Iterator[dict[str, Any]]:
    """What occluding each region does to the logit of the class at a place of the pair, and to that less the other."""
    listed = [(image, region) for image, found in enumerate(regions) for region in found]
    rows = torch.tensor([image for image, _ in listed])
    masks = torch.from_numpy(np.stack([region.mask for _, region in listed]))
    # Equal regions of an image are asked once: rounding must not tell two arms apart that take the same pixels.
    packed = np.packbits(masks.flatten(1).numpy(), axis=1)
    _, first, which = np.unique(np.c_[rows.numpy(), packed], axis=0, return_index=True, return_inverse=True)
    once = torch.from_numpy(first)
    after = torch.cat(
        [
            ask(gad.model, occlude(images[rows[part]].cpu(), masks[part], fill, black=black), gad.recipe.batch_size)
            for part in once.split(256)
        ]
    )[torch.from_numpy(which).flatten()]
    own, other = gad.classes[place], gad.classes[1 - place]
    areas = masks.flatten(1).sum(1)
    rs = sensitivity(before[rows, own], after[:, own], areas)
    rs_pair = sensitivity((before[:, own] - before[:, other])[rows], after[:, own] - after[:, other], areas)
    # The first region of each image is the original's.
    firsts = [0, *np.cumsum([len(found) for found in regions])[:-1].tolist()]
    rc = complexity(areas, areas[torch.tensor(firsts)[rows]])
    flat = torch.tensor([region.degenerate or regions[image][0].degenerate for image, region in listed])
    rc[flat] = torch.nan
    for number, (image, region) in enumerate(listed):
        yield {
            "image": image,
            "arm": region.arm,
            "pixels": region.pixels,
            "area": int(areas[number]),
            "rc": float(rc[number]),
            "degenerate": region.degenerate,
            "change": float(before[image, own] - after[number, own]),
            "rs": float("nan") if region.degenerate else float(rs[number]),
            "rs pair": float("nan") if region.degenerate else float(rs_pair[number]),
        }
