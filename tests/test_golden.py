"""The digits of maps stay what they are, whatever the version of torch."""

import pytest
import torch
from safetensors import safe_open

from helpers import golden

with safe_open(golden.FILE, "pt") as file:
    VERSION = file.metadata()["torch"]
    KEPT = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping


@pytest.fixture(scope="module")
def found() -> dict[str, torch.Tensor]:
    return golden.maps()


@pytest.mark.parametrize("name", KEPT)
def test_a_map_has_the_digits_it_had(name: str, found: dict[str, torch.Tensor]) -> None:
    """Processors differ in the last bits of a sum; anything more is another computation."""
    kept = KEPT[name]
    error = float((found[name] - kept).abs().max() / kept.abs().max())
    assert error < 1e-12, f"{name} differs by {error:.1e} of its maximum from torch {VERSION}; now {torch.__version__}"


def test_no_map_is_new_or_gone(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == KEPT.keys()
