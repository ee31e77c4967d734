"""The app: uploads that do no harm, what the buttons do, and who may come in."""

import gc
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import sightline as sl
from helpers.networks import small
from sightline import app as module
from sightline.app import Desk, application, check_host
from sightline.models import ModelInfo, Preprocessing


@pytest.fixture
def model() -> nn.Module:
    network = small()
    network.sightline_info = ModelInfo(
        spec="test", preprocessing=Preprocessing(size=(12, 12), resize=12), class_names=("cat", "dog", "cat")
    )
    return network


def uploaded(folder: Path, count: int) -> list[str]:
    """Each in a folder of its own, as a server keeps them."""
    files = []
    for number in range(count):
        place = folder / f"{number:040d}"
        place.mkdir(parents=True)
        noise = torch.randint(0, 256, (16, 20, 3), generator=torch.Generator().manual_seed(number)).byte()
        Image.fromarray(noise.numpy()).save(place / "one.png")
        files.append(str(place / "one.png"))
    return files


def test_uploads_are_read_and_deleted_and_bad_ones_get_a_sentence(model: nn.Module, tmp_path: Path) -> None:
    files = uploaded(tmp_path / "in", 2)
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "broken.jpg").write_bytes(b"nonsense")
    (bad / "evil.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>')
    Image.new("L", (20_000, 10_000)).save(bad / "huge.png")
    Image.new("RGB", (20, 20)).save(bad / "<script>.png")
    files += [str(file) for file in sorted(bad.iterdir())]
    batch, words = Desk(model, tmp_path).read(files)
    assert batch is not None
    assert batch.names == ["one.png (1 of 2)", "one.png (2 of 2)", "<script>.png"]
    assert [str(path) for path in batch.paths] == ["one.png", "one.png", "<script>.png"]
    first, *rest = words.splitlines()
    assert first == "3 photographs ready."
    assert [line.split(":")[0] for line in rest] == ["broken.jpg", "evil.svg", "huge.png"]
    assert str(tmp_path) not in words
    assert not any(Path(file).exists() for file in files)


def test_too_much_is_refused_and_deleted(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(model, tmp_path)
    batch, words = desk.read([])
    assert batch is None
    assert "photographs first" in words
    files = uploaded(tmp_path / "many", module.PICTURES + 1)
    batch, words = desk.read(files)
    assert batch is None
    assert re.search(r"\b32 photographs.*\b33\b", words)
    assert not any(Path(file).exists() for file in files)
    monkeypatch.setattr(module, "LARGEST", 100)
    (file,) = uploaded(tmp_path / "heavy", 1)
    assert re.match(r"one\.png\b.*larger", desk.read([file])[1])
    broken = tmp_path / "in" / "broken.png"
    broken.parent.mkdir()
    broken.write_bytes(b"no")
    words = desk.read([str(broken)])[1]
    assert "broken.png" in words
    assert str(tmp_path) not in words
    words = desk.read([str(broken)])[1]
    assert re.match(r"broken\.png\b.*upload it again", words)
    assert str(tmp_path) not in words


@pytest.mark.slow
def test_the_buttons_do_what_the_library_does(model: nn.Module, tmp_path: Path) -> None:
    desk, place = Desk(model, tmp_path), tmp_path / "mine"
    assert desk.classes == [("0: cat", 0), ("1: dog", 1), ("2: cat", 2)]
    batch, _ = desk.read(uploaded(tmp_path / "in", 22))
    assert batch is not None
    picture, _ = desk.explain(batch, place, ["gradient", "grad_cam"], 1, 0)
    with Image.open(picture) as shown:
        assert shown.width > 300
    for folder, target in (("", "class 1 rather than class 0"), ("class 0", "class 1"), ("class 1", "class 0")):
        manifest = json.loads((place / folder / "manifest.json").read_text())
        assert {entry["explained"] for entry in manifest["images"]} == {target}
    desk.explain(batch, place, ["gradient"], None, None)
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == []
    told: list[float] = []
    picture, advice = desk.audit(batch, place, ["gradient"], lambda share, _: told.append(share))
    expected = sl.audit(
        model, batch, ["gradient"], ("class_sensitivity", "parameter_randomization", "input_bias"),
        randomisation=sl.Randomisation(stages=4),
    )  # fmt: skip
    assert advice == expected.advice
    assert told[-1] == 1
    for first, second in ((None, 1), (1, 1)):
        with pytest.raises(sl.InputError, match=r"two classes.*different"):
            desk.explain(batch, place, ["gradient"], first, second)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_no_password(host: str) -> None:
    check_host(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "example.org", "::", ""])  # noqa: S104
def test_others_need_one(host: str) -> None:
    with pytest.raises(sl.InputError, match=r"password.*SIGHTLINE_PASSWORD"):
        check_host(host, None)
    with pytest.raises(sl.InputError, match=r"password.*SIGHTLINE_PASSWORD"):
        check_host(host, "")
    check_host(host, "secret")


# Gradio leaves event loops of its own open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_page_is_guarded(model: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    import uvicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = application(model, tmp_path, password="secret")  # noqa: S106
    server = uvicorn.Server(uvicorn.Config(served, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.1)
    address = f"http://127.0.0.1:{port}"
    with urllib.request.urlopen(address) as found:
        text, headers = found.read().decode(), found.headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    # Who has not logged in gets neither the app's description nor anybody's files.
    assert "Photographs" not in text
    for path in ("/gradio_api/info", f"/gradio_api/file={tmp_path}", "/openapi.json", "/docs"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address + path)  # noqa: S310
        assert refused.value.code in {401, 404}
        refused.value.close()
    assert not re.search(r'"analytics_enabled":\s*true', text)
    server.should_exit = True
    thread.join(10)
    del served, server, thread
    # Now, and not in some later test that would be blamed.
    gc.collect()


def test_what_was_taken_is_shown_with_its_name_and_nothing_in_it_is_code(model: nn.Module, tmp_path: Path) -> None:
    batch, _ = Desk(model, tmp_path).read(uploaded(tmp_path / "in", 2))
    assert batch is not None
    batch.names[1] = "<script>.png"
    shown = module._thumbnails(batch)
    assert shown.count("<img") == 2
    assert "one.png (1 of 2)" in shown
    assert "&lt;script&gt;.png" in shown
    assert "<script>" not in shown
