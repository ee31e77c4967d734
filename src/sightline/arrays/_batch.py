"""Pictures prepared as a network wants them, with where they came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sightline._common.equality import Compared
from sightline._common.renderers import render
from sightline._common.words import counted
from sightline.arrays._levels import Levels, warnings
from sightline.models import Box, Preprocessing

_SHOWN = 4


@dataclass(frozen=True, eq=False, repr=False)
class ImageBatch(Compared):
    """Pictures as network inputs; ``batch[3]``, ``batch[2:5]`` and ``batch[[0, 4]]`` are batches too.

    Attributes:
        tensor: The network's input, float32.
        names: One name per picture: unique, and relative to the folder that all of them share.
        paths: The files.
        labels: The name of each picture's class folder, or None.
        sizes: Width and height of each original in pixels, turned as its EXIF orientation says.
        boxes: The region of the original that the tensor shows: left, top, right and bottom in the original's
            pixels.
        notes: What was done to each picture beyond resizing and cropping, in sentences.
        preprocessing: How the pictures became numbers.
        failures: The files that could not be used and why; a selection keeps those of the whole.
        levels: Black and white of each picture in the units of its file, None where it has 8 bits.
        cut: How many of the pictures have more than 8 bits, of which only 8 could be read.
        ignored: Files in the folders that have no suffix of a picture.
    """

    tensor: Float[Tensor, "batch channel height width"]
    names: list[str]
    paths: list[Path]
    labels: list[str | None]
    sizes: list[tuple[int, int]]
    boxes: list[Box]
    notes: list[list[str]]
    preprocessing: Preprocessing
    failures: list[tuple[Path, str]] = field(default_factory=list)
    levels: list[Levels | None] = field(default_factory=list)
    cut: int = 0
    ignored: list[Path] = field(default_factory=list)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.tensor.shape[1:]))
        named = ", ".join(self.names[:_SHOWN]) + (", ..." if len(self) > _SHOWN else "")
        failed = f", {len(self.failures)} not usable" if self.failures else ""
        warned = "".join(f"\nWarning: {sentence}" for sentence in self.warnings)
        return f"ImageBatch({counted(len(self), 'image')} of {shape}: {named}{failed}){warned}"

    def _repr_html_(self) -> str:
        return str(render(self, "html"))

    @property
    def warnings(self) -> list[str]:
        """What must be known before these pictures are explained: values that fill a small part of their range."""
        return warnings(self.levels, self.cut)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: SupportsIndex | slice | Sequence[int]) -> "ImageBatch":
        if isinstance(index, slice):
            chosen = list(range(len(self))[index])
        else:
            # Looking positions up in a range turns negative ones round and refuses those outside.
            wanted = [index] if isinstance(index, SupportsIndex) else index
            chosen = [range(len(self))[position] for position in wanted]
        return replace(
            self,
            tensor=self.tensor[chosen],
            names=[self.names[i] for i in chosen],
            paths=[self.paths[i] for i in chosen],
            labels=[self.labels[i] for i in chosen],
            sizes=[self.sizes[i] for i in chosen],
            boxes=[self.boxes[i] for i in chosen],
            notes=[self.notes[i] for i in chosen],
            levels=[self.levels[i] for i in chosen] if self.levels else [],
        )

    def display(self) -> Float[np.ndarray, "batch height width 3"]:
        """The pictures to look at, as the network sees them: RGB values in 0..1."""
        return self.preprocessing.decode(self.tensor)
