"""The paper's tables in its own layout, from tables written by hand."""

import json
from pathlib import Path

import pandas as pd
import pytest

import sightline as sl
from helpers.command_line import sightline
from sightline.rendering._gad_printed import finished, table_1, table_2


def evaluation(folder: Path, **about: str) -> Path:
    folder.mkdir(parents=True)
    gad = {"arm": "gad", "wins": 490, "ties": 3, "loses": 12, "degenerate": 7}
    clipped = {"arm": "clipped", "wins": 480, "ties": 0, "loses": 0, "degenerate": 0}
    # A control of GAD's own number of pixels stands in no table of the paper.
    random = {**gad, "arm": "random", "matched": "pixels", "wins": -1}
    cells = [
        {"reading": reading, "question": "class", "method": method, "class": c}
        for reading in ("nested 0.5", "minmax 0.5")
        for method in ("integrated_gradients", "saliency")
        for c in (1, 2)
    ]
    frame = pd.DataFrame([{**cell, "matched": "own", **arm} for cell in cells for arm in (random, gad, clipped)])
    frame.loc[(frame["method"] == "saliency") & (frame["class"] == 2), ["ties", "degenerate"]] = 0
    frame.loc[frame["reading"] == "nested 0.5", "wins"] = -1
    frame.to_csv(folder / "complexity.csv", index=False)
    rs = {"supplementary": 0.01, "gad": 0.13, "clipped": 0.12}
    frame = pd.DataFrame(
        {**cell, "fill": fill, "arm": arm, "matched": "own", "RS x 100": value}
        for fill in ("black", "blur") for cell in cells for arm, value in rs.items()
    )  # fmt: skip
    frame.loc[frame["fill"] == "blur", "RS x 100"] = -1
    frame.to_csv(folder / "sensitivity.csv", index=False)
    if about:
        (folder / "reproduction.json").write_text(json.dumps(about))
    return folder


def test_both_tables_in_the_papers_layout(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", dataset="cats_dogs", architecture="torchvision:vgg16")
    second = evaluation(tmp_path / "creatures" / "small")
    both = [finished(str(first)), finished(f"Creatures:small ResNet={second}")]
    table = table_1(both)
    assert list(table.columns) == ["data set", "network", "", "S", "IG"]
    assert table["data set"].unique().tolist() == ["Cat x Dog", "Creatures"]
    assert table["network"].unique().tolist() == ["VGG", "small ResNet"]
    own = table[table["network"] == "VGG"].set_index("")
    # Equal hulls count for the original, as in the paper, and are named.
    assert own.loc["Orig. 1", ["S", "IG"]].tolist() == [15, 15]
    assert own.loc["Orig. 2", ["S", "IG"]].tolist() == [12, 15]
    assert own.loc["GAD 1", ["S", "IG"]].tolist() == [490, 490]
    assert own.loc["  undefined 2", ["S", "IG"]].tolist() == [0, 7]
    assert own.loc["clipped 1", ["S", "IG"]].tolist() == [480, 480]
    rs = table_2(both).set_index("")
    assert rs.loc["GAD 1", "IG"].tolist() == [0.13, 0.13]
    assert set(rs.index) == {f"{name} {c}" for name in ("Sup.", "GAD", "clipped") for c in (1, 2)}
    assert finished(str(second)).dataset == "creatures"


def test_the_command_writes_them(tmp_path: Path) -> None:
    evaluation(tmp_path / "x")
    done = sightline(tmp_path, "gad", "tables", "Birds:ResNet=x", "--out", "t")
    assert done.returncode == 0, done.stderr
    assert "| Birds | ResNet | Orig. 1 | 15 | 15 |" in done.stdout
    assert "| Birds | ResNet | Sup. 1 | 0.0100 | 0.0100 |" in (tmp_path / "t" / "tables.md").read_text()
    assert pd.read_csv(tmp_path / "t" / "table1.csv").shape == (10, 5)
    assert "tabular" in (tmp_path / "t" / "tables.tex").read_text()


def test_what_is_no_evaluation_is_said(tmp_path: Path) -> None:
    whole = evaluation(tmp_path / "x")
    with pytest.raises(sl.InputError, match=r"absent.*gad evaluate"):
        finished(str(tmp_path / "absent"))
    with pytest.raises(sl.InputError, match=r"Birds:ResNet=FOLDER"):
        finished(f"Birds={whole}")
    with pytest.raises(sl.InputError, match=r"'mean 0\.5'.*nested 0\.5, minmax 0\.5"):
        table_1([finished(str(whole))], "mean 0.5")
    (whole / "complexity.csv").write_text("a,b\n1,2\n")
    with pytest.raises(sl.InputError, match="lack"):
        finished(str(whole))
    (whole / "sensitivity.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(sl.InputError, match="no finished evaluation"):
        finished(str(whole))
