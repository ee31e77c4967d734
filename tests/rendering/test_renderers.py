"""Renderers register themselves by type of result, also those of other distributions; nothing else is touched."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

import sightline as sl
from sightline._common.renderers import RENDERERS
from sightline.rendering import render, renders


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module("sightline.rendering._montage")
    monkeypatch.setattr(RENDERERS, "_own", dict(RENDERERS._own))
    monkeypatch.setattr(RENDERERS, "_others", None)


@pytest.fixture(scope="module")
def explanation() -> sl.Explanation:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    return sl.explain(model, torch.ones(1, 3, 2, 2), "gradient")


class Volume:
    depth = 5


def test_a_renderer_of_a_type_of_one_s_own_serves_derived_types_too() -> None:
    @renders(Volume, "text")
    def text(volume: Volume, unit: str) -> str:
        return f"{volume.depth} {unit}"

    class Scan(Volume):
        depth = 7

    assert (render(Volume(), "text", "mm"), render(Scan(), "text", unit="mm")) == ("5 mm", "7 mm")


def test_another_output_of_an_explanation(explanation: sl.Explanation) -> None:
    renders(sl.Explanation, "text")(lambda found: f"{len(found)} image of {found.names[0]}")
    assert render(explanation, "text") == "1 image of image 0"


def test_an_entry_point_is_one_file(
    explanation: sl.Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_slides.py").write_text("def slides(found):\n    return [f'slide of {n}' for n in found.names]\n")
    about = tmp_path / "acme_slides-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-slides\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[sightline.renderers]\nsightline.Explanation.slides = acme_slides:slides\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert render(explanation, "slides") == ["slide of image 0"]


def test_what_nothing_renders_is_an_error_that_says_how_to_register() -> None:
    with pytest.raises(sl.InputError, match=r"makes 'figure' of Volume.*renders\(Volume, 'figure'\).*Volume\.figure"):
        render(Volume(), "figure")


def test_two_renderers_of_the_same_output_are_refused() -> None:
    renders(Volume, "text")(str)
    with pytest.raises(sl.InputError, match="registered already"):
        renders(Volume, "text")(repr)


@pytest.mark.parametrize("output", ["figure", "html", "files", "bibliography", "overlay"])
def test_an_explanation_has_its_renderers(explanation: sl.Explanation, output: str) -> None:
    assert render(explanation, output, *(("gradient", 0, 0.4) if output == "overlay" else ()))
