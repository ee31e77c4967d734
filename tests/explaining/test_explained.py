"""What is explained is a value that describes itself; nothing reads its words back."""

import ast
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import sightline as sl
from sightline.explaining import Explained
from sightline.explaining._captions import caption
from sightline.models._output_kind import OutputKind

CLASSES, LABELS, VALUES = OutputKind("classes"), OutputKind("labels"), OutputKind("values")
NAMES = ["cat", "dog", "hen"]


@pytest.mark.parametrize(
    ("explained", "words", "named"),
    [
        (Explained(1), "label 1", "dog"),
        (Explained(1, predicted=True), "predicted label 1", "predicted dog"),
        (Explained(0, 2), "label 0 rather than label 2", "cat rather than hen"),
        (Explained(0, 2, remark="before"), "label 0 rather than label 2, before", "cat rather than hen, before"),
        (Explained(3), "label 3", "label 3"),
        # Words that look like a class are words.
        (Explained(words="class 1 rather than class 2"), *["class 1 rather than class 2"] * 2),
    ],
)
def test_it_says_itself_in_words_by_number_and_by_name(explained: Explained, words: str, named: str) -> None:
    assert explained.describe("label") == words
    assert explained.named(LABELS, NAMES) == named
    assert Explained(**json.loads(json.dumps(explained.record()))) == explained


@pytest.mark.parametrize(
    ("explained", "output", "expected"),
    [
        (Explained(1, predicted=True), CLASSES, "a\ndog, 97%"),
        (Explained(1), CLASSES, "a\ndog, 97%"),
        (Explained(0), CLASSES, "a\ndog, 97%\nexplained: cat"),
        (Explained(1, remark="before"), CLASSES, "a\ndog, 97%\nexplained: dog, before"),
        (Explained(0, 2), CLASSES, "a\ndog, 97%\nexplained: cat\nnot hen"),
        (Explained(words="channel 2 of stem"), CLASSES, "a\ndog, 97%\nexplained: channel 2 of stem"),
        # The sigmoid of 0 is one half.
        (Explained(2, predicted=True), LABELS, "a\nP(hen) = 50%, the highest"),
        (Explained(2), LABELS, "a\nP(hen) = 50%"),
        (Explained(2, 0), LABELS, "a\nexplained: hen\nnot cat"),
        (Explained(2), VALUES, "a\nhen = 0"),
    ],
)
def test_captions(explained: Explained, output: OutputKind, expected: str) -> None:
    assert caption("a", explained, 0.0, 1, 0.97, output, NAMES) == expected


def test_an_explanation_has_a_value_for_each_image() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(3))
    images = torch.tensor([[0.1, 0.9, 0.3], [0.7, 0.2, 0.5]]).view(2, 3, 1, 1)
    found = sl.explain(model, images, "gradient", targets=[None, "top-2", sl.Pair([2, 1], [0, 0]), lambda o: o[:, 0]])
    assert [one.explained for one in found] == [
        [Explained(1, predicted=True), Explained(0, predicted=True)],
        [Explained(2), Explained(2)],
        [Explained(2, 0), Explained(1, 0)],
        [Explained(words="<lambda>")] * 2,
    ]
    assert found[2].targets == ["class 2 rather than class 0", "class 1 rather than class 0"]


def sentences_taken_apart(source: str) -> list[str]:
    """Calls that split a text at words, or look for such words in it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        first = node.args[0] if node.args else None
        cuts = {"split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix", "startswith", "endswith"}
        worded = isinstance(first, ast.Constant) and isinstance(first.value, str) and " " in first.value
        if node.func.attr in cuts and worded:
            found.append(ast.unparse(node))
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and " " in ast.unparse(node.args[0]):
            found.append(ast.unparse(node))
    return found


def test_the_search_for_sentences_that_are_taken_apart_bites() -> None:
    source = 'a.split(" rather than "); b.removeprefix("predicted "); re.sub(rf"{noun} (\\d+)", f, c); d.split(",")'
    assert len(sentences_taken_apart(source)) == 3


# Whose texts are columns of GAD's tables, and citations of papers.
STILL = {"_writing.py", "_gad.py", "_paper.py"}


@pytest.mark.parametrize("room", ["explaining", "rendering"])
def test_no_sentence_is_taken_apart(room: str) -> None:
    folder = Path(sl.__file__).parent / room
    found = {path.name: sentences_taken_apart(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py")}
    assert {name: calls for name, calls in found.items() if calls and name not in STILL} == {}
