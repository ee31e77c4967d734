"""A saved explanation reads back as it was."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import CAM, InputTimesSignal, Pooling
from sightline.explaining._manifest import ImageEntry, Manifest
from sightline.operations import KINDS, kinds
from sightline.propagation import Propagation
from sightline.rendering._writing import write_page
from sightline.sampling import Noise
from sightline.sampling import Path as Way


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()  # fmt: skip


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def _keep(signal: Tensor, _: object) -> Tensor:
    return signal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_was_saved_is_read_back(model: nn.Module, images: Tensor, tmp_path: Path, dtype: torch.dtype) -> None:
    own = [
        sl.Method(Noise(3), aggregation=CAM(Pooling.ACTIVATION, layer="0"), name="own", formula="f", source="s"),
        sl.Method(Way(start=torch.ones(3, 1, 1)), aggregation=InputTimesSignal(), name="way", reduction="max"),
        sl.Method(propagation=Propagation("kept", {kinds.RECTIFIER: _keep}, frozenset(KINDS)), name="kept"),
    ]
    methods = ["saliency", "lrp_epsilon", "grad_cam@0", "guided_grad_cam", "deep_taylor", "full_grad", *own]
    ex = sl.explain(model.to(dtype), images, methods, [2, 0, 1], on_refusal="record")
    assert set(ex.refused) == {"deep_taylor"}
    ex.save(tmp_path / "maps")
    back = sl.Explanation.load(tmp_path / "maps")
    assert list(back.maps) == list(ex.maps)
    for name in ex.maps:
        assert torch.equal(back[name], ex[name])
        assert torch.equal(back.heatmap(name), ex.heatmap(name))
        assert back.heatmap_steps(name) == ex.heatmap_steps(name)
    assert torch.equal(back.images, ex.images)
    assert torch.equal(back.values, ex.values)
    assert torch.equal(back.predicted, ex.predicted)
    assert torch.equal(back.probabilities, ex.probabilities)
    for name in ("names", "targets", "refused", "layers", "boxes", "sizes", "image_notes", "paths", "class_names"):
        assert getattr(back, name) == getattr(ex, name) or list(getattr(back, name)) == list(getattr(ex, name))
    assert [back.caption(i) for i in range(3)] == [ex.caption(i) for i in range(3)]
    assert back.checks.operations == {name: ex.checks.operations[name] for name in ex.maps}
    assert back.checks.notes == ex.checks.notes
    assert back.checks.nan == ex.checks.nan
    assert back.checks.settings == json.loads(json.dumps(ex.checks.settings))
    for name, residual in ex.checks.completeness.items():
        torch.testing.assert_close(back.checks.completeness[name].double(), residual.double())
    assert abs(back.display - ex.display).max() < 1 / 255
    for name in ("saliency", "lrp_epsilon", "guided_grad_cam"):
        assert back.methods[name] == ex.methods[name] == sl.catalogue()[name]
    assert (back.methods["own"].sampling, back.methods["own"].aggregation) == (own[0].sampling, own[0].aggregation)
    assert {name: one.formula for name, one in back.methods.items()} == {
        name: one.formula for name, one in ex.methods.items()
    }
    back.save(tmp_path / "again")
    assert sl.Explanation.load(tmp_path / "again") == back
    # What a manifest cannot hold comes back by its name, and refuses to be used.
    with pytest.raises(sl.InputError, match=r"Path.*tensors"):
        sl.explain(model, images, back.methods["way"], 0)
    with pytest.raises(sl.RefusalError, match=r"kept.*read from a file"):
        sl.explain(model, images, back.methods["kept"], 0)
    sl.explain(model, images, back.methods["own"], 0)


def test_what_cannot_be_read_is_said(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    ex = sl.explain(model, images, "gradient", 1)
    with pytest.raises(sl.InputError, match=r"manifest\.json"):
        sl.Explanation.load(tmp_path / "nowhere")
    folder = ex.save(tmp_path / "maps")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["format"] == 1
    for changed, message in (
        ({**manifest, "format": 2}, r"format 2.*up to 1"),
        ({**manifest, "images": manifest["images"][:2]}, "damaged"),
        ({"images": []}, "not what Explanation.save writes"),
    ):
        (folder / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(sl.InputError, match=message):
            sl.Explanation.load(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "maps.safetensors").write_bytes(b"no")
    with pytest.raises(sl.InputError, match="damaged"):
        sl.Explanation.load(folder)


@pytest.mark.parametrize("name", ["maps.safetensors", "pictures.safetensors"])
def test_files_of_another_explanation_are_not_taken(
    model: nn.Module, images: Tensor, tmp_path: Path, name: str
) -> None:
    kept = sl.explain(model, images, "gradient", 1).save(tmp_path / "a")
    other = sl.explain(model, images + 1, "gradient", 0).save(tmp_path / "b")
    (kept / name).write_bytes((other / name).read_bytes())
    for read in (sl.Explanation.load, write_page):
        with pytest.raises(sl.InputError, match=name):
            read(kept)


def test_a_changed_manifest_is_damaged(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    path = sl.explain(model, images, "gradient", 1).save(tmp_path) / "manifest.json"
    path.write_text(path.read_text().replace('"dtype"', '"dtypo"'))
    for read in (sl.Explanation.load, write_page):
        with pytest.raises(sl.InputError, match=r"manifest\.json.*damaged.*checksum"):
            read(tmp_path)


def test_manifests_say_their_format(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    batch = images.repeat(2, 1, 1, 1)
    sl.audit(model, batch, ["gradient"], ["completeness"]).save(tmp_path / "audit")
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["format"] == 1
    gad = sl.GAD(model, (0, 1), (1,), steps=1).fit((batch, torch.arange(6) % 2), controls=False)
    gad.explain(batch, "gradient").save(tmp_path / "stays")
    assert json.loads((tmp_path / "stays" / "manifest.json").read_text())["format"] == 1
    with pytest.raises(sl.InputError, match="GAD"):
        sl.Explanation.load(tmp_path / "stays")
    record = gad.save(tmp_path / "gad") / "gad.json"
    written = json.loads(record.read_text())
    assert written["format"] == 1
    record.write_text(json.dumps({**written, "format": 7}))
    with pytest.raises(sl.InputError, match=r"gad\.json.*format 7"):
        sl.GAD.load(tmp_path / "gad", model)


@pytest.mark.parametrize("target", [None, sl.Unit("0", 1), sl.Pair(0, 2)])
def test_a_manifest_has_the_fields_of_its_schema(
    model: nn.Module, images: Tensor, tmp_path: Path, target: object
) -> None:
    manifest = json.loads((sl.explain(model, images, "gradient", target).save(tmp_path) / "manifest.json").read_text())
    assert manifest.keys() - Manifest.__required_keys__ == {"checksum", "files"}
    assert Manifest.__required_keys__ <= manifest.keys()
    for entry in manifest["images"]:
        assert ImageEntry.__required_keys__ <= entry.keys() <= set(ImageEntry.__annotations__)
