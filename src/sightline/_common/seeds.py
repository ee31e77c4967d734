"""Seeds derived by name, so that an image's noise does not depend on its place in a batch, its chunk or its worker."""

import hashlib

import torch
from torch import Tensor


def seed_of(*names: object) -> int:
    """A 63-bit seed from any names (a base seed, a layer's name, an image's key)."""
    digest = hashlib.blake2b("\x1f".join(map(str, names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def image_key(image: Tensor) -> str:
    """A name for an image from its content.

    Taken in float32, so that the same image in double precision has the same name.
    """
    data = image.detach().to("cpu", torch.float32).contiguous()
    return hashlib.blake2b(data.numpy().tobytes(), digest_size=16).hexdigest()
