"""What a notebook and a paper get: HTML that holds what was found, tables, figures in vectors, and whom to cite."""

import base64
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from markupsafe import escape
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

import sightline as sl
from helpers.networks import small
from sightline.methods import catalogue
from sightline.rendering._paper import bibliography, sources


def assert_printable(figure: Figure, folder: Path) -> None:
    """A PDF that a publisher takes: its fonts are TrueType (matplotlib's own are Type 3), and its text can be read."""
    figure.savefig(folder / "figure.pdf")
    written = (folder / "figure.pdf").read_bytes()
    assert written.startswith(b"%PDF")
    assert b"/Subtype /Type3" not in written
    assert b"/FontFile2" in written


@pytest.fixture
def model() -> nn.Module:
    return small()


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
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {5}
    assert re.findall(r"@\w+\{(\w+),", found.bibliography) == ["simonyan2014deep", "adebayo2018sanity"]
    assert_printable(found.show(), tmp_path)


def test_support_networks_in_a_notebook(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    gad = sl.GAD(model, (0, 1), (2,), steps=2, batch_size=8, rate=1e-3)
    assert "Not fitted yet." in gad._repr_html_()
    labels = torch.arange(22) % 2
    gad.fit((images, labels), controls=False)
    html = gad._repr_html_()
    assert re.search(r"\bGAD\b.*\boutput 0 and output 1\b.*\btrained\b.*\beval\b", html)
    for name in gad.report.columns:
        assert f"<th>{name}</th>" in html
    for value in gad.report.select_dtypes("float").iloc[0]:
        assert f"<td>{value:.4g}</td>" in html
    assert_printable(gad.explain(images[:2], ["gradient"]).show(), tmp_path)


def test_an_evaluation_in_a_notebook_and_in_a_paper(model: nn.Module, images: Tensor) -> None:
    gad = sl.GAD(model, (0, 1), (2,), steps=2, batch_size=8, rate=1e-3).fit((images, torch.arange(22) % 2))
    found = gad.evaluate(images[:3], ["gradient", "saliency"], fills=["mean"], question="class")
    text, html = found.latex(), found._repr_html_()
    # Each row as it should stand in the table, with what LaTeX takes for commands escaped; a row for each region.
    expected = [row.tolist() for _, row in found.verdicts.iterrows()]
    for table in (found.complexity, found.sensitivity):
        expected += [row.tolist() for _, row in table.iterrows()]
    for row in expected:
        cells = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        assert " & ".join(cells).replace("_", r"\_").replace("%", r"\%").replace("nan", "--") in text
    assert text.count(r"\begin{table}") == html.count("<table") == 3
    assert f"<td>{found.complexity['RC'].iloc[0]:.4g}</td>" in html


def test_an_explanation_in_a_notebook(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    found = sl.explain(model, images[:2], ["gradient"])
    html = found._repr_html_()
    assert "Explanation(2 images, maps: gradient)" in html
    raw = base64.b64decode(re.findall(r"base64,([^\"]+)", html)[0])
    assert Image.open(io.BytesIO(raw)).width > 200
    for note in found.checks.notes:
        assert str(escape(note)) in html
    assert_printable(found.show(), tmp_path)


def test_letters_that_no_font_has_are_no_warning(model: nn.Module, images: Tensor) -> None:
    found = sl.explain(model, images[:1], ["gradient"])
    object.__setattr__(found, "names", ["\u3042\U0001f408"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found._repr_html_()


def test_a_method_of_one_s_own_cites_those_its_parts_come_from() -> None:
    from sightline.aggregation import CAM, FullGrad, InputTimesSignal, Pooling, Sign
    from sightline.propagation import GUIDED_BACKPROP, lrp_alpha_beta, rect_grad
    from sightline.sampling import AdaptivePath, Noise, Reduction

    def cited(**choices: object) -> list[str]:
        return re.findall(r"@\w+\{(\w+),", bibliography([sl.Method(name="mine", **choices)]))

    smilkov, springenberg = "smilkov2017smoothgrad", "springenberg2015striving"
    assert cited(sampling=Noise(samples=5), propagation=GUIDED_BACKPROP) == [smilkov, springenberg]
    variance = cited(sampling=Noise(reduction=Reduction.VARIANCE), propagation=rect_grad(q=90.0))
    assert [name[:6] for name in variance] == ["adebay", "kim201"]
    assert [name[:9] for name in cited()] == ["simonyan2"]
    assert [name[:9] for name in cited(aggregation=InputTimesSignal())] == ["shrikumar"]
    assert [name[:8] for name in cited(propagation=lrp_alpha_beta(3, 2))] == ["bach2015"]
    positive = CAM(pooling=Pooling.MEAN, sign=Sign.POSITIVE, layer="features")
    assert [name[:10] for name in cited(aggregation=positive)] == ["lerma2022g"]
    assert [name[:8] for name in cited(aggregation=FullGrad(sign=Sign.NEGATIVE))] == ["srinivas"]
    path = cited(sampling=AdaptivePath(), aggregation=InputTimesSignal())
    assert [name[:9] for name in path] == ["sundarara", "shrikumar"]


def test_captions_of_an_audit_say_what_its_cells_mean_and_tables_can_be_referred_to(
    model: nn.Module, images: Tensor
) -> None:
    found = sl.audit(model, images[:3], ["gradient"], ["class_sensitivity", "input_bias"])
    text = found.latex()
    (caption,) = re.findall(r"\\caption\{(.*)\}", text)
    assert caption.startswith("Audit of 3 images. ")
    assert r"95 \% interval over images" in caption
    for test in ("class_sensitivity", "input_bias"):
        assert f"{test.replace('_', ' ')} is passed where" in caption
        assert found.rules[test].words.replace("%", r"\%") in caption
    assert r"\label{tab:audit}" in text
    # Nothing in it is taken for a command.
    assert not re.search(r"(?<!\\)[%_#&^~]", caption)


@pytest.mark.slow
def test_legends_of_an_audit_s_picture_hide_nothing(model: nn.Module, images: Tensor) -> None:
    methods = ["gradient", "saliency", "guided_backprop", "grad_cam", "deconvnet"]
    figure = sl.audit(model, images, methods, ["class_sensitivity", "parameter_randomization"]).show()
    figure.draw_without_rendering()
    with_legend = [axes for axes in figure.axes if axes.get_legend() is not None]
    assert len(with_legend) == 2
    for axes in with_legend:
        legend, box, title = axes.get_legend().get_window_extent(), axes.get_window_extent(), axes._left_title
        assert legend.y0 >= box.y1 - 1
        assert legend.y1 <= title.get_window_extent().y0 + 1
    assert any("95 % interval" in text.get_text() for text in (figure._supxlabel, *figure.texts))
