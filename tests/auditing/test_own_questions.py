"""Questions of a user's own: as an instance, a class, in a file; and what happens where they go wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from helpers.command_line import sightline
from sightline.auditing import QUESTIONS, TESTS, AuditOptions, Plan, Question, Rule, Score, audit, questions_of
from sightline.options import AuditOptions as Options

ROAD = Path(__file__).parents[2] / "docs" / "examples" / "road.py"


class Sums(Question):
    """The sum of each map."""

    name = "sums"

    def scores(self, block, on_progress):
        on_progress("adding up")
        for method, maps in block.base.items():
            yield from block.each(self.name, "all", method, "sum", maps.double().sum((1, 2)))


class Positive(Sums):
    """The same, with a rule."""

    name = "positive"

    def __init__(self, bound: float = 0.0) -> None:
        self.bound = bound

    @property
    def rules(self):
        return (Rule(self.name, "all", "sum", self.bound, False, "the sum is positive", floor=0.0, ceiling=1.0),)


class Failing(Positive):
    """A question that fails on the second block."""

    name = "failing"

    def scores(self, block, on_progress):
        if block.numbers.start > 0:
            raise KeyError("lost")
        yield from super().scores(block, on_progress)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()


def of(found: sl.Audit, test: str, measure: str, method: str = "gradient") -> np.ndarray:
    rows = found.scores.query("test == @test and measure == @measure and method == @method")
    return rows.sort_values("image")["value"].to_numpy()


def test_an_instance_a_class_and_a_name_stand_beside_each_other(model: nn.Module, images: Tensor) -> None:
    found = audit(model, images, "gradient", [Positive(), Sums, "completeness"])
    assert list(found.verdicts.columns) == ["positive", "sums", "completeness", "overall"]
    with torch.no_grad():
        expected = model[1].weight.sum(1)[model(images).argmax(1)].numpy()
    np.testing.assert_allclose(of(found, "sums", "sum"), expected, rtol=1e-5)
    assert found.verdicts.loc["gradient", "positive"] == ("pass" if expected.mean() > 0 else "fail")
    # All pixels of a picture are above 0.
    assert found.verdicts.loc["control: input", "positive"] == "pass"
    assert set(found.verdicts["sums"]) == {"reported"}
    alone = audit(model, images, "gradient", Sums())
    pd.testing.assert_frame_equal(
        alone.scores[alone.scores["test"] == "sums"].reset_index(drop=True),
        found.scores[found.scores["test"] == "sums"].reset_index(drop=True),
    )


def test_the_default_questions_say_so_themselves() -> None:
    assert TESTS == (
        "class_sensitivity", "image_sensitivity", "parameter_randomization", "input_bias", "completeness", "stability",
    )  # fmt: skip
    assert list(QUESTIONS.own) == [*TESTS, "convergence", "faithfulness", "localisation"]
    assert all(question.name == name and question.caption for name, question in QUESTIONS.own.items())


def bad(scores):
    class Bad(Positive):
        name = "bad"

        def scores(self, block, on_progress):
            return scores(block)

    return Bad()


def score(**changes) -> Score:
    return Score("bad", "all", "gradient", "sum", 0, 1.0)._replace(**changes)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Failing(), "the test failing failed on images 12 to 23: KeyError: 'lost'"),
        (bad(lambda b: [score(test="stability")]), "of the test 'stability'; expected bad"),
        (bad(lambda b: [score(method="grad_kam")]), "of the method 'grad_kam'; expected .*gradient"),
        (bad(lambda b: [score(image=24)]), "of the image 24; expected 0 to 11"),
        (bad(lambda b: [score(value="much")]), "gave str as a value; expected a number"),
        (bad(lambda b: [score(), score(value=2.0)]), "two scores for gradient, all, sum, image 0"),
        (bad(lambda b: [1.0]), "gave float where a Score is expected"),
        (bad(lambda b: None), "returned NoneType where scores are expected"),
        (bad(lambda b: [score(image=b.numbers.start, value=float("nan"))]), "no image on which this could be measured"),
    ],
)
def test_a_question_that_fails_loses_its_own_verdicts_alone(
    model: nn.Module, images: Tensor, question: Question, said: str
) -> None:
    found = audit(model, images, "gradient", [question, Sums()], block=12)
    assert found.verdicts.loc["gradient", question.name] == "undecided"
    reasons = found.reasons.query("test == @question.name and method == 'gradient'")["reason"]
    assert reasons.str.contains(said).all(), list(reasons)
    alone = audit(model, images, "gradient", [Sums()], block=12)
    np.testing.assert_array_equal(of(found, "sums", "sum"), of(alone, "sums", "sum"))


def test_what_stops_the_audit_is_not_the_question_s_failure(model: nn.Module, images: Tensor) -> None:
    class KilledError(Exception):
        pass

    def kill(words: str, done: int, of: int) -> None:
        if words == "adding up":
            raise KilledError

    with pytest.raises(KilledError):
        audit(model, images, "gradient", Sums(), progress=kill)


def test_what_is_no_question_is_said(model: nn.Module, images: Tensor) -> None:
    class Needy(Sums):
        def __init__(self, amount: int) -> None:
            self.amount = amount

    class Spaced(Sums):
        name = "two words"

    class Unprepared(Sums):
        def prepare(self, setup):
            return setup.colour

    class Twin(Sums):
        """Another question of the same name."""

    class Borrowed(Positive):
        name = "borrowed"

        @property
        def rules(self):
            return [Rule("completeness", "all", "sum", 0.0, False, "words", floor=0.0, ceiling=1.0)]

    for tests, said in (
        ([Needy], "Needy cannot be made without settings.*amount"),
        ([Spaced()], "letters, digits and underscores.*'two words'"),
        ([Unprepared()], "sums cannot be prepared: AttributeError.*colour"),
        ([Sums(), Twin()], "Two different tests are called sums: Sums and Twin"),
        ([Positive(), Positive(0.5)], "Two different tests are called positive"),
        ([Borrowed(), "completeness"], "Both borrowed and completeness answer a test called completeness"),
        ("absent.py:Mine", "absent.py is not a file"),
        (f"{ROAD}:Rode", "Expected a test Rode.*Road"),
    ):
        with pytest.raises(sl.InputError, match=said):
            audit(model, images, "gradient", tests)
    for tests, said in (([3], "FILE.py:NAME.*got int"), (3, "in a list; got int"), ([], "got none")):
        with pytest.raises(sl.InputError, match=said):
            questions_of(tests, masked=False)


def test_two_equal_questions_are_one(model: nn.Module, images: Tensor) -> None:
    found = audit(model, images, "gradient", [Positive(0.5), Positive(0.5), Sums, Sums()])
    assert list(found.verdicts.columns) == ["positive", "sums", "overall"]


def test_a_folder_belongs_to_questions_of_equal_settings(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    steps: list[str] = []

    def ask(bound: float) -> sl.Audit:
        steps.clear()
        options = {"block": 12, "folder": tmp_path, "progress": lambda words, *_: steps.append(words)}
        return audit(model, images, "gradient", [Positive(bound)], **options)

    first = ask(0.0)
    assert steps.count("adding up") == 2
    assert ask(0.0).scores.equals(first.scores)
    assert steps == ["done"]
    with pytest.raises(sl.InputError, match="holds another audit"):
        ask(0.5)


def test_what_failed_is_asked_again_when_the_audit_goes_on(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    class Missing(Sums):
        """A question that reads a file."""

        name = "missing"

        def scores(self, block, on_progress):
            (tmp_path / "needed").read_text()
            yield from super().scores(block, on_progress)

    def plan() -> Plan:
        return Plan(model, images, AuditOptions("gradient", ["completeness", Missing()], block=12, folder=tmp_path))

    plan().keep(0)
    other = plan()
    other.keep(1)
    assert "FileNotFoundError" in other.found().findings["missing", "gradient"].reason
    (tmp_path / "needed").write_text("")
    again = plan()
    again.keep(0)
    again.keep(1)
    assert again.found().findings["missing", "gradient"].said == "reported"
    assert len(of(again.found(), "missing", "sum")) == 24


def test_two_questions_may_read_the_maps_of_other_classes(model: nn.Module, images: Tensor) -> None:
    class Others(Sums):
        name = "others"
        compares_classes = True

        def scores(self, block, on_progress):
            for case, draw, maps in block.other_classes():
                for method, one in maps.items():
                    yield from block.each(self.name, case, method, "sum", one.double().sum((1, 2)), draw=draw)

    found = audit(model, images, "gradient", [Others(), "class_sensitivity"])
    own = audit(model, images, "gradient", ["class_sensitivity"])
    test = "class_sensitivity"
    assert of(found, test, "cosine").tolist() == of(own, test, "cosine").tolist()
    with torch.no_grad():
        second = model(images).argsort(1, descending=True)[:, 1]
    rows = found.scores.query("test == 'others' and case == 'second class' and method == 'gradient'")
    np.testing.assert_allclose(rows["value"], model[1].weight.detach().sum(1)[second], rtol=1e-5)


def test_words_of_a_question_reach_the_advice_and_its_citation_the_bibliography(
    model: nn.Module, images: Tensor
) -> None:
    class Wordy(Sums):
        name = "wordy"
        cites = ("@misc{me}",)

        def summary(self, scores):
            return f"{len(scores)} sums"

        def notes(self, table, settings):
            raise ZeroDivisionError

    found = audit(model, images, "gradient", [Wordy()])
    assert "Of gradient: 24 sums." in found.advice
    assert "the test wordy fails to say more (ZeroDivisionError" in found.advice
    assert found.bibliography.endswith("@misc{me}")


def _neighbours(y: int, x: int):
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if (dy or dx) and 0 <= y + dy < 4 and 0 <= x + dx < 4:
                yield y + dy, x + dx, 1 / 12 if dy and dx else 1 / 6


def settled(picture: np.ndarray, removed: set[tuple[int, int]]) -> np.ndarray:
    """The picture after averaging over neighbours again and again, until nothing moves."""
    found = picture.copy()
    for _ in range(4000):
        for y, x in removed:
            parts = [(weight * found[v, u], weight) for v, u, weight in _neighbours(y, x)]
            found[y, x] = sum(part for part, _ in parts) / sum(weight for _, weight in parts)
    return found


def test_road_is_what_averaging_by_hand_gives(model: nn.Module, images: Tensor) -> None:
    few = images[:2]
    road = QUESTIONS[f"{ROAD}:Road"]
    exact = replace(road, steps=2, noise=0.0)
    found = audit(model, few, sl.from_callable(lambda m, x, c: x.mean(1) ** 2, "squares"), exact)
    for number, picture in enumerate(few[:, 0].double().numpy()):
        with torch.no_grad():
            chosen = int(model(few[number : number + 1]).argmax())
        areas = {}
        for name, sign in (("most", -1), ("least", 1)):
            order = sorted(np.ndindex(4, 4), key=lambda at, sign=sign: sign * picture[at])
            states = [settled(picture, set(order[:count])) for count in (0, 8)]
            states.append(np.full((4, 4), picture.mean()))
            with torch.no_grad():
                inputs = torch.tensor(np.stack(states), dtype=torch.float32)[:, None]
                said = model(inputs).softmax(1)[:, chosen].double().numpy()
            areas[name] = (said[0] / 2 + said[1] + said[2] / 2) / 2
        for name, area in areas.items():
            assert of(found, "road", name, "squares")[number] == pytest.approx(area, abs=1e-5)
        difference = areas["least"] - areas["most"]
        assert of(found, "road", "difference", "squares")[number] == pytest.approx(difference, abs=1e-5)


FACTORY = """
import torch
from torch import nn
from sightline import Preprocessing

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))

build.preprocessing = Preprocessing(size=(8, 8), resize="stretch")
"""


def test_a_file_names_a_question_on_the_command_line(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "net.py").write_text(FACTORY)
    (tmp_path / "road.py").write_text(ROAD.read_text())
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{i:02d}.png")
    words = ("audit", "net.py:build", "photos", "--methods", "gradient", "--out", "out", "--tests", "road.py:Road")
    done = sightline(tmp_path, *words, "--fail-on", "road")
    record = (tmp_path / "out" / "audit.json").read_text()
    assert '"road": "Does the score fall more' in record
    verdicts = pd.read_csv(tmp_path / "out" / "verdicts.csv").set_index("method")
    assert list(verdicts.columns) == ["road", "overall"]
    expected = {"pass": 0, "fail": 1, "undecided": 4}[str(verdicts.loc["gradient", "road"])]
    assert done.returncode == expected, done.stderr
    refused = sightline(tmp_path, *words, "--fail-on", "stability")
    assert refused.returncode == 2
    assert "asks only road." in " ".join(refused.stderr.split())


def test_the_command_line_names_all_questions_that_need_no_masks() -> None:
    from dataclasses import fields

    (words,) = (one.metadata["description"] for one in fields(Options) if one.name == "tests")
    assert all(name in words for name, one in QUESTIONS.own.items() if not one.needs_masks)
