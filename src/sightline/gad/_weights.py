"""Files of weights: tensors with a checksum, either whole or not there."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sightline._common.checksums import checksum


def write(path: Path, tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> None:
    """Write tensors to a file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    seen: set[int] = set()
    apart = {}
    for key, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        # Tied parameters have one storage, which the format forbids.
        apart[key] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    save_file(apart, part, {**words, "checksum": _sum_of(apart)})
    part.replace(path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and words that `write` wrote.

    Raises:
        ValueError: the file is missing, or not what was written.
    """
    try:
        with safe_open(path, "pt") as file:
            words = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ValueError(str(error)) from error
    if words.get("checksum") != _sum_of(tensors):
        raise ValueError("its checksum does not fit its content")
    return tensors, words


def _sum_of(tensors: Mapping[str, Tensor]) -> str:
    parts: list[bytes | str] = []
    for name in sorted(tensors):
        plain = tensors[name].contiguous()
        content = plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        parts += [f"{name} {tuple(plain.shape)} {plain.dtype}", checksum(content)]
    return checksum(*parts)
