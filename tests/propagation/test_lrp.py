"""Relevance in explanations: its books, its settings, several targets at once, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import InputTimesSignal
from sightline.methods import card
from sightline.propagation import (
    Propagation,
    deep_taylor,
    epsilon_gamma_box,
    epsilon_plus,
    lrp_0,
    lrp_alpha_beta,
    lrp_epsilon,
    lrp_gamma,
    rect_grad,
)
from sightline.sampling import Noise
from sightline.sampling import Path as LinePath


class Net(nn.Module):
    """Convolutions with and without batch norm, a skip, pooling, a constant added, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(F.relu(self.conv2(x) + x) + 0.25, 2)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    net = Net().double().eval()
    net.bn1.running_mean.normal_()
    net.bn1.running_var.uniform_(0.5, 2)
    return net


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


RELEVANCE = [name for name, row in sl.catalogue().items() if row.propagation.relevance]
ROWS = [
    sl.Method(propagation=RANGED[name], name=name) if name in (RANGED := {
        "lrp_epsilon_gamma_box": epsilon_gamma_box(-1.0, 1.0), "deep_taylor": deep_taylor(-1.0, 1.0)
    }) else name
    for name in RELEVANCE
]  # fmt: skip


def test_the_books_balance(model: nn.Module, images: Tensor) -> None:
    """What set out is what arrived, plus what each operation did not hand on."""
    books = sl.explain(model, images, ROWS, 1).checks.conservation
    assert set(books) == set(RELEVANCE)
    for name, kept in books.items():
        received, sent, _ = kept.amounts.unbind(2)
        lost = (received - sent).sum(0)
        torch.testing.assert_close(kept.start, kept.arrived + lost, rtol=1e-9, atol=1e-9, msg=name)
        assert abs(sum(kept.lost.values()) - 1) < 1e-9


def test_what_biases_take_is_told(images: Tensor) -> None:
    """One layer by hand: y = W x + b, of which b_c / y_c goes to the bias under LRP-0."""
    torch.manual_seed(3)
    layer = nn.Linear(3 * 64, 2).double()
    model = nn.Sequential(nn.Flatten(), layer).eval()
    explanation = sl.explain(model, images, "lrp_0", 1)
    kept = explanation.checks.conservation["lrp_0"]
    torch.testing.assert_close(kept.amounts[0, :, 2], layer.bias[1].detach().expand(3))
    torch.testing.assert_close(kept.arrived, explanation.values - layer.bias[1].detach())
    assert kept.operations == ("linear in 1",)


def test_a_constant_takes_its_share_of_a_sum(images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 1, bias=False), Plus(2.0)).double().eval()
    explanation = sl.explain(model, images, "lrp_0", 0)
    torch.testing.assert_close(explanation["lrp_0"].flatten(1).sum(1), explanation.values - 2.0)
    torch.testing.assert_close(
        explanation.checks.conservation["lrp_0"].amounts[0, :, 2], torch.full((3,), 2.0, dtype=torch.float64)
    )


def test_what_a_rule_promises_is_held_against_it() -> None:
    """Two layers by hand: what each rule of the catalogue hands on of the value, with biases and without.

    x = (1, 2), h = (x1 + x2 - 1, -x1 - 5), z = 3 h1 + h2 + 1 = 7 after the rectifier, of which the biases hold
    1 of z and -1 of each of three h1: under LRP-0, h1 receives 7 * 6 / 7 = 6 and the image 6 * 3 / 2 = 9.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double().eval()
    images = torch.tensor([1.0, 2.0], dtype=torch.float64).view(1, 2, 1, 1)
    weights = [[[1.0, 1.0], [-1.0, 0.0]], [[3.0, 1.0]]]
    for layer, weight, bias in zip((model[1], model[3]), weights, ([-1.0, -5.0], [1.0]), strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(weight).double(), torch.tensor(bias).double()
    rows = [*RELEVANCE, sl.Method(propagation=lrp_alpha_beta_11(), name="alpha 1 beta 1")]
    rows = [next((row for row in ROWS if getattr(row, "name", "") == name), name) for name in rows]
    rows = [
        sl.Method(propagation=replace_range(row.propagation), name=row.name) if isinstance(row, sl.Method) else row
        for row in rows
    ]
    checks = sl.explain(model, images, rows, 0, output="values").checks
    assert float(checks.conservation["lrp_0"].arrived) == pytest.approx(9)
    # Biases have no part in these, so that the image receives all: 7, or 1 where the probability starts at 1.
    without = {"lrp_z_plus", "lrp_w_squared", "lrp_flat", "deep_taylor", "deep_taylor_w_squared", "excitation_backprop"}
    assert set(checks.completeness) == without
    for name in without:
        start = 1.0 if name == "excitation_backprop" else 7.0
        assert float(checks.conservation[name].start) == start
        assert float(checks.completeness[name]) == pytest.approx(0, abs=1e-4)
    with torch.no_grad():
        model[1].bias.zero_(), model[3].bias.zero_()
    checks = sl.explain(model, images, rows, 0, output="values").checks
    # z = 9; nothing in it is negative, so that alpha 2, beta 1 gives out 2 z at each of the two layers.
    assert set(checks.completeness) == set(RELEVANCE) - {"contrastive_excitation_backprop"}
    missed = {name: float(residual) for name, residual in checks.completeness.items()}
    assert missed.pop("lrp_alpha2_beta1") == pytest.approx(4 * 9 - 9, rel=1e-3)
    assert max(map(abs, missed.values())) < 0.01


def test_a_result_to_which_nothing_contributes_and_a_constant_that_is_added(images: Tensor) -> None:
    """z+ hands nothing on where no contribution is positive, and a constant in a sum receives its share."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 1)).double().eval()
    with torch.no_grad():
        model[1].weight.copy_(-images[:1].flatten(1)), model[1].bias.fill_(100.0)
    checks = sl.explain(model, images[:1], "lrp_z_plus", 0, output="values").checks
    assert float(checks.conservation["lrp_z_plus"].arrived) == 0
    assert float(checks.completeness["lrp_z_plus"]) == pytest.approx(-float(checks.conservation["lrp_z_plus"].start))
    added = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 1), Plus(2.0)).double().eval()
    assert "lrp_z_plus" not in sl.explain(added, images, "lrp_z_plus", 0).checks.completeness


def test_the_card_says_what_is_promised() -> None:
    said = {name: card(sl.catalogue()[name]).adds_up for name in sl.catalogue()}
    assert all("whatever the biases" in said[name] for name in ("lrp_z_plus", "lrp_flat", "deep_taylor_w_squared"))
    assert all("biases" in said[name] and "whatever" not in said[name] for name in ("lrp_0", "lrp_epsilon_plus_flat"))
    assert said["gradient"] == said["grad_cam"] == said["contrastive_excitation_backprop"] == ""
    assert said["excitation_backprop"].startswith("to one")
    assert card(sl.Method(propagation=lrp_epsilon(first="gradient"))).adds_up == ""


def lrp_alpha_beta_11() -> Propagation:
    with pytest.warns(UserWarning, match="not conserve"):
        return lrp_alpha_beta(1.0, 1.0)


def replace_range(propagation: Propagation) -> Propagation:
    """The same for pixels from 0 to 3."""
    if "box" in propagation.name:
        return epsilon_gamma_box(0.0, 3.0)
    return deep_taylor(0.0, 3.0) if "low" in propagation.name else propagation


def test_sums_can_have_a_stabiliser_of_their_own() -> None:
    """y = (x1 + x2) / 2 by average pooling, z = 2 y: epsilon at both, at the layer alone, and 1 at the sum alone.

    x = (1, 3): y = 2, z = 4; y receives 4 * 4 / (4 + e), and x_i receives (x_i / 2) / (2 + s) of that.
    """
    model = nn.Sequential(nn.AvgPool2d((1, 2)), nn.Flatten(), nn.Linear(1, 1, bias=False)).double().eval()
    model[2].weight.data.fill_(2.0)
    images = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 1, 2)
    for epsilon, at_sums, stabiliser in ((0.5, None, 0.5), (0.5, 0.0, 0.0), (0.0, 1.0, 1.0)):
        method = sl.Method(propagation=lrp_epsilon(epsilon, sums_epsilon=at_sums), name="mine")
        found = sl.explain(model, images, method, 0, output="values")["mine"].flatten()
        expected = 16 / (4 + epsilon) / (2 + stabiliser) * images.flatten() / 2
        torch.testing.assert_close(found, expected)
    with pytest.raises(sl.InputError, match="sums_epsilon"):
        lrp_epsilon(sums_epsilon=-1.0)
    assert "sums_epsilon" in card(sl.catalogue()["lrp_epsilon"]).differs


class Plus(nn.Module):
    def __init__(self, constant: float) -> None:
        super().__init__()
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        return x + self.constant


def test_several_targets_are_as_each_alone(model: nn.Module, images: Tensor) -> None:
    methods = ["gradient", "guided_backprop", "grad_cam@conv2", "smooth_grad", "integrated_gradients"]
    methods += [row for row in ROWS if sl.catalogue()[getattr(row, "name", row)].propagation.explains_pairs]
    targets = [None, 2, sl.Pair(1, 3), [0, 1, 2]]
    together = sl.explain(model, images, methods, targets=targets)
    for target, found in zip(targets, together, strict=True):
        alone = sl.explain(model, images, methods, target)
        assert torch.equal(found.values, alone.values)
        assert found.targets == alone.targets
        for name in alone.maps:
            torch.testing.assert_close(found[name], alone[name], rtol=1e-12, atol=1e-15, msg=name)
        for name, kept in alone.checks.conservation.items():
            torch.testing.assert_close(found.checks.conservation[name].amounts, kept.amounts, msg=name)


@pytest.mark.parametrize("targets", [[], "12", 3])
def test_targets_are_a_list(model: nn.Module, images: Tensor, targets: object) -> None:
    with pytest.raises(Exception, match=r"at least one target|targets"):
        sl.explain(model, images, "gradient", targets=targets)  # type: ignore[arg-type]


def test_a_target_that_is_wrong_is_refused_among_others(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(sl.InputError, match="Class 9"):
        sl.explain(model, images, "gradient", targets=[0, 9])


def test_without_the_input_factor_lrp_0_is_the_gradient(model: nn.Module, images: Tensor) -> None:
    bare = sl.Method(propagation=lrp_0(first="gradient"), name="bare")
    explanation = sl.explain(model, images, ["gradient", "input_x_gradient", "lrp_0", bare], 2)
    torch.testing.assert_close(explanation["bare"], explanation["gradient"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(explanation["lrp_0"], explanation["input_x_gradient"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("first", ["gradient", "w_squared", "flat"])
def test_without_the_input_factor_black_pixels_count(model: nn.Module, images: Tensor, first: str) -> None:
    """A pixel of value 0 gets nothing from rules that multiply by it, and something from those that do not."""
    images[:, :, :4] = 0
    method = sl.Method(propagation=epsilon_plus(first=first), name="sees")  # type: ignore[arg-type]
    explanation = sl.explain(model, images, ["lrp_epsilon_plus", method], 2)
    assert not explanation["lrp_epsilon_plus"][:, :, :4].any()
    assert bool((explanation["sees"][:, :, :3] != 0).all())


def test_small_denominators_are_told() -> None:
    """y = x - (1 - 1e-6) at x = 1: the share of x is 1 / 1e-6 of the value, and so it arrives at the layer before."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False), nn.Linear(1, 1)).double().eval()
    model[1].weight.data.fill_(1.0)
    model[2].weight.data.fill_(1.0)
    model[2].bias.data.fill_(-(1 - 1e-6))
    images = torch.tensor([1.0, 3.0], dtype=torch.float64).view(2, 1, 1, 1)
    explanation = sl.explain(model, images, ["lrp_0", "lrp_z_plus"], 0, output="values")
    (note,) = explanation.checks.notes
    assert re.match(r"lrp_0 explodes.*\b1 image.*\bimage 0\b.*linear in 1\b.*1\.0e\+06", note)
    torch.testing.assert_close(
        explanation.checks.conservation["lrp_0"].arrived, torch.tensor([1.0, 3.0]).double(), rtol=1e-9, atol=0
    )


def test_a_range_of_pixels_is_asked_for_and_checked(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match=r"range of a pixel.*deep_taylor\(low="):
        sl.explain(model, images, "deep_taylor", 0)
    narrow = sl.Method(propagation=deep_taylor(-0.5, 0.5), name="narrow")
    with pytest.raises(sl.RefusalError, match=r"range -0\.5 to 0\.5"):
        sl.explain(model, images, narrow, 0)
    wrong = sl.Method(propagation=deep_taylor([0.0, 0.0], [1.0, 1.0]), name="wrong")
    with pytest.raises(sl.InputError, match=r"range of a pixel.*3 channels.*\b2\b"):
        sl.explain(model, images, wrong, 0)
    with pytest.raises(sl.InputError, match="below its highest"):
        deep_taylor(1.0, 0.0)
    with pytest.raises(sl.InputError, match="both ends"):
        epsilon_gamma_box(low=0.0)


def test_inputs_without_a_range_have_deep_taylor_by_name() -> None:
    """Standardised maps of one channel, in the matrix form of Montavon et al. 2017, sections 4.1 and 5.

    h = max(W1 x + b1, 0), z = w2 h: R_h = w2^+ h / (w2^+ h) max(z, 0), R_x = W1^2 / sum_i W1^2 R_h.
    """
    rng = np.random.default_rng(4)
    hidden, bias, out = rng.normal(size=(7, 16)), rng.normal(size=7), rng.normal(size=(1, 7))
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.ReLU(), nn.Linear(7, 1)).double().eval()
    for layer, weight, shift in ((model[1], hidden, bias), (model[3], out, np.zeros(1))):
        layer.weight.data, layer.bias.data = torch.from_numpy(weight), torch.from_numpy(shift)
    maps = rng.normal(size=(20, 1, 4, 4)) * 3
    images = torch.from_numpy(maps)
    with pytest.raises(sl.RefusalError, match=r"deep_taylor_w_squared"):
        sl.explain(model, images, "deep_taylor", 0, output="values")
    unbounded = sl.Method(propagation=deep_taylor(-1.0, 1.0), name="too narrow")
    with pytest.raises(sl.RefusalError, match=r"propagation\.deep_taylor\(low.*deep_taylor_w_squared"):
        sl.explain(model, images, unbounded, 0, output="values")
    found = sl.explain(model, images, "deep_taylor_w_squared", 0, output="values")["deep_taylor_w_squared"]
    signs = set()
    for x, relevance in zip(maps.reshape(20, 16), found.flatten(1).numpy(), strict=True):
        h = np.maximum(hidden @ x + bias, 0)
        value = float(out[0] @ h)
        shares = np.maximum(out[0], 0) * h
        at_hidden = shares / (shares.sum() + 1e-6) * max(value, 0)
        expected = (hidden**2 / ((hidden**2).sum(1, keepdims=True) + 1e-6)).T @ at_hidden
        np.testing.assert_allclose(relevance, expected, rtol=1e-9, atol=1e-12)
        signs.add(value > 0)
    assert signs == {True, False}


def test_a_range_has_no_meaning_for_the_w_squared_rule() -> None:
    with pytest.raises(sl.InputError, match="low and high"):
        deep_taylor(0.0, 1.0, first="w_squared")
    with pytest.raises(sl.InputError, match="flat"):
        deep_taylor(first="flat")


def test_the_range_of_pixels_comes_from_the_models_encoding(tmp_path: Path) -> None:
    """0 and 255 become (0 - mean) / std and (1 - mean) / std in each channel."""
    (tmp_path / "net.py").write_text(
        "import sightline as sl, torch\nfrom torch import nn\n"
        "def build():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))\n"
        "build.preprocessing = sl.Preprocessing(size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1))\n"
    )
    model = sl.load_model(f"{tmp_path}/net.py:build")
    low, high = [-2.0, -2.0, -3.0], [2.0, 3.0, 7.0]
    share = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = torch.tensor(low).view(1, 3, 1, 1) + share * (torch.tensor(high) - torch.tensor(low)).view(1, 3, 1, 1)
    named = sl.Method(propagation=epsilon_gamma_box(low, high), name="named")
    explanation = sl.explain(model, images, ["lrp_epsilon_gamma_box", named], 1)
    torch.testing.assert_close(explanation["lrp_epsilon_gamma_box"], explanation["named"], rtol=1e-4, atol=1e-6)


def test_the_box_asks_for_pixels(images: Tensor) -> None:
    model = nn.Sequential(nn.Tanh(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).double().eval()
    method = sl.Method(propagation=deep_taylor(-1.0, 1.0), name="box")
    with pytest.raises(sl.RefusalError, match=r"pixels.*w_squared or flat"):
        sl.explain(model, images, method, 0)


def test_meaningless_combinations_are_refused_when_made() -> None:
    for changed in ({"aggregation": InputTimesSignal()}, {"sampling": LinePath(steps=3)}):
        with pytest.raises(sl.InputError, match=r"lrp_epsilon.*relevance.*factor"):
            sl.Method(propagation=lrp_epsilon(), **changed)


def test_relevance_under_noise_is_the_mean_of_relevances(model: nn.Module, images: Tensor) -> None:
    noise = Noise(samples=3, sd=0.1)
    method = sl.Method(sampling=noise, propagation=lrp_epsilon(), name="smooth")
    explanation = sl.explain(model, images[:1], method, 1, seed=5)
    from sightline._common.seeds import image_key, seed_of

    points = torch.cat([noise.points(images[:1], [seed_of(5, image_key(images[0]))], [n]).inputs for n in range(3)])
    each = sl.explain(model, points, "lrp_epsilon", 1)
    torch.testing.assert_close(explanation["smooth"][0], each["lrp_epsilon"].mean(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rect_grad(101.0), "percentile.*0 to 100.*101"),
        (lambda: lrp_epsilon(-1.0), "at least 0"),
        (lambda: lrp_epsilon(float("nan")), "at least 0"),
        (lambda: lrp_gamma(-1.0), "gamma.*at least 0"),
        (lambda: lrp_alpha_beta(2, 0), "alpha - beta = 1"),
        (lambda: epsilon_plus(first="nonsense"), "gradient, w_squared, flat, box.*nonsense"),
    ],
)
def test_wrong_settings_are_named(make: object, message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        make()  # type: ignore[operator]


def test_doubtful_settings_warn_and_say_so_with_every_map(model: nn.Module, images: Tensor) -> None:
    with pytest.warns(UserWarning, match="alpha = 1.*beta = 1.*not conserve"):
        printed = lrp_alpha_beta(1, 1)
    with pytest.warns(UserWarning, match=r"LRP-epsilon.*explodes.*-0\.001"):
        unsigned = lrp_epsilon(signed=False)
    methods = [sl.Method(propagation=printed, name="printed"), sl.Method(propagation=unsigned, name="unsigned")]
    notes = sl.explain(model, images, methods, 0).checks.notes
    assert any("not Excitation Backprop" in note for note in notes)
    assert any("has no sign" in note for note in notes)


def test_the_unsigned_stabiliser_by_hand(images: Tensor) -> None:
    torch.manual_seed(3)
    layer = nn.Linear(3 * 64, 2).double()
    model = nn.Sequential(nn.Flatten(), layer).eval()
    with pytest.warns(UserWarning, match="has no sign"):
        method = sl.Method(propagation=lrp_epsilon(0.5, signed=False), name="unsigned")
    explanation = sl.explain(model, images, method, 0)
    x, z = images.flatten(1), explanation.values[:, None]
    torch.testing.assert_close(explanation["unsigned"].flatten(1), x * layer.weight[0] * z / (z + 0.5))


def test_the_books_are_saved(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    explanation = sl.explain(model, images, "lrp_epsilon_plus", 1)
    explanation.save(tmp_path)
    stored = json.loads((tmp_path / "manifest.json").read_text())["methods"]["lrp_epsilon_plus"]["conservation"]
    assert stored["arrived"] == explanation["lrp_epsilon_plus"].flatten(1).sum(1).tolist()
    assert stored["operations"][0]["operation"] == "linear in head"
    assert sum(stored["shares"].values()) == pytest.approx(1)


def test_relevance_at_a_layer_sums_to_what_arrives_there(model: nn.Module, images: Tensor) -> None:
    """By the books: what the first layer receives is the sum of the map at the batch norm it is one with."""
    explanation = sl.explain(model, images, ["lrp_epsilon_plus", "lrp_epsilon_plus@bn1"], 1)
    books = explanation.checks.conservation["lrp_epsilon_plus"]
    first = books.operations.index("batch_norm in bn1")
    assert explanation["lrp_epsilon_plus@bn1"].shape == (3, 1, 8, 8)
    torch.testing.assert_close(explanation["lrp_epsilon_plus@bn1"].flatten(1).sum(1), books.amounts[first, :, 0])


def test_a_layer_that_is_folded_away_is_named(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match=r"epsilon_plus.*\bconv1\b.*batch norm"):
        sl.explain(model, images, "lrp_epsilon_plus@conv1", 1)


def test_little_relevance_is_told() -> None:
    """z = x + 99 at x = 1: a hundredth arrives, the rest is the bias's."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1)).double().eval()
    model[1].weight.data.fill_(1.0)
    model[1].bias.data.fill_(99.0)
    (note,) = sl.explain(model, torch.ones(1, 1, 1, 1).double(), "lrp_0", 0, output="values").checks.notes
    assert re.match(r"lrp_0 keeps 0\.01\b.*\b99%.*biases.*linear in 1\b", note)


@pytest.mark.parametrize("weight", [-0.5, -0.9, -0.99])
def test_growth_at_adds_is_told(weight: float) -> None:
    """x + w x with w < 0, shared in proportion: x / (x + w x) = 1 / (1 + w) times to one, w / (1 + w) to the other."""
    branch, head = nn.Conv2d(1, 1, 1, bias=False).double(), nn.Linear(2, 1, bias=False).double()
    nn.init.constant_(branch.weight, weight)
    nn.init.ones_(head.weight)
    image = torch.tensor([[[[2.0, 4.0]]]], dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        return head(F.relu(x + branch(x)).flatten(1))

    notes = sl.explain(model, image, ["lrp_z_plus", "excitation_backprop", "lrp_epsilon"], 0).checks.notes
    found = [note for note in notes if "terms of both signs" in note]
    factor = f"{(1 - weight) / (1 + weight):.3g}"
    assert all(factor in note for note in found)
    assert {name for name in ("lrp_z_plus", "excitation_backprop") if any(name in note for note in found)} == {
        "lrp_z_plus", "excitation_backprop"
    }  # fmt: skip
    assert not any("lrp_epsilon" in note.split(":")[0] for note in found)


def test_terms_of_one_sign_are_no_growth() -> None:
    branch, head = nn.Conv2d(1, 1, 1, bias=False).double(), nn.Linear(2, 1, bias=False).double()
    nn.init.constant_(branch.weight, 0.5)
    nn.init.ones_(head.weight)
    image = torch.tensor([[[[2.0, 4.0]]]], dtype=torch.float64)
    explanation = sl.explain(lambda x: head(F.relu(x + branch(x)).flatten(1)), image, "lrp_z_plus", 0)
    assert not [note for note in explanation.checks.notes if "both signs" in note]


@pytest.mark.parametrize(("method", "advised"), [("lrp_epsilon_plus", False), ("lrp_z_plus", False), ("lrp_0", True)])
def test_a_note_does_not_recommend_the_method_itself(method: str, advised: bool) -> None:
    """Two skips that nearly cancel, one behind the other."""
    conv, head = nn.Conv2d(1, 1, 1, bias=False).double(), nn.Linear(4, 1, bias=False).double()
    nn.init.constant_(conv.weight, -0.9999)
    nn.init.ones_(head.weight)
    image = torch.rand(1, 1, 2, 2, dtype=torch.float64) + 1

    def model(x: Tensor) -> Tensor:
        x = x + conv(x)
        return head((x + conv(x)).flatten(1))

    (note,) = [n for n in sl.explain(model, image, method, 0).checks.notes if "explodes" in n]
    assert ("lrp_epsilon_plus" in note.removeprefix(method)) is advised
    assert "larger epsilon" in note
