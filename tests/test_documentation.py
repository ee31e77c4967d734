"""The Python of the README and of every page runs as it stands, in a folder that holds what it names."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if BLOCK.search(path.read_text(encoding="utf-8"))
]
MODEL = next(
    block
    for block in BLOCK.findall((ROOT / "docs" / "start.md").read_text(encoding="utf-8"))
    if block.startswith("# my_network.py\n")
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds the network of docs/start.md with weights, some photographs, and is the current folder."""
    (tmp_path / "photos").mkdir()
    for shade in range(96, 104):
        Image.fromarray(np.full((40, 50, 3), shade, dtype=np.uint8)).save(tmp_path / "photos" / f"grey{shade}.png")
    (tmp_path / "my_network.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    torch.save(sl.load_model("my_network.py:build").state_dict(), "weights.pt")
    return tmp_path


def run(page: Path, *replaced: tuple[str, str]) -> dict[str, object]:
    """Run a page's blocks in their order; they share names, and one that begins with `# FILE.py` is a file."""
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
        if not re.match(r"# \w+\.py\n", block):
            for old, new in replaced:
                block = block.replace(old, new)
            exec(compile(block, f"{page.name}, Python block {number}", "exec"), names)  # noqa: S102
    return names


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "runs.md"], ids=lambda page: page.stem)
def test_examples_run(page: Path, folder: Path) -> None:
    names = run(page)
    if page.name == "start.md":
        assert (folder / "maps" / "montage.png").is_file()
        assert isinstance(names["ex"], sl.Explanation)


@pytest.mark.slow
def test_the_recipe_runs(folder: Path) -> None:
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    # The test has no cluster, and the network of the page three classes.
    plain, parts = recipe.split("[audit]")
    assert "[engine]" in parts
    (folder / "recipe.toml").write_text(plain.replace("281", "1").replace("207", "2"))
    sl.run("recipe.toml")
    (folder / "recipe.toml").write_text(f"{plain}[audit]{parts}")
    assert sl.read_recipe("recipe.toml").engine.name == "ray"
    maps = run(ROOT / "docs" / "runs.md", ('"281"', '"1"'))["maps"]
    assert len(maps.scores) == 8 * 4 * 3
