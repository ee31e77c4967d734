"""Pictures from files, prepared as a model wants them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from sightline._common.memory import available
from sightline._common.words import readable
from sightline.arrays._batch import ImageBatch
from sightline.arrays._decode import read_image
from sightline.arrays._files import Found, find_images, unique_names
from sightline.arrays._levels import Levels
from sightline.arrays._readers import Reader, as_reader
from sightline.errors import InputError
from sightline.models import (
    Box,
    Number,
    Preprocessing,
    check_channels,
    default_preprocessing,
    model_info,
    with_channels,
)
from sightline.options import PixelOptions

MAX_PIXELS = PixelOptions.max_pixels
"""Pictures with more pixels are not decoded, unless asked for."""
_SHOWN = 8


def load_images(
    paths: str | Path | Sequence[str | Path],
    model: nn.Module | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    values: tuple[Number, Number] | None = None,
    limit: int | None = None,
    max_pixels: int = MAX_PIXELS,
    reader: Reader | str | None = None,
    on_error: Literal["record", "raise"] = "record",
) -> ImageBatch:
    """Load pictures as a batch for a model.

    Args:
        paths: Files, folders (searched through) and patterns such as ``"photos/*.jpg"``. In a folder whose
            pictures all lie in sub-folders, a picture's label is the name of the sub-folder.
        model: The model that the pictures are for; `model_info` tells how it wants them.
        preprocessing: How the pictures are prepared, instead of the model's own way.
        values: Which values of the files are black and white, as ``(0, 4095)`` for 12 bits; see `Preprocessing`.
        limit: The largest number of pictures to load, spread evenly over the labels.
        max_pixels: Pictures with more pixels are not decoded.
        reader: What reads the files, instead of the registered reader of each format: a `sightline.arrays.Reader`, its
            name, or ``"FILE.py:NAME"``.
        on_error: What to do about a file that cannot be used: ``"record"`` it in `failures`, or ``"raise"``.

    Returns:
        The pictures, in the order of `paths`, sorted within each folder.

    Raises:
        InputError: If nothing could be loaded, or on the first unusable file where `on_error` says so.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The limit must be at least 1 picture, but {limit} was given.")
    if preprocessing is None:
        preprocessing = default_preprocessing() if model is None else _wanted_by(model)
    if values is not None:
        preprocessing = replace(preprocessing, values=values)
    _check_memory(preprocessing)
    chosen = as_reader(reader)
    found, failures, ignored = find_images([paths] if isinstance(paths, str | Path) else paths, chosen)
    if failures and on_error == "raise":
        raise InputError(_sentence(failures[0]))
    names = unique_names(found)
    loaded: dict[int, ImageBatch] = {}
    for position in _in_turn(found):
        if len(loaded) == limit:
            break
        item = found[position]
        try:
            one = prepared(item.path, preprocessing, max_pixels, chosen)
            loaded[position] = as_batch([one], [names[position]], [item.path], [item.label], preprocessing)
        except InputError as error:
            failures.append((item.path, f"{readable(item.path)}: {error}"))
            if on_error == "raise":
                raise InputError(_sentence(failures[-1])) from error
    if not loaded:
        reasons = "; ".join(reason for _, reason in failures[:_SHOWN]) or "no path was given"
        more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        raise InputError(f"No picture could be loaded: {reasons}{more}.")
    return replace(_join([loaded[position] for position in sorted(loaded)], failures), ignored=ignored)


def _wanted_by(model: nn.Module) -> Preprocessing:
    info = model_info(model)
    if not hasattr(model, "sightline_info"):
        info = with_channels(model, info)
    check_channels(info)
    return info.preprocessing


def _check_memory(preprocessing: Preprocessing) -> None:
    height, width = preprocessing.size
    needed = height * width * preprocessing.channels * 4
    # Reading, encoding and one pass take several copies of a picture.
    if 20 * needed > available(torch.device("cpu")):
        raise InputError(
            f"A picture of {width} x {height} px takes {needed / 1e9:.3g} GB as an input, more than the memory at hand "
            "can work with; choose a smaller size."
        )


def _in_turn(found: Sequence[Found]) -> list[int]:
    """Positions in an order that takes one picture of each label in turn."""
    turns: list[tuple[int, int]] = []
    count = Counter[str | None]()
    for position, item in enumerate(found):
        turns.append((count[item.label], position))
        count[item.label] += 1
    return [position for _, position in sorted(turns)]


class Prepared(NamedTuple):
    """A picture at the size a network wants, with where it came from; see `ImageBatch`.

    `pixels` are on the scale 0..255: whole numbers, or floating-point where the file has more than 8 bits.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    size: tuple[int, int]
    box: Box
    notes: list[str]
    levels: Levels | None = None
    cut: bool = False


def prepared(
    path: Path | bytes, preprocessing: Preprocessing, max_pixels: int, reader: Reader | None = None
) -> Prepared:
    """Read one picture, from a file or from what it would hold, resized and cropped.

    Raises:
        InputError: the file cannot be used, with the reason.
    """
    stated = None if preprocessing.values is None else (float(preprocessing.values[0]), float(preprocessing.values[1]))
    decoded = read_image(path, grey=preprocessing.channels == 1, max_pixels=max_pixels, values=stated, reader=reader)
    fitted, boxes = zip(*map(preprocessing.fit, decoded.planes), strict=True)
    box, size, notes = boxes[0], decoded.planes[0].size, decoded.notes
    height, width = preprocessing.size
    enlarged = max(width / (box[2] - box[0]), height / (box[3] - box[1]))
    if enlarged > 1.1:  # less cannot be seen
        notes.append(f"Enlarged {enlarged:.3g} times: the original has {size[0]} x {size[1]} px.")
    return Prepared(_pixels(fitted, preprocessing), size, box, notes, decoded.levels, decoded.cut)


def _pixels(fitted: Sequence[Image.Image], preprocessing: Preprocessing) -> NDArray[np.uint8] | NDArray[np.float32]:
    height, width = preprocessing.size
    if fitted[0].mode != "F":
        return np.asarray(fitted[0]).reshape(height, width, preprocessing.channels)
    # Filters with negative lobes overshoot; in 8 bits Pillow cuts that off as well.
    planes = np.stack([np.asarray(plane) for plane in fitted], -1).clip(0, 255)
    return np.repeat(planes, preprocessing.channels // planes.shape[-1], axis=-1)


def as_batch(
    found: Sequence[Prepared],
    names: list[str],
    paths: list[Path],
    labels: list[str | None],
    preprocessing: Preprocessing,
) -> ImageBatch:
    """Pictures that were read, as a network's input."""
    return ImageBatch(
        tensor=torch.stack([preprocessing.encode(one.pixels) for one in found]),
        names=names,
        paths=paths,
        labels=labels,
        sizes=[one.size for one in found],
        boxes=[one.box for one in found],
        notes=[one.notes for one in found],
        preprocessing=preprocessing,
        levels=[one.levels for one in found],
        cut=sum(one.cut for one in found),
    )


def _join(batches: Sequence[ImageBatch], failures: list[tuple[Path, str]]) -> ImageBatch:
    return ImageBatch(
        tensor=torch.cat([batch.tensor for batch in batches]),
        names=[name for batch in batches for name in batch.names],
        paths=[path for batch in batches for path in batch.paths],
        labels=[label for batch in batches for label in batch.labels],
        sizes=[size for batch in batches for size in batch.sizes],
        boxes=[box for batch in batches for box in batch.boxes],
        notes=[notes for batch in batches for notes in batch.notes],
        preprocessing=batches[0].preprocessing,
        failures=failures,
        levels=[levels for batch in batches for levels in batch.levels],
        cut=sum(batch.cut for batch in batches),
    )


def _sentence(failure: tuple[Path, str]) -> str:
    return f"A picture could not be loaded: {failure[1]}."
