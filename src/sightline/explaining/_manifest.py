"""The manifest of saved maps: what it holds, and how it is written beside them.

`Manifest` is the schema, whose number is `FORMAT`. What an entry holds is written and read back by the thing itself:
`Explained.record`, `Checks.record`, `Placement.record`, `method_record`.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from safetensors.torch import save as serialised
from torch import Tensor

from sightline._common.checksums import sealed, sums_of
from sightline._common.written import whole_files
from sightline.errors import InputError

MAPS, PICTURES = "maps.safetensors", "pictures.safetensors"
FORMAT = 1
"""Of manifests and of the files beside them; a change that older versions would misread raises it."""


class ImageEntry(TypedDict):
    """What a manifest says of one image.

    Attributes:
        name: unique among the images.
        caption: its name, and what the model says.
        target: what is explained, `Explained(**target)`.
        explained: the same in words, outputs by number.
        explained_name: the same, outputs by name.
        value: the explained value.
        original_size: width and height in pixels, after the original's EXIF rotation.
        file: its file; empty for a tensor.
        box: left, top, right and bottom of what became the encoded image, in pixels of the original.
        notes: what was done to it beyond resizing and cropping.
        predicted: the class or label of the highest score.
        predicted_name: its name.
        probability: its probability.
    """

    name: str
    caption: str
    target: dict[str, Any]
    explained: str
    explained_name: str
    value: float
    original_size: list[int]
    file: str
    box: list[float]
    notes: NotRequired[list[str]]
    predicted: NotRequired[int]
    predicted_name: NotRequired[str]
    probability: NotRequired[float]


class Manifest(TypedDict):
    """What `manifest.json` of an explanation holds.

    Attributes:
        format: see `FORMAT`.
        images: an entry for each image.
        original_size: what that means in an entry, in words.
        box: likewise.
        methods: for each method its row (see `method_record`) and its checks (see `Checks.record`) or why it is
            `refused`, with the `shape` of its map, the steps to its `heatmap`, its `layer` and the `placement` of that.
        output: what the model's outputs are, `OutputKind(**output)`.
        class_names: a name for each class, or empty.
        notes: sentences a reader should see first.
        settings: seed, dtype, device, rows per pass, versions, model and preprocessing.
    """

    format: int
    images: list[ImageEntry]
    original_size: str
    box: str
    methods: dict[str, dict[str, Any]]
    output: dict[str, Any]
    class_names: list[str]
    notes: list[str]
    settings: dict[str, Any]


ORIGINAL_SIZE = "width, height in pixels, after the original's EXIF rotation"
BOX = (
    "left, top, right, bottom in pixels of the original after its EXIF rotation; this part of it became the encoded "
    "image. A map covers it evenly unless its method has a placement: there the centre of cell i is low + i * step "
    "(high + i * step, where branches of the model disagree), in pixels of the encoded image from the centre of its "
    "first pixel"
)


def check_format(found: Mapping[str, Any], path: Path) -> None:
    """See that a file was not written by a later version, whose words this one may misread.

    Raises:
        InputError: it was.
    """
    number = found.get("format", FORMAT)
    if not isinstance(number, int) or number > FORMAT:
        raise InputError(
            f"{path} is of format {number!r}, and this version of Sightline reads formats up to {FORMAT}. A later "
            "version wrote it; read it with that one."
        )


def write_maps(
    folder: str | Path,
    maps: Mapping[str, Tensor],
    manifest: Mapping[str, Any],
    pictures: Mapping[str, Callable[[Path], None]],
) -> Path:
    """Write `maps.safetensors`, `manifest.json` and pictures into a folder, which is made if need be.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in maps.items()}
        with whole_files() as part:
            files = {name: part(folder / name) for name in (MAPS, *pictures)}
            # Not by safetensors itself, whose errors lack their cause and whose files ignore the user's permissions.
            files[MAPS].write_bytes(serialised(tensors))
            for name, draw in pictures.items():
                draw(files[name])
            record = _finite(manifest) | {"files": sums_of({name: files[name] for name in (MAPS, PICTURES)})}
            part(folder / "manifest.json").write_text(sealed(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be written: {error.strerror or error}. Name another with --out."
        ) from error
    return folder


def _finite(value: Any) -> Any:
    """The same value for JSON, which knows no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def number(value: float | None) -> float:
    """A number of a manifest: NaN for the null that stands for what is not finite."""
    return math.nan if value is None else value
