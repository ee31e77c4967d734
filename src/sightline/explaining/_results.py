"""What a job found, before it becomes an `Explanation`."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.aggregation import Placement, Remark
from sightline.explaining._decomposition import Decomposition
from sightline.operations import Growth, Operation, Rounding


@dataclass(frozen=True)
class Flow:
    """What became of relevance on its way from the explained value to the map.

    Attributes:
        operations: the operations that shared it out, from the value backwards.
        amounts: shape (operation, image, 3): what each received, handed on, and gave to biases and other constants.
            What is missing went to the stabiliser and to rounding. NaN where results are not one per image.
    """

    operations: tuple[str, ...]
    amounts: Tensor


@dataclass
class Results:
    """What a job found for one target.

    Attributes:
        maps: the raw map of each method, on the images' device.
        refused: for each method without a map, the reason.
        values: shape (image,): the explained value of each image.
        scores: shape (image, class): the class scores, where the output has them.
        operations: for each method, how many operations were ruled, passed and not covered.
        completeness: for each method that promises it, what its sum misses, per image.
        evaluations: for each method that chooses where to ask, how often it asked for each image.
        rounding: for each method that divides relevance by results of low precision, the largest rounding it met.
        growth: for each method whose relevance can grow only at adds, where it grows most.
        flows: for each method that shares out relevance, where it went.
        decompositions: for each method that draws the value's exact decomposition, its figures.
        remarks: for each method that looks for it, what about its layer makes choices coincide there.
        where: for each method that reads a layer, the module that layer turned out to be.
        placements: for each method that reads a layer, where the cells of its map lie in the image.
        chunks: for each sampling, the rows of its passes.
        ends_in: the operation that turned scores into probabilities, where nothing but reshaping came after it.
        combines: the name of the operation whose results were averaged, added or multiplied into the scores.
    """

    maps: dict[str, Tensor] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    scores: Tensor | None = None
    operations: dict[str, dict[str, int]] = field(default_factory=dict)
    completeness: dict[str, Tensor] = field(default_factory=dict)
    evaluations: dict[str, Tensor] = field(default_factory=dict)
    rounding: dict[str, Rounding] = field(default_factory=dict)
    growth: dict[str, Growth] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    decompositions: dict[str, Decomposition] = field(default_factory=dict)
    remarks: dict[str, frozenset[Remark]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    placements: dict[str, Placement] = field(default_factory=dict)
    chunks: dict[str, list[int]] = field(default_factory=dict)
    ends_in: Operation | None = None
    combines: str | None = None
