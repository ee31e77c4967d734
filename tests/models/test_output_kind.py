"""What a model's outputs are: found, assumed with a note, and read in the same way wherever it is shown."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline._common.seeds import image_key, seed_of
from sightline.models._asking import ask, output_of
from sightline.models._output_kind import OutputKind

LOGITS = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
"""Softmax: (1/4, 3/4) and (4/5, 1/5); sigmoid: (1/2, 3/4) and (4/5, 1/2)."""


class Says(nn.Module):
    """Says the given numbers of two images, plus nothing times the image."""

    def __init__(self, said: Tensor, then: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.said, self.then = said, then or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # The red value of an image's first pixel tells which of the two it is.
        rows = self.said[x[:, 0, 0, 0].round().long()]
        return self.then(rows + 0.0 * x.mean((1, 2, 3))[:, None])


@pytest.fixture
def images() -> Tensor:
    found = torch.full((2, 3, 4, 4), 0.25)
    found[0, 0, 0, 0], found[1, 0, 0, 0] = 0.0, 1.0
    return found


def lines(found: sl.Explanation) -> list[str]:
    return [found.caption(row).split("\n", 1)[1] for row in range(len(found))]


@pytest.mark.parametrize(
    ("output", "target", "captions"),
    [
        ("classes", None, ["class 1, 75%", "class 0, 80%"]),
        ("labels", 0, ["P(label 0) = 50%", "P(label 0) = 80%"]),
        ("labels", [1, 0], ["P(label 1) = 75%", "P(label 0) = 80%"]),
        ("values", 1, ["output 1 = 1.099", "output 1 = 0"]),
    ],
)
def test_captions_say_what_the_output_is(
    images: Tensor, output: str, target: int | list[int] | None, captions: list[str]
) -> None:
    found = sl.explain(Says(LOGITS), images, "gradient", target, output=output)
    assert lines(found) == captions
    assert not [note for note in found.checks.notes if "outputs are" in note]
    assert found.output.kind == output


def test_an_assumed_output_is_noted(images: Tensor) -> None:
    found = sl.explain(Says(LOGITS), images, "gradient")
    assert lines(found) == ["class 1, 75%", "class 0, 80%"]
    assert any("taken as logits of classes" in note and "softmax" in note for note in found.checks.notes)


def test_one_output_is_a_value_unless_it_is_said_to_be_a_logit(images: Tensor) -> None:
    one = Says(torch.tensor([[-math.log(19.0)], [100.0]]))
    found = sl.explain(one, images, "gradient")
    assert lines(found) == ["output 0 = -2.944", "output 0 = 100"]
    assert found.predicted is None
    assert found.probabilities is None
    assert any("only output" in note for note in found.checks.notes)
    yes = sl.explain(sl.load_model(one, classes=["benign", "malignant"], output="labels"), images, "gradient")
    # 1 / (1 + 19), and 1 to within e^-100.
    assert lines(yes)[0] == "P(malignant) = 5%"
    assert not yes.checks.notes or not any("names" in note for note in yes.checks.notes)


def test_values_of_a_regression_are_asked_for_and_never_the_largest(images: Tensor) -> None:
    model = Says(torch.tensor([[0.31, 0.75], [0.28, 0.80]]))
    model.class_names, model.output = ["Omega_m", "sigma_8"], "values"
    with pytest.raises(sl.InputError, match=r'2 outputs are values.*targets="all"'):
        sl.explain(model, images, "gradient")
    found = sl.explain(model, images, "gradient", 0)
    assert lines(found) == ["Omega_m = 0.31", "Omega_m = 0.28"]
    assert found.predicted is None
    assert found.manifest()["images"][0]["explained"] == "output 0"
    assert found.manifest()["images"][0]["explained_name"] == "Omega_m"
    assert "probability" not in found.manifest()["images"][0]


ENDS: list[tuple[str, Callable[[Tensor], Tensor], str, list[float]]] = [
    ("softmax", lambda z: z.softmax(1), "classes", [0.75, 0.8]),
    ("softmax, two axes more", lambda z: z.softmax(1)[:, :, None, None], "classes", [0.75, 0.8]),
    ("log softmax", lambda z: z.log_softmax(1), "classes", [0.75, 0.8]),
    ("written out", lambda z: z.exp() / z.exp().sum(1, keepdim=True), "classes", [0.75, 0.8]),
    ("sigmoid", torch.sigmoid, "labels", [0.75, 0.8]),
    ("in place", lambda z: z.clone().sigmoid_(), "labels", [0.75, 0.8]),
    ("expit", torch.special.expit, "labels", [0.75, 0.8]),
    ("log sigmoid", nn.functional.logsigmoid, "labels", [0.75, 0.8]),
    ("clamped", lambda z: z.sigmoid().clamp(1e-6, 1 - 1e-6), "labels", [0.75, 0.8]),
    ("heads joined", lambda z: torch.cat([z[:, :1].sigmoid(), z[:, 1:].sigmoid()], 1), "labels", [0.75, 0.8]),
    ("one logit", lambda z: z[:, 1].sigmoid(), "labels", [0.75, 0.5]),
    ("one class of two", lambda z: z.softmax(1)[:, 1], "labels", [0.75, 0.2]),
]


@pytest.mark.parametrize(("then", "kind", "right"), [end[1:] for end in ENDS], ids=[end[0] for end in ENDS])
def test_probabilities_are_not_made_again(
    images: Tensor, then: Callable[[Tensor], Tensor], kind: str, right: list[float]
) -> None:
    found = sl.explain(Says(LOGITS, then), images, "gradient")
    assert found.output.kind == kind
    assert found.output.known
    assert found.probabilities is not None
    torch.testing.assert_close(found.probabilities, torch.tensor(right))


def test_the_end_is_seen_by_methods_with_rules() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2), nn.Sigmoid()]
    found = sl.explain(nn.Sequential(*layers), torch.rand(1, 3, 2, 2), ["guided_backprop", "full_grad"], 0)
    assert found.output == OutputKind("labels", "probabilities")


def test_a_sigmoid_inside_is_not_the_end(images: Tensor) -> None:
    found = sl.explain(Says(LOGITS, lambda z: 4 * z.sigmoid()), images, "gradient")
    assert not found.output.known
    assert found.probabilities is not None
    assert found.output.scale == "logits"


@pytest.mark.parametrize(
    ("carried", "kind"),
    [
        ({"multi_label": True}, "labels"),
        ({"multi_label": False}, "classes"),
        ({"output": "values"}, "values"),
        ({"output": nn.Linear(2, 2)}, None),
        ({"output": "logits"}, None),
        ({"config": SimpleNamespace(problem_type="regression", id2label={0: "LABEL_0"})}, "values"),
        ({"config": SimpleNamespace(problem_type="multi_label_classification")}, "labels"),
        ({"config": SimpleNamespace(problem_type=None)}, None),
    ],
)
def test_what_a_module_says_of_itself_is_honoured(images: Tensor, carried: dict[str, object], kind: str | None) -> None:
    model = Says(LOGITS)
    for name, value in carried.items():
        setattr(model, name, value)
    assert sl.model_info(model).output == kind
    found = sl.explain(model, images, "gradient", 0)
    assert found.output.kind == (kind or "classes")
    assert found.output.known == (kind is not None)


def test_a_caller_overrules_the_model(images: Tensor) -> None:
    model = Says(LOGITS)
    model.multi_label = True
    assert sl.explain(model, images, "gradient", 0, output="values").output.kind == "values"
    assert sl.explain(model, images, "gradient", targets=[0, 1], output="classes")[1].output.kind == "classes"


@pytest.mark.parametrize(
    "names", [["a", "b"], ("a", "b"), np.array(["a", "b"]), {1: "b", 0: "a"}], ids=["list", "tuple", "array", "dict"]
)
def test_class_names_of_a_module_are_used(images: Tensor, names: object) -> None:
    model = Says(LOGITS)
    model.class_names = names
    assert lines(sl.explain(model, images, "gradient")) == ["b, 75%", "a, 80%"]


def test_the_preprocessing_of_a_module_decodes_its_pictures(images: Tensor) -> None:
    model = Says(LOGITS)
    model.preprocessing = sl.Preprocessing(size=(4, 4), mean=(0.0,) * 3, std=(1.0,) * 3)
    found = sl.explain(model, images, "gradient")
    np.testing.assert_allclose(found.display[0, 1, 1], [0.25] * 3, atol=0.01)


FACTORY = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))

build.{said}
"""


@pytest.mark.parametrize(("said", "kind"), [("multi_label = True", "labels"), ('output = "values"', "values")])
def test_what_a_factory_says_is_honoured(tmp_path: Path, images: Tensor, said: str, kind: str) -> None:
    (tmp_path / "net.py").write_text(FACTORY.format(said=said))
    model = sl.load_model(f"{tmp_path / 'net.py'}:build")
    info = sl.model_info(model)
    assert info.output == kind
    assert "random" in info.weights
    assert sl.explain(model, images, "gradient", 0).output.kind == kind


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"output": "regression"}, 'write "values"'),
        ({"output": "softmax"}, 'write "classes"'),
        ({"output": "multi-label"}, 'write "labels"'),
        ({"output": "nonsense"}, "nonsense"),
        ({"output": "values", "multi_label": True}, "drop one"),
    ],
)
def test_other_words_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        sl.load_model(Says(LOGITS), **given)


def test_an_explanation_keeps_what_its_output_is(images: Tensor, tmp_path: Path) -> None:
    found = sl.explain(Says(LOGITS), images, "gradient", 1, output="labels")
    found.save(tmp_path)
    back = sl.Explanation.load(tmp_path)
    assert back.output == found.output == OutputKind("labels")
    assert back.caption(1) == found.caption(1)


@pytest.mark.parametrize(
    ("kind", "then", "share"),
    [
        (None, None, lambda z: z.softmax(1)),
        (None, lambda z: z.softmax(1), lambda p: p),
        (None, lambda z: z.log_softmax(1), lambda p: p.exp()),
        (None, torch.sigmoid, lambda p: p),
        ("labels", None, torch.sigmoid),
        ("values", None, lambda z: z),
    ],
    ids=["logits", "softmax", "log softmax", "sigmoid", "labels", "values"],
)
def test_faithfulness_follows_what_the_network_says(
    kind: str | None, then: Callable[[Tensor], Tensor] | None, share: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    with torch.no_grad():
        model[1].weight.mul_(5)
    if then is not None:
        model.append(Then(then))
    images = torch.rand(2, 3, 4, 4)
    found = sl.audit(model, images, "gradient", tests=["faithfulness"], output=kind)
    said = found.scores.query("method == 'gradient' and case == 'mean' and measure == 'deletion'")["value"].to_numpy()
    with torch.no_grad():
        chosen = drawn(images, 3) if kind == "values" else model(images).argmax(1)
        heat = sl.explain(model, images, "gradient", chosen, output=kind).heatmap("gradient").flatten(1)
        rank = heat.argsort(dim=1, descending=True, stable=True).argsort(1).view(2, 1, 4, 4)
        fill = images.mean((2, 3), keepdim=True).expand_as(images)
        curve = [share(model(torch.where(rank < 16 * k // 10, fill, images)))[[0, 1], chosen] for k in range(11)]
    right = torch.trapezoid(torch.stack(curve).double(), dim=0) / 10
    np.testing.assert_allclose(said, right.numpy(), rtol=1e-5)


class Then(nn.Module):
    def __init__(self, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.then = then

    def forward(self, z: Tensor) -> Tensor:
        return self.then(z)


def drawn(images: Tensor, count: int) -> Tensor:
    """Which output an audit of values explains for each image."""
    return torch.tensor([seed_of(0, "output", image_key(image)) % count for image in images])


@pytest.mark.parametrize(("count", "text"), [(1, "only output"), (3, "3 outputs")])
def test_the_note_counts_the_outputs(count: int, text: str) -> None:
    assert text in OutputKind.of(None, None, torch.zeros(1, count)).note(count)


def test_the_highest_of_several_labels_is_never_taken_in_silence(images: Tensor) -> None:
    found = sl.explain(Says(LOGITS), images, "gradient", output="labels")
    assert lines(found) == ["P(label 1) = 75%, the highest", "P(label 0) = 80%, the highest"]
    assert any("2 labels" in note and "highest score" in note for note in found.checks.notes)
    named = sl.explain(Says(LOGITS), images, "gradient", 1, output="labels")
    assert not any("highest score" in note for note in named.checks.notes)


@pytest.mark.parametrize(
    ("problem", "outputs", "kind", "caption"),
    [
        ("regression", 2, "values", "a = "),
        ("multi_label_classification", 3, "labels", "P(a) = "),
        ("single_label_classification", 3, "classes", "%"),
        (None, 3, "classes", "%"),
        (None, 1, None, "a = "),
    ],
)
def test_configurations_of_transformers_tell(
    tmp_path: Path, problem: str | None, outputs: int, kind: str | None, caption: str
) -> None:
    transformers = pytest.importorskip("transformers")
    names = dict(enumerate("abc"[:outputs]))
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1], id2label=names, problem_type=problem
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    model = sl.load_model(f"hf:{tmp_path}")
    assert sl.model_info(model).output == kind
    found = sl.explain(model, torch.rand(1, 3, 32, 32), "gradient", "a")
    assert caption in lines(found)[0]
    assert found.output.known == (kind is not None)


COMBINED: list[tuple[str, Callable[[Tensor], Tensor], list[float]]] = [
    # Sigmoid of LOGITS is (1/2, 3/4) and (4/5, 1/2); label 1 of the first image, label 0 of the second.
    ("mean of two", lambda z: (z.sigmoid() + z.sigmoid()) / 2, [0.75, 0.8]),
    ("mean of a stack", lambda z: torch.stack([z.sigmoid(), z.sigmoid()]).mean(0), [0.75, 0.8]),
    ("the larger", lambda z: torch.maximum(z.sigmoid(), (-z).sigmoid()), [0.75, 0.8]),
    ("product", lambda z: z.sigmoid() * z.sigmoid(), [0.5625, 0.64]),
    ("the opposite", lambda z: 1 - (-z).sigmoid(), [0.75, 0.8]),
    ("mean of places", lambda z: z[:, :, None].expand(-1, -1, 4).sigmoid().mean(2), [0.75, 0.8]),
]


@pytest.mark.parametrize(("then", "right"), [case[1:] for case in COMBINED], ids=[case[0] for case in COMBINED])
def test_combined_sigmoids_are_probabilities_already(
    images: Tensor, then: Callable[[Tensor], Tensor], right: list[float]
) -> None:
    model = Says(LOGITS, then)
    stated = sl.explain(model, images, "gradient", [1, 0], output="labels")
    assert lines(stated) == [f"P(label {label}) = {p:.0%}" for label, p in zip([1, 0], right, strict=True)]
    assert not any("made of probabilities" in note for note in stated.checks.notes)
    assumed = sl.explain(model, images, "gradient", [1, 0])
    assert lines(assumed) == lines(stated)
    assert any("made of probabilities" in note for note in assumed.checks.notes)


def test_values_bounded_by_a_sigmoid_are_not_given_percentages(images: Tensor) -> None:
    stars = sl.explain(Says(LOGITS, lambda z: 1 + 4 * z.sigmoid()), images, "gradient", 0, output="values")
    assert lines(stars) == ["output 0 = 3", "output 0 = 4.2"]
    one = sl.explain(Says(LOGITS, lambda z: 0.1 + 0.4 * z[:, :1].sigmoid()), images, "gradient")
    assert lines(one) == ["output 0 = 0.3", "output 0 = 0.42"]


def test_the_audit_reads_combined_sigmoids_as_the_explanation_does(images: Tensor) -> None:
    model = Says(LOGITS, lambda z: (z.sigmoid() + z.sigmoid()) / 2)
    scores = ask(model, images, 2)
    torch.testing.assert_close(output_of(model, images, scores, "labels").read(scores), scores)
