"""A name for a model by what it is made of."""

import hashlib

import torch
from torch import nn


def fingerprint(model: nn.Module) -> str:
    """A name for a model: its modules as they print, its parameters, and its buffers, also those not saved."""
    digest = hashlib.blake2b(repr(model).encode(), digest_size=16)
    for name, tensor in {**model.state_dict(), **dict(model.named_buffers())}.items():
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy() if plain.numel() else b"")
    return digest.hexdigest()
