"""The page in a real browser: every promise by a click, in light and dark, wide and narrow."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import torch

import sightline as sl
from helpers.networks import small
from sightline.models import ModelInfo, Preprocessing
from sightline.rendering._writing import write_page

if TYPE_CHECKING:
    from playwright import sync_api

axe = pytest.importorskip("axe_playwright_python.sync_playwright")

SIDE = 24


class Made(NamedTuple):
    """What the page shows."""

    file: Path
    found: sl.Explanation
    kept: sl.GADExplanation


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    model = small(SIDE)
    names = ("cat", "<i>dog</i>", "hen")
    model.sightline_info = ModelInfo(spec="test", preprocessing=Preprocessing(size=(SIDE, SIDE)), class_names=names)
    images = torch.randn(22, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    folder = tmp_path_factory.mktemp("page")
    found = sl.explain(model, images[:3], ["gradient", "saliency", "grad_cam"])
    found.save(folder)
    sl.explain(model, images[:3], ["gradient"], target=1).save(folder / "other")
    sl.audit(model, images, ["gradient", "guided_backprop"]).save(folder / "audit")
    gad = sl.GAD(model, (0, 1), (2, 4), steps=3, batch_size=8, rate=1e-2).fit(
        (images, torch.arange(22) % 2), controls=False
    )
    kept = gad.explain(images[:3], ["gradient"], question="class")
    kept.save(folder / "gad")
    gad.evaluate(images[:2], ["gradient"]).save(folder / "evaluation")
    return Made(write_page(folder), found, kept)


@pytest.fixture
def file(made: Made) -> Path:
    return made.file


@pytest.fixture
def found(made: Made) -> sl.Explanation:
    return made.found


@pytest.fixture
def page(browser: "sync_api.Browser", file: Path) -> Iterator["sync_api.Page"]:
    said: list[str] = []
    opened = browser.new_page(viewport={"width": 1280, "height": 1400})
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else said.append(request.url)
    )
    opened.goto(file.as_uri())
    opened.wait_for_selector("#strip button")
    yield opened
    opened.close()
    # Neither an error nor a request to anywhere.
    assert said == []


def canvas(page: "sync_api.Page") -> str:
    found: str = page.evaluate("document.getElementById('stage').toDataURL()")
    return found


def changed(page: "sync_api.Page", before: str) -> None:
    page.wait_for_function("before => document.getElementById('stage').toDataURL() !== before", arg=before)


def test_a_person_flips_between_images_methods_and_classes(page: "sync_api.Page") -> None:
    # The page opens with the smoothest map, and lists methods in their order.
    label = page.locator("#stage").get_attribute
    assert "grad_cam, the predicted class" in str(label("aria-label"))
    assert page.locator("#method option").all_inner_texts() == ["gradient", "saliency", "grad_cam"]
    page.select_option("#method", "gradient")
    for act, words in (
        (lambda: page.click("#strip button[data-method=saliency]"), "map of saliency"),
        (lambda: page.click("#next"), "image 1"),
        (lambda: page.keyboard.press("ArrowRight"), "image 2"),
        (lambda: page.keyboard.press("ArrowLeft"), "image 1"),
        (lambda: page.keyboard.press("ArrowUp"), "map of gradient"),
        (lambda: page.keyboard.press("c"), "<i>dog</i>"),
        (lambda: page.select_option("#method", "grad_cam"), "grad_cam, the predicted class"),
        (lambda: page.select_option("#image", "0"), "image 0"),
    ):
        before = canvas(page)
        act()
        changed(page, before)
        page.wait_for_function("w => document.getElementById('stage').ariaLabel.includes(w)", arg=words)


def test_values_under_the_cursor_are_those_of_the_map(page: "sync_api.Page", found: sl.Explanation) -> None:
    box = page.locator("#stage").bounding_box()
    assert box is not None
    heat = found.heatmap("gradient")[0].numpy()
    page.select_option("#method", "gradient")
    page.wait_for_function("() => document.getElementById('stage').ariaLabel.includes('map of gradient')")
    for row, column in ((0, 0), (5, 17), (23, 23)):
        page.mouse.move(box["x"] + (column + 0.5) * box["width"] / SIDE, box["y"] + (row + 0.5) * box["height"] / SIDE)
        said = page.locator("#reading").inner_text()
        assert said.startswith(f"row {row}, column {column}: ")
        value = float(said.split(": ")[1].split(" ")[0])
        # Of eight bits, and three digits shown.
        assert value == pytest.approx(heat[row, column], abs=float(np.abs(heat).max()) / 127)


def test_the_scale_says_what_colours_mean_and_where_they_end(page: "sync_api.Page", found: sl.Explanation) -> None:
    for method, signed in (("gradient", True), ("saliency", False)):
        page.select_option("#method", method)
        page.wait_for_function(f"() => document.getElementById('stage').ariaLabel.includes('map of {method}')")
        magnitude = np.abs(found.heatmap(method)[0].numpy())
        end, largest = np.quantile(magnitude, 0.98, method="higher"), magnitude.max()
        least, most = page.locator("#least").inner_text(), page.locator("#most").inner_text()
        assert least.startswith("against -") if signed else least == "0"
        assert most.endswith(" for" if signed else " most")
        assert float(most.split(" ")[0]) == pytest.approx(end, rel=0.01)
        said = page.locator("#scalesaid").inner_text()
        assert ("blue against" in said) == signed
        assert ("no sign" in said) != signed
        assert float(said.split("up to ")[1].split(",")[0]) == pytest.approx(largest, rel=0.01)


def test_a_map_is_averaged_where_it_is_shrunk(browser: "sync_api.Browser", tmp_path: Path) -> None:
    """Lines at every seventh row of 448, on a thumbnail of 96: each pixel has its share of them, none a whole one."""
    weight = torch.zeros(1, 1, 448, 448)
    weight[:, :, ::7] = 1
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(448 * 448, 1, bias=False))
    with torch.no_grad():
        linear[1].weight.copy_(weight.flatten(1))
    sl.explain(linear, torch.ones(1, 1, 448, 448), "gradient", 0).save(tmp_path)
    opened = browser.new_page()
    opened.goto(write_page(tmp_path).as_uri())
    opened.wait_for_selector("#strip button")
    pixels = opened.evaluate(
        "() => { const c = document.querySelector('#strip canvas'); "
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"
    )
    opened.close()
    blue = 255 - np.array(pixels).reshape(96, 96, 4)[2:-2, 40, 2].astype(float)
    # 96 / 64 = 1.5 pixels a line: three pixels hold two lines.
    sums = np.convolve(blue, np.ones(3), "valid")
    assert np.ptp(sums) < 0.1 * sums.mean()


def test_many_images_are_found_by_name_and_on_a_grid(browser: "sync_api.Browser", tmp_path: Path) -> None:
    count = 30
    found = sl.explain(small(SIDE), torch.randn(count, 3, SIDE, SIDE), ["grad_cam"])
    object.__setattr__(found, "names", [f"{'north' if i % 3 else 'south'} {i}" for i in range(count)])
    found.save(tmp_path)
    opened = browser.new_page()
    opened.goto(write_page(tmp_path).as_uri())
    opened.wait_for_selector("#strip button")
    opened.fill("#filter", "SOUTH")
    assert opened.locator("#image option").all_inner_texts() == [f"south {i}" for i in range(0, count, 3)]
    opened.click("#all summary")
    opened.wait_for_selector("#grid button")
    assert opened.locator("#grid button").count() == 10
    opened.click("#grid button >> nth=4")
    opened.wait_for_function("() => document.getElementById('stage').ariaLabel.startsWith('south 12')")
    opened.fill("#filter", "nowhere")
    assert "No name" in opened.locator("#gridsaid").inner_text()
    opened.close()


def test_the_overlay_the_hull_and_the_zoom_are_dragged(page: "sync_api.Page") -> None:
    for name, value in (("strength", "0"), ("strength", "100"), ("cut", "5"), ("cut", "90")):
        before = canvas(page)
        page.locator(f"#{name}").fill(value)
        changed(page, before)
        assert page.locator(f"#{name}said").inner_text() == f"{value} %"
    for name in ("in", "fit"):
        before = canvas(page)
        page.click(f"#{name}")
        changed(page, before)
    before = canvas(page)
    page.uncheck("#hull")
    changed(page, before)


def test_without_overlay_and_hull_it_is_the_picture(page: "sync_api.Page", found: sl.Explanation) -> None:
    page.uncheck("#hull")
    page.locator("#strength").fill("0")
    seen = page.evaluate(
        "n => { const c = document.createElement('canvas'); c.width = c.height = n; const x = c.getContext('2d');"
        "x.drawImage(document.getElementById('stage'), 0, 0, n, n); return [...x.getImageData(0, 0, n, n).data]; }",
        SIDE,
    )
    pixels = np.array(seen).reshape(SIDE, SIDE, 4)[..., :3] / 255
    assert np.abs(pixels - found.display[0]).mean() < 0.1


def test_networks_are_flipped_and_gad_s_hull_is_drawn(page: "sync_api.Page", made: Made) -> None:
    page.select_option("#method", "gradient")
    # The original of GAD is the network that was explained, and is shown once.
    networks = ["the network", "alpha 2", "alpha 4", "what stays in all"]
    assert page.locator("#network option").all_inner_texts() == networks
    maps = [*made.kept.stacks["gradient"], made.kept.heatmap("gradient")]
    maps[0] = made.found.heatmap("gradient")
    for network, heat in zip(networks, maps, strict=True):
        page.wait_for_function("w => document.getElementById('stage').ariaLabel.endsWith(w)", arg=network)
        box = page.locator("#stage").bounding_box()
        assert box is not None
        row, column = divmod(int(heat[0].abs().argmax()), SIDE)
        page.mouse.move(box["x"] + (column + 0.5) * box["width"] / SIDE, box["y"] + (row + 0.5) * box["height"] / SIDE)
        value = float(page.locator("#reading").inner_text().split(": ")[1].split(" ")[0])
        assert value == pytest.approx(float(heat[0, row, column]), rel=0.01)
        # What stays in all lies over each of them as a dashed hull.
        before = canvas(page)
        page.uncheck("#gadhull")
        changed(page, before)
        page.check("#gadhull")
        page.keyboard.press("Escape")
        page.locator("#stage").click()
        page.keyboard.press("n")


def test_tables_sort_and_curves_are_chosen(page: "sync_api.Page") -> None:
    table = page.locator("table.verdicts")
    for order in ("ascending", "descending"):
        table.locator("thead button").first.click()
        assert table.locator("thead th").first.get_attribute("aria-sort") == order
        names = table.locator("tbody th").all_inner_texts()
        assert names == sorted(names, reverse=order == "descending")
    chosen = page.locator(".legend button", has_text="guided_backprop")
    chosen.click()
    assert chosen.get_attribute("aria-pressed") == "true"
    assert page.locator(".curves path.on title").text_content() == "guided_backprop"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_is_accessible(
    browser: "sync_api.Browser", file: Path, scheme: str, width: int, screenshots: Path
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(file.as_uri())
    page.wait_for_selector("#strip button")
    for details in page.locator("main > section > details").all():
        details.evaluate("one => { one.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    results = axe.Axe().run(page).response["violations"]
    grave = [(one["id"], one["nodes"][0]["html"]) for one in results if one["impact"] in {"serious", "critical"}]
    assert json.dumps(grave) == "[]"
    page.screenshot(path=screenshots / f"page-{scheme}-{width}.png", full_page=True)
    page.close()


def test_it_prints(browser: "sync_api.Browser", file: Path, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("#strip button")
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator("#stage").is_visible()
    page.pdf(path=tmp_path / "page.pdf", print_background=True)
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    page.close()
