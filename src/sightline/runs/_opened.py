"""Results of a run, read when they are asked for."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from sightline._common.words import counted
from sightline.errors import InputError, RefusalError
from sightline.runs._pictures import Picture, pictures_of
from sightline.runs._store import Store

if TYPE_CHECKING:
    import zarr


class Run:
    """The results of `sightline run`, finished or not.

    Args:
        store: where they are.

    Attributes:
        settings: what was asked of which model and images, ready for JSON.
    """

    def __init__(self, store: Store) -> None:
        if not store.manifest and store.place.names("sums"):
            raise InputError(
                f"{store.place.url} has lost manifest.json. Give the command of the run again: it takes what is whole "
                "and was made of the same model and images."
            )
        if not store.manifest:
            raise InputError(f"{store.place.url} holds no run. Name the folder that `sightline run` wrote to.")
        self._store = store
        self.settings: dict[str, Any] = store.manifest

    def __repr__(self) -> str:
        left = "" if self.complete else f", {counted(self.missing, 'chunk')} missing"
        return f"Run({len(self)} images, methods: {', '.join(self.methods)}, targets: {', '.join(self.targets)}{left})"

    def __len__(self) -> int:
        return int(self.settings["count"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.place == other.place

    def __hash__(self) -> int:
        return hash(self.place)

    def __reduce__(self) -> tuple[Any, ...]:
        # Open files and locks stay here; who unpickles it opens the same place.
        return open_run, (self.place,)

    @property
    def place(self) -> str:
        """Where the results are."""
        return self._store.place.url

    @property
    def methods(self) -> list[str]:
        """Methods that have maps of some target."""
        return list(dict.fromkeys(method for own in self.settings["shapes"].values() for method in own))

    @property
    def targets(self) -> list[str]:
        """What is explained, as the recipe says it."""
        return list(dict.fromkeys(target for pairs in self._store.tasks.values() for target, _ in pairs))

    @property
    def refused(self) -> dict[str, dict[str, str]]:
        """For each target the methods that the model refuses, and why."""
        return {target: dict(own) for target, own in self.settings["refused"].items()}

    @property
    def missing(self) -> int:
        """Chunks that are not done."""
        return len(self._store.missing())

    @property
    def complete(self) -> bool:
        """Whether all is done."""
        return not self.missing

    @cached_property
    def images(self) -> pd.DataFrame:
        """A row for each image: `name` and `label`."""
        return self._store.images()[["name", "label"]]

    @property
    def scores(self) -> pd.DataFrame:
        """A row for each image, target and method that is done.

        `explained` says what that is; `output` and `other` are the numbers of its one or two outputs, `is_predicted` is
        whether the model predicts it. `value` is its score; `predicted` and `probability` tell the likeliest class;
        `completeness` is the residual of methods that promise it; `not_finite` counts values of the map that are no
        numbers; a map as kept times `scale` is the map.
        """
        return self._store.table("scores")

    @property
    def failures(self) -> pd.DataFrame:
        """A row for each image, or method of an image, without a map, with the reason."""
        return self._store.table("failures")

    def pictures(self, images: Sequence[int]) -> list[Picture]:
        """Some images as the model saw them, read again from where the recipe says they are.

        Args:
            images: their numbers.

        Returns:
            For each its pixels, shape (height, width, 3), 0 to 255, with notes; a grey area with the reason, where it
            cannot be read again or is another picture by now.

        Raises:
            InputError: there is no such image, or the list of images is damaged.
        """
        self._check(images)
        return pictures_of(self.settings, self._store.images(), images)

    def array(self, method: str, target: str | None = None) -> "zarr.Array[Any]":
        """The maps of a method as they are kept, (image, row, column), read when they are indexed; NaN where none is.

        Args:
            method: one of `methods`.
            target: one of `targets`; by default the first.

        Raises:
            InputError: there are no such maps.
            RefusalError: the model refuses the method.
        """
        target = self.targets[0] if target is None else target
        if method in self.refused.get(target, {}):
            raise RefusalError(f"{method} was refused: {self.refused[target][method]}")
        if method not in self.settings["shapes"].get(target, {}):
            raise InputError(
                f"There are no maps of {method} for {target}. Methods are {', '.join(self.methods)}; targets are "
                f"{', '.join(self.targets)}."
            )
        return self._store.array(target, method)

    def heatmap(
        self, method: str, images: int | Sequence[int], target: str | None = None
    ) -> Float32[np.ndarray, "*image row column"]:
        """Maps of some images as numbers that can be compared.

        Args:
            method: one of `methods`.
            images: the number of an image, or several.
            target: one of `targets`; by default the first.

        Raises:
            InputError: there are no such maps, or images.
            RefusalError: the model refuses the method.
        """
        target = self.targets[0] if target is None else target
        self.array(method, target)
        numbers = [images] if isinstance(images, int) else list(images)
        self._check(numbers)
        found = self._store.values(target, method, numbers)
        if self.settings["identity"]["precision"] == "float16":
            scales = self._store.scales(target, method, numbers)
            found = found * scales.reshape(-1, *[1] * (found.ndim - 1))
        return found[0] if isinstance(images, int) else found

    def _check(self, numbers: Sequence[int]) -> None:
        if outside := [number for number in numbers if not 0 <= number < len(self)]:
            raise InputError(f"Images are numbered 0 to {len(self) - 1}; got {outside[0]}.")


def open_run(folder: str | Path) -> Run:
    """Open the results of `sightline run`; maps and tables are read when they are asked for.

    Args:
        folder: where they are: a path, or an address of fsspec.

    Raises:
        InputError: there are none.
    """
    return Run(Store(str(folder), writable=False))
