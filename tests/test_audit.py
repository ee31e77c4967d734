"""Scores of maps against regions, by hand; and the whole demo, small."""

import pandas as pd
import pytest
import torch
from rich.console import Console

import sightline.demo
from sightline.audit import centre_map, edge_map, relevance_mass


def test_relevance_mass_by_hand() -> None:
    maps = torch.tensor([[[1.0, -3.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]])
    regions = torch.tensor([[[True, True], [False, False]]] * 3)
    shares = relevance_mass(maps, regions)
    torch.testing.assert_close(shares, torch.tensor([0.5, torch.nan, 0.5]), equal_nan=True)


def test_controls_know_nothing_but_the_picture() -> None:
    images = torch.zeros(1, 3, 9, 9)
    images[..., 5:] = 1
    edges = edge_map(images)[0]
    assert edges[:, 4:6].min() > 0
    assert edges[:, :4].max() == 0
    assert edges[:, 6:].max() == 0
    centre = centre_map(images)[0]
    assert centre.argmax() == 4 * 9 + 4
    torch.testing.assert_close(centre[0, 4], torch.exp(torch.tensor(-2.0)))
    torch.testing.assert_close(centre, centre.flip(0).T)


def test_the_demo_end_to_end(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tenth of the pictures: everything is written, twice the same, and the controls are what they must be."""
    for name, small in {"TRAINING": 2400, "HELD_OUT": 100, "SCORED": 4, "DISTANCING": 200, "STEPS": 2}.items():
        monkeypatch.setattr(sightline.demo, name, small)
    console = Console(file=(tmp_path / "said.txt").open("w"), width=200)
    with console.file:
        first, again = (sightline.demo.run_demo(tmp_path / folder, 0, console) for folder in ("one", "two"))
    pd.testing.assert_frame_equal(first, again)
    assert first.loc["oracle", "deciding"] == 1
    assert first.loc["oracle", "ring"] == 0
    assert set(sightline.demo.catalogue()) < set(first.index)
    written = {path.name for path in (tmp_path / "one").iterdir()}
    assert written == {
        "montage.png", "manifest.json", "maps.safetensors", "pictures.safetensors", "report.html", "scores.csv",
        "audit", "gad",
    }  # fmt: skip
    verdicts = pd.read_csv(tmp_path / "one" / "audit" / "verdicts.csv", index_col=0)
    assert set(sightline.demo.AUDIT_METHODS) < set(verdicts.index)
    # Four pictures carry no verdict.
    assert set(verdicts["overall"]) == {"undecided"}
    for name in ("scores.csv", "table.csv"):
        audits = [pd.read_csv(tmp_path / folder / "audit" / name) for folder in ("one", "two")]
        pd.testing.assert_frame_equal(*audits)
    tables = [pd.read_csv(tmp_path / folder / "gad" / "scores.csv", index_col=0) for folder in ("one", "two")]
    pd.testing.assert_frame_equal(*tables)
    assert list(tables[0].index) == list(sightline.demo.GAD_METHODS)
    assert tables[0]["over shuffled"].notna().all()
    stored = pd.read_csv(tmp_path / "one" / "scores.csv", index_col=0)
    assert stored.loc["oracle", "deciding"] == 1
