"""Creatures by the thousand: pictures, labels, and the truth about what decides the label."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from scipy.ndimage import binary_dilation
from torch import Tensor

from sightline.demo.creatures._creature import PARTS, VARIANTS, Creature, Part, elsewhere, invent
from sightline.demo.creatures._drawing import check_size, masks, paint
from sightline.errors import InputError

Task = Literal["both", "ears", "tail"]
DECIDING: dict[Task, tuple[Part, ...]] = {"both": PARTS, "ears": ("ears",), "tail": ("tail",)}
"""The parts that decide the label of each task."""
CLASS_NAMES: dict[Task, tuple[str, ...]] = {
    "both": tuple(f"{ears} ears, {tail} tail" for ears in VARIANTS["ears"] for tail in VARIANTS["tail"]),
    "ears": tuple(f"{variant} ears" for variant in VARIANTS["ears"]),
    "tail": tuple(f"{variant} tail" for variant in VARIANTS["tail"]),
}
"""The names of each task's classes, in the order of the labels."""

_RING = 3 / 64  # in picture sides: what a couple of 3x3 convolutions see beyond a part's edge


def encode(pixels: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch 3 height width"]:
    """Turns bytes into what a network takes: (byte - 128) / 64, so that the byte of mid grey is exactly nothing."""
    return pixels.permute(0, 3, 1, 2).float().sub_(128).div_(64)


def label_of(creature: Creature, task: Task) -> int:
    """The class of a creature in a task, as an index into `CLASS_NAMES[task]`."""
    label = 0
    for part in DECIDING[task]:
        label = 2 * label + getattr(creature, part)
    return label


@dataclass(frozen=True)
class Grid:
    """Four creatures in one picture, so that a map must tell the classes apart.

    Attributes:
        pixels: The picture in bytes, two tiles by two.
        image: The same, encoded.
        cells: For each class, the tiles that show it.
        deciding: For each class, the deciding parts in its tiles.
        creature_masks: For each class, the creatures in its tiles.
    """

    pixels: UInt8[Tensor, "height width 3"]
    image: Float[Tensor, "3 height width"]
    cells: Bool[Tensor, "classes height width"]
    deciding: Bool[Tensor, "classes height width"]
    creature_masks: Bool[Tensor, "classes height width"]


class Creatures:
    """Drawn pictures in which the parts that decide the class are known, pixel by pixel.

    The same seed gives the same pictures for every task, count and kind of labels. Labels are as even as
    the count allows. Masks are drawn when first asked for.

    Args:
        count: How many pictures.
        seed: Chooses the pictures; picture i depends on the seed and on i alone.
        size: Side of the square pictures, in pixels.
        task: Whether ears, tail, or both (four classes) decide the label.
        shuffled_labels: Whether labels are given out without regard to the picture, as evenly as before.
        null_share: Share of the pictures whose parts are painted in a null colour, grey or black.

    Attributes:
        creatures: The parameters of each picture; `creatures[i].null` tells the null colour, if any.
        labels: The class of each picture.

    Raises:
        InputError: If the count is not positive, the size below 16 pixels, the task unknown, or the share not
            a probability.
    """

    creatures: tuple[Creature, ...]
    labels: Int64[Tensor, " batch"]

    def __init__(
        self,
        count: int,
        seed: int,
        size: int = 64,
        task: Task = "both",
        shuffled_labels: bool = False,
        null_share: float = 0.15,
    ) -> None:
        if count < 1:
            raise InputError(f"At least one creature is needed, but {count} were asked for.")
        if task not in DECIDING:
            raise InputError(f"The task must be one of {', '.join(DECIDING)}, but {task!r} was given.")
        check_size(size)
        self.seed, self.size, self.task = seed, size, task
        self.shuffled_labels, self.null_share = shuffled_labels, null_share
        variants = _even(count, f"{seed}/class")
        self.creatures = tuple(
            invent(variant // 2, variant % 2, random.Random(f"{seed}/{index}"), null_share)
            for index, variant in enumerate(variants)
        )
        noise = [variant % len(self.class_names) for variant in _even(count, f"{seed}/shuffled")]
        self.labels = torch.tensor(noise if shuffled_labels else [label_of(c, task) for c in self.creatures])

    def __len__(self) -> int:
        return len(self.creatures)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the task's classes."""
        return CLASS_NAMES[self.task]

    @property
    def deciding_parts(self) -> tuple[Part, ...]:
        """The parts that decide the label."""
        return DECIDING[self.task]

    @cached_property
    def pixels(self) -> UInt8[Tensor, "batch height width 3"]:
        """The pictures in bytes."""
        return torch.from_numpy(np.stack([paint(creature, self.size) for creature in self.creatures]))

    @cached_property
    def images(self) -> Float[Tensor, "batch 3 height width"]:
        """The pictures as a network takes them (`encode`)."""
        return encode(self.pixels)

    @cached_property
    def _masks(self) -> Bool[Tensor, "batch 3 height width"]:
        return torch.from_numpy(np.stack([np.stack(masks(creature, self.size)) for creature in self.creatures]))

    @property
    def deciding(self) -> Bool[Tensor, "batch height width"]:
        """Every pixel in which a picture and its twins may differ: the deciding parts, in either variant."""
        return self._masks[:, [PARTS.index(part) for part in self.deciding_parts]].any(dim=1)

    @cached_property
    def ring(self) -> Bool[Tensor, "batch height width"]:
        """The surroundings of `deciding`, without it: evidence may spill there through a receptive field."""
        deciding, width = self.deciding, max(1, round(_RING * self.size))
        grown = binary_dilation(deciding.numpy(), structure=np.ones((1, 3, 3), dtype=bool), iterations=width)
        return torch.from_numpy(grown) & ~deciding

    @property
    def creature_masks(self) -> Bool[Tensor, "batch height width"]:
        """Every pixel of the creature, its parts included (both variants)."""
        return self._masks[:, len(PARTS)]

    def part_masks(self, part: Part) -> Bool[Tensor, "batch height width"]:
        """Every pixel that either variant of one part touches, whether or not it decides the label."""
        return self._masks[:, PARTS.index(_known(part))]

    def twins(self, part: Part) -> "Creatures":
        """The same pictures with only one part swapped for its other variant; shuffled labels stay."""
        _known(part)
        return self._redrawn(replace(c, **{part: 1 - getattr(c, part)}) for c in self.creatures)

    def elsewhere(self, seed: int, keep: Sequence[Part] = PARTS) -> "Creatures":
        """The same variants of the kept parts, and everything else swapped.

        Args:
            seed: Chooses all that is drawn anew.
            keep: The parts whose variants stay; the other parts are swapped for their other variant.

        Returns:
            As many creatures, which share nothing but these variants with the old ones.

        Raises:
            InputError: If a kept part is neither ears nor tail.
        """
        for part in keep:
            _known(part)
        swapped: dict[str, bool] = {part: part not in keep for part in PARTS}
        return self._redrawn(
            elsewhere(
                replace(creature, ears=creature.ears ^ swapped["ears"], tail=creature.tail ^ swapped["tail"]),
                random.Random(f"{self.seed}/{index}/elsewhere/{seed}"),
                self.null_share,
            )
            for index, creature in enumerate(self.creatures)
        )

    def without_parts(self) -> Float[Tensor, "batch 3 height width"]:
        """The encoded pictures with `deciding` painted over by what lies behind it: nothing decides any more."""
        bare = [paint(creature, self.size, without=self.deciding_parts) for creature in self.creatures]
        return encode(torch.where(self.deciding[..., None], torch.from_numpy(np.stack(bare)), self.pixels))

    def grid(self, index: int = 0) -> Grid:
        """Four of the creatures as two tiles by two: one of each class, or two of each of two classes.

        Args:
            index: Which grid; each takes the next creatures of every class, in tiles of its own order.

        Returns:
            The picture, with masks by class.

        Raises:
            InputError: If there are too few creatures of some class for that many grids, or the index is negative.
        """
        classes = range(len(self.class_names))
        each = 4 // len(classes)
        chosen = [torch.nonzero(self.labels == k).flatten()[index * each :][:each].tolist() for k in classes]
        if index < 0 or any(len(members) < each for members in chosen):
            raise InputError(
                f"Grid {index} needs {each} further creatures of each class, and these {len(self)} do not have them; "
                "draw more creatures, or ask for an earlier grid."
            )
        tiles = random.Random(f"{self.seed}/grid/{index}").sample([one for members in chosen for one in members], 4)
        own = torch.stack([self.labels[tiles] == k for k in classes])[..., None, None]
        pixels = _tiled(self.pixels[tiles].permute(3, 0, 1, 2)).permute(1, 2, 0)
        shown = own.expand(-1, -1, self.size, self.size)
        return Grid(
            pixels=pixels,
            image=encode(pixels[None])[0],
            cells=_tiled(shown),
            deciding=_tiled(own & self.deciding[tiles]),
            creature_masks=_tiled(own & self.creature_masks[tiles]),
        )

    def _redrawn(self, creatures: Iterable[Creature]) -> "Creatures":
        other = object.__new__(Creatures)
        other.seed, other.size, other.task = self.seed, self.size, self.task
        other.shuffled_labels, other.null_share = self.shuffled_labels, self.null_share
        other.creatures = tuple(creatures)
        labels = [label_of(creature, self.task) for creature in other.creatures]
        other.labels = self.labels if self.shuffled_labels else torch.tensor(labels)
        return other


def _known(part: Part) -> Part:
    if part not in PARTS:
        raise InputError(f"A part is one of {' and '.join(PARTS)}, but {part!r} was given.")
    return part


def _even(count: int, seed: str) -> list[int]:
    """Numbers 0..3, each four in a row a shuffle of all, so that a longer list begins with the shorter one."""
    rng = random.Random(seed)
    return [number for _ in range(-(-count // 4)) for number in rng.sample(range(4), 4)][:count]


def _tiled(tiles: Tensor) -> Tensor:
    """Lays four tiles (leading, 4, side, side) out as two by two."""
    side = tiles.shape[-1]
    return tiles.reshape(-1, 2, 2, side, side).transpose(2, 3).reshape(-1, 2 * side, 2 * side)
