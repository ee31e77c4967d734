"""Targets by class name and in words: the same in Python, on the command line and in recipes."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sightline as sl
from helpers.command_line import sightline
from sightline.explaining._target_names import class_number, split_targets

NAMES = ["cat", "dog", "T-shirt", "tench, Tinca tinca", "Pleural_Effusion"]
DIGITS = ["3", "1", "2", "0"]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    found = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    found.class_names = NAMES  # type: ignore[assignment]
    return found


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("word", "names", "number"),
    [
        ("dog", NAMES, 1),
        ("Dog", NAMES, 1),
        ("pleural effusion", NAMES, 4),
        ("tench, tinca tinca", NAMES, 3),
        ("3", NAMES, 3),
        ("9", NAMES, 9),
        ("1", DIGITS, 1),
        ("number:3", DIGITS, 3),
        ("name:3", DIGITS, 0),
        ("7", ["7", "5"], 0),
        ("number:2", [], 2),
        ("Cat", ["cat", "Cat"], 1),
    ],
)
def test_a_class_by_number_or_name(word: str, names: Sequence[str], number: int) -> None:
    assert class_number(word, names) == number


@pytest.mark.parametrize(
    ("word", "names", "message"),
    [
        ("Pleural Efusion", NAMES, "Did you mean Pleural_Effusion"),
        ("zebra", NAMES, "There are: cat, dog"),
        ("zebra", [], "class names are not known"),
        ("crane", ["crane", "crow", "crane"], "2 classes.*0, 2.*number"),
        ("CAT", ["cat", "Cat"], "2 classes"),
        ("3", DIGITS, "number:3 or name:3"),
        ("-1", NAMES, "0 or above.*-1"),
        ("number:x", NAMES, "got x"),
    ],
)
def test_what_is_unclear_is_refused(word: str, names: Sequence[str], message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        class_number(word, names)


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ("dog", 1),
        (["dog", "cat"], [1, 0]),
        (("dog", 0), [1, 0]),
        (np.array(["dog", "cat"]), [1, 0]),
        ("T-shirt", 2),
        ("dog-cat", sl.Pair(1, 0)),
        ("T-shirt-cat", sl.Pair(2, 0)),
        ("cat-T-shirt", sl.Pair(0, 2)),
        ("4-0", sl.Pair(4, 0)),
        (sl.Pair("dog", "cat"), sl.Pair(1, 0)),
        (sl.Pair("dog", 0), sl.Pair(1, 0)),
        (sl.Pair(["dog", "cat"], ["cat", "dog"]), sl.Pair([1, 0], [0, 1])),
        ("tench, Tinca tinca", 3),
        ("unit:1:2", sl.Unit("1", 2)),
        ("per-image:dog,tench, Tinca tinca", [1, 3]),
        ("predicted", None),
    ],
    ids=str,
)
def test_names_explain_what_numbers_explain(model: nn.Module, images: Tensor, given: object, same: object) -> None:
    found, expected = (sl.explain(model, images, "gradient", target) for target in (given, same))
    assert torch.equal(found["gradient"], expected["gradient"])
    assert found.targets == expected.targets


def test_the_second_likeliest(model: nn.Module, images: Tensor) -> None:
    second = model(images).argsort(1, descending=True)[:, 1]
    found = sl.explain(model, images, "gradient", "top-2")
    assert torch.equal(found["gradient"], sl.explain(model, images, "gradient", second)["gradient"])


def test_all_outputs(model: nn.Module, images: Tensor) -> None:
    found = sl.explain(model, images, "gradient", targets="all")
    assert [one.targets[0] for one in found] == [f"class {number}" for number in range(5)]
    assert found[4].manifest()["images"][0]["explained_name"] == "Pleural_Effusion"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("caat", "Did you mean cat"),
        (["cat", "dog", "cat"], "2 image.*3 class"),
        (sl.Pair("cat", "zebra"), "no class named 'zebra'"),
        (sl.Pair("cat", "Cat"), "two different"),
        ("cat-cat", "two different"),
        ("all", r"targets=\"all\""),
        ("", "empty"),
        ("unit:head", "unit:LAYER:CHANNEL"),
        ("unit:nope:1", "no layer 'nope'"),
        ("top-9", "rank 9"),
        ("9", "Class 9.*5 outputs"),
    ],
    ids=str,
)
def test_other_targets_are_refused(model: nn.Module, images: Tensor, target: object, message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        sl.explain(model, images, "gradient", target)


def test_names_that_do_not_fit_the_outputs_are_no_targets(model: nn.Module, images: Tensor) -> None:
    model.class_names = ["cat", "dog"]
    for target in ("dog", sl.Pair("dog", "cat"), ["dog", "dog"]):
        with pytest.raises(sl.InputError, match=r"2 class names.*5 outputs"):
            sl.explain(model, images, "gradient", target)
    assert sl.explain(model, images, "gradient", 1).targets == ["class 1", "class 1"]


def test_the_one_logit_of_a_yes_or_no_goes_by_the_second_name(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    model.class_names, model.output = ["benign", "malignant"], "labels"
    found = sl.explain(model, images, "gradient", "malignant")
    assert torch.equal(found["gradient"], sl.explain(model, images, "gradient", 0)["gradient"])
    assert found.caption(0).startswith("image 0\nP(malignant) = ")
    with pytest.raises(sl.InputError, match="one output"):
        sl.explain(model, images, "gradient", "benign")


@pytest.mark.parametrize(
    ("texts", "names", "parts"),
    [
        (["cat,dog"], NAMES, ["cat", "dog"]),
        (["cat", "dog,cat"], NAMES, ["cat", "dog", "cat"]),
        (["dog, tench, Tinca tinca"], NAMES, ["dog", "tench, Tinca tinca"]),
        (["tench,Tinca tinca,cat"], NAMES, ["tench,Tinca tinca", "cat"]),
        (["tench, Tinca tinca-dog,cat"], NAMES, ["tench, Tinca tinca-dog", "cat"]),
        (["cat,dog-tench, Tinca tinca"], NAMES, ["cat", "dog-tench, Tinca tinca"]),
        (["cat-dog,dog-cat"], NAMES, ["cat-dog", "dog-cat"]),
        (["all"], [], ["number:0", "number:1", "number:2"]),
        (["top-2,all"], [], ["top-2", "number:0", "number:1", "number:2"]),
        (["per-image:1,2", "0"], [], ["per-image:1,2", "0"]),
        (["all"], ["all", "none"], ["all"]),
    ],
)
def test_several_targets_in_a_text(texts: list[str], names: list[str], parts: list[str]) -> None:
    assert split_targets(texts, names, 3) == parts


@pytest.mark.parametrize("texts", [[""], ["cat,,dog"], ["cat", " "], []])
def test_an_empty_target_is_refused(texts: list[str]) -> None:
    with pytest.raises(sl.InputError, match="empty"):
        split_targets(texts, NAMES, 5)


NET = """
import torch
from torch import nn
import sightline as sl

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))

build.preprocessing = sl.Preprocessing(size=(2, 2), mean=(0.0,) * 3, std=(1.0,) * 3)
build.class_names = ["Effusion", "Nodule", "Mass"]

def many():
    model = build()
    model.class_names, model.multi_label = build.class_names, True
    return model

many.preprocessing = build.preprocessing
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "film").mkdir()
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20).save(tmp_path / "film" / "a.png")
    return tmp_path


def explained(folder: Path, *words: str) -> list[str]:
    """What the folders of a call's results say was explained, in order."""
    done = sightline(folder, "explain", *words, "--methods", "gradient", "--device", "cpu", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "report.html").is_file()
    found = sorted((folder / "out").rglob("manifest.json"))
    return [json.loads(path.read_text())["images"][0]["explained_name"] for path in found]


def test_the_command_line_takes_names_and_several_targets(folder: Path) -> None:
    assert explained(folder, "net.py:build", "film", "--target", "nodule") == ["Nodule"]
    assert explained(folder, "net.py:build", "film", "--target", "Mass,Effusion") == ["Mass", "Effusion"]
    # What the calls before left there is not shown beside it.
    assert explained(folder, "net.py:build", "film", "--target", "all") == ["Effusion", "Nodule", "Mass"]
    assert explained(folder, "net.py:build", "film", "--target", "Mass-Nodule") == ["Mass rather than Nodule"]


def test_a_few_labels_are_each_explained_where_none_is_named(folder: Path) -> None:
    assert explained(folder, "net.py:many", "film") == ["Effusion", "Nodule", "Mass"]
    assert explained(folder, "net.py:build", "film", "--output", "values") == ["Effusion", "Nodule", "Mass"]


def test_a_recipe_takes_names(folder: Path) -> None:
    pytest.importorskip("zarr")
    recipe = (
        'methods = ["gradient"]\ntargets = ["Nodule", "Mass-Effusion", "unit:1:2"]\n[model]\nspec = "net.py:build"\n'
    )
    recipe += 'device = "cpu"\noutput = "labels"\n[data]\nimages = ["film"]\n[output]\nfolder = "maps"\n'
    (folder / "recipe.toml").write_text(recipe)
    from sightline.runs import run

    found = run(folder / "recipe.toml")
    assert list(found.scores["explained"]) == ["label 1", "label 2 rather than label 0", "channel 2 of 1"]
    (folder / "recipe.toml").write_text(recipe.replace("Nodule", "Nodul"))
    with pytest.raises(sl.InputError, match="Did you mean Nodule"):
        run(folder / "recipe.toml")


def test_gad_takes_names(model: nn.Module) -> None:
    for pair in (("cat", "T-shirt"), ["cat", 2], np.array(["cat", "t-shirt"])):
        assert sl.GAD(model, pair).classes == (0, 2)
    with pytest.raises(sl.InputError, match="Did you mean dog"):
        sl.GAD(model, ("cat", "dogg"))
    with pytest.raises(sl.InputError, match="two different"):
        sl.GAD(model, ("cat", "Cat"))


def test_gad_names_the_class_that_the_network_does_not_have(model: nn.Module) -> None:
    images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 0, 1])
    with pytest.raises(sl.InputError, match="there is no class 99"):
        sl.GAD(model, classes=(1, 99), alphas=(1,)).fit((images, labels))
