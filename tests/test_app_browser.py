"""The app in a real browser: uploads, two classes, a short audit, the page; and two people at once."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

import sightline as sl
from helpers.networks import small
from sightline.app import application
from sightline.models import ModelInfo, Preprocessing

if TYPE_CHECKING:
    from playwright import sync_api

pytest.importorskip("gradio")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
# Gradio leaves event loops of its own open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning"
)
PATIENCE = 120_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    import uvicorn

    model = small()
    model.sightline_info = ModelInfo(
        spec="test", preprocessing=Preprocessing(size=(12, 12), resize=12), class_names=("cat", "dog", "hen")
    )
    images = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    gad = sl.GAD(model, (0, 1), (2,), steps=2, batch_size=8, rate=1e-3).fit(
        (images, torch.arange(16) % 2), controls=False
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(application(model, folder, gad=gad), host="127.0.0.1", port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(("mine.png", "hers.png", "<script>alert(1)<_script>.png")):
        noise = torch.randint(0, 256, (16, 20, 3), generator=torch.Generator().manual_seed(number)).byte()
        Image.fromarray(noise.numpy()).save(place / name)
    (place / "broken.jpg").write_bytes(b"nonsense")
    (place / "evil.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>')
    Image.new("L", (20_000, 10_000)).save(place / "huge.png")
    return place


class Person:
    """Somebody at the app, and everything that their browser complained of."""

    def __init__(self, browser: "sync_api.Browser", address: str, **how: object) -> None:
        self.said: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 1000}, **how})
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.said.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on(
            "request",
            lambda request: (
                None if request.url.startswith((address, "data:", "blob:")) else self.said.append(request.url)
            ),
        )
        self.page.goto(address)
        self.page.get_by_role("button", name="Explain").wait_for(timeout=PATIENCE)

    def give(self, *files: Path) -> str:
        self.page.set_input_files("input[type=file]", [str(file) for file in files])
        return self.told("ready.")

    def told(self, words: str) -> str:
        self.page.wait_for_function(
            "words => document.querySelector('textarea').value.includes(words)", arg=words, timeout=PATIENCE
        )
        return self.page.locator("textarea").first.input_value()

    def choose(self, label: str, choice: str) -> None:
        box = self.page.get_by_label(label)
        box.fill(choice)
        box.press("Enter")

    def report(self) -> str:
        link = self.page.locator("a[download^='report']")
        link.wait_for(timeout=PATIENCE)
        with self.page.expect_download() as fetched:
            link.click()
        return Path(fetched.value.path()).read_text(encoding="utf-8")


def data(report: str) -> dict:
    return json.loads(report.split('id="data">')[1].split("</script>")[0])


def test_from_photographs_to_the_page(
    browser: "sync_api.Browser", address: str, pictures: Path, folder: Path, screenshots: Path
) -> None:
    person = Person(browser, address)
    words = person.give(*sorted(pictures.iterdir()))
    assert [line.split(":")[0] for line in words.splitlines()] == [
        "3 photographs ready.", "broken.jpg", "evil.svg", "huge.png",
    ]  # fmt: skip
    # Uploads are read and deleted; the server's own files that are left over are empty.
    assert [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size] == []
    person.choose("Class to explain", "1: dog")
    person.choose("Rather than", "0: cat")
    person.page.get_by_role("button", name="Explain").click()
    found = data(person.report())
    assert [image["name"] for image in found["images"]] == ["scriptalert(1)_script.png", "hers.png", "mine.png"]
    own = ["dog rather than cat", "dog", "cat"]
    assert [(one["network"], one["target"]) for one in found["sets"] if one["method"] == "gradient"] == [
        *(("the network", target) for target in own), ("alpha 2", own[0]), ("what stays in all", own[0]),
    ]  # fmt: skip
    person.page.screenshot(path=screenshots / "app-explained.png", full_page=True)
    person.page.get_by_role("button", name="Short audit").click()
    # Three photographs are too few to judge, and the advice says so.
    person.told("No verdict for")
    assert "Verdicts" in person.report()
    person.page.screenshot(path=screenshots / "app-audited.png", full_page=True)
    assert person.said == []
    person.context.close()


def test_what_one_person_makes_another_does_not_see(
    browser: "sync_api.Browser", address: str, pictures: Path, folder: Path
) -> None:
    me, her = Person(browser, address), Person(browser, address)
    me.give(pictures / "mine.png")
    her.give(pictures / "hers.png")
    for person in (me, her):
        person.page.get_by_role("button", name="Explain").click()
    for person, name, other in ((me, "mine.png", "hers.png"), (her, "hers.png", "mine.png")):
        text = person.report()
        assert [image["name"] for image in data(text)["images"]] == [name]
        assert other not in text
        assert person.said == []
    # Nor by asking for the folder in which somebody's maps lie.
    for file in folder.rglob("manifest.json"):
        for path in (file, file.parent / "maps.safetensors", file.parent):
            reply = her.context.request.get(f"{address}/gradio_api/file={path}")
            assert reply.status in {403, 404}
    for person in (me, her):
        person.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_is_accessible(
    browser: "sync_api.Browser", address: str, pictures: Path, scheme: str, width: int, screenshots: Path
) -> None:
    person = Person(browser, address, viewport={"width": width, "height": 800}, color_scheme=scheme)
    person.give(pictures / "mine.png")
    person.page.get_by_role("button", name="Explain").click()
    person.report()
    assert person.page.evaluate("document.documentElement.scrollWidth") <= width
    results = axe.Axe().run(person.page).response["violations"]
    grave = [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in results
        if one["impact"] in {"serious", "critical"}
    ]
    person.page.screenshot(path=screenshots / f"app-{scheme}-{width}.png", full_page=True)
    assert json.dumps(grave) == "[]"
    person.context.close()
