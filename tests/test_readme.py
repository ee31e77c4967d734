"""The README's Python runs as it stands, in a folder that holds what it names."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = README.read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    network, *blocks = blocks
    (tmp_path / "my_network.py").write_text(network)
    (tmp_path / "photos").mkdir()
    for shade in range(96, 104):
        Image.fromarray(np.full((40, 50, 3), shade, dtype=np.uint8)).save(tmp_path / "photos" / f"grey{shade}.png")
    monkeypatch.chdir(tmp_path)
    torch.save(sl.load_model("my_network.py:build").state_dict(), "weights.pt")
    # The network of the README has three classes, and the test no cluster.
    plain, parts = recipe.split("[audit]")
    assert "[engine]" in parts
    (tmp_path / "recipe.toml").write_text(plain.replace("281", "1").replace("207", "2"))
    sl.run("recipe.toml")
    (tmp_path / "recipe.toml").write_text(f"{plain}[audit]{parts}")
    assert sl.read_recipe("recipe.toml").engine.name == "ray"
    blocks = [block.replace('"281"', '"1"') for block in blocks]
    assert len(blocks) == 9
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)  # noqa: S102
    assert (tmp_path / "maps" / "montage.png").is_file()
    explanation = names["ex"]
    assert isinstance(explanation, sl.Explanation)
    assert set(explanation.maps) == {"ig_1_percent", "ig_3_baselines", "expected_gradients"}
