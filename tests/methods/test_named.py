"""Methods by name: other distributions' by their entry points, and a user's own in a file."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import nn

import sightline as sl
from sightline._common import registry
from sightline.methods import METHODS_GROUP, as_method, catalogue, unusable

FILE = """
import sightline as sl
from sightline.aggregation import InputSignal, Sign

UNNAMED = sl.Method(aggregation=InputSignal(Sign.ABSOLUTE))
TAKEN = sl.Method(aggregation=InputSignal(Sign.ABSOLUTE), name="gradient")
NUMBER = 3


def named():
    return sl.Method(aggregation=InputSignal(Sign.ABSOLUTE), name="size")


def layer():
    return sl.Method(aggregation=sl.catalogue()["grad_cam"].aggregation)


def fails():
    raise ValueError("no luck")


def brightness(model, images, classes):
    return images


BRIGHTNESS = sl.from_callable(brightness)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()


def gradient(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    images = images.clone().requires_grad_()
    return torch.autograd.grad(model(images)[:, 1].sum(), images)[0]


@pytest.mark.parametrize(("name", "called"), [("UNNAMED", "UNNAMED"), ("named", "size")])
def test_a_method_in_a_file_is_explained_and_read_back(file: Path, model: nn.Module, name: str, called: str) -> None:
    images = torch.rand(2, 1, 4, 4)
    found = sl.explain(model, images, [f"{file}:{name}", "gradient"], 1)
    assert list(found.maps) == [called, "gradient"]
    assert torch.equal(found[called], gradient(model, images).abs())
    read = sl.Explanation.load(found.save(file.parent / "saved"))
    assert read.methods[called] == found.methods[called] == as_method(f"{file}:{name}")


def test_it_reads_another_layer_where_it_reads_one(file: Path, model: nn.Module) -> None:
    images = torch.rand(2, 1, 4, 4)
    found = sl.explain(model, images, [f"{file}:layer@0", "grad_cam@0"], 1)
    assert torch.equal(found["layer@0"], found["grad_cam@0"])
    with pytest.raises(sl.InputError, match="size reads no layer"):
        as_method(f"{file}:named@0")


def test_a_folder_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a@b").mkdir()
    (tmp_path / "a@b" / "mine.py").write_text(FILE)
    assert as_method(f"{tmp_path}/a@b/mine.py:named").name == "size"


def test_a_file_that_was_changed_is_read_again(file: Path) -> None:
    first = as_method(f"{file}:named")
    assert as_method(f"{file}:named") is first
    file.write_text(FILE.replace('"size"', '"magnitude"'))
    assert as_method(f"{file}:named").name == "magnitude"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NUMBER", "expected a sightline.Method, .* got int"),
        ("brightness", "takes arguments. .*sightline.from_callable"),
        ("BRIGHTNESS", "brightness is a function made by from_callable.*sightline audit"),
        ("TAKEN", "TAKEN is called gradient, as is another method"),
        ("fails", "the function failed with ValueError: no luck"),
        ("name", "Did you mean named"),
    ],
)
def test_what_is_no_method_is_refused_in_a_sentence(file: Path, model: nn.Module, name: str, said: str) -> None:
    with pytest.raises(sl.InputError, match=said):
        sl.explain(model, torch.rand(1, 1, 4, 4), f"{file}:{name}")


def test_other_distributions_register_methods(file: Path, monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    monkeypatch.syspath_prepend(file.parent)
    points = [
        EntryPoint("absolute", "mine:named", METHODS_GROUP),
        EntryPoint("bright", "mine:BRIGHTNESS", METHODS_GROUP),
        EntryPoint("broken", "no_such_distribution:METHOD", METHODS_GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == METHODS_GROUP else [])
    from sightline.methods._named import METHODS

    monkeypatch.setattr(METHODS, "_others", None)
    own = [name for name in catalogue() if name != "absolute"]
    assert list(catalogue()) == [*own, "absolute"]
    assert unusable().keys() == {"bright", "broken"}
    assert "no_such_distribution" in unusable()["broken"]
    images = torch.rand(2, 1, 4, 4)
    found = sl.explain(model, images, ["absolute"], 1)
    assert torch.equal(found["absolute"], gradient(model, images).abs())
    assert as_method("absolute") == catalogue()["absolute"]
    with pytest.raises(sl.InputError, match="no_such_distribution"):
        as_method("broken")


def test_a_function_in_a_file_is_audited(file: Path, model: nn.Module) -> None:
    from sightline.auditing.questions import Subjects

    images = torch.rand(2, 1, 4, 4)
    found = Subjects([f"{file}:BRIGHTNESS", f"{file}:named"]).maps(model, images, [torch.tensor([1, 1])], "a test")
    assert torch.equal(found.maps[0]["brightness"], images[:, 0])
    assert torch.equal(found.maps[0]["size"], gradient(model, images).abs()[:, 0])
