"""The audit: its figures against figures made apart, its verdicts on cases whose answer is known, and bad input."""

import copy
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

import sightline as sl
from sightline.auditing import AuditOptions, Plan, Randomisation, audit, from_callable
from sightline.auditing._verdicts import Evidence, judge
from sightline.auditing.questions._block import CEILING, FLOOR, REFERENCE, SAME_CLASS
from sightline.auditing.questions._rule import Rule, Said
from sightline.auditing.questions._subjects import CONTROLS
from sightline.models._fingerprint import fingerprint
from sightline.sampling import Noise

MAIN = ("class_sensitivity", "parameter_randomization", "stability")
NOISY = sl.Method(sampling=Noise(samples=3), name="noisy")
RULE = Rule("test", "case", "spearman", 0.7, True, "words")


def network(outputs: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 36, outputs),
    ).eval()  # fmt: skip


@pytest.fixture
def images() -> Tensor:
    return torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> nn.Module:
    return network()


def means(values: Tensor) -> np.ndarray:
    return values.mean(1).detach().numpy().reshape(len(values), -1)


def gradient_of(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """The plain gradient, by torch alone."""
    inputs = images.clone().requires_grad_()
    score = model(inputs).gather(1, classes[:, None]).sum()
    return torch.autograd.grad(score, inputs)[0]


def test_figures_are_those_of_torch_and_scipy(model: nn.Module, images: Tensor) -> None:
    found = audit(model, images, ["gradient"], block=24, randomisation=Randomisation(stages=2))
    with torch.no_grad():
        order = model(images).argsort(1, descending=True)
    base, least = (means(gradient_of(model, images, order[:, place])) for place in (0, 3))

    def scores(test: str, case: str, measure: str = "spearman") -> np.ndarray:
        rows = found.scores.query("test == @test and case == @case and method == 'gradient' and measure == @measure")
        return rows.sort_values(["network", "image"])["value"].to_numpy()

    expected = [spearmanr(a, b).statistic for a, b in zip(base, least, strict=True)]
    np.testing.assert_allclose(scores("class_sensitivity", "least likely class"), expected, atol=1e-6)
    expected = [spearmanr(abs(a), abs(b)).statistic for a, b in zip(base, least, strict=True)]
    np.testing.assert_allclose(scores("class_sensitivity", "least likely class", "spearman_abs"), expected, atol=1e-6)
    pairs = found.sample.others.partners
    classes = order[:, 0]
    assert (classes != classes[pairs]).all()
    expected = [spearmanr(base[i], base[pairs[i]]).statistic for i in range(24)]
    np.testing.assert_allclose(scores(REFERENCE, FLOOR), expected, atol=1e-6)
    same = found.sample.alike.partners
    asked = means(gradient_of(model, images[torch.as_tensor(same)], classes))
    expected = [spearmanr(a, b).statistic for a, b in zip(base, asked, strict=True)]
    np.testing.assert_allclose(scores("image_sensitivity", SAME_CLASS), expected, atol=1e-6)
    how = Randomisation(stages=2)
    stages = how.plan(model, images[:1])
    assert [stage.name for stage in stages] == ["6", "3 to 0"]
    for number, (stage, other) in enumerate(how.cascade(model, stages), 1):
        networks = [other, *(how.random(model, stages, draw) for draw in range(2, 6))][: 5 if number == 2 else 1]
        maps = [means(gradient_of(network, images, order[:, 0])) for network in networks]
        expected = [spearmanr(a, b).statistic for own in maps for a, b in zip(base, own, strict=True)]
        np.testing.assert_allclose(scores("parameter_randomization", f"{number}: {stage.name}"), expected, atol=1e-6)
    row = found.table.query(
        "test == 'parameter_randomization' and method == 'gradient' and measure == 'spearman'"
    ).iloc[-1]
    assert row["mean"] == pytest.approx(np.mean(expected))
    assert row["floor"] == pytest.approx(scores(REFERENCE, FLOOR).mean())
    assert row["ceiling"] == pytest.approx(scores(REFERENCE, CEILING).mean())
    assert row["low"] < row["mean"] < row["high"]
    assert (row["images"], row["networks"]) == (24, 5)
    value, floor, ceiling = (
        np.abs(one).mean() for one in (expected, scores(REFERENCE, FLOOR), scores(REFERENCE, CEILING))
    )
    finding = found.findings["parameter_randomization", "gradient"]
    assert finding.figure == pytest.approx((value - floor) / (ceiling - floor))


@pytest.mark.slow
def test_a_function_of_the_users_gets_the_same_scores_as_the_row_it_repeats(model: nn.Module, images: Tensor) -> None:
    methods = ["gradient", from_callable(gradient_of), from_callable(lambda *a: gradient_of(*a).numpy(), "in numpy")]
    found = audit(model, images, methods, block=7)
    for name in ("gradient_of", "in numpy"):
        rows, own = (found.scores.query("method == @m").reset_index(drop=True) for m in (name, "gradient"))
        assert len(rows) == len(own)
        pd.testing.assert_frame_equal(rows.drop(columns="method"), own.drop(columns="method"), atol=1e-6)
    assert found.verdicts.loc["gradient_of"].tolist() == found.verdicts.loc["gradient"].tolist()


def test_a_map_that_only_turns_its_sign_is_no_other_map(model: nn.Module, images: Tensor) -> None:
    """What is left of a class where a propagation has lost it: its logit, times one and the same map."""

    def lost(network: nn.Module, given: Tensor, classes: Tensor) -> Tensor:
        logits = network(given).detach()
        return given.mean(1) * (logits - logits.mean(1, keepdim=True)).gather(1, classes[:, None])[..., None]

    found = audit(model, images, [from_callable(lost)], ["class_sensitivity"])
    signed = found.scores.query("method == 'lost' and case == 'least likely class' and measure == 'spearman'")
    assert (signed["value"] < -0.999).all()
    assert found.verdicts.loc[["gradient", "lost"], "class_sensitivity"].tolist() == ["pass", "fail"]


def test_classes_that_the_model_itself_tells_by_one_direction_judge_nobody(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 1), nn.Linear(1, 4)).eval()
    found = audit(model, images, ["gradient", "guided_backprop"], ["class_sensitivity"])
    assert set(found.verdicts["class_sensitivity"]) == {"undecided"}
    reasons = found.reasons.set_index("method")["reason"]
    assert all(fact in reasons["guided_backprop"] for fact in ("the gradient", "(1.0", "nothing to see"))
    assert "nothing to see" in reasons["control: edges"]


def test_no_control_passes_overall(model: nn.Module, images: Tensor) -> None:
    verdicts = audit(model, images, ["gradient"]).verdicts
    assert list(verdicts.index) == ["gradient", *CONTROLS]
    for control in CONTROLS:
        assert verdicts.loc[control, "overall"] == "fail"
    for control in CONTROLS[1:]:
        assert verdicts.loc[control, ["class_sensitivity", "parameter_randomization"]].tolist() == ["fail", "fail"]
    assert verdicts.loc[CONTROLS[0], "stability"] == "fail"


def test_a_map_without_the_class_or_without_the_weights_fails_that_test_alone(model: nn.Module, images: Tensor) -> None:
    def without_class(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        return gradient_of(network, images, torch.zeros_like(classes)) * images.abs()

    def without_weights(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        return gradient_of(model, images, classes) * images.abs()

    methods = [from_callable(without_class), from_callable(without_weights)]
    verdicts = audit(model, images, methods, MAIN).verdicts
    assert verdicts.loc["without_class"].tolist() == ["fail", "pass", "pass", "fail"]
    assert verdicts.loc["without_weights"].tolist() == ["pass", "fail", "pass", "fail"]


def test_methods_that_cannot_be_judged_are_named(model: nn.Module, images: Tensor) -> None:
    methods = [
        from_callable(lambda n, x, c: torch.ones(len(x), 12, 12), "constant"),
        from_callable(lambda n, x, c: torch.full((len(x), 12, 12), torch.nan), "silent"),
        from_callable(lambda n, x, c: torch.ones(len(x), 5), "flat"),
        from_callable(lambda n, x, c: None, "none"),
        from_callable(lambda n, x, c: {}["x"], "broken"),
        "expected_gradients",
    ]
    found = audit(model, images, methods)
    for name, said in (
        ("constant", "not finite.*24 of 24"),
        ("silent", "not finite.*24 of 24"),
        ("flat", r"flat.*shape.*\(24, 5\)"),
        ("none", "got NoneType"),
        ("broken", "broken.*KeyError: 'x'"),
        ("expected_gradients", "references"),
    ):
        assert set(found.verdicts.loc[name]) <= {"undecided", "reported"}
        assert found.verdicts.loc[name, "overall"] == "undecided"
        reasons = found.reasons.query("method == @name and said == 'undecided'")["reason"]
        assert len(reasons) >= 4
        assert reasons.str.contains(said).all(), list(reasons)
    assert found.verdicts.loc["gradient", "overall"] == "pass"


def test_few_images_decide_nothing_and_it_says_how_many_more(model: nn.Module, images: Tensor) -> None:
    found = audit(model, images[:5], ["gradient"])
    assert set(found.verdicts["overall"]) == {"undecided"}
    assert "15 more" in found.reasons.iloc[0]["reason"]
    alone = audit(model, images[:1], ["gradient"])
    assert set(alone.verdicts["overall"]) == {"undecided"}


def test_two_logits_that_are_each_others_negative_cannot_be_told_apart(images: Tensor) -> None:
    class Mirrored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network(1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.body(x), -self.body(x)], 1)

    found = audit(Mirrored().eval(), images, ["gradient"])
    assert set(found.verdicts["class_sensitivity"]) == {"undecided"}
    assert "each other's negative" in found.reasons.query("test == 'class_sensitivity'").iloc[0]["reason"]
    assert found.verdicts.loc["gradient", "parameter_randomization"] == "pass"
    single = audit(network(1), images, ["gradient"], ["class_sensitivity"])
    assert "one output" in single.reasons.iloc[0]["reason"]


def test_a_model_without_parameters_is_audited_but_for_them(images: Tensor) -> None:
    weights = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(2))

    def score(x: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", F.relu(x - 0.2), weights)

    found = audit(score, images, ["gradient"])
    assert found.verdicts.loc["gradient", "class_sensitivity"] == "pass"
    assert "no parameters" in found.reasons.query("test == 'parameter_randomization'").iloc[0]["reason"]


def test_maps_alike_for_all_images_are_undecided(images: Tensor) -> None:
    """The gradient of a linear model is one map for all images."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 2, bias=False)).eval()
    found = audit(model, images, ["gradient"], ["class_sensitivity"])
    one, other = model[1].weight.detach().view(2, 3, 144).mean(1).numpy()
    assert found.scores.query("method == 'gradient' and test == 'reference'")["value"].abs().min() <= 1.0
    value = found.scores.query("method == 'gradient' and test == 'class_sensitivity' and measure == 'spearman'")[
        "value"
    ]
    np.testing.assert_allclose(value, spearmanr(one, other).statistic, atol=1e-9)


@pytest.mark.slow
def test_an_audit_that_was_interrupted_goes_on_and_ends_the_same(
    model: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(words: str, done: int, of: int) -> None:
        del words, of
        if done == 2:
            raise KilledError

    settings = {"methods": ["gradient", "expected_gradients"], "block": 6}
    with pytest.raises(KilledError):
        audit(model, images, **settings, folder=tmp_path, progress=kill)
    steps: list[tuple[str, int]] = []
    resumed = audit(model, images, **settings, folder=tmp_path, progress=lambda words, n, _: steps.append((words, n)))
    assert {n for words, n in steps if words != "done"} == {2, 3}
    whole = audit(model, images, **settings)
    pd.testing.assert_frame_equal(resumed.scores, whole.scores)
    pd.testing.assert_frame_equal(resumed.verdicts, whole.verdicts)
    assert resumed.refused == whole.refused
    with pytest.raises(sl.InputError, match="holds another audit"):
        audit(model, images + 1, **settings, folder=tmp_path)


def test_what_was_refused_before_an_interruption_is_not_asked_after_it(
    model: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(words: str, done: int, of: int) -> None:
        del words, of
        if done == 2:
            raise KilledError

    asked: list[int] = []

    def picky(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        del model, classes
        asked.append(len(images))
        if bool((images == marked).flatten(1).all(1).any()):
            raise ValueError("not this one")
        return images.mean(1)

    marked = images[7]
    settings = {"methods": [from_callable(picky)], "tests": ["class_sensitivity"], "block": 6}
    with pytest.raises(KilledError):
        audit(model, images, **settings, folder=tmp_path / "a", progress=kill)
    asked.clear()
    resumed = audit(model, images, **settings, folder=tmp_path / "a")
    assert not asked
    whole = audit(model, images, **settings, folder=tmp_path / "b")
    assert resumed.refused == whole.refused
    assert "not this one" in resumed.refused["picky"]
    pd.testing.assert_frame_equal(resumed.scores, whole.scores)


def test_a_randomised_network_that_was_asked_is_not_asked_again(
    model: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(words: str, done: int, of: int) -> None:
        del done, of
        if words.startswith("random: 2"):
            raise KilledError

    settings = {"methods": ["gradient"], "tests": ["parameter_randomization"], "block": 24}
    with pytest.raises(KilledError):
        audit(model, images, **settings, folder=tmp_path, progress=kill)
    steps: list[str] = []
    resumed = audit(model, images, **settings, folder=tmp_path, progress=lambda words, n, _: steps.append(words))
    asked = [words.split(":")[1].strip() for words in steps if words.startswith("random")]
    assert asked == ["2", "3", *(f"network {number} of 5" for number in range(2, 6))]
    pd.testing.assert_frame_equal(resumed.scores, audit(model, images, **settings).scores)


@pytest.mark.slow
def test_randomised_networks_can_be_asked_by_others(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    def plan(folder: Path) -> Plan:
        # As another process would make it.
        tests = ["class_sensitivity", "parameter_randomization", "input_bias"]
        options = AuditOptions(["gradient", NOISY], tests, block=12, folder=folder)
        return Plan(copy.deepcopy(model), images, options)

    assert plan(tmp_path / "x").shares(2) == [(0, 0, 1), (1, 0, 1)]
    # Two blocks of three stages and four further random networks each give work to no more than sixteen.
    assert len(plan(tmp_path / "x").shares(100)) == 16
    shares = plan(tmp_path / "x").shares(5)
    assert len(shares) == 6
    seen: list[str] = []
    for i, share in enumerate(shares):
        alone = plan(tmp_path / f"share {i}")
        alone.keep(*share)
        plan(tmp_path / "all").keep(*share)
        seen += [file.name for file in (tmp_path / f"share {i}").rglob("*.csv")]
    assert len(seen) == len(set(seen)) == 2 * (1 + 1 + 7 + 1)
    whole = plan(tmp_path / "whole")
    for number in range(whole.blocks):
        whole.keep(number)
    together = plan(tmp_path / "all")
    pd.testing.assert_frame_equal(together.found().scores, whole.found().scores)
    pd.testing.assert_frame_equal(together.found().verdicts, whole.found().verdicts)


@pytest.mark.slow
def test_blocks_change_nothing_but_which_image_is_the_other(model: nn.Module, images: Tensor) -> None:
    one, several = (audit(model, images, ["gradient", NOISY], block=block).scores for block in (24, 5))
    keys = ["test", "case", "method", "measure", "image", "network", "draw"]
    own = [frame.sort_values(keys).reset_index(drop=True) for frame in (one, several)]
    noise = own[0]["method"] != CONTROLS[0]
    pd.testing.assert_frame_equal(own[0][noise], own[1][noise], atol=1e-5)


def test_the_model_comes_back_as_it_was(model: nn.Module, images: Tensor) -> None:
    before, state = fingerprint(model), torch.get_rng_state()
    flags = [p.requires_grad for p in model.parameters()]
    twin = copy.deepcopy(model)
    audit(model, images[:4], ["gradient", "smooth_grad"])
    assert fingerprint(model) == before == fingerprint(twin)
    assert torch.equal(torch.get_rng_state(), state)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())


def test_rules_by_hand() -> None:
    floor, ceiling = np.zeros(30), np.ones(30)
    spread = np.linspace(-0.1, 0.1, 30)
    for middle, low_is_good, said in ((0.3, True, Said.PASS), (0.9, True, Said.FAIL), (0.9, False, Said.PASS)):
        rule = Rule("test", "case", "spearman", 0.7, low_is_good, "words")
        found = judge(rule, Evidence(middle + spread, floor, ceiling))
        assert found.said is said
        assert found.figure == pytest.approx(middle)
        assert found.low < middle < found.high
    # (0.5 - 0.2) / (0.8 - 0.2)
    assert judge(RULE, Evidence(np.full(20, 0.5), np.full(20, 0.2), np.full(20, 0.8))).figure == pytest.approx(0.5)
    near = judge(RULE, Evidence(0.69 + 3 * spread, floor, ceiling))
    assert near.said is Said.UNDECIDED
    assert "more images" in near.reason
    alike = judge(RULE, Evidence(np.full(20, 0.9), np.full(20, 0.85), np.full(20, 1.0)))
    assert "likeness says nothing" in alike.reason
    holes = judge(RULE, Evidence(np.where(np.arange(30) < 12, np.nan, 0.1), floor, ceiling))
    assert holes.images == 18
    assert "2 more" in holes.reason


def test_an_image_that_is_given_twice_counts_once() -> None:
    floor, ceiling = np.zeros(30), np.ones(30)
    value = 0.3 + np.linspace(-0.1, 0.1, 30)
    contents = np.arange(30) // 2
    found = judge(RULE, Evidence(value, floor, ceiling, contents, contents))
    assert (found.said, found.images) == (Said.UNDECIDED, 15)
    assert "5 more" in found.reason
    assert judge(RULE, Evidence(value, floor, ceiling, contents, np.arange(30))).images == 30


def test_what_cannot_be_audited_is_said(model: nn.Module, images: Tensor) -> None:
    for settings, said in (
        ({"tests": ["colour"]}, "no test colour.*class_sensitivity"),
        ({"tests": []}, "got none"),
        ({"tests": ["localisation"]}, "needs masks="),
        ({"masks": torch.ones(24, 12, 11)}, r"\(24, 12, 12\).*\(24, 12, 11\)"),
        ({"methods": []}, "none came"),
        ({"methods": ["gradient", "gradient"]}, "came twice"),
        ({"methods": [from_callable(gradient_of, "control: edges")]}, "is a control's"),
        ({"block": 0}, "at least 1"),
    ):
        with pytest.raises(sl.InputError, match=said):
            audit(model, images, **{"methods": ["gradient"], **settings})
    with pytest.raises(sl.InputError, match="function of"):
        from_callable("gradient")
    with pytest.raises(sl.InputError, match="got shape"):
        audit(model, images[0], ["gradient"])


@pytest.mark.slow
def test_what_is_saved_tells_what_was_found(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    import json

    found = audit(model, images, ["gradient", "expected_gradients"])
    found.save(tmp_path)
    record = json.loads((tmp_path / "audit.json").read_text())
    assert record["verdicts"]["gradient"]["overall"] == "pass"
    assert record["advice"] == found.advice
    assert "gradient" in found.advice
    assert pd.read_csv(tmp_path / "verdicts.csv").set_index("method").equals(found.verdicts)
    assert len(pd.read_csv(tmp_path / "scores.csv")) == len(found.scores)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(sl.InputError, match="cannot be written"):
        found.save(blocked)


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.conv(x)
        return self.head(h.relu().mean((2, 3)))


def _small(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), *layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.parametrize(
    ("network", "cause"),
    [
        (lambda: _small(nn.BatchNorm2d(8)), r"batch_norm in 1\b.*training mode.*model\.eval"),
        (lambda: _small(nn.Dropout(0.5)), None),
        (lambda: Cut().eval(), r"graph is cut"),
    ],
    ids=["batch norm in training mode", "dropout in training mode", "cut graph"],
)
def test_what_refuses_every_method_is_told_as_explain_tells_it(network, cause: str | None, images: Tensor) -> None:
    for methods in (["gradient", "grad_cam"], "gradient"):
        with pytest.raises(sl.RefusalError) as alone:
            sl.explain(network(), images[:4], methods)
        with pytest.raises(sl.RefusalError) as caught:
            audit(network(), images[:4], methods)
        assert str(caught.value) == str(alone.value)
        assert cause is None or re.search(cause, str(caught.value))


def test_a_method_that_needs_no_gradient_is_audited_without_one(images: Tensor) -> None:
    model = Cut().eval()
    own = sl.from_callable(lambda m, x, c: x.abs().mean(1) * m(x).gather(1, c[:, None])[:, :, None], "own")
    found = audit(model, images[:4], [own, "gradient"], ["class_sensitivity", "completeness"])
    assert set(found.refused) == {"gradient"}
    assert "graph is cut" in found.refused["gradient"]
    assert (found.scores["method"] == "own").any()


def test_one_method_may_come_by_itself(model: nn.Module, images: Tensor) -> None:
    several = audit(model, images[:4], ["saliency"], ["class_sensitivity"])
    for one in ("saliency", sl.catalogue()["saliency"]):
        pd.testing.assert_frame_equal(audit(model, images[:4], one, ["class_sensitivity"]).scores, several.scores)


@pytest.mark.slow
def test_each_damaged_file_of_scores_is_computed_again(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    def ask() -> sl.Audit:
        return audit(model, images[:6], ["gradient"], ["class_sensitivity", "stability"], folder=tmp_path, block=3)

    first = ask()
    files = {file: file.read_bytes() for file in (tmp_path / "scores").iterdir()}
    for file, content in files.items():
        middle = len(content) // 2
        turned = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for damaged in (content[:middle], b"", content.splitlines(True)[0], None, turned):
            if file.name == "audit-identity.json" and damaged == turned:
                # Another identity, which is refused.
                continue
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            assert ask().scores.equals(first.scores), (file.name, damaged)
            assert file.read_bytes() == content, file.name


def test_scores_of_other_images_are_not_taken_where_the_identity_is_lost(
    model: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    for rows in (images[:6], images[6:12]):
        found = audit(model, rows, ["gradient"], ["class_sensitivity"], folder=tmp_path)
        assert found.scores.equals(audit(model, rows, ["gradient"], ["class_sensitivity"]).scores)
        (tmp_path / "scores" / "audit-identity.json").unlink()
