"""The README's Python runs as it stands, in a folder that holds what it names."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks run in their order and share names; one that begins with `# FILE.py` is that file."""
    text = README.read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "photos").mkdir()
    for shade in range(96, 104):
        Image.fromarray(np.full((40, 50, 3), shade, dtype=np.uint8)).save(tmp_path / "photos" / f"grey{shade}.png")
    monkeypatch.chdir(tmp_path)
    blocks = []
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        if named := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / named.group(1)).write_text(block)
        else:
            # The network of the README has three classes.
            blocks.append(block.replace('"281"', '"1"'))
    torch.save(sl.load_model("my_network.py:build").state_dict(), "weights.pt")
    # The test has no cluster.
    plain, parts = recipe.split("[audit]")
    assert "[engine]" in parts
    (tmp_path / "recipe.toml").write_text(plain.replace("281", "1").replace("207", "2"))
    sl.run("recipe.toml")
    (tmp_path / "recipe.toml").write_text(f"{plain}[audit]{parts}")
    assert sl.read_recipe("recipe.toml").engine.name == "ray"
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"README.md, Python block {number}", "exec"), names)  # noqa: S102
    assert (tmp_path / "maps" / "montage.png").is_file()
    assert any(isinstance(value, sl.Explanation) for value in names.values())
