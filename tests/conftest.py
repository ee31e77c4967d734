"""What all tests share."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Workers that share the cores wait for each other's threads many times longer than they work.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    threads = max(1, (os.cpu_count() or 1) // workers)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)

# Third-party imports may announce deprecations of their own.
with warnings.catch_warnings(), contextlib.suppress(ImportError):
    warnings.simplefilter("ignore")
    try:
        import torchvision
    except RuntimeError:
        # A torchvision built for CUDA lacks two operators beside a CPU-only torch, and its import stops there.
        # No classifier calls them, so their declaration is enough; timm and transformers import torchvision too.
        _library = torch.library.Library("torchvision", "DEF")
        for _name in ("nms", "qnms"):
            _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real photographs and weights, which the project may not contain."""
    folder = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no real data at {folder}; name the folder in SIGHTLINE_DATA")
    return folder


@pytest.fixture(scope="session")
def networks_file() -> Path:
    """The file of networks, as a user would name it."""
    return Path(__file__).parent / "networks.py"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For networks so small that sharing their work takes longer than doing it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
