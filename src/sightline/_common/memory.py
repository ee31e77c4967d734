"""How much memory a pass may take, and into what chunks that cuts a job."""

import re

import psutil
import torch
from torch import Tensor

# Activations of common networks take 50 to 350 times their input; until the first pass has been measured, assume twice
# the most, as for a measured pass.
_ASSUMED_EXPANSION = 700
# What a pass may take is fixed beforehand and not read off the memory that happens to be free, so that the same job is
# cut into the same chunks, and gives the same digits, tomorrow and on another machine. Only where so much is not free
# the chunks get smaller.
_BUDGET = {"cpu": 4 << 30, "cuda": 12 << 30}
_SHARE = 0.4
_LARGEST = {"cpu": 16, "cuda": 64}
# Of allocators that raise no class of their own, such as torch's for the CPU.
_SHORT = re.compile(
    r"out of memory|(?:can't|not enough memory to|cannot|unable to) allocate|bad.alloc|malloc of size|MemoryError|"
    r"can't start new thread",
    re.IGNORECASE,
)


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and says_short(str(error)):
            return True
        error = error.__cause__
    return False


def says_short(reason: str) -> bool:
    """Whether the reason of a refusal is that memory ran out, in the words of the allocator."""
    return bool(_SHORT.search(reason))


def first_chunk(row: Tensor, allowed: int | None = None) -> int:
    """Rows of the first pass, before anything is measured; `row` is one input."""
    return _rows(row.device, _ASSUMED_EXPANSION * row.numel() * row.element_size(), allowed)


def next_chunk(row: Tensor, measured: int, allowed: int | None = None) -> int:
    """Rows of later passes, where one row's results took `measured` bytes."""
    return _rows(row.device, 2 * measured, allowed)


def allowance(device: torch.device) -> int:
    """Bytes that a pass may take now."""
    return int(min(_BUDGET.get(device.type, _BUDGET["cpu"]), _SHARE * available(device)))


def _rows(device: torch.device, bytes_per_row: int, allowed: int | None) -> int:
    rows = int((allowance(device) if allowed is None else allowed) / max(bytes_per_row, 1))
    # Powers of two, so that where memory is short small changes of it do not change the chunks.
    return 1 << max(0, min(rows, _LARGEST.get(device.type, 16)).bit_length() - 1)


def available(device: torch.device) -> int:
    """Bytes that can still be allocated on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
