"""An explanation as it was saved to a folder, read back."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from sightline import aggregation, sampling
from sightline._common.checksums import changed, fits
from sightline._common.written import tensors_in
from sightline.aggregation import Aggregation, Map, Placement, Reads
from sightline.errors import InputError, RefusalError
from sightline.explaining._explained import Explained
from sightline.explaining._explanation import PICTURES, Checks, Explanation, check_format, method_entry
from sightline.methods import Method, known_methods
from sightline.models import OutputKind
from sightline.operations import kinds
from sightline.propagation import Propagation
from sightline.sampling import Points, Rows, Sampling


def read(folder: Path) -> Explanation:
    """Read what `Explanation.save` wrote; see `Explanation.load`."""
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
        maps, pictures = tensors_in(folder / "maps.safetensors"), tensors_in(folder / PICTURES)
    except (OSError, SafetensorError) as error:
        raise _unreadable(folder, error) from error
    if "images" not in pictures:
        raise InputError(f"{folder} was saved before images were saved with their maps. Explain the images again.")
    if others := changed(folder, manifest.get("files", {})):
        raise _unreadable(folder, ValueError(f"{' and '.join(others)} is not what was written with the manifest"))
    try:
        return _explanation(manifest, maps, pictures["images"], pictures["pictures"])
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is missing or damaged ({type(error).__name__}: {error}), so it cannot be read as an explanation. Name "
        "a folder that Explanation.save or `sightline explain` wrote."
    )


def _explanation(manifest: dict[str, Any], maps: dict[str, Tensor], images: Tensor, pictures: Tensor) -> Explanation:
    entries, methods = manifest["images"], manifest["methods"]
    given = {name: one for name, one in methods.items() if "refused" not in one}
    if maps.keys() != given.keys() or any(len(one) != len(entries) for one in (images, pictures, *maps.values())):
        raise ValueError("maps, images and manifest do not belong together")
    predicted = probabilities = None
    if entries and all("predicted" in entry for entry in entries):
        predicted = torch.tensor([entry["predicted"] for entry in entries])
        probabilities = torch.tensor([_number(entry["probability"]) for entry in entries])
    dtype = getattr(torch, manifest["settings"]["dtype"])
    checks = Checks(
        operations={name: one["operations"] for name, one in given.items()},
        completeness={
            name: torch.tensor([_number(value) for value in one["completeness_residual"]], dtype=torch.float64)
            for name, one in given.items()
            if "completeness_residual" in one
        },
        conservation={},
        decomposition={},
        evaluations={name: torch.tensor(one["evaluations"]) for name, one in given.items() if "evaluations" in one},
        nan={name: one["not_finite"] for name, one in given.items()},
        notes=tuple(manifest["notes"]),
        settings=manifest["settings"],
    )
    return Explanation(
        images=images,
        names=[entry["name"] for entry in entries],
        explained=[Explained(**entry["target"]) for entry in entries],
        values=torch.tensor([_number(entry["value"]) for entry in entries], dtype=dtype),
        output=OutputKind(**manifest["output"]),
        predicted=predicted,
        probabilities=probabilities,
        methods={name: _method(name, one) for name, one in methods.items()},
        refused={name: one["refused"] for name, one in methods.items() if "refused" in one},
        layers={name: one["layer"] for name, one in methods.items() if "layer" in one},
        placements={
            name: Placement.from_record(one["placement"]) for name, one in methods.items() if "placement" in one
        },
        checks=checks,
        class_names=manifest["class_names"],
        display=(pictures.float() / 255).numpy(),
        boxes=[_box(entry["box"]) for entry in entries],
        sizes=[(entry["original_size"][0], entry["original_size"][1]) for entry in entries],
        image_notes=[entry.get("notes", []) for entry in entries],
        paths=[entry["file"] for entry in entries],
        maps={name: maps[name] for name in given},
    )


def _number(value: float | None) -> float:
    """JSON knows no NaN and no infinity."""
    return math.nan if value is None else value


def _box(ends: list[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = ends
    return left, top, right, bottom


def _method(name: str, entry: Mapping[str, Any]) -> Method:
    """The catalogue's, where it is the same; else one made of what the manifest says."""
    known = known_methods()
    said = {key: entry[key] for key in ("formula", "source", "reduction", "sampling", "propagation", "aggregation")}
    said |= {"times": entry["times"]} if "times" in entry else {}
    if name in known and json.loads(json.dumps(method_entry(known[name]))) == said:
        return known[name]
    propagations = {row.propagation.name: row.propagation for row in known.values()}
    times = None
    if "times" in entry:
        times = known.get(entry["times"]) or Method(name=entry["times"], propagation=_unread(entry["times"]))
    return Method(
        sampling=_made(sampling, entry["sampling"]) or UnreadSampling(_kind(entry["sampling"])),
        propagation=propagations.get(entry["propagation"]) or _unread(entry["propagation"]),
        aggregation=_made(aggregation, entry["aggregation"]) or UnreadAggregation(_kind(entry["aggregation"])),
        name=name,
        formula=entry["formula"],
        source=entry["source"],
        reduction=entry["reduction"],
        times=times,
    )


def _made(room: Any, said: Mapping[str, Any]) -> Any:
    """A sampling or an aggregation of ours from its name and settings; None where they do not suffice."""
    kind = getattr(room, said["name"], None) if said["name"] in room.__all__ else None
    if kind is None:
        return None
    settings = {}
    for one in fields(kind):
        if one.name.startswith("_"):
            continue
        value = said.get(one.name, _LACKING)
        value = tuple(value) if isinstance(value, list) else value
        # Of a tensor a manifest has the shape alone.
        if any(isinstance(part, dict) for part in (value if isinstance(value, tuple) else (value,))):
            return None
        settings[one.name] = type(one.default)(value) if isinstance(one.default, Enum) else value
    return kind(**settings)


_LACKING: dict[str, Any] = {}
_SCOPE = (
    "It was read from a file, which has its name but not its rules. If it is a method in a file of yours, ask for it "
    "before the explanation is read: sightline.methods.as_method('FILE.py:NAME')."
)


def _kind(said: Mapping[str, Any]) -> str:
    """The name of a choice, also of one that was read and saved again."""
    return str(said.get("kind", said["name"]))


def _unread(name: str) -> Propagation:
    # It covers no other operation, so that every use is refused with that sentence.
    return Propagation(name, {kinds.RECTIFIER: _without_rules}, frozenset(), _SCOPE)


def _without_rules(signal: Tensor, seen: Any) -> Tensor:
    del signal, seen
    raise RefusalError(_SCOPE)


@dataclass(frozen=True)
class UnreadSampling(Sampling):
    """Stands in for a sampling that no manifest can hold, such as one with a tensor for a baseline."""

    kind: str

    @property
    def weights(self) -> tuple[float, ...]:
        raise InputError(f"{self.kind} was read from a file, which does not hold its tensors. Make the sampling anew.")

    def points(self, images: Rows, keys: Any, samples: Any) -> Points:
        del images, keys, samples
        raise InputError(f"{self.kind} was read from a file, which does not hold its tensors. Make the sampling anew.")


@dataclass(frozen=True)
class UnreadAggregation(Aggregation):
    """Stands in for an aggregation that is not Sightline's own."""

    kind: str
    places: tuple[str, ...] = ()
    reads: Reads = Reads.SIGNAL

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        del results, signals
        raise InputError(f"{self.kind} was read from a file, which has only its name. Make the aggregation anew.")
