"""What a notebook and a paper get: HTML that holds what was found, tables, figures in vectors, and whom to cite."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sightline as sl
from sightline.catalogue import catalogue
from sightline.report.paper import bibliography, sources


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(150, 3),
    ).eval()  # fmt: skip


@pytest.fixture
def images() -> Tensor:
    return torch.randn(22, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", catalogue())
def test_every_method_has_someone_to_cite(name: str) -> None:
    method = catalogue()[name]
    found = bibliography([method])
    places = sources(method)
    assert places
    for place in places:
        assert found.count(f"{{{place}}}") == 1
    # The year and the first author stand in the entry as they stand in the source.
    for author, year in re.findall(r"\b([A-Z]\w+)(?: et al\.| and \w+)? (\d{4})(?![.\d])", method.source):
        assert re.search(rf"author = \{{{author}, .*?\}},\n.*?year = \{{{year}\}}", found, re.DOTALL)


def test_nobody_is_cited_twice(model: nn.Module, images: Tensor) -> None:
    found = sl.explain(model, images[:1], ["grad_cam", "guided_grad_cam", "guided_backprop", "grad_cam_positive"])
    assert re.findall(r"@\w+\{(\w+),", found.bibliography) == [
        "selvaraju2017gradcam", "springenberg2015striving", "lerma2022gradcam",
    ]  # fmt: skip


def test_an_audit_in_a_notebook_and_in_a_paper(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    mine = sl.from_callable(lambda network, given, classes: given.mean(1), "100 % <mine>_&")
    found = sl.audit(model, images, ["gradient", mine], ["class_sensitivity", "parameter_randomization"])
    html, table = found._repr_html_(), found.latex()
    assert "&lt;mine&gt;" in html
    assert "<mine>" not in html
    assert r"100 \% <mine>\_\&" in table
    for (_, method), finding in found.findings.items():
        if np.isfinite(finding.figure) and method == "gradient":
            assert f"{finding.said} {finding.figure:.2f}" in html
            assert f"{finding.said} {finding.figure:.2f} [{finding.low:.2f}, {finding.high:.2f}]" in table
    rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {3}
    assert re.findall(r"@\w+\{(\w+),", found.bibliography) == ["simonyan2014deep", "adebayo2018sanity"]
    found.show().savefig(tmp_path / "audit.pdf")
    assert (tmp_path / "audit.pdf").read_bytes().startswith(b"%PDF")


def test_support_networks_in_a_notebook(model: nn.Module, images: Tensor) -> None:
    gad = sl.GAD(model, (0, 1), (2,), steps=2, batch_size=8, rate=1e-3)
    assert "Not fitted yet." in gad._repr_html_()
    labels = torch.arange(22) % 2
    gad.fit((images, labels), controls=False)
    html = gad._repr_html_()
    assert "GAD of outputs 0 and 1, trained, eval mode" in html
    for name in gad.report.columns:
        assert f"<th>{name}</th>" in html
    for value in gad.report.select_dtypes("float").iloc[0]:
        assert f"<td>{value:.4g}</td>" in html


def test_an_explanation_in_a_notebook(model: nn.Module, images: Tensor) -> None:
    found = sl.explain(model, images[:2], ["gradient"])
    html = found._repr_html_()
    assert "Explanation(2 image(s), maps: gradient)" in html
    raw = base64.b64decode(re.findall(r"base64,([^\"]+)", html)[0])
    assert Image.open(io.BytesIO(raw)).width > 200
    for note in found.checks.notes:
        assert note in html
