"""The work of a run: a chunk of images in, maps and scores out. It is the same in every engine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sightline._common.memory import ran_out, says_short
from sightline.arrays import ImageBatch
from sightline.errors import SightlineError
from sightline.explaining import Explanation, explain
from sightline.models import model_info
from sightline.runs._recipe import OutputPart, Recipe
from sightline.runs._source import Read, Source, read
from sightline.runs._store import Store

Pairs = Sequence[tuple[str, Sequence[str]]]
LEAST = 1 << 12
"""Bytes of a pass below which nothing is gained by less."""


@dataclass
class Made:
    """What became of a chunk.

    Attributes:
        number: the chunk.
        tag: the task.
        maps: by target and method, shape (image of the chunk, ...), NaN where there is none.
        scores: rows of scores.
        failures: rows of failures.
    """

    number: int
    tag: str
    maps: dict[tuple[str, str], NDArray[np.floating[Any]]] = field(default_factory=dict)
    scores: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


class Worker:
    """Explains chunks of images.

    Args:
        recipe: what was asked.
        network: the model.
        source: the images.
        store: where the results go, with its manifest.
    """

    def __init__(self, recipe: Recipe, network: nn.Module, source: Source, store: Store) -> None:
        self.recipe, self.network, self.source, self.store = recipe, network, source, store
        self._preprocessing = model_info(network).preprocessing

    def read(self, number: int) -> Read:
        """Read the images of a chunk."""
        return read(self.source, self.store.chunk(number), self._preprocessing, self.recipe.data.max_pixels)

    def work(self, number: int, tag: str, images: Read) -> Made:
        """Explain the images of a chunk; whatever goes wrong with one of them is written down, and others go on."""
        made = Made(number, tag)
        rows = self.store.chunk(number)
        manifest = self.store.manifest
        # What the model refuses altogether has no array, and is said once, in the manifest.
        shapes = manifest["shapes"]
        pairs = [
            (target, [method for method in methods if method in shapes.get(target, {})])
            for target, methods in self.store.tasks[tag]
        ]
        for failed, reason in images.failures:
            made.failures.append(_failure(failed, self.source, "", "", reason))
        for target, methods in pairs:
            for method in methods:
                made.maps[target, method] = np.full(
                    (len(rows), *shapes[target][method]), np.nan, manifest["identity"]["precision"]
                )
        if images.batch is not None:
            memory = int(manifest["identity"]["memory"])
            for targets, methods in _alike(pairs):
                if methods:
                    parts = self._explained(images.numbers, images.batch, targets, methods, memory, made)
                    for numbers, own_targets, own_methods, found in parts:
                        self._take(made, rows.start, numbers, own_targets, own_methods, found)
        made.scores.sort(key=lambda row: row["image"])
        return made

    def write(self, made: Made) -> None:
        """Write what became of a chunk."""
        self.store.write(made.number, made.tag, made.maps, made.scores, made.failures)

    def _explained(
        self,
        numbers: Sequence[int],
        batch: ImageBatch,
        targets: Sequence[str],
        methods: Sequence[str],
        memory: int,
        made: Made,
    ) -> Iterator[tuple[Sequence[int], Sequence[str], Sequence[str], list[Explanation]]]:
        """Explanations of all images or, where that fails, of halves of them down to the one that is at fault."""
        found: list[Explanation] = []
        try:
            found = explain(
                self.network, batch, self.recipe.methods_of(methods), targets=list(targets),
                seed=self.recipe.seed, memory=memory, on_refusal="record",
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - a user's model may fail in any way; image and reason are kept
            reason = str(error) if isinstance(error, SightlineError) else f"{type(error).__name__}: {error}"
            short = ran_out(error)
        else:
            # A backward that ran out of memory is told as a refusal of its method.
            reasons = (reason for one in found for reason in one.refused.values())
            reason = next(filter(says_short, reasons), "")
            if not reason:
                yield numbers, targets, methods, found
                return
            short = True
        if short and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if short and len(numbers) == 1 and memory > LEAST:
            # An image may take many rows, of which fewer are then computed at a time.
            yield from self._explained(numbers, batch, targets, methods, memory // 4, made)
            return
        if len(numbers) == 1 and found:
            # What memory is too short for is a refusal of its method; the others have maps.
            yield numbers, targets, methods, found
            return
        if len(numbers) == 1 and len(targets) * len(methods) > 1:
            # One of them is at fault.
            parts = [([one], methods) for one in targets] if len(targets) > 1 else [(targets, [one]) for one in methods]
            for own_targets, own_methods in parts:
                yield from self._explained(numbers, batch, own_targets, own_methods, memory, made)
            return
        if len(numbers) == 1:
            made.failures.append(_failure(numbers[0], self.source, targets[0], methods[0], _one_line(reason)))
            return
        half = len(numbers) // 2
        for part in (slice(None, half), slice(half, None)):
            less = max(memory // 2, 1) if short else memory
            yield from self._explained(numbers[part], batch[part], targets, methods, less, made)

    def _take(
        self,
        made: Made,
        start: int,
        numbers: Sequence[int],
        targets: Sequence[str],
        methods: Sequence[str],
        found: Sequence[Explanation],
    ) -> None:
        places = [number - start for number in numbers]
        for target, one in zip(targets, found, strict=True):
            for method in methods:
                if method in one.refused:
                    reason = _one_line(one.refused[method])
                    made.failures += [_failure(n, self.source, target, method, reason) for n in numbers]
                    continue
                kept, scale = stored(one, method, self.recipe.output)
                made.maps[target, method][places] = kept
                left = one.checks.completeness.get(method)
                wrong = (~one[method].isfinite()).flatten(1).sum(1)
                for row, number in enumerate(numbers):
                    made.scores.append(
                        {"image": number, "name": self.source.names[number], "label": self.source.labels[number]}
                        | {"target": target, "method": method, "explained": one.targets[row]}
                        | {"output": (what := one.explained[row]).number, "other": what.other}
                        | {"is_predicted": what.predicted}
                        | {"value": float(one.values[row]), "predicted": _entry(one.predicted, row, int)}
                        | {"probability": _entry(one.probabilities, row, float)}
                        | {"completeness": _entry(left, row, float), "not_finite": int(wrong[row])}
                        | {"scale": float(scale[row])}
                    )


def stored(
    found: Explanation, method: str, output: OutputPart
) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
    """A method's maps as they are kept, and for each the number that turns it back into the map.

    In half precision a map is divided by its largest magnitude first, since gradients may be smaller than what half
    precision has.
    """
    maps = (found[method] if output.channels else found.heatmap(method)).detach().float().cpu()
    if output.side is not None and output.side < max(maps.shape[-2:]):
        flat = maps[:, None] if maps.ndim == 3 else maps
        sides = [min(output.side, side) for side in flat.shape[-2:]]
        flat = interpolate(flat, size=sides, mode="area")
        maps = flat[:, 0] if maps.ndim == 3 else flat
    scale = np.ones(len(maps))
    if output.precision == "float16":
        most = torch.nan_to_num(maps.flatten(1).abs(), posinf=0.0).amax(1)
        most = torch.where(most > 0, most, torch.ones_like(most))
        maps = maps / most.reshape(-1, *[1] * (maps.ndim - 1))
        scale = most.double().numpy()
    return maps.numpy().astype(output.precision), scale


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads, on which the last digits depend."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alike(pairs: Pairs) -> list[tuple[list[str], list[str]]]:
    """Targets that are asked of the same methods, together, so that they share their passes."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for target, methods in pairs:
        groups.setdefault(tuple(methods), []).append(target)
    return [(targets, list(methods)) for methods, targets in groups.items()]


def _entry(values: Tensor | None, row: int, kind: type[int] | type[float]) -> int | float | None:
    return None if values is None else kind(values[row])


def _failure(number: int, source: Source, target: str, method: str, reason: str) -> dict[str, Any]:
    return {"image": number, "name": source.names[number], "target": target, "method": method, "reason": reason}


def _one_line(text: str) -> str:
    return " ".join(text.split())
