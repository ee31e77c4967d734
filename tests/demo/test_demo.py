"""The whole demo, small."""

from functools import cache

import pandas as pd
import pytest
from rich.console import Console

import sightline.demo._demo


@pytest.mark.slow
def test_the_demo_end_to_end(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tenth of the pictures: everything is written, twice the same, and the controls are what they must be."""
    for name, small in {"TRAINING": 2400, "HELD_OUT": 100, "SCORED": 4, "DISTANCING": 200, "STEPS": 2}.items():
        monkeypatch.setattr(sightline.demo._demo, name, small)
    # Trained once: that training repeats itself is a test of its own (images/creatures/test_dataset.py).
    monkeypatch.setattr(sightline.demo._demo, "_train", cache(sightline.demo._demo._train))
    console = Console(file=(tmp_path / "said.txt").open("w"), width=200)
    with console.file:
        first, again = (sightline.demo._demo.run_demo(tmp_path / folder, 0, console) for folder in ("one", "two"))
    pd.testing.assert_frame_equal(first, again)
    assert first.loc["oracle", "deciding"] == 1
    assert first.loc["oracle", "ring"] == 0
    assert set(sightline.demo._demo.catalogue()) < set(first.index)
    written = {path.name for path in (tmp_path / "one").iterdir()}
    assert written == {
        "montage.png", "manifest.json", "maps.safetensors", "pictures.safetensors", "report.html", "scores.csv",
        "audit", "gad",
    }  # fmt: skip
    verdicts = pd.read_csv(tmp_path / "one" / "audit" / "verdicts.csv", index_col=0)
    assert set(sightline.demo._demo.AUDIT_METHODS) < set(verdicts.index)
    # Four pictures carry no verdict.
    assert set(verdicts["overall"]) == {"undecided"}
    for name in ("scores.csv", "table.csv"):
        audits = [pd.read_csv(tmp_path / folder / "audit" / name) for folder in ("one", "two")]
        pd.testing.assert_frame_equal(*audits)
    tables = [pd.read_csv(tmp_path / folder / "gad" / "scores.csv", index_col=[0, 1]) for folder in ("one", "two")]
    pd.testing.assert_frame_equal(*tables)
    assert list(tables[0].index.unique("map")) == list(sightline.demo._demo.GAD_METHODS)
    assert tables[0]["gain"].xs("shuffled", level="arm").notna().all()
    stored = pd.read_csv(tmp_path / "one" / "scores.csv", index_col=0)
    assert stored.loc["oracle", "deciding"] == 1
