"""What is audited: methods of the catalogue, functions of the user's own, and controls that do not know the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline._common.seeds import image_key, seed_of
from sightline._common.words import counted
from sightline.aggregation import resized
from sightline.errors import InputError, RefusalError
from sightline.evaluation import Asked, edge_map, values_of
from sightline.explaining import Explanation, explain
from sightline.methods import MapFunction, Method, as_method, method_or_function
from sightline.operations import wide

Maps = dict[str, Float[Tensor, "batch height width"]]
Sums = dict[str, dict[str, Float[Tensor, " batch"]]]
MISSING, ARRIVED = "missing", "arrived"
MISSED, PROMISED = "missed amount", "promised amount"


class Answers(NamedTuple):
    """The maps of some methods for some classes.

    Attributes:
        maps: for each of the classes, the maps by method.
        sums: for each of them, by method: `missing`, the share of what a map promises to add up to and does not, and
            both of its parts; `arrived`, the share of the value that is in a map of relevance.
        refused: for each method without maps, why.
    """

    maps: list[Maps]
    sums: list[Sums]
    refused: dict[str, str]


@dataclass(frozen=True)
class Custom:
    """A method that is any function.

    Attributes:
        name: what it is called.
        function: from the model, images of shape (batch, channel, height, width) and a class for each of them, to
            their maps: (batch, height, width), or with a channel axis behind the first, of any height and width.
    """

    name: str
    function: Callable[..., Any]

    def maps(self, model: Any, images: Tensor, classes: Tensor) -> Float[Tensor, "batch height width"]:
        """Its maps at the images' size, channels joined by their mean.

        Raises:
            InputError: the function failed, or what it returned is no such batch of maps.
        """
        with torch.inference_mode(mode=False), torch.enable_grad():
            try:
                made = self.function(model, images.clone(), classes.clone())
            except Exception as error:
                raise InputError(f"{self.name} failed: {type(error).__name__}: {error}") from error
        found = torch.as_tensor(np.asarray(made)) if isinstance(made, np.ndarray) else made
        if not isinstance(found, Tensor) or found.dim() not in {3, 4} or len(found) != len(images) or 0 in found.shape:
            came = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"{self.name} must return maps of shape (batch, height, width) or (batch, channel, height, width) for "
                f"{counted(len(images), 'image')}; got {came}."
            )
        joined = wide(found.detach().to(images.device))
        joined = joined.mean(1, keepdim=True) if joined.dim() == 4 else joined[:, None]
        height, width = int(images.shape[2]), int(images.shape[3])
        return (resized(joined, (height, width)) if joined.shape[2:] != (height, width) else joined).squeeze(1)


def from_callable(function: Any, name: str = "") -> Custom:
    """Make a method of any function, such as one that calls another library, to be audited beside the catalogue's.

    Args:
        function: see `Custom`.
        name: what it is called; by default the function's own name.

    Raises:
        InputError: it is no function.
    """
    if not callable(function):
        raise InputError(f"A method is a function of (model, images, classes); got {type(function).__name__}.")
    return Custom(name or getattr(function, "__name__", type(function).__name__), function)


EDGES, NOISE, INPUT = "control: edges", "control: noise", "control: input"
CONTROLS = (NOISE, INPUT, EDGES)
"""With the gradient, the controls of every audit: no set of rules is right by which they pass."""


@dataclass
class Subjects:
    """The methods of an audit.

    Args:
        methods: names of methods, `Method`s, and functions as `from_callable` makes them.
        seed: base of all randomness.
        references: see `sightline.explain`.
        alone: whether to leave out the controls and the gradient.

    Attributes:
        refused: for each method that cannot be audited on this model, why.
    """

    methods: Sequence[str | Method | MapFunction]
    seed: int = 0
    references: Asked | None = None
    alone: bool = False
    refused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [method_or_function(one) for one in self.methods]
        names = [one.name for one in given]
        twice = sorted({name for name in names if names.count(name) > 1 or name in CONTROLS})
        if twice or not names:
            raise InputError(
                "At least one method is needed, each under a name of its own; "
                + (f"{', '.join(twice)} came twice, or is a control's." if twice else "none came.")
            )
        if "gradient" not in names and not self.alone:
            given.append(as_method("gradient"))
        self.rows = [one for one in given if isinstance(one, Method)]
        self.custom = [one for one in given if not isinstance(one, Method)]
        self.names = [*(one.name for one in given), *(() if self.alone else CONTROLS)]

    def maps(
        self,
        model: Any,
        images: Asked,
        classes: Sequence[Int[Tensor, " batch"]],
        about: str,
        *,
        seed: int | None = None,
    ) -> Answers:
        """The maps of all methods for each of some classes of the same images.

        Args:
            model: the network.
            images: the images.
            classes: for each question, a class for each image.
            about: a name for the question, from which the noise control is drawn.
            seed: of methods that draw; by default the audit's own.
        """
        refused: dict[str, str] = {}
        batch = values_of(images)
        found: list[Maps] = [{} for _ in classes]
        sums: list[Sums] = [{} for _ in classes]
        rows = [row for row in self.rows if row.name not in self.refused]
        asked = [one.tolist() for one in classes]
        seed = self.seed if seed is None else seed
        explained: list[Explanation] = []
        try:
            if rows:
                explained = explain(
                    model, images, rows, targets=asked, references=self.references, seed=seed, on_refusal="record"
                )
        except RefusalError as error:
            refused = {row.name: str(error) for row in rows}
        for one, maps, sum_of in zip(explained, found, sums, strict=False):
            maps |= {name: wide(one.heatmap(name).detach()) for name in one.maps}
            sum_of |= _sums(one)
            refused |= one.refused
        for custom in self.custom:
            if custom.name in self.refused:
                continue
            try:
                for maps, chosen in zip(found, classes, strict=True):
                    maps[custom.name] = custom.maps(model, batch, chosen)
            except InputError as error:
                refused[custom.name] = str(error)
        if not self.alone:
            self._add_controls(found, batch, about)
        for name in refused:
            for maps in found:
                maps.pop(name, None)
        return Answers(found, sums, refused)

    def _add_controls(self, found: list[Maps], batch: Tensor, about: str) -> None:
        keys = [image_key(image) for image in batch]
        for number, maps in enumerate(found):
            maps[EDGES], maps[INPUT] = wide(edge_map(batch)), wide(batch.detach().mean(1))
            maps[NOISE] = torch.stack(
                [_noise(batch[0, 0].shape, seed_of(self.seed, "noise", about, number, key)) for key in keys]
            ).to(batch.device)


def _sums(one: Explanation) -> Sums:
    found: Sums = {}
    for name, residual in one.checks.completeness.items():
        decomposed = one.checks.decomposition.get(name)
        promised = one[name].flatten(1).sum(1).cpu() - residual if decomposed is None else decomposed.values
        missed, of = residual.abs(), promised.to(residual).abs()
        found[name] = {MISSING: missed / of, MISSED: missed, PROMISED: of}
    for name, books in one.checks.conservation.items():
        found[name] = found.get(name, {}) | {ARRIVED: books.arrived / books.start}
    return found


def _noise(shape: torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
