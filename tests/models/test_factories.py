"""Models from a user's own file."""

import os
import sys
from pathlib import Path

import pytest

from sightline.models._factories import load_factory


def test_a_file_is_read_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes a compiled file for current where the source has the same size and second of writing."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file, second = tmp_path / "net.py", 1_700_000_000
    for features in (3, 5):
        file.write_text(f"from torch import nn\n\n\ndef build():\n    return nn.Linear(2, {features})\n")
        os.utime(file, (second, second))
        model, _ = load_factory(str(file), "build")
        assert model.out_features == features
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]
