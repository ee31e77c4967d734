"""What a question is, by value: for audits that are resumed, and for their record."""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline._common.seeds import image_key
from sightline.auditing.questions._question import Question


def is_own(question: Question) -> bool:
    """Whether a question is one of Sightline's own."""
    return type(question).__module__.partition(".")[0] == __name__.partition(".")[0]


def identity(question: Question) -> dict[str, Any]:
    """Its name, class and settings, ready for JSON; of a user's question also a checksum of its class's source.

    Args:
        question: as it was given, before it is prepared for an audit.
    """
    kind = type(question)
    found = {"name": question.name, "class": kind.__qualname__, "settings": _plain(question.settings)}
    return found if is_own(question) else {**found, "code": _code(kind)}


def _code(kind: type) -> str:
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        # Classes made in a console have no source.
        return ""
    return hashlib.sha256(source.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A setting for JSON; of an array, its shape and a name for its content."""
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "content": image_key(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, Enum):
        return _plain(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"name": type(value).__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    # An address in memory is another one in each process.
    return getattr(value, "__qualname__", None) or type(value).__qualname__
