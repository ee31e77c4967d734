"""What a page shows of saved maps: pictures, and maps as small pictures of eight bits that a script reads back."""

import base64
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import interpolate

from sightline.aggregation import Placement
from sightline.errors import InputError
from sightline.explanation import PICTURES, check_format
from sightline.written import tensors_in

BUDGET = 5_000_000
"""Bytes that all maps of a page may take before they are written as text, which adds a third."""
LARGEST = 200_000_000
"""Bytes of a file of text that a report reads whole."""
_SIDES = (256, 192, 160, 128, 112, 96, 80, 64, 48, 32)
_CLIP = 0.98
ORIGINAL, STAYS = "the network", "what stays in all"
_ALIKE = 1 / 255
"""What eight bits cannot show: maps of one network made in batches of different sizes differ by less."""


@dataclass(frozen=True)
class MapSet:
    """The maps of one method for some images.

    Attributes:
        network: whose they are: the original, a support network, or what stays important in all.
        target: what is explained.
        method: by which method.
        images: the number of each map's image on the page.
        captions: what a reader should know of each.
        heatmaps: shape (image, height, width), at their own resolution.
    """

    network: str
    target: str
    method: str
    images: Sequence[int]
    captions: Sequence[str]
    heatmaps: Tensor


class Gallery:
    """Pictures and maps collected from the folders of explanations."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.sets: list[MapSet] = []
        self._numbers: dict[tuple[str, bytes], int] = {}
        self._known: dict[tuple[str, str, str, int], Tensor] = {}

    def add(self, folder: Path, name: str = "") -> dict[str, Any]:
        """Take in what `save` has written to a folder, and return its manifest.

        Args:
            folder: where it lies.
            name: what the network is called if another folder's maps of the same images contradict these.

        Raises:
            InputError: the files cannot be read, or do not belong together.
        """
        manifest = read_manifest(folder)
        maps, pictures = _tensors(folder / "maps.safetensors"), _tensors(folder / PICTURES)
        try:
            self._take(name or folder.name, manifest, maps, pictures["pictures"])
        except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise InputError(
                f"The manifest, the maps and the pictures in {folder} do not belong together "
                f"({type(error).__name__}: {error}). Explain the images again."
            ) from error
        return manifest

    def _take(self, place: str, manifest: dict[str, Any], maps: Mapping[str, Tensor], pictures: Tensor) -> None:
        entries, order = manifest["images"], list(manifest["methods"])
        numbers = [self._image(entry, picture.numpy()) for entry, picture in zip(entries, pictures, strict=True)]
        placed = []
        for name, values in maps.items():
            # Of GAD the map by the method's own name is what stays in all networks, and METHOD/0 the original's.
            method, number = (name, None) if name in order else (name.rpartition("/")[0], int(name.rpartition("/")[2]))
            if len(values) != len(entries):
                raise ValueError(f"{len(values)} maps by {method} of {len(entries)} images")
            last = sys.maxsize if number is None else number
            placed.append((order.index(method), last, method, _network(manifest, number), values))
        for target in dict.fromkeys(map(_target, entries)):
            rows = [row for row, entry in enumerate(entries) if _target(entry) == target]
            for _, _, method, network, values in sorted(placed, key=lambda one: one[:2]):
                entry = manifest["methods"][method]
                heat = _placed(_joined(values, entry.get("reduction", "mean"))[rows], entry.get("placement"))
                captions = [str(entries[row].get("caption", "")) for row in rows]
                self._add(place, MapSet(network, target, method, [numbers[row] for row in rows], captions, heat))

    def _add(self, place: str, one: MapSet) -> None:
        """Take in maps, but those already there; maps that contradict them are another network's."""
        known = [self._known.get((one.network, one.target, one.method, image)) for image in one.images]
        if any(old is not None and not _alike(old, new) for old, new in zip(known, one.heatmaps, strict=True)):
            one = replace(one, network=f"{one.network} of {place}")
            known = [None] * len(one.images)
        fresh = [row for row, old in enumerate(known) if old is None]
        if fresh:
            self.sets.append(
                replace(
                    one,
                    images=[one.images[row] for row in fresh],
                    captions=[one.captions[row] for row in fresh],
                    heatmaps=one.heatmaps[fresh],
                )
            )
        for image, heat in zip(one.images, one.heatmaps, strict=True):
            self._known.setdefault((one.network, one.target, one.method, image), heat)

    def _image(self, entry: dict[str, Any], picture: NDArray[np.uint8]) -> int:
        key = (str(entry["name"]), picture.tobytes())
        if key not in self._numbers:
            self._numbers[key] = len(self.images)
            height, width = picture.shape[:2]
            self.images.append(
                {
                    "name": str(entry["name"]),
                    "notes": [str(note) for note in entry.get("notes", [])],
                    "width": width,
                    "height": height,
                    "picture": _uri(_jpeg(picture), "jpeg"),
                }
            )
        return self._numbers[key]

    def payload(self) -> dict[str, Any]:
        """Everything the script needs, ready for JSON; maps at the highest resolution that the budget allows."""
        for side in _SIDES:
            last = side == _SIDES[-1]
            # The first map of each set tells about how large the others will be.
            first = [self._encoded(replace(one, images=one.images[:1]), side) for one in self.sets]
            share = sum(_bytes(few) * len(one.images) for few, one in zip(first, self.sets, strict=True))
            if share > 1.2 * BUDGET and not last:
                continue
            sets = [self._encoded(one, side) for one in self.sets]
            if sum(map(_bytes, sets)) <= BUDGET or last:
                break
        return {"images": self.images, "sets": sets, "stays": STAYS}

    def _encoded(self, one: MapSet, side: int) -> dict[str, Any]:
        maps = []
        shrunk = _shrunk(one.heatmaps[: len(one.images)], side).numpy()
        for number, caption, heat in zip(one.images, one.captions, shrunk, strict=False):
            whole = {"rows": one.heatmaps.shape[1], "columns": one.heatmaps.shape[2]}
            maps.append({"image": number, "caption": caption} | whole | encoded(heat))
        return {"network": one.network, "target": one.target, "method": one.method, "maps": maps}


def encoded(heat: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """A map as an eight-bit PNG and the numbers that turn its bytes back into values.

    A signed map is (byte - 128) / 127 * scale, one without negative values byte / 255 * scale.
    """
    finite = np.nan_to_num(heat.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    magnitude = np.abs(finite)
    scale, signed = float(magnitude.max()), bool((finite < 0).any())
    share = finite / scale if scale > 0 else finite
    values = np.round(share * 127 + 128) if signed else np.round(share * 255)
    clip = float(np.quantile(magnitude, _CLIP)) / scale if scale > 0 else 1.0
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(buffer, "PNG", optimize=True)
    height, width = heat.shape
    return {
        "map": _uri(buffer.getvalue(), "png"),
        "width": width,
        "height": height,
        "scale": scale,
        "signed": signed,
        "clip": clip or 1.0,
        "whole": bool(np.isfinite(heat).all()),
    }


def read_text(path: Path) -> str:
    """A file of text, read whole.

    Raises:
        InputError: it cannot be read, or is too large to be what it is taken for.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST} bytes, and no part of a report is.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Explain or audit again.") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder says of its maps.

    Raises:
        InputError: it cannot be read.
    """
    path = folder / "manifest.json"
    text = read_text(path)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}). Explain the images again.") from error
    if not isinstance(found, dict) or not {"images", "methods"} <= found.keys():
        raise InputError(f"{path} is not what `sightline explain` writes. Explain the images again.")
    check_format(found, path)
    return found


def folders_of(folder: Path) -> Iterator[Path]:
    """The folder itself and those in it that hold maps with their pictures."""
    for path in sorted(folder.rglob(PICTURES), key=lambda path: (len(path.parts), path)):
        yield path.parent


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return tensors_in(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}). Explain the images again.") from error


def _network(manifest: dict[str, Any], number: int | None) -> str:
    if number is None:
        return STAYS if "networks" in manifest else ORIGINAL
    return str(manifest["networks"][number]) if number else ORIGINAL


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    most = torch.nan_to_num(one.abs(), posinf=0.0).amax().item()
    return torch.allclose(one, other, rtol=0, atol=_ALIKE * most, equal_nan=True)


def _target(entry: dict[str, Any]) -> str:
    # Which class was predicted may differ from image to image; that it was the predicted one is one target.
    words = str(entry.get("explained", ""))
    return "the predicted class" if words.startswith("predicted ") else str(entry.get("explained_name", words))


def _bytes(found: dict[str, Any]) -> int:
    return sum(len(one["map"]) * 3 // 4 for one in found["maps"])


def _joined(values: Tensor, reduction: str) -> Tensor:
    wide = values.float()
    return wide.amax(1) if reduction == "max" and wide.shape[1] > 1 else wide.mean(1)


def _placed(heat: Tensor, record: dict[str, Any] | None) -> Tensor:
    """A layer's map where its cells lie, if stretching it over the image would be off by more than half a cell.

    Else the page gets the cells themselves, which are a hundredth of the size.
    """
    if record is None:
        return heat
    placement = Placement.from_record(record)
    return heat if placement.covers_evenly(tolerance=0.5) else placement.draw(heat[:, None])[:, 0]


def _shrunk(heat: Tensor, side: int) -> Tensor:
    height, width = heat.shape[1:]
    if max(height, width) <= side:
        return heat
    size = [max(1, round(length * side / max(height, width))) for length in (height, width)]
    small: Tensor = interpolate(torch.nan_to_num(heat)[:, None], size, mode="area")[:, 0]
    return small


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85, subsampling=0, optimize=True)
    return buffer.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
