"""What the original network and its support networks agree on, for some images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from sightline._common.equality import Compared
from sightline._common.renderers import render
from sightline._common.words import counted
from sightline.explaining import FORMAT, PICTURES, Explanation, map_of, write_maps
from sightline.gad._consistency import Consistency, Consistent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False)
class GADExplanation(Compared):
    """Saliency maps that keep only what stays important when two classes are pushed apart.

    Index it with a method's name for the map, shape (batch, 1, height, width): the score of a pixel that stays, 0
    elsewhere.

    Attributes:
        original: the explanation of the original network.
        stacks: for each method, the heatmaps of the original network (first) and of each support network, shape
            (network, batch, height, width).
        reading: what "stays important" means.
        refused: for each method without a map, why.
        notes: what a reader should know first.
        settings: how the support networks were trained.
    """

    original: Explanation
    stacks: Mapping[str, Float[Tensor, "network batch height width"]]
    reading: Consistency
    refused: Mapping[str, str]
    notes: Sequence[str]
    settings: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"GADExplanation({counted(len(self), 'image')}, {self.reading.reading}, maps: {', '.join(self.stacks)})"

    def __len__(self) -> int:
        return len(self.original)

    def __getitem__(self, method: str) -> Float[Tensor, "batch 1 height width"]:
        return self.consistent(method).heatmaps[:, None]

    def heatmap(self, method: str) -> Float[Tensor, "batch height width"]:
        """The map without its channel axis."""
        return self.consistent(method).heatmaps

    def consistent(self, method: str) -> Consistent:
        """What stayed important, with the pixels themselves and the share of new ones.

        Raises:
            InputError: there is no such map.
            RefusalError: the method was refused.
        """
        return self.reading(map_of(self.stacks, self.refused, method))

    def read(self, reading: Consistency) -> "GADExplanation":
        """The same maps under another reading of "stays important"."""
        return replace(self, reading=reading)

    def subset(self, images: Sequence[int]) -> "GADExplanation":
        """The same explanation of some of its images."""
        rows = [range(len(self))[int(row)] for row in images]
        stacks = {name: stack[:, rows] for name, stack in self.stacks.items()}
        return replace(self, original=self.original.subset(rows), stacks=stacks)

    def show(self) -> "Figure":
        """Original maps and what stays of them, side by side, as a matplotlib figure (the first images)."""
        figure: Figure = render(self, "figure")
        return figure

    def _repr_html_(self) -> str:
        return str(render(self, "html"))

    @property
    def bibliography(self) -> str:
        """Whom to cite for GAD and for these methods, in BibTeX."""
        return str(render(self, "bibliography"))

    def save(self, folder: str | Path) -> Path:
        """Write `maps.safetensors`, `manifest.json`, `pictures.safetensors` and `gad.png` into a folder.

        The folder is made if need be; `sightline report` makes a page of it. The maps are what stays in all networks
        (`METHOD`), and those of each network (`METHOD/0` of the original, `METHOD/1` of the first support network).

        Raises:
            InputError: the folder cannot be written.
        """
        maps = {name: self[name] for name in self.stacks}
        for name, stack in self.stacks.items():
            maps |= {f"{name}/{number}": one[:, None].clone() for number, one in enumerate(stack)}
        files = {**render(self, "files"), PICTURES: self.original.save_pictures}
        return write_maps(folder, maps, self.manifest(), files)

    @property
    def networks(self) -> list[str]:
        """The networks of a stack in words, in order."""
        steps = self.settings.get("alphas") or ()
        return ["original", *(f"alpha {a:g}" if a == b else f"alpha {a:g}, {b:g}" for a, b in steps)]

    def manifest(self) -> dict[str, Any]:
        """What was explained and how, ready for JSON."""
        images = self.original.manifest()["images"]
        methods = {}
        for name in self.stacks:
            found = self.consistent(name)
            methods[name] = {
                "pixels": found.pixels.flatten(1).sum(1).tolist(),
                "pixels originally": found.original.flatten(1).sum(1).tolist(),
                "new": found.new.tolist(),
            }
        return {
            "format": FORMAT,
            "images": images,
            "networks": self.networks,
            "methods": methods,
            "refused": dict(self.refused),
            "reading": {
                "reading": str(self.reading.reading),
                "share": self.reading.share,
                "allow_new": self.reading.allow_new,
            },
            "notes": list(self.original.checks.notes),
            "notes on the networks": [note for note in self.notes if note not in self.original.checks.notes],
            "gad": dict(self.settings),
            "settings": dict(self.original.checks.settings),
        }


class Controlled(NamedTuple):
    """GAD's explanations beside those that it has to be better than, each for the same targets.

    Attributes:
        gad: by the networks that push the two classes apart.
        shuffled: by those that were distanced with shuffled labels; none where they were not trained.
        pair: what the original network itself says of why one class and not the other; none where no method tells.
        copies: by control, consistency with other copies of the network.
        single: by control, one method's explanations of the pair by the original network.
        missing: for each control that this network has none of, why.
    """

    gad: list[GADExplanation]
    shuffled: list[GADExplanation]
    pair: list[Explanation]
    copies: Mapping[str, list[GADExplanation]]
    single: Mapping[str, list[Explanation]]
    missing: Mapping[str, str]
