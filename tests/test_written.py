"""Files are written whole or not at all."""

import builtins
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sightline as sl
from sightline._common.written import tensors_in, whole_files, write_text
from sightline.rendering._writing import write_page


def test_files_take_their_places_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def stopped() -> None:
        with whole_files() as part:
            part(tmp_path / "a").write_text("new")
            part(tmp_path / "b.png").write_text("half")
            assert part(tmp_path / "b.png").suffix == ".png"
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        stopped()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
    with whole_files() as part:
        part(tmp_path / "a").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new"}


def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    write_text(Path(os.devnull), "text")
    assert not Path(os.devnull).is_file()


def test_what_is_no_text_becomes_an_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "a", os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "a").read_text() == "caf\\udce9"


@pytest.mark.parametrize("room", [0, 1000, 4000])
def test_a_full_disk_leaves_the_earlier_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)).eval()
    first, second = (sl.explain(net, torch.rand(1, 3, 8, 8), "gradient") for _ in range(2))
    first.save(tmp_path)
    write_page(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    left = room
    own = builtins.open

    class Full:
        """A file that takes what there is room for."""

        def __init__(self, file: object) -> None:
            self._file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, content: bytes | str) -> int:
            nonlocal left
            taken = content[:left]
            left -= len(taken)
            self._file.write(taken)
            if len(taken) < len(content):
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(taken)

    def opened(file: object, mode: str = "r", *args: object, **options: object) -> object:
        found = own(file, mode, *args, **options)
        return Full(found) if "w" in mode else found

    monkeypatch.setattr("io.open", opened)
    monkeypatch.setattr("builtins.open", opened)
    with pytest.raises(sl.InputError, match="No space left"):
        second.save(tmp_path)
    with pytest.raises(sl.InputError, match="No space left"):
        write_page(tmp_path)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_tensors_at_any_path(tmp_path: Path) -> None:
    from safetensors.torch import save

    values = {"a": torch.from_numpy(np.arange(3.0))}
    for name in ("plain", os.fsdecode(b"caf\xe9")):
        (tmp_path / name).write_bytes(save(values))
        assert torch.equal(tensors_in(tmp_path / name)["a"], values["a"])
