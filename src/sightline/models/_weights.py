"""Parameters from a file, into a model that they must fit exactly."""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from sightline._common.words import readable
from sightline._common.written import tensors_in
from sightline.errors import InputError

_NESTS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("", "module.", "model.", "_orig_mod.")
_SHOWN = 8


def load_weights(model: nn.Module, file: str | Path) -> str:
    """Load parameters and buffers from a file, all of them or none.

    Wrappers around the parameters (`state_dict`, `model`, a ``module.`` before every name) are taken off, and
    values are converted to the dtype that the model has. Absent `num_batches_tracked` counters are accepted.
    A checkpoint file is read without running code from it.

    Args:
        model: The model, changed in place.
        file: A ``.safetensors`` file, or a checkpoint of `torch.save`.

    Returns:
        A short description: file name, number of tensors, and the start of the file's SHA-256.

    Raises:
        InputError: If the file cannot be read safely or does not fit; the model is then unchanged.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"Expected a file of weights, but {path} is not a file; check the path.")
    own = model.state_dict()
    state = _unwrap(_read(path), own.keys(), path)
    _check_fit(state, own, path, type(model).__name__)
    try:
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(f"The weights in {path} do not fit {type(model).__name__}: {error}") from error
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{readable(path.name)}, {len(state)} tensors, sha256 {digest[:12]}"


def classes_in_file(model: nn.Module, file: str | Path) -> int | None:
    """How many classes the weights in a file are for, where only the size of the last layer differs from a model's.

    Args:
        model: a network of a library, as its weights were published.
        file: see `load_weights`.

    Returns:
        The number; None where the file fits as it is, or differs in other ways.
    """
    path, own = Path(file), model.state_dict()
    if not path.is_file():
        return None
    state = _unwrap(_read(path), own.keys(), path)
    differing = {name for name in own if name in state and _shape(state[name]) != _shape(own[name])}
    counts = {(len(own[name]), len(state[name])) for name in differing if own[name].dim() and _sized(state[name])}
    same = all(own[name].shape[1:] == state[name].shape[1:] for name in differing if _sized(state[name]))
    return counts.pop()[1] if len(counts) == 1 and same else None


def _sized(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0


def _read(path: Path) -> object:
    if _is_torchscript(path):
        raise InputError(
            f"{path} is a TorchScript program, which holds more than weights. Save only these: "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), file)."
        )
    try:
        if path.suffix.lower() == ".safetensors":
            return tensors_in(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise InputError(f"{path} is not a checkpoint of torch.save, or it is damaged; save it anew.") from error
        raise InputError(
            f"{path} holds more than tensors: it needs {wanted[1]}, and loading that could run any code. Save only "
            "the parameters, with torch.save(model.state_dict(), file), or as .safetensors."
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, safetensors.SafetensorError) as error:
        # What torch says of other files speaks of its own readers.
        reason = f" ({_first_line(error)})" if isinstance(error, OSError | safetensors.SafetensorError) else ""
        raise InputError(
            f"{path} cannot be read as weights{reason}, or it is damaged; expected a .safetensors file or a "
            "checkpoint of torch.save(model.state_dict(), file)."
        ) from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _unwrap(content: object, own: Iterable[str], path: Path) -> dict[str, Any]:
    while isinstance(content, Mapping) and (nest := next((n for n in _NESTS if _is_mapping(content.get(n))), None)):
        content = content[nest]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError(
            f"Expected named tensors in {path}, but it holds {_describe(content)}; save model.state_dict() instead."
        )
    state = {str(name): value for name, value in content.items()}
    prefixes = {"".join(pair) for pair in product(_WRAPPERS, repeat=2)}
    candidates = [
        {name.removeprefix(prefix): value for name, value in state.items()}
        for prefix in sorted(prefixes, key=len)
        if all(name.startswith(prefix) for name in state)
    ]
    return min(candidates, key=lambda candidate: len(candidate.keys() ^ set(own)))


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary of {_listed(str(key) for key in content)}" if content else "an empty dictionary"
    return f"one {type(content).__name__}"


def _check_fit(state: dict[str, Any], own: dict[str, Any], path: Path, model: str) -> None:
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    differing = [
        f"{name} (file {_shape(state[name])}, model {_shape(own[name])})"
        for name in own
        if name in state and _shape(state[name]) != _shape(own[name])
    ]
    problems = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", differing))
        if names
    ]
    if problems:
        raise InputError(
            f"The weights in {path} do not fit {model}: {'; '.join(problems)}. Use the network that they come from. "
            "If its last layer was replaced, build it in a file net.py as in training, `def build():`, "
            "`net = torchvision.models.resnet18()`, `net.fc = ...`, `return net`, and name the model as net.py:build."
        )


def _shape(value: object) -> str:
    return "x".join(map(str, value.shape)) or "scalar" if isinstance(value, Tensor) else type(value).__name__


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
