"""Pictures from files, prepared as a model wants them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sightline.errors import InputError
from sightline.images.batch import ImageBatch
from sightline.images.decode import read_image
from sightline.images.files import Found, find_images, readable, unique_names
from sightline.memory import available
from sightline.models.info import model_info
from sightline.models.preprocessing import Box, Preprocessing, default_preprocessing

MAX_PIXELS = 64_000_000
"""Pictures with more pixels are not decoded, unless asked for."""


def load_images(
    paths: str | Path | Sequence[str | Path],
    model: nn.Module | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_error: Literal["record", "raise"] = "record",
) -> ImageBatch:
    """Load pictures as a batch for a model.

    Args:
        paths: Files, folders (searched through) and patterns such as ``"photos/*.jpg"``. In a folder whose
            pictures all lie in sub-folders, a picture's label is the name of the sub-folder.
        model: The model that the pictures are for; `model_info` tells how it wants them.
        preprocessing: How the pictures are prepared, instead of the model's own way.
        limit: The largest number of pictures to load, spread evenly over the labels.
        max_pixels: Pictures with more pixels are not decoded.
        on_error: What to do about a file that cannot be used: ``"record"`` it in `failures`, or ``"raise"``.

    Returns:
        The pictures, in the order of `paths`, sorted within each folder.

    Raises:
        InputError: If nothing could be loaded, or on the first unusable file where `on_error` says so.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The limit must be at least 1 picture, but {limit} was given.")
    if preprocessing is None:
        preprocessing = default_preprocessing() if model is None else model_info(model).preprocessing
    _check_memory(preprocessing)
    found, failures = find_images([paths] if isinstance(paths, str | Path) else paths)
    if failures and on_error == "raise":
        raise InputError(_sentence(failures[0]))
    names = unique_names(found)
    loaded: dict[int, ImageBatch] = {}
    for position in _in_turn(found):
        if len(loaded) == limit:
            break
        item = found[position]
        try:
            loaded[position] = _load_one(item, names[position], preprocessing, max_pixels)
        except InputError as error:
            failures.append((item.path, f"{readable(item.path)}: {error}"))
            if on_error == "raise":
                raise InputError(_sentence(failures[-1])) from error
    if not loaded:
        reasons = "; ".join(reason for _, reason in failures) or "no path was given"
        raise InputError(f"No picture could be loaded: {reasons}.")
    return _join([loaded[position] for position in sorted(loaded)], failures)


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
    """A picture at the size a network wants, with where it came from; see `ImageBatch`."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    box: Box
    notes: list[str]


def prepared(path: Path | bytes, preprocessing: Preprocessing, max_pixels: int) -> Prepared:
    """Read one picture, from a file or from what it would hold, resized and cropped.

    Raises:
        InputError: the file cannot be used, with the reason.
    """
    picture, notes = read_image(path, grey=preprocessing.channels == 1, max_pixels=max_pixels)
    fitted, box = preprocessing.fit(picture)
    height, width = preprocessing.size
    enlarged = max(width / (box[2] - box[0]), height / (box[3] - box[1]))
    if enlarged > 1.1:  # less cannot be seen
        notes.append(f"Enlarged {enlarged:.3g} times: the original has {picture.width} x {picture.height} px.")
    pixels = np.asarray(fitted).reshape(height, width, preprocessing.channels)
    return Prepared(pixels, picture.size, box, notes)


def _load_one(item: Found, name: str, preprocessing: Preprocessing, max_pixels: int) -> ImageBatch:
    found = prepared(item.path, preprocessing, max_pixels)
    return ImageBatch(
        tensor=preprocessing.encode(found.pixels)[None],
        names=[name],
        paths=[item.path],
        labels=[item.label],
        sizes=[found.size],
        boxes=[found.box],
        notes=[found.notes],
        preprocessing=preprocessing,
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
    )


def _sentence(failure: tuple[Path, str]) -> str:
    return f"A picture could not be loaded: {failure[1]}."
