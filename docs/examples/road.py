"""ROAD, remove and debias, as a question of an audit: one file of a user's own.

Removing pixels by one colour leaves an outline that a network can read. ROAD (Rong et al. 2022, arXiv 2202.00449) puts
at each removed pixel the weighted mean of its eight neighbours, 1/6 for those beside it and 1/12 for the diagonal ones,
solved for all removed pixels at once, and a little noise.

    sightline audit MODEL IMAGES --tests road.py:Road,stability
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve
from torch import Tensor

from sightline.auditing import Block, Question, Rule, Score
from sightline.evaluation import curve

NEIGHBOURS = [((y, x), 1 / 12 if y and x else 1 / 6) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]


def imputed(image: Tensor, removed: Tensor) -> Tensor:
    """An image whose removed pixels are the weighted means of their neighbours.

    Args:
        image: shape (channel, height, width).
        removed: shape (height, width): truth values.
    """
    if not bool(removed.any()):
        return image
    if bool(removed.all()):
        return image.mean((1, 2), keepdim=True).expand_as(image)
    values, mask = image.detach().cpu().double().numpy(), removed.cpu().numpy()
    height, width = mask.shape
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    rows, columns, weights = [number[mask]], [number[mask]], [np.zeros(mask.sum())]
    known = np.zeros((mask.sum(), len(values)))
    y, x = mask.nonzero()
    for (dy, dx), weight in NEIGHBOURS:
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        own, there = number[y[inside], x[inside]], (y[inside] + dy, x[inside] + dx)
        # The sum of weights on the diagonal: weight * (this pixel - its neighbour) adds up to 0.
        weights[0][own] += weight
        unknown = mask[there]
        rows.append(own[unknown])
        columns.append(number[there][unknown])
        weights.append(np.full(unknown.sum(), -weight))
        known[own[~unknown]] += weight * values[:, there[0], there[1]].T[~unknown]
    entries = np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))
    solved = spsolve(coo_array(entries, (len(known), len(known))).tocsc(), known).reshape(known.shape)
    values[:, mask] = solved.T
    return torch.from_numpy(values).to(image)


@dataclass(frozen=True)
class Road(Question):
    """Whether the score falls more as the highest pixels of a map are removed and imputed than as the lowest are.

    The areas under both curves; their difference is judged, whose sign the order of the pixels alone decides.

    Attributes:
        steps: of each curve.
        noise: standard deviation of the noise at removed pixels, as a share of that of the image.
    """

    name: ClassVar[str] = "road"
    caption: ClassVar[str] = "Does the score fall more as the map's highest pixels are removed than as its lowest are?"
    cites: ClassVar[Sequence[str]] = (
        "@inproceedings{rong2022road,\n"
        "  title = {A Consistent and Efficient Evaluation Strategy for Attribution Methods},\n"
        "  author = {Rong, Yao and Leemann, Tobias and Borisov, Vadim and Kasneci, Gjergji and Kasneci, Enkelejda},\n"
        "  booktitle = {International Conference on Machine Learning},\n"
        "  year = {2022},\n"
        "  eprint = {2202.00449}\n"
        "}",
    )
    steps: int = 5
    noise: float = 0.01

    @property
    def rules(self) -> Sequence[Rule]:
        words = "the score falls more as the map's highest pixels are removed and imputed than as its lowest are"
        return (Rule(self.name, "imputed", "difference", 0.0, False, words, floor=0.0, ceiling=1.0),)

    def map_sets(self, outputs: int) -> int:
        return 0

    def scores(self, block: Block, on_progress: Callable[[str], None]) -> Iterator[Score]:
        images = block.tensor
        drawn = [torch.randn(images[0].shape, generator=generator) for generator in block.generators("road")]
        noise = torch.stack(drawn).to(images) * images.std((1, 2, 3), keepdim=True) * self.noise

        def state(removed: Tensor) -> Tensor:
            pairs = zip(images, removed, strict=True)
            return torch.stack([imputed(image, pixels) for image, pixels in pairs]) + noise * removed[:, None]

        for method, maps in block.base.items():
            on_progress(f"pixels of {method} imputed")
            most, least = (curve(block.explained, state, one, steps=self.steps).area for one in (maps, -maps))
            for measure, values in (("most", most), ("least", least), ("difference", least - most)):
                yield from block.each(self.name, "imputed", method, measure, values)
