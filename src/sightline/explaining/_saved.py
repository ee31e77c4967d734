"""An explanation as it was saved to a folder, read back."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from sightline._common.checksums import changed, fits
from sightline._common.written import tensors_in
from sightline.aggregation import Placement
from sightline.errors import InputError
from sightline.explaining._checks import Checks
from sightline.explaining._explained import Explained
from sightline.explaining._manifest import MAPS, PICTURES, Manifest, check_format, number
from sightline.explaining._method_record import read_method
from sightline.models import OutputKind


def read(folder: Path) -> dict[str, Any]:
    """The fields of the `Explanation` that was saved to a folder.

    Raises:
        InputError: see `Explanation.load`.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(manifest, dict) or not {"images", "methods", "settings"} <= manifest.keys():
        raise InputError(f"{path} is not what Explanation.save writes. Explain the images again.")
    check_format(manifest, path)
    if not fits(manifest):
        raise _unreadable(path, ValueError("its checksum does not fit its content"))
    if "networks" in manifest:
        raise InputError(f"{folder} holds what stays in the networks of a GAD, not an explanation of one network.")
    try:
        maps, pictures = tensors_in(folder / MAPS), tensors_in(folder / PICTURES)
    except (OSError, SafetensorError) as error:
        raise _unreadable(folder, error) from error
    if "images" not in pictures:
        raise InputError(f"{folder} was saved before images were saved with their maps. Explain the images again.")
    if others := changed(folder, manifest.get("files", {})):
        raise _unreadable(folder, ValueError(f"{' and '.join(others)} is not what was written with the manifest"))
    try:
        return _fields(cast("Manifest", manifest), maps, pictures["images"], pictures["pictures"])
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is missing or damaged ({type(error).__name__}: {error}), so it cannot be read as an explanation. Name "
        "a folder that Explanation.save or `sightline explain` wrote."
    )


def _fields(manifest: Manifest, maps: dict[str, Tensor], images: Tensor, pictures: Tensor) -> dict[str, Any]:
    entries, methods = manifest["images"], manifest["methods"]
    given = {name: one for name, one in methods.items() if "refused" not in one}
    if maps.keys() != given.keys() or any(len(one) != len(entries) for one in (images, pictures, *maps.values())):
        raise ValueError("maps, images and manifest do not belong together")
    predicted = probabilities = None
    if entries and all("predicted" in entry for entry in entries):
        predicted = torch.tensor([entry["predicted"] for entry in entries])
        probabilities = torch.tensor([number(entry["probability"]) for entry in entries])
    dtype = getattr(torch, manifest["settings"]["dtype"])
    return {
        "images": images,
        "names": [entry["name"] for entry in entries],
        "explained": [Explained(**entry["target"]) for entry in entries],
        "values": torch.tensor([number(entry["value"]) for entry in entries], dtype=dtype),
        "output": OutputKind(**manifest["output"]),
        "predicted": predicted,
        "probabilities": probabilities,
        "methods": {name: read_method(name, one) for name, one in methods.items()},
        "refused": {name: one["refused"] for name, one in methods.items() if "refused" in one},
        "layers": {name: one["layer"] for name, one in methods.items() if "layer" in one},
        "placements": {
            name: Placement.from_record(one["placement"]) for name, one in methods.items() if "placement" in one
        },
        "checks": Checks.of_records(given, manifest["notes"], manifest["settings"]),
        "class_names": manifest["class_names"],
        "display": (pictures.float() / 255).numpy(),
        "boxes": [_box(entry["box"]) for entry in entries],
        "sizes": [(entry["original_size"][0], entry["original_size"][1]) for entry in entries],
        "image_notes": [entry.get("notes", []) for entry in entries],
        "paths": [entry["file"] for entry in entries],
        "maps": {name: maps[name] for name in given},
    }


def _box(ends: list[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = ends
    return left, top, right, bottom
