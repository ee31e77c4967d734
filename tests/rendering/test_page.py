"""The page of a folder: what is in it against what was saved, and that nothing in it can do harm."""

import base64
import copy
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sightline as sl
from helpers.networks import small
from helpers.page import Seen, values_of
from sightline._common.checksums import sealed, unsealed
from sightline.models import ModelInfo, Preprocessing
from sightline.rendering import _gallery as module
from sightline.rendering._gallery import encoded
from sightline.rendering._writing import write_page

EVIL = "<script>alert(1)</script>\"'&"


@pytest.fixture
def model() -> nn.Module:
    network = small()
    network.sightline_info = ModelInfo(
        spec=EVIL, preprocessing=Preprocessing(size=(12, 12)), class_names=("cat", EVIL, "hen")
    )
    return network


@pytest.fixture
def images() -> Tensor:
    return torch.randn(22, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def test_a_page_holds_the_maps_that_were_saved(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    methods = ["input_x_gradient", "gradient", "grad_cam"]
    found = sl.explain(model, images[:3], methods)
    found.save(tmp_path)
    other = sl.explain(model, images[:3], ["gradient"], target=1)
    other.save(tmp_path / "other")
    page = Seen(write_page(tmp_path).read_text(encoding="utf-8"))
    data = json.loads(page.scripts["application/json"])
    assert [one["name"] for one in data["images"]] == ["image 0", "image 1", "image 2"]
    keys = [(one["method"], one["target"]) for one in data["sets"]]
    assert keys == [*((method, "the predicted class") for method in methods), ("gradient", EVIL)]
    for one, source in zip(data["sets"], [found] * 3 + [other], strict=True):
        assert [m["image"] for m in one["maps"]] == [0, 1, 2]
        for number, m in enumerate(one["maps"]):
            # A layer that does not cover the image evenly is drawn where it lies.
            placed = one["method"] in source.placements
            raw = (source.heatmap(one["method"])[number] if placed else source[one["method"]][number].mean(0)).numpy()
            np.testing.assert_allclose(values_of(m), raw, atol=m["scale"] / 127 / 2 + 1e-12)
            assert m["scale"] == pytest.approx(np.abs(raw).max())
            assert m["caption"] == source.caption(number)
    picture = Image.open(io.BytesIO(base64.b64decode(data["images"][0]["picture"].split(",")[1])))
    np.testing.assert_allclose(np.asarray(picture) / 255, found.display[0], atol=0.25)


def test_nothing_that_comes_from_outside_is_code(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    sl.explain(model, images[:2], ["gradient"], target=1).save(tmp_path)
    text = write_page(tmp_path).read_text(encoding="utf-8")
    page = Seen(text)
    assert "<script>alert" not in text
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


@pytest.mark.slow
def test_an_audit_s_verdicts_and_figures_are_on_the_page(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    found = sl.audit(model, images, ["gradient", "guided_backprop"], ["class_sensitivity", "parameter_randomization"])
    found.save(tmp_path)
    text = write_page(tmp_path).read_text(encoding="utf-8")
    for (test, method), finding in found.findings.items():
        assert test.replace("_", " ") in text
        assert method in text
        if np.isfinite(finding.figure) and "far" not in found.shown(test, method):
            assert f"{finding.figure:.2f} <small>{finding.low:.2f} to {finding.high:.2f}</small>" in text
    boxes = [a["data-curves"] for tag, a in Seen(text).tags if "data-curves" in a]
    curves = json.loads(str(boxes[0]))
    table = found.table.query("test == 'parameter_randomization' and measure == 'flip_spearman'")
    for line in curves["lines"]:
        np.testing.assert_allclose(line["mean"], table[table["method"] == line["method"]]["mean"], atol=1e-4)
    assert [line["method"] for line in curves["lines"]] == ["gradient", "guided_backprop"]


def test_an_audit_of_one_image_has_curves_without_intervals(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    found = sl.audit(model, images[:1], ["gradient"], ["parameter_randomization"])
    found.save(tmp_path)
    text = write_page(tmp_path).read_text(encoding="utf-8")
    (box,) = [a["data-curves"] for tag, a in Seen(text).tags if "data-curves" in a]

    def refuse(word: str) -> None:
        raise AssertionError(word)

    (line,) = json.loads(str(box), parse_constant=refuse)["lines"]
    assert len(line["mean"]) == 3
    assert "inf" in (tmp_path / "table.csv").read_text()
    assert line["low"] == [None] * 3


def test_maps_of_eight_bits() -> None:
    rng = np.random.default_rng(0)
    for heat in (rng.standard_normal((5, 7)), rng.random((5, 7)) * 1e-9, np.zeros((2, 2)), -np.ones((3, 3))):
        found = encoded(heat)
        step = found["scale"] / (127 if found["signed"] else 255)
        np.testing.assert_allclose(values_of(found), heat, atol=step / 2 * 1.0001 + 1e-30)
    holes = rng.standard_normal((4, 4))
    holes[0, 0], holes[1, 1] = np.nan, np.inf
    found = encoded(holes)
    assert not found["whole"]
    assert values_of(found)[[0, 1], [0, 1]].tolist() == [0, 0]


def test_a_map_that_is_shrunk_keeps_its_scale_its_sign_and_what_it_lacks() -> None:
    """What averages to nothing is drawn as nothing: colours end where those of the whole map end."""
    board = 0.1 * (np.indices((64, 64)).sum(0) % 2 * 2.0 - 1)
    found = encoded(board + 1e-9, 16)
    assert (found["width"], found["signed"], found["largest"]) == (16, True, pytest.approx(0.1))
    assert found["clip"] * found["scale"] == pytest.approx(0.1)
    np.testing.assert_allclose(values_of(found), 1e-9, rtol=0.01)
    lines = np.zeros((70, 70))
    lines[::7] = 1
    lines[3, 3] = np.nan
    found = encoded(lines, 10)
    # Seven rows with one line in each.
    np.testing.assert_allclose(values_of(found), 1 / 7, atol=1e-6)
    assert found["clip"] * found["scale"] == pytest.approx(1)
    assert not found["whole"]


def test_films_are_shown_whole_or_as_large_as_is_asked(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    found = sl.explain(model, images[:1], ["gradient"])
    object.__setattr__(found, "maps", {"gradient": torch.randn(1, 1, 512, 400)})
    found.save(tmp_path)

    def size(**options: int) -> tuple[int, int]:
        text = write_page(tmp_path, **options).read_text(encoding="utf-8")
        (one,) = json.loads(Seen(text).scripts["application/json"])["sets"][0]["maps"]
        assert (one["rows"], one["columns"]) == (512, 400)
        return one["height"], one["width"]

    assert size() == (512, 400)
    assert size(side=64) == (64, 50)
    assert size(side=2000) == (512, 400)
    with pytest.raises(sl.InputError, match=r"16 to 8192.*got 5"):
        write_page(tmp_path, side=5)


@pytest.mark.slow
def test_the_page_opens_with_a_map_that_reads_well(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    found = sl.explain(model, images[:2], ["gradient", "saliency", "guided_backprop", "input_x_gradient"])
    height = torch.linspace(0, 1, 64)[:, None].expand(64, 64)
    noise = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = {"gradient": noise, "saliency": noise.abs(), "guided_backprop": height.expand(2, 1, 64, 64)}
    object.__setattr__(found, "maps", {**maps, "input_x_gradient": torch.zeros(2, 1, 64, 64)})
    found.save(tmp_path)
    assert json.loads(Seen(write_page(tmp_path).read_text()).scripts["application/json"])["first"] == "guided_backprop"
    # Not with one that an audit has found wanting.
    audited = sl.audit(model, images, ["gradient", "guided_backprop"], ["class_sensitivity"])
    audited.save(tmp_path / "audit")
    record = unsealed((tmp_path / "audit" / "audit.json").read_text())
    record["verdicts"]["guided_backprop"]["overall"] = "fail"
    (tmp_path / "audit" / "audit.json").write_text(sealed(record))
    assert json.loads(Seen(write_page(tmp_path).read_text()).scripts["application/json"])["first"] != "guided_backprop"


def test_many_maps_keep_to_the_budget(
    model: nn.Module, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sl.explain(model, images.repeat(1, 1, 8, 8)[:1, :, :12, :12], ["gradient"])
    large = torch.randn(40, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    many = found.subset([0] * 40)
    object.__setattr__(many, "maps", {"gradient": large})
    object.__setattr__(many, "names", [f"image {i}" for i in range(40)])
    many.save(tmp_path)

    def sizes() -> list[tuple[int, int]]:
        page = Seen(write_page(tmp_path).read_text(encoding="utf-8"))
        maps = json.loads(page.scripts["application/json"])["sets"][0]["maps"]
        assert len(maps) == 40
        assert sum(len(base64.b64decode(m["map"].split(",")[1])) for m in maps) <= module.BUDGET
        for number, m in enumerate(maps):
            side = m["width"]
            whole = large[number, 0].unfold(0, 64 // side, 64 // side).unfold(1, 64 // side, 64 // side)
            expected = whole.mean((2, 3)).numpy()
            np.testing.assert_allclose(values_of(m), expected, atol=m["scale"] / 127)
        return [(m["width"], m["height"]) for m in maps]

    assert sizes() == [(64, 64)] * 40
    # Noise of 64 x 64 takes some 4 kB, of 32 x 32 some 1 kB.
    monkeypatch.setattr(module, "BUDGET", 60_000)
    assert sizes() == [(32, 32)] * 40


def test_a_method_s_name_may_hold_a_slash(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    mine = sl.Method(name="mine/2")
    sl.explain(model, images[:1], [mine]).save(tmp_path)
    gad = sl.GAD(model, (0, 1), (2,), steps=2, batch_size=8, rate=1e-3).fit(
        (images, torch.arange(22) % 2), controls=False
    )
    gad.explain(images[:1], [mine], question="class").save(tmp_path / "gad")
    data = json.loads(Seen(write_page(tmp_path).read_text(encoding="utf-8")).scripts["application/json"])
    assert [(one["method"], one["network"]) for one in data["sets"]] == [
        ("mine/2", "the network"), ("mine/2", "alpha 2"), ("mine/2", "what stays in all"),
    ]  # fmt: skip
    # Two steps move no network, which decides what its maps are worth.
    assert any("alpha 2 hardly moved" in note for note in gad.notes)
    text = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    story = text.split('<section class="story"')[1].split("<details>")[0]
    assert all(note in story for note in gad.notes)


def test_networks_that_contradict_each_other_are_both_shown(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).neg_()
    for place, network, count in (("a", model, 2), ("b/x", other, 2), ("c/x", model, 3)):
        sl.explain(network, images[:count], ["gradient"], target=0).save(tmp_path / place)
    data = json.loads(Seen(write_page(tmp_path).read_text(encoding="utf-8")).scripts["application/json"])
    # Of maps that are there already only those of further images are taken.
    assert [(one["network"], [found["image"] for found in one["maps"]]) for one in data["sets"]] == [
        ("the network", [0, 1]), ("the network of b/x", [0, 1]), ("the network", [2]),
    ]  # fmt: skip


def test_files_that_do_not_belong_together_are_said(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    for folder, count in (("a", 1), ("b", 2)):
        sl.explain(model, images[:count], ["gradient"]).save(tmp_path / folder)
    for name in ("pictures.safetensors", "maps.safetensors"):
        own = (tmp_path / "a" / name).read_bytes()
        (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
        with pytest.raises(sl.InputError, match=r"maps.*pictures.*together"):
            write_page(tmp_path / "a")
        (tmp_path / "a" / name).write_bytes(own)
    (tmp_path / "a" / "manifest.json").write_text('{"images": [{"name": "x"}], "methods": {}}')
    with pytest.raises(sl.InputError, match=r"maps.*pictures.*together"):
        write_page(tmp_path / "a")
    found = sl.audit(model, images[:2], ["gradient"], ["class_sensitivity"])
    found.save(tmp_path / "c")
    kept = (tmp_path / "c" / "table.csv").read_bytes()
    for other in (kept[: len(kept) // 2], kept.replace(b"0.", b"1.", 1)):
        (tmp_path / "c" / "table.csv").write_bytes(other)
        with pytest.raises(sl.InputError, match=r"damaged.*table\.csv"):
            write_page(tmp_path / "c")
    (tmp_path / "c" / "table.csv").write_bytes(kept)
    record = (tmp_path / "c" / "audit.json").read_text()
    assert '"undecided"' in record
    (tmp_path / "c" / "audit.json").write_text(record.replace('"undecided"', '"pass"', 1))
    with pytest.raises(sl.InputError, match=r"damaged.*checksum"):
        write_page(tmp_path / "c")
    (tmp_path / "c" / "audit.json").write_text(record)
    (tmp_path / "c" / "reasons.csv").write_text("one,other\n1,2\n")
    with pytest.raises(sl.InputError, match="is no audit"):
        write_page(tmp_path / "c")


def test_what_cannot_be_reported_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(sl.InputError, match="nothing to report"):
        write_page(tmp_path)
    (tmp_path / "audit.json").write_text("[1]")
    with pytest.raises(sl.InputError, match="is no audit"):
        write_page(tmp_path)
    (tmp_path / "audit.json").unlink()
    (tmp_path / "pictures.safetensors").write_bytes(b"no")
    with pytest.raises(sl.InputError, match=r"manifest\.json.*\bread\b"):
        write_page(tmp_path)


def test_a_folder_that_does_not_exist_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(sl.InputError, match="nope does not exist"):
        write_page(tmp_path / "nope")
    (tmp_path / "file").write_text("")
    with pytest.raises(sl.InputError, match="is not a folder"):
        write_page(tmp_path / "file")
