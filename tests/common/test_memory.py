"""Errors that say that memory ran out, by their class where they have one."""

import pytest
import torch

from sightline import InputError, RefusalError
from sightline._common.memory import ran_out

CPU = "[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 B"


def caused(by: BaseException) -> InputError:
    error = InputError("The model fails.")
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA"), True),
        (RuntimeError(CPU), True),
        (RefusalError(f"gradient cannot be computed: {CPU}"), True),
        (caused(torch.OutOfMemoryError("CUDA")), True),
        (RuntimeError("shapes do not fit"), False),
        # A file of this name is no error of memory.
        (InputError("out of memory.png cannot be read."), False),
        (None, False),
    ],
)
def test_memory_ran_out(error: BaseException | None, expected: bool) -> None:
    assert ran_out(error) is expected


def test_torch_s_allocator_for_the_cpu_has_no_class_of_its_own() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert ran_out(caught.value)
