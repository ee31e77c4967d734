"""The page of a run: what is on it against what the run keeps, and what is said of what is missing."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

import sightline as sl
from helpers.command_line import sightline
from helpers.page import Seen, values_of
from helpers.runs import METHODS, NETWORK, picture, recipe
from sightline.rendering._writing import write_page

pytest.importorskip("zarr", reason="the extra 'runs' is not installed")

from sightline.rendering._run_page import evenly

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a network, eleven pictures in two class folders (the fourth is none), and a recipe."""
    (tmp_path / "net.py").write_text(NETWORK.replace('"cat"', json.dumps(EVIL)))
    for number in range(11):
        folder = tmp_path / "photos" / ("cat" if number < 5 else "d<o>g")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number:02d}.png")
    (tmp_path / "photos" / "cat" / "03.png").write_bytes(b"no picture")
    return tmp_path


def data_of(page: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Seen(page.read_text(encoding="utf-8")).scripts["application/json"])
    return found


def text_of(page: Path) -> str:
    return re.sub(
        r"\s+", " ", re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", page.read_text(encoding="utf-8"), flags=re.S)
    )


def rows_of(page: Path, caption: str) -> list[list[str]]:
    """The cells of a table, row by row, its head first."""
    text = page.read_text(encoding="utf-8")
    table = next(part for part in re.findall(r"<table.*?</table>", text, re.S) if f"<caption>{caption}" in part)
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


@pytest.mark.parametrize(("count", "of", "expected"), [(3, 10, [1, 5, 8]), (1, 9, [4]), (5, 3, [0, 1, 2]), (4, 0, [])])
def test_a_sample_is_the_middles_of_equal_parts(count: int, of: int, expected: list[int]) -> None:
    assert evenly(range(of), count) == expected


def test_a_page_holds_what_the_run_keeps(place: Path) -> None:
    targets = ["predicted", "top-2", "0", "2-1"]
    run = sl.run(recipe(place, targets=targets))
    page = write_page(place / "out", images=3)
    assert page == place / "out" / "report.html"
    data = data_of(page)
    # Of the ten that have maps, 0 to 2 and 4 to 10, those at 1, 5 and 8.
    numbers = [1, 6, 9]
    assert [one["name"] for one in data["images"]] == ["cat/01.png", "d<o>g/06.png", "d<o>g/09.png"]
    model = sl.load_model(f"{place / 'net.py'}:build")
    photos = sl.load_images(place / "photos", model)
    alone = photos[[photos.names.index(run.images["name"][number]) for number in numbers]]
    for one, shown in zip(data["images"], alone.display(), strict=True):
        kept = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["picture"].split(",")[1]))))
        # A JPEG of noise.
        np.testing.assert_allclose(kept / 255, shown, atol=0.25)
    titles = {
        "predicted": "the predicted class",
        "top-2": "top-2",
        "0": f"0 ({EVIL})",
        "2-1": "2-1 (hen rather than dog)",
    }
    sets = {(one["target"], one["method"]): one["maps"] for one in data["sets"]}
    assert sets.keys() == {(title, method) for title in titles.values() for method in METHODS}
    for target, title in titles.items():
        for method in METHODS:
            maps = sets[title, method]
            assert [one["image"] for one in maps] == [0, 1, 2]
            for one, kept in zip(maps, run.heatmap(method, numbers, target), strict=True):
                np.testing.assert_allclose(values_of(one), kept, atol=one["scale"] / 127 / 2 + 1e-12)
    found = sl.explain(model, alone, "gradient", target=0)
    assert [one["caption"] for one in sets[titles["0"], "gradient"]] == [found.caption(row) for row in range(3)]

    scores = run.scores
    own = scores[(scores["method"] == "grad_cam") & (scores["target"] == "top-2")]
    head, *summary = rows_of(page, "Methods")
    row = dict(zip(head, next(row for row in summary if row[:2] == ["grad_cam", "top-2"]), strict=True))
    assert (row["images with a map"], row["images that failed"]) == ("10", "1")
    assert row["mean of the explained value"] == f"{own['value'].mean():.4g}"
    assert (row["smallest"], row["largest"]) == (f"{own['value'].min():.4g}", f"{own['value'].max():.4g}")
    assert len(summary) == len(METHODS) * len(targets)
    head, *listed = rows_of(page, "Scores of 3 images")
    assert len(listed) == 3 * len(METHODS) * len(targets)
    chosen = scores[scores["image"].isin(numbers)].reset_index(drop=True)
    for column in ("value", "probability"):
        place_of = head.index(column)
        assert [cells[place_of] for cells in listed] == [f"{value:.4g}" for value in chosen[column]]
    pairs = [cells for cells in listed if cells[head.index("target")] == "2-1"]
    assert {cells[head.index("explained")] for cells in pairs} == {"hen rather than dog"}
    head, *failed = rows_of(page, "Failures")
    assert [cells[head.index("name")] for cells in failed] == ["cat/03.png"]
    assert "not a picture" in failed[0][head.index("reason")]
    text = text_of(page)
    assert re.search(r"run of 11 images .*\b4 methods .*\b4 targets .*: 10 images with maps, 1 failure\.", text)
    assert re.search(r"shows 3 of these 10\b", text)
    assert "<script>alert" not in page.read_text(encoding="utf-8")
    assert "d<o>g" not in page.read_text(encoding="utf-8")


def test_a_run_that_is_not_finished_shows_what_is_there(place: Path) -> None:
    run = sl.run(recipe(place, methods=["gradient"], targets=["0"], chunk=4))
    next((place / "out" / "sums").glob("000001.*")).unlink()
    page = write_page(place / "out")
    assert [one["name"][-6:] for one in data_of(page)["images"]] == [f"{n:02d}.png" for n in (0, 1, 2, 8, 9, 10)]
    assert re.search(r"not finished: 2 of 3 chunks\b", text_of(page))
    for file in (place / "out" / "sums").iterdir():
        file.unlink()
    text = text_of(write_page(place / "out"))
    assert re.search(r"not finished: 0 of 3 chunks\b", text)
    assert 'id="gallery"' not in (place / "out" / "report.html").read_text()
    assert run.missing == 3


def test_the_second_likeliest_class_has_no_one_name(place: Path) -> None:
    sl.run(recipe(place, methods=["gradient"], targets=["top-2"]))
    # Of a single image there is but one second class.
    assert [one["target"] for one in data_of(write_page(place / "out", images=1))["sets"]] == ["top-2"]


def test_pictures_that_are_not_what_was_explained_say_so(place: Path) -> None:
    run = sl.run(recipe(place, methods=["gradient"], targets=["0"]))
    cats = place / "photos" / "cat"
    (cats / "00.png").unlink()
    picture(99).save(cats / "01.png")
    first, second, third = data_of(write_page(place / "out"))["images"][:3]
    assert "not where it was" in first["notes"][0]
    assert "another picture" in second["notes"][0]
    assert not [note for note in third["notes"] if "not shown" in note]
    grey, _ = run.pictures([0, 2])
    assert grey.pixels.shape == (12, 12, 3)
    assert len(np.unique(grey.pixels)) == 1
    (place / "photos").rename(place / "elsewhere")
    data = data_of(write_page(place / "out"))
    assert all("not shown" in one["notes"][0] for one in data["images"])
    np.testing.assert_allclose(
        values_of(data["sets"][0]["maps"][0]),
        run.heatmap("gradient", 0),
        atol=data["sets"][0]["maps"][0]["scale"] / 254 + 1e-12,
    )
    with pytest.raises(sl.InputError, match=r"\b0 to 10\b.*\b11\b"):
        run.pictures([11])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("maps/0/gradient/c/1/0/0", b"torn", r"maps/0/gradient.*damaged"),
        ("maps/0/gradient/c/1/0/0", None, r"maps/0/gradient/c/1.*damaged"),
        ("maps/0/gradient/zarr.json", b"", r"maps/0/gradient.*damaged"),
        ("scores", b"torn", r"scores/0000.*damaged"),
        ("failures", b"", r"failures/0000.*damaged"),
        ("images.parquet", b"torn", r"images\.parquet.*damaged"),
        ("images.parquet", None, r"lost images\.parquet"),
        ("manifest.json", b"{", r"manifest\.json.*damaged"),
        ("manifest.json", None, r"lost manifest\.json"),
    ],
)
def test_a_damaged_run_is_a_sentence(place: Path, name: str, content: bytes | None, said: str) -> None:
    sl.run(recipe(place, methods=["gradient"], targets=["0"]))
    file = place / "out" / name
    if file.is_dir():
        file = sorted(file.iterdir())[0]
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    done = sightline(place, "report", "out")
    assert done.returncode == 2, done.stdout
    assert re.search(said, done.stderr)
    assert "Traceback" not in done.stderr
    assert not (place / "out" / "report.html").exists()


def test_the_command_line_makes_the_page_that_a_run_names(place: Path) -> None:
    ran = sightline(place, "run", str(recipe(place, methods=["gradient"], targets=["0"])))
    assert f"sightline report {place / 'out'}" in ran.stdout
    done = sightline(place, "report", "out", "--images", "2", "--out", "page.html")
    assert done.returncode == 0, done.stderr
    assert len(data_of(place / "page.html")["images"]) == 2
    assert "from 1 to 1000 images" in sightline(place, "report", "out", "--images", "0").stderr
    (place / "other").mkdir()
    sl.explain(
        sl.load_model(f"{place / 'net.py'}:build"), sl.load_images(place / "photos").tensor[:1, :, :12, :12], "gradient"
    ).save(place / "other")
    assert "holds no run" in sightline(place, "report", "other", "--images", "2").stderr
    assert "holds no run" in sightline(place, "report", "memory://nothing").stderr


def test_a_run_elsewhere_has_its_page_here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = sl.run(recipe(place, methods=["gradient"], targets=["0"], folder="memory://for-a-page"))
    monkeypatch.chdir(place)
    page = write_page("memory://for-a-page")
    assert page.resolve() == place / "report.html"
    shown = data_of(page)["sets"][0]["maps"][0]
    np.testing.assert_allclose(values_of(shown), run.heatmap("gradient", 0), atol=shown["scale"] / 254 + 1e-12)
    fsspec.filesystem("memory").rm("/for-a-page", recursive=True)
    sl.run(recipe(place, methods=["gradient"], targets=["0"]))
    assert write_page(f"file://{place / 'out'}") == place / "out" / "report.html"


def test_raw_maps_in_half_precision_are_joined_and_lie_where_their_layer_does(place: Path) -> None:
    methods = ["gradient", "grad_cam"]
    run = sl.run(recipe(place, 'channels = true\nprecision = "float16"\n', methods=methods, targets=["0"]))
    sets = {one["method"]: one["maps"][0] for one in data_of(write_page(place / "out"))["sets"]}
    model = sl.load_model(f"{place / 'net.py'}:build")
    found = sl.explain(model, sl.load_images(place / "photos" / "cat" / "00.png", model), methods, target=0)
    placed = found.placements["grad_cam"]
    assert not placed.covers_evenly(tolerance=0.5)
    for method in methods:
        heat = found.heatmap(method)[0].numpy()
        np.testing.assert_allclose(values_of(sets[method]), heat, atol=np.abs(heat).max() / 100)
    assert run.array("gradient").shape[1] == 3


def test_pictures_come_from_a_data_set_and_its_faults_are_said(place: Path) -> None:
    datasets = pytest.importorskip("datasets")
    content = [(place / "photos" / "cat" / f"{n:02d}.png").read_bytes() for n in range(3)]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(
        {"image": [{"bytes": one, "path": None} for one in content]}, features=features
    ).save_to_disk(place / "rows")
    run = sl.run(recipe(place, data='dataset = "rows"', methods=["gradient"], targets=["0"]))
    model = sl.load_model(f"{place / 'net.py'}:build")
    seen = sl.load_images(place / "photos" / "cat" / "01.png", model).display()[0]
    np.testing.assert_allclose(run.pictures([1])[0].pixels / 255, seen, atol=0.5 / 255 + 1e-6)
    (place / "rows").rename(place / "gone")
    notes = [one["notes"][0] for one in data_of(write_page(place / "out"))["images"]]
    assert all(re.search(r"not shown: .*rows", note) for note in notes)
    assert len(notes) == 3
