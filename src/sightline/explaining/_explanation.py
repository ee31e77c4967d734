"""An explanation: raw maps, what they explain, and the checks they carry."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save as serialised
from torch import Tensor

from sightline._common.equality import Compared
from sightline._common.renderers import render
from sightline._common.words import counted
from sightline.aggregation import Placement, resized
from sightline.errors import InputError, RefusalError
from sightline.explaining._captions import caption
from sightline.explaining._checks import Checks
from sightline.explaining._explained import Explained, class_name
from sightline.explaining._manifest import (
    BOX,
    FORMAT,
    ORIGINAL_SIZE,
    PICTURES,
    ImageEntry,
    Manifest,
    write_maps,
)
from sightline.explaining._method_record import method_record
from sightline.explaining._saved import read
from sightline.methods import Method
from sightline.models import OutputKind

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


@dataclass(frozen=True, repr=False, eq=False)
class Explanation(Compared):
    """Raw, signed saliency maps of a batch of images.

    Index it with a method's name for the raw map: input-space methods (batch, channel, height, width) like the
    images, class activation maps (batch, 1, h, w) of their layer.

    Attributes:
        images: shape (batch, channel, height, width): the encoded images that were explained.
        names: a name for each image.
        explained: what is explained for each image; `targets` says it in words.
        values: shape (batch,): the explained value (a logit, unless the target says otherwise).
        output: what the model's outputs are, and how they are read.
        predicted: shape (batch,): the class or label of the highest score; None where the model gives no scores of
            either, as in regression.
        probabilities: shape (batch,): the probability of the predicted class or label, see `output`.
        methods: the methods, by name.
        refused: for each method without a map, why.
        layers: for each method that reads a layer, which one.
        placements: for each method that reads a layer, where the cells of its map lie in the image.
        checks: see `Checks`.
        class_names: a name for each class, or empty.
        display: shape (batch, height, width, 3), 0 to 1: the images as a person sees them.
        boxes: for each image, the part of the original that the maps cover (left, top, right, bottom; pixels).
        sizes: for each image, the original's (width, height).
        image_notes: for each image, what was done to it beyond resizing and cropping.
        paths: for each image, its file; empty for a tensor.
        maps: the raw map of each method.
    """

    images: Tensor
    names: Sequence[str]
    explained: Sequence[Explained]
    values: Tensor
    output: OutputKind
    predicted: Tensor | None
    probabilities: Tensor | None
    methods: Mapping[str, Method]
    refused: Mapping[str, str]
    layers: Mapping[str, str]
    placements: Mapping[str, Placement]
    checks: Checks
    class_names: Sequence[str]
    display: np.ndarray[Any, np.dtype[np.floating[Any]]]
    boxes: Sequence[tuple[float, float, float, float]]
    sizes: Sequence[tuple[int, int]]
    image_notes: Sequence[Sequence[str]]
    paths: Sequence[str]
    maps: Mapping[str, Tensor]

    def __repr__(self) -> str:
        refused = f", refused: {', '.join(self.refused)}" if self.refused else ""
        return f"Explanation({counted(len(self), 'image')}, maps: {', '.join(self.maps)}{refused})"

    def __getitem__(self, method: str) -> Tensor:
        return map_of(self.maps, self.refused, method)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def targets(self) -> list[str]:
        """What is explained for each image, in words."""
        return [one.describe(self.output.noun) for one in self.explained]

    def subset(self, images: Sequence[int]) -> "Explanation":
        """The same explanation of some of its images; the checks stay those of the whole."""
        rows = [range(len(self))[int(row)] for row in images]

        def pick(values: Sequence[Any]) -> list[Any]:
            return [values[row] for row in rows]

        return replace(
            self,
            images=self.images[rows],
            names=pick(self.names),
            explained=pick(self.explained),
            values=self.values[rows],
            predicted=None if self.predicted is None else self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            display=self.display[rows],
            boxes=pick(self.boxes),
            sizes=pick(self.sizes),
            image_notes=pick(self.image_notes),
            paths=pick(self.paths),
            maps={name: tensor[rows] for name, tensor in self.maps.items()},
        )

    def heatmap(self, method: str) -> Float[Tensor, "batch height width"]:
        """The map at the image's size with its channels joined; `heatmap_steps` says how.

        Raises:
            InputError: there is no such map.
            RefusalError: the method was refused.
        """
        joined = self[method]
        if joined.shape[1] > 1:
            joined = joined.amax(1, keepdim=True) if self._reduction(method) == "max" else joined.mean(1, keepdim=True)
        if method in self.placements:
            joined = self.placements[method].draw(joined)
        elif joined.shape[2:] != self.images.shape[2:]:
            joined = resized(joined, (int(self.images.shape[2]), int(self.images.shape[3])))
        return joined.squeeze(1)

    def heatmap_steps(self, method: str) -> tuple[str, ...]:
        """What `heatmap` does to the raw map of a method, in order."""
        shape, size, placement = self[method].shape, self.images.shape[2:], self.placements.get(method)
        steps = []
        if shape[1] > 1:
            steps.append(f"{self._reduction(method)} over {shape[1]} channels")
        if placement is not None and not placement.covers_evenly():
            steps.append(f"bilinear between {shape[2]}x{shape[3]} cells, {placement.describe()}")
        elif shape[2:] != size:
            steps.append(f"bilinear from {shape[2]}x{shape[3]} to {size[0]}x{size[1]} pixels, corners not aligned")
        return tuple(steps)

    def _reduction(self, method: str) -> str:
        return self.methods[method].reduction

    def caption(self, image: int) -> str:
        """Name and what the model says, for one image.

        Of classes that is the predicted one with its probability, and what is explained where that is another; of
        labels and values the explained one: `P(Effusion) = 5%`, `Omega_m = 0.31`.
        """
        return caption(
            self.names[image],
            self.explained[image],
            float(self.values[image].detach().double()),
            None if self.predicted is None else int(self.predicted[image]),
            None if self.probabilities is None else float(self.probabilities[image]),
            self.output,
            self.class_names,
        )

    def show(
        self, images: Sequence[int] | None = None, *, overlay: float | int = 0.4, tile: float | int = 2.0
    ) -> "Figure":
        """The images and their maps side by side, as a matplotlib figure.

        Args:
            images: numbers of the images to show; by default the first ones, up to twelve.
            overlay: how much of the picture shows under a map, from 0 (none: zero is white) to 1.
            tile: width of a picture in inches.

        Raises:
            InputError: there is no such image, or a number is out of its range.
        """
        figure: Figure = render(self, "figure", images, overlay=float(overlay), tile=float(tile))
        return figure

    def overlay(self, method: str, image: int = 0, *, overlay: float | int = 0.4) -> "Image":
        """A map over its picture at the picture's full size, a pixel for each pixel that the model saw.

        `explanation.overlay("grad_cam").save("overlay.png")` writes it. Red speaks for the explained value, blue
        against it; orange is the amount, where a map has no sign. Colours end at the map's 98th percentile of
        magnitude.

        Args:
            method: whose map.
            image: number of the image.
            overlay: how much of the picture shows under the map, from 0 (none: zero is white) to 1.

        Raises:
            InputError: there is no such map or image, or a number is out of its range.
            RefusalError: the method was refused.
        """
        picture: Image = render(self, "overlay", method, image, float(overlay))
        return picture

    def _repr_html_(self) -> str:
        return str(render(self, "html"))

    @property
    def bibliography(self) -> str:
        """Whom to cite for these methods, in BibTeX."""
        return str(render(self, "bibliography"))

    def save(self, folder: str | Path) -> Path:
        """Write `maps.safetensors`, `manifest.json`, `pictures.safetensors` and `montage.png` into a folder.

        The folder is made if need be; `load` reads it, and `sightline report` makes a page of it.

        Raises:
            InputError: the folder cannot be written.
        """
        files = {**render(self, "files"), PICTURES: self.save_pictures}
        return write_maps(folder, self.maps, self.manifest(), files)

    @classmethod
    def load(cls, folder: str | Path) -> "Explanation":
        """Read what `save` wrote.

        Maps and images come back bit for bit, and with them names, targets, values, predictions, refusals, layers and
        checks. Not restored: the books of relevance and FullGrad's decomposition by image (`checks.conservation`,
        `checks.decomposition`), of which the manifest has means; `display` beyond eight bits; and, of methods that the
        catalogue does not have, cost, coincidences, and choices that no manifest can hold (rules of one's own,
        baselines and references that are tensors). Such a choice comes back by its name alone, and refuses to be used.

        Raises:
            InputError: the folder holds no explanation, a damaged one, or one that a later version wrote.
        """
        return cls(**read(Path(folder)))

    def save_pictures(self, path: Path) -> None:
        """Write the images.

        `pictures`, shape (batch, height, width, 3), of eight bits: as a person sees them; `images`: as the model does.
        """
        seen = torch.from_numpy(np.ascontiguousarray((self.display * 255).round().clip(0, 255).astype(np.uint8)))
        path.write_bytes(serialised({"pictures": seen, "images": self.images.detach().cpu().contiguous()}))

    def manifest(self) -> Manifest:
        """What was explained, with which settings, and where each map lies in original pixels; ready for JSON."""
        return {
            "format": FORMAT,
            "images": [self._image(index) for index in range(len(self))],
            "original_size": ORIGINAL_SIZE,
            "box": BOX,
            "methods": {name: self._method(name) for name in self.methods},
            "output": asdict(self.output),
            "class_names": [str(name) for name in self.class_names],
            "notes": list(self.checks.notes),
            "settings": dict(self.checks.settings),
        }

    def _image(self, index: int) -> ImageEntry:
        entry: ImageEntry = {
            "name": self.names[index],
            "caption": self.caption(index),
            "target": self.explained[index].record(),
            "explained": self.targets[index],
            "explained_name": self.explained[index].named(self.output, self.class_names),
            "value": float(self.values[index]),
            "original_size": list(self.sizes[index]),
            "file": self.paths[index],
            "box": list(self.boxes[index]),
        }
        if self.image_notes[index]:
            entry["notes"] = list(self.image_notes[index])
        if self.predicted is not None and self.probabilities is not None:
            entry["predicted"] = label = int(self.predicted[index])
            entry["predicted_name"] = class_name(label, self.output, self.class_names)
            entry["probability"] = float(self.probabilities[index])
        return entry

    def _method(self, name: str) -> dict[str, Any]:
        entry = method_record(self.methods[name])
        if name in self.refused:
            entry["refused"] = self.refused[name]
        else:
            entry |= {"shape": list(self.maps[name].shape), "heatmap": list(self.heatmap_steps(name))}
            entry |= self.checks.record(name)
        if name in self.layers:
            entry["layer"] = self.layers[name]
        if name in self.placements:
            entry["placement"] = self.placements[name].record()
        return entry


def map_of(maps: Mapping[str, Tensor], refused: Mapping[str, str], method: str) -> Tensor:
    """The map of a method.

    Raises:
        InputError: there is no such map.
        RefusalError: the method was refused.
    """
    if method in refused:
        raise RefusalError(refused[method])
    if method not in maps:
        raise InputError(f"There is no map of {method!r} here; there are: {', '.join(maps)}.")
    return maps[method]
