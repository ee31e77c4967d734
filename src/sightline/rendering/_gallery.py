"""What a page shows of saved maps: pictures, and maps as small pictures of eight bits that a script reads back."""

import base64
import io
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from sightline._common.checksums import changed, fits
from sightline._common.written import tensors_in
from sightline.aggregation import Placement
from sightline.errors import InputError
from sightline.explaining import PICTURES, Explained, check_format
from sightline.rendering._picture import has_sign, resampled, scale_of

BUDGET = 16_000_000
"""Bytes that all maps of a page may take before they are written as text, which adds a third."""
LARGEST = 200_000_000
"""Bytes of a file of text that a report reads whole."""
_SIDES = (1024, 768, 640, 512, 384, 320, 256, 192, 160, 128, 112, 96, 80, 64, 48, 32)
_COARSE = 16
"""What a map shows at so many pixels a side can be read at a glance."""
ORIGINAL, STAYS = "the network", "what stays in all"
PREDICTED = "the predicted class"
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
            if others := changed(folder, manifest.get("files", {})):
                raise ValueError(f"{' and '.join(others)} is not what was written with the manifest")  # noqa: TRY301
            self._take(name or folder.name, manifest, maps, pictures["pictures"])
        except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise InputError(
                f"The manifest, the maps and the pictures in {folder} do not belong together "
                f"({type(error).__name__}: {error}). Explain the images again."
            ) from error
        return manifest

    def _take(self, place: str, manifest: dict[str, Any], maps: Mapping[str, Tensor], pictures: Tensor) -> None:
        entries, order = manifest["images"], list(manifest["methods"])
        numbers = [self.add_picture(entry, picture.numpy()) for entry, picture in zip(entries, pictures, strict=True)]
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
                heat = placed_maps(joined(values, entry.get("reduction", "mean"))[rows], entry.get("placement"))
                captions = [str(entries[row].get("caption", "")) for row in rows]
                self.add_maps(place, MapSet(network, target, method, [numbers[row] for row in rows], captions, heat))

    def add_maps(self, place: str, one: MapSet) -> None:
        """Take in maps, but those already there; maps that contradict them are another network's, of that place."""
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

    def add_picture(self, entry: Mapping[str, Any], picture: NDArray[np.uint8]) -> int:
        """Take in a picture, shape (height, width, 3), and return its number on the page.

        Args:
            entry: its `name`, and `notes` on it if there are any.
            picture: as a person sees it.
        """
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

    def payload(self, side: int | None = None, failed: Collection[str] = ()) -> dict[str, Any]:
        """Everything the script needs, ready for JSON.

        Args:
            side: the longer side of the maps in pixels, at most; by default as large as the budget allows.
            failed: methods that an audit has found wanting, with which the page does not open if there are others.
        """
        sides = _SIDES if side is None else (side,)
        for side in sides:
            last = side == sides[-1]
            # The first map of each set tells about how large the others will be.
            first = [self._encoded(replace(one, images=one.images[:1]), side) for one in self.sets]
            share = sum(_bytes(few) * len(one.images) for few, one in zip(first, self.sets, strict=True))
            if share > 1.2 * BUDGET and not last:
                continue
            sets = [self._encoded(one, side) for one in self.sets]
            if sum(map(_bytes, sets)) <= BUDGET or last:
                break
        return {"images": self.images, "sets": sets, "stays": STAYS, "first": self._first(failed)}

    def _first(self, failed: Collection[str]) -> str:
        """The method whose maps read best at a glance: most of their variance is left when they are drawn small."""
        best, most = self.sets[0].method, -1.0
        sound = [one for one in self.sets if one.method not in failed] or self.sets
        for one in sound:
            # The original's maps of the first images stand for the others.
            few = np.nan_to_num(one.heatmaps[:4].double().numpy(), posinf=0.0, neginf=0.0)
            spread = few.var((1, 2))
            # A layer's map may have so few cells that nothing is lost of it.
            left = _shrunk(few, min(_COARSE, max(few.shape[1:]))).var((1, 2))
            kept = float(np.where(spread > 0, left / np.where(spread > 0, spread, 1), 0).mean())
            if one.network == ORIGINAL and kept > most + 0.01:
                best, most = one.method, kept
        return best

    def _encoded(self, one: MapSet, side: int) -> dict[str, Any]:
        maps = []
        signed = has_sign(one.heatmaps.numpy())
        for number, caption, values in zip(one.images, one.captions, one.heatmaps, strict=False):
            size = {"rows": values.shape[0], "columns": values.shape[1]}
            maps.append({"image": number, "caption": caption} | size | encoded(values.numpy(), side, signed=signed))
        return {"network": one.network, "target": one.target, "method": one.method, "maps": maps}


def encoded(heat: NDArray[np.floating[Any]], side: int | None = None, *, signed: bool | None = None) -> dict[str, Any]:
    """A map as an eight-bit PNG and the numbers that turn its bytes back into values.

    A signed map is (byte - 128) / 127 * scale, one without negative values byte / 255 * scale.

    Args:
        heat: shape (height, width).
        side: its longer side, at most, to which it is averaged; by default as it is.
        signed: whether it belongs to maps with a sign; by default whether it has negative values.

    Returns:
        `map`, a data URI; `width` and `height` of it; `scale`; `signed`; `clip`, the share of `scale` at which colours
        end; `largest`, the largest magnitude of the map as it was given; `whole`, whether all its values are finite.
    """
    known = np.isfinite(heat)
    given = np.where(known, heat, 0.0).astype(np.float64)
    shown = _shrunk(given[None], side)[0] if side is not None else given
    scale = float(np.abs(shown).max())
    signed = bool((given < 0).any()) if signed is None else signed
    share = shown / scale if scale > 0 else shown
    values = np.round(share * 127 + 128) if signed else np.round(share * 255)
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(buffer, "PNG", optimize=True)
    height, width = shown.shape
    return {
        "map": _uri(buffer.getvalue(), "png"),
        "width": width,
        "height": height,
        "scale": scale,
        "signed": signed,
        # Of the map as it was given: what averages to nearly nothing must not be drawn as if it were much.
        "clip": scale_of(given) / scale if scale > 0 else 1.0,
        "largest": float(np.abs(given).max()),
        "whole": bool(known.all()),
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
    if not fits(found):
        raise InputError(f"{path} is damaged: its checksum does not fit its content. Explain the images again.")
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
    """What a set of maps explains; which class was predicted may differ from image to image."""
    return PREDICTED if Explained(**entry["target"]).predicted else str(entry["explained_name"])


def _bytes(found: dict[str, Any]) -> int:
    return sum(len(one["map"]) * 3 // 4 for one in found["maps"])


def joined(values: Tensor, reduction: str) -> Tensor:
    """Maps, shape (image, channel, height, width), with their channels joined as their method's row says."""
    wide = values.float()
    return wide.amax(1) if reduction == "max" and wide.shape[1] > 1 else wide.mean(1)


def placed_maps(heat: Tensor, record: dict[str, Any] | None) -> Tensor:
    """A layer's map where its cells lie, if stretching it over the image would be off by more than half a cell.

    Else the page gets the cells themselves, which are a hundredth of the size.
    """
    if record is None:
        return heat
    placement = Placement.from_record(record)
    return heat if placement.covers_evenly(tolerance=0.5) else placement.draw(heat[:, None])[:, 0]


def _shrunk(heat: Any, side: int) -> NDArray[np.float64]:
    """Maps, shape (image, height, width), averaged to a longer side of at most `side`."""
    values = np.asarray(heat, dtype=np.float64)
    height, width = values.shape[1:]
    longer = max(height, width)
    if longer <= side:
        return values
    size = [max(1, round(length * side / longer)) for length in (height, width)]
    return np.stack([resampled(one, *size) for one in values])


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85, subsampling=0, optimize=True)
    return buffer.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
