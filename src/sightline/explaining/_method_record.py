"""A method as a manifest says it, and as it is read back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from torch import Tensor

from sightline import aggregation, sampling
from sightline._common.seeds import image_key
from sightline.aggregation import Aggregation, Map, Reads
from sightline.errors import InputError, RefusalError
from sightline.methods import Method, known_methods, settings
from sightline.operations import kinds
from sightline.propagation import Propagation
from sightline.sampling import Points, Rows, Sampling


def method_record(method: Method) -> dict[str, Any]:
    """What a manifest says of a method."""
    entry = {
        "formula": method.formula,
        "source": method.source,
        "reduction": method.reduction,
        "sampling": described(method.sampling),
        "propagation": method.propagation.name,
        "aggregation": described(method.aggregation),
    }
    return entry if method.times is None else {**entry, "times": method.times.name}


def described(choice: object) -> dict[str, Any]:
    """A sampling or an aggregation by its name and settings, ready for JSON."""
    return {"name": type(choice).__name__, **{name: _plain(value) for name, value in settings(choice).items()}}


def _plain(value: Any) -> Any:
    """A setting for JSON; of a tensor, its shape and a name for its content."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "content": image_key(value)}
    return value.value if isinstance(value, Enum) else value


def read_method(name: str, entry: Mapping[str, Any]) -> Method:
    """The catalogue's, where it is the same; else one made of what the manifest says."""
    known = known_methods()
    said = {key: entry[key] for key in ("formula", "source", "reduction", "sampling", "propagation", "aggregation")}
    said |= {"times": entry["times"]} if "times" in entry else {}
    if name in known and json.loads(json.dumps(method_record(known[name]))) == said:
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
