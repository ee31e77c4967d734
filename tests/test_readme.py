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
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    network, *blocks = blocks
    (tmp_path / "my_network.py").write_text(network)
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.full((40, 50, 3), 99, dtype=np.uint8)).save(tmp_path / "photos" / "grey.png")
    monkeypatch.chdir(tmp_path)
    torch.save(sl.load_model("my_network.py:build").state_dict(), "weights.pt")
    assert len(blocks) == 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)  # noqa: S102
    assert (tmp_path / "maps" / "montage.png").is_file()
    explanation = names["ex"]
    assert isinstance(explanation, sl.Explanation)
    assert set(explanation.maps) == {"ig_1_percent", "ig_3_baselines", "expected_gradients"}
