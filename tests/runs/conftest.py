"""What the tests of runs share."""

from pathlib import Path

import pytest

from helpers.runs import NETWORK, picture


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a network, photographs in two class folders, and a recipe."""
    (tmp_path / "net.py").write_text(NETWORK)
    for number in range(11):
        folder = tmp_path / "photos" / ("cat" if number < 5 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number:02d}.png")
    return tmp_path
