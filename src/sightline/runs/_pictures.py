"""Pictures of a run, read again from where its recipe says they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.models import Preprocessing
from sightline.runs._recipe import DataPart
from sightline.runs._source import Files, Rows, contents_of, open_source, read

_GREY = 208
_READERS = 2


class Picture(NamedTuple):
    """A picture as the model saw it.

    Attributes:
        pixels: shape (height, width, 3), 0 to 255; one grey where there is no picture.
        notes: what was done to it, or why there is none.
    """

    pixels: NDArray[np.uint8]
    notes: list[str]


def pictures_of(settings: Mapping[str, Any], images: pd.DataFrame, numbers: Sequence[int]) -> list[Picture]:
    """Pictures of some images of a run; a grey area, with the reason, for one that is not what was explained.

    Args:
        settings: the manifest of the run.
        images: `name` and `content` of each image.
        numbers: of which images.
    """
    if "preprocessing" not in settings:
        lost = "the run was begun by an earlier version; give its command again"
        return [_missing((224, 224), lost) for _ in numbers]
    # JSON has no tuples.
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings["preprocessing"].items()
    }
    preprocessing = Preprocessing(**given)
    data = DataPart(**settings["recipe"]["data"])
    try:
        source = open_source(data, Path(settings["recipe_folder"]))
    except InputError as error:
        return [_missing(preprocessing.size, str(error)) for _ in numbers]
    names, contents = images["name"].tolist(), images["content"].tolist()
    # Images may have come or gone since, so that they are found by name, and known by content.
    places = {name: place for place, name in enumerate(source.names)}
    there = [number for number in numbers if names[number] in places]
    now = contents_of(source, _READERS, [places[names[number]] for number in there])
    known = dict(zip(there, now, strict=True))
    return [
        _picture(source, places.get(names[number]), known.get(number) == contents[number], preprocessing, data)
        for number in numbers
    ]


def _picture(
    source: Files | Rows, place: int | None, same: bool, preprocessing: Preprocessing, data: DataPart
) -> Picture:
    if place is None:
        return _missing(preprocessing.size, "it is not where it was")
    if not same:
        return _missing(preprocessing.size, "it cannot be read, or is another picture than the one that was explained")
    found = read(source, [place], preprocessing, data.max_pixels)
    if found.batch is None:
        return _missing(preprocessing.size, found.failures[0][1])
    pixels = (found.batch.display()[0] * 255).round().clip(0, 255).astype(np.uint8)
    return Picture(pixels, found.batch.notes[0])


def _missing(size: tuple[int, int], reason: str) -> Picture:
    return Picture(np.full((*size, 3), _GREY, np.uint8), [f"The picture is not shown: {reason.rstrip('.')}."])
