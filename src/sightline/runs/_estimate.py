"""What a run will cost, from a measured sample."""

import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sightline._common.memory import allowance
from sightline.arrays import ImageBatch
from sightline.errors import InputError
from sightline.explaining import Explanation, explain
from sightline.models import home_of, model_info
from sightline.runs._recipe import Recipe
from sightline.runs._source import open_source, read
from sightline.runs._work import stored

SAMPLES = (8, 64)
"""Images that are explained to find out; more of them where the first take next to no time, as small ones do."""
_QUICK = 3.0


@dataclass(frozen=True)
class Estimate:
    """What a run will cost, judged by a few of its images.

    Attributes:
        images: how many there are.
        sample: how many were measured.
        passes: operations of an image's maps, as a multiple of those of one forward pass.
        seconds: of the whole run.
        reading: seconds of reading all images, which goes on beside.
        bytes: of all maps, compressed.
        refused: for each method that the model refuses, why.
        warnings: what must be known of the images; see `ImageBatch`.
    """

    images: int
    sample: int
    passes: float
    seconds: float
    reading: float
    bytes: int
    refused: dict[str, str]
    warnings: tuple[str, ...] = ()


def estimate(recipe: Recipe) -> Estimate:
    """Explain a few images of a recipe, and multiply; nothing is written.

    Raises:
        InputError: the recipe cannot be carried out.
        RefusalError: no method can be right on this model.
    """
    from numcodecs import Blosc

    network = recipe.network()
    source = open_source(recipe.data, recipe.folder)
    info = model_info(network)
    for sample in SAMPLES:
        start = time.perf_counter()
        found = read(source, range(min(sample, len(source.names))), info.preprocessing, recipe.data.max_pixels)
        reading = time.perf_counter() - start
        if found.batch is None:
            raise InputError(f"None of the first {sample} images can be read: {found.failures[0][1]}.")
        batch = found.batch[_fit(recipe, network, found.batch)]
        count = len(batch)
        device, dtype = home_of(network, batch.tensor)
        with FlopCounterMode(display=False) as once, torch.no_grad():
            network(batch.tensor[:1].to(device, dtype))
        # The first time libraries choose their kernels; the second one counts.
        with FlopCounterMode(display=False) as all_passes:
            kept = _explained(recipe, network, batch, device)
        start = time.perf_counter()
        _explained(recipe, network, batch, device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
        if seconds > _QUICK:
            break
    size = 0
    for one in kept:
        for method in recipe.chosen():
            if method not in one.refused:
                size += len(Blosc("zstd", 3).encode(stored(one, method, recipe.output)[0]))
    whole = len(source.names) / count
    return Estimate(
        images=len(source.names),
        sample=count,
        passes=all_passes.get_total_flops() / max(count * once.get_total_flops(), 1),
        seconds=seconds * whole,
        reading=reading * whole / recipe.engine.readers,
        bytes=int(size * whole),
        refused=dict(kept[0].refused),
        warnings=tuple(batch.warnings),
    )


def _explained(recipe: Recipe, network: nn.Module, batch: ImageBatch, device: torch.device) -> list[Explanation]:
    return explain(
        network, batch, list(recipe.chosen().values()), targets=list(map(str, recipe.targets)),
        seed=recipe.seed, memory=allowance(device), on_refusal="record",
    )  # fmt: skip


def _fit(recipe: Recipe, network: nn.Module, batch: ImageBatch) -> list[int]:
    """Images that can be explained: what a run makes a row of must not end an estimate.

    Raises:
        InputError: none can.
    """

    def wrong(rows: list[int]) -> str:
        try:
            explain(network, batch[rows], ["gradient"], targets=list(map(str, recipe.targets)), on_refusal="record")
        except Exception as error:  # noqa: BLE001 - a user's model may fail in any way
            return str(error) or type(error).__name__
        return ""

    rows = list(range(len(batch)))
    if not (reason := wrong(rows)):
        return rows
    good = [row for row in rows if not wrong([row])]
    if not good:
        raise InputError(f"None of the first {len(rows)} images can be explained: {reason}")
    return good
