"""What all tests share."""

import contextlib
import os
import shutil
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


# Fixtures that make a test one of `make test-all`: a browser takes seconds, real photographs take more.
SLOW_FIXTURES = {"browser", "data_dir"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


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
    return Path(__file__).parent / "helpers" / "networks.py"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For networks so small that sharing their work takes longer than doing it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by Playwright; without either, the tests that need them are skipped."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of pages are kept, for a person to look at."""
    folder = Path(os.environ.get("SIGHTLINE_SCREENSHOTS", Path(__file__).parents[1] / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
