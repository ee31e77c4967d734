"""The convergence of relevance against matrix chains in numpy, torch's own gradients and backwards written by hand."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

import sightline as sl
from sightline.evaluation import _convergence as module
from sightline.evaluation._convergence import LOGITS, LOST, Convergence, chance, convergence, csc, random_vectors
from sightline.models import ModelInfo, Preprocessing
from sightline.operations import INPUT

pytestmark = pytest.mark.usefixtures("one_thread")


def by_hand(drawn: list[np.ndarray]) -> float:
    """The median |cos| over positions and pairs of arrays of shape (channel, ...), position by position."""
    rows = [one.reshape(len(one), -1).T for one in drawn]
    found = [
        abs(x @ y) / np.linalg.norm(x) / np.linalg.norm(y)
        for first, second in combinations(rows, 2)
        for x, y in zip(first, second, strict=True)
        if x.any() and y.any()
    ]
    return float(np.median(found)) if found else np.nan


def series(found: Convergence, method: str, image: int = 0) -> dict[str, float]:
    rows = found.values.query("method == @method and image == @image")
    return dict(zip(rows["layer"], rows["csc"], strict=True))


def vectors(image: Tensor, count: int, draws: int = 5, seed: int = 0) -> np.ndarray:
    return random_vectors(image, (count,), draws, seed).numpy()


def positive_chain(depth: int, width: int = 6, classes: int = 4) -> tuple[nn.Module, list[np.ndarray]]:
    rng = np.random.default_rng(depth)
    weights = [rng.uniform(0, 1, (width, width)) for _ in range(depth)] + [rng.uniform(0, 1, (classes, width))]
    layers: list[nn.Module] = [nn.Flatten()]
    for weight in weights:
        layers += [nn.Linear(*weight.shape[::-1], bias=False), nn.ReLU()]
        layers[-2].weight.data = torch.from_numpy(weight)
    return nn.Sequential(*layers[:-1]).double().eval(), weights


def test_chains_of_positive_matrices_in_numpy_and_that_they_converge() -> None:
    model, weights = positive_chain(12)
    images = torch.rand(2, 6, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected: dict[str, list[float]] = {}
    names = [str(2 + 2 * i) for i in range(12)]
    found = convergence(model, images, ["lrp_z_plus", "gradient"], layers=names)
    for image in range(2):
        x = [images[image].flatten().numpy()]
        for weight in weights[:-1]:
            x.append(weight @ x[-1])
        seeds = list(vectors(images[image], 4))
        relevance, gradient = seeds, seeds
        for layer, weight, values in zip([INPUT, *names][::-1], weights[::-1], x[::-1], strict=True):
            relevance = [values * (weight.T @ (r / (weight @ values))) for r in relevance]
            gradient = [weight.T @ g for g in gradient]
            assert series(found, "lrp_z_plus", image)[layer] == pytest.approx(by_hand(relevance), abs=1e-5)
            assert series(found, "gradient", image)[layer] == pytest.approx(by_hand(gradient), abs=1e-12)
            expected.setdefault(layer, []).append(by_hand(gradient))
        for method in ("lrp_z_plus", "gradient"):
            values = list(series(found, method, image).values())
            assert values[0] < 0.99 < values[-1]
            assert values[-1] == pytest.approx(1, abs=1e-6)
    assert found.lost_at("gradient") == next(layer for layer, each in expected.items() if np.mean(each) > 0.99)
    table = found.values
    columns = ["method", "start", "layer", "depth", "image", "csc", "csc_signed", "chance", "layer_cosine"]
    assert table.columns.tolist() == columns
    assert set(table["start"]) == {LOGITS}
    assert table["method"].tolist() == ["lrp_z_plus"] * 26 + ["gradient"] * 26
    assert table["layer"].tolist()[:26:2] == [*names[::-1], INPUT]
    assert table["image"].tolist() == [0, 1] * 26
    assert table["depth"].tolist() == [depth for depth in range(13) for _ in range(2)] * 2
    # The logits span no more than four of six dimensions.
    assert set(table["chance"]) == {chance(4)}


def test_rotations_lose_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(5, 5) for _ in range(6))).double().eval()
    for layer in model[1:]:
        nn.init.orthogonal_(layer.weight)
    image = torch.randn(1, 5, 1, 1, dtype=torch.float64)
    found = convergence(model, image, "gradient", draws=7)
    expected = by_hand(list(vectors(image[0], 5, draws=7)))
    assert list(series(found, "gradient")) == ["5", "4", "3", "2", "1", "0", INPUT]
    np.testing.assert_allclose(found.values["csc"], expected, rtol=1e-12)
    assert found.lost_at("gradient") is None


class Convolutional(nn.Module):
    """Two convolutions and a dense layer."""

    def __init__(self, channels: int = 5) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one, self.two = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 7, 3, stride=2)
        self.dense = nn.Linear(7 * 9, 4)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        self.first = self.one(x)
        self.second = self.two(F.relu(self.first))
        return self.dense(torch.flatten(F.relu(self.second), 1))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_gradients_are_torchs_own(images: Tensor) -> None:
    model = Convolutional()
    found = convergence(model, images, ["gradient"], draws=4, seed=9)
    for image in range(3):
        x = images[image : image + 1].clone().requires_grad_()
        output = model(x)
        places = [model.second, model.first, x]
        drawn = [
            torch.autograd.grad(output, places, torch.from_numpy(v)[None], retain_graph=True)
            for v in vectors(images[image], 4, 4, 9)
        ]
        expected = [by_hand([one[0].numpy() for one in each]) for each in zip(*drawn, strict=True)]
        assert list(series(found, "gradient", image)) == ["two", "one", INPUT]
        np.testing.assert_allclose(list(series(found, "gradient", image).values()), expected, rtol=1e-10)


@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "deconvnet"])
def test_backwards_written_by_hand(images: Tensor, method: str) -> None:
    model = Convolutional()

    def rectified(signal: Tensor, h: Tensor) -> Tensor:
        kept = signal if method == "gradient" else torch.where(signal > 0, signal, 0)
        return kept if method == "deconvnet" else torch.where(h > 0, kept, 0)

    found = convergence(model, images, [method])
    for image in range(3):
        x = images[image : image + 1]
        with torch.no_grad():
            model(x)
        h1, h2 = model.first, model.second
        drawn = []
        for v in vectors(images[image], 4):
            at_two = rectified((torch.from_numpy(v) @ model.dense.weight).view_as(h2), h2)
            at_one = rectified(conv2d_input(h1.shape, model.two.weight, at_two, stride=2), h1)
            at_input = conv2d_input(x.shape, model.one.weight, at_one, padding=1)
            drawn.append([signal[0].detach().numpy() for signal in (at_two, at_one, at_input)])
        expected = [by_hand(list(each)) for each in zip(*drawn, strict=True)]
        np.testing.assert_allclose(list(series(found, method, image).values()), expected, rtol=1e-10)


def signed_by_hand(drawn: list[np.ndarray]) -> float:
    """The median cosine over positions and pairs of arrays of shape (channel, ...), with its sign."""
    rows = [one.reshape(len(one), -1).T for one in drawn]
    pairs = [pair for first, second in combinations(rows, 2) for pair in zip(first, second, strict=True)]
    return float(np.median([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in pairs]))


def test_random_relevance_begins_at_inner_layers_too(images: Tensor) -> None:
    """Vectors of each start's own shape, sent down in numpy: z+ through one convolution of one pixel and another.

    R_in[i, p] = x[i, p] sum_j w_ji^+ R[j, p] / (sum_i x[i, p] w_ji^+) for x >= 0, at each position by itself.
    """
    torch.manual_seed(2)
    one, two, head = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 4, 1), nn.Linear(4 * 64, 3)
    layers = [one, nn.ReLU(inplace=True), two, nn.ReLU(inplace=True)]
    model = nn.Sequential(*layers, nn.Flatten(), head).double().eval()
    pixels = images.abs()
    found = convergence(model, pixels, ["lrp_z_plus", "gradient"], layers=["0", "2"], start=["2", "0", LOGITS])
    table = found.values
    assert table["start"].drop_duplicates().tolist() == ["2", "0", LOGITS]
    for image in range(3):
        x = pixels[image].flatten(1).numpy()
        w1, w2 = (layer.weight.detach().numpy()[:, :, 0, 0] for layer in (one, two))
        before = w1 @ x + one.bias.detach().numpy()[:, None]
        h = np.maximum(before, 0)

        def z_plus(values: np.ndarray, weight: np.ndarray, relevance: np.ndarray) -> np.ndarray:
            kept = np.maximum(weight, 0)
            return values * (kept.T @ (relevance / (kept @ values + 1e-6)))

        at_two = list(random_vectors(pixels[image], (4, 8, 8), 5, 0, "2").flatten(2).numpy())
        at_one = list(random_vectors(pixels[image], (5, 8, 8), 5, 0, "0").flatten(2).numpy())
        expected = {
            ("lrp_z_plus", "2", "0"): [z_plus(h, w2, r) for r in at_two],
            ("lrp_z_plus", "2", INPUT): [z_plus(x, w1, z_plus(h, w2, r)) for r in at_two],
            ("lrp_z_plus", "0", INPUT): [z_plus(x, w1, r) for r in at_one],
            ("gradient", "2", "0"): [(before > 0) * (w2.T @ r) for r in at_two],
            ("gradient", "2", INPUT): [w1.T @ ((before > 0) * (w2.T @ r)) for r in at_two],
            ("gradient", "0", INPUT): [w1.T @ r for r in at_one],
        }
        rows = table.query("image == @image").set_index(["method", "start", "layer"])
        assert set(rows.index) == {*expected, *((m, LOGITS, n) for m in found.values["method"] for n in "20"), *(
            (m, LOGITS, INPUT) for m in found.values["method"]
        )}  # fmt: skip
        for key, drawn in expected.items():
            live = drawn[0].any(0)
            kept = [one[:, live] for one in drawn]
            assert rows.loc[key, "csc"] == pytest.approx(by_hand(kept), abs=1e-9)
            assert rows.loc[key, "csc_signed"] == pytest.approx(signed_by_hand(kept), abs=1e-9)
        assert rows.loc[("gradient", "2", INPUT), "chance"] == chance(3)
    logits = convergence(model, pixels, ["lrp_z_plus"], layers=["0", "2"]).values
    from_logits = table.query("method == 'lrp_z_plus' and start == @LOGITS").reset_index(drop=True)
    np.testing.assert_allclose(from_logits["csc"], logits["csc"], rtol=1e-12)
    assert found.lost_at("gradient", "2") is None
    with pytest.raises(sl.InputError, match="'3' was not asked for"):
        found.lost_at("gradient", "3")


def test_a_sign_tells_a_line_from_a_direction() -> None:
    """Draws along one line, some of them the other way: |cos| is 1, and the cosines of 4 of 6 pairs are -1."""
    direction = torch.tensor([1.0, -2.0, 0.5]).view(1, 1, 3, 1)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1)
    assert csc(signs * direction) == pytest.approx([1])
    assert csc(signs * direction, signed=True) == pytest.approx([-1])
    assert csc(direction.expand(4, 1, 3, 1), signed=True) == pytest.approx([1])


def test_a_start_is_a_layer_with_vectors_that_depends_on_the_image(images: Tensor) -> None:
    with pytest.raises(sl.InputError, match="no layer 'nine'"):
        convergence(Convolutional(), images, ["gradient"], start="nine")
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(64, 5), nn.Flatten(), nn.Linear(15, 3)).double().eval()
    with pytest.raises(sl.RefusalError, match=r"'1'.*\(3, 3, 5\)"):
        convergence(tokens, images, ["gradient"], start="1")


def test_chance() -> None:
    assert chance(1) == 1
    # The angle in the plane is uniform; in space its cosine is.
    assert chance(2) == pytest.approx(np.cos(np.pi / 4), rel=1e-12)
    assert chance(3) == pytest.approx(0.5, rel=1e-12)
    rng = np.random.default_rng(0)
    for dimension in (2, 5, 64):
        a, b = rng.standard_normal((2, 100_000, dimension))
        drawn = np.abs((a * b).sum(1)) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert chance(dimension) == pytest.approx(np.median(drawn), rel=0.02)


def test_one_channel_or_one_logit_says_nothing(images: Tensor) -> None:
    torch.manual_seed(0)
    narrow = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).double()  # fmt: skip
    found = convergence(narrow.eval(), images[:, :1], ["gradient"])
    means = found.values.groupby("layer")["csc"].mean()
    assert means["2"] == pytest.approx(1)
    assert means[INPUT] == pytest.approx(1)
    assert set(found.values.query("layer in ('2', '<input>')")["chance"]) == {1.0}
    assert means["0"] < LOST
    assert found.lost_at("gradient") is None
    single = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1)).double().eval()
    found = convergence(single, images, ["gradient"])
    np.testing.assert_allclose(found.values["csc"], 1)
    assert set(found.values["chance"]) == {1.0}
    assert found.lost_at("gradient") is None


def test_where_nothing_arrives_there_is_no_number(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)).double().eval()
    image = images[:1].clone()
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
        image[0, :, 0, :2] = 1000 * model[0].weight[0, :, 0, 0, None]
    found = convergence(model, torch.cat([image, images[1:2]]), ["gradient", "guided_backprop"])
    # Two positions of the first image are open, none of the second.
    assert 0 < series(found, "gradient", 0)[INPUT] <= 1
    assert np.isnan(series(found, "gradient", 1)[INPUT])
    x = image.clone().requires_grad_()
    output = model(x)
    drawn = [
        torch.autograd.grad(output, x, torch.from_numpy(v)[None], retain_graph=True)[0][0].numpy()
        for v in vectors(image[0], 5)
    ]
    assert np.count_nonzero(drawn[0].any(0)) == 2
    assert series(found, "gradient", 0)[INPUT] == pytest.approx(by_hand(drawn))
    silent = convergence(model, images[1:2], ["gradient"])
    assert silent.lost_at("gradient") is None
    with torch.no_grad():
        model[3].weight.zero_()
    assert convergence(model, image, ["gradient"]).values["csc"].isna().all()


def test_tiny_signals_keep_their_angle(images: Tensor) -> None:
    model = Convolutional().float()
    before = convergence(model, images.float(), ["gradient"]).values["csc"]
    with torch.no_grad():
        model.dense.weight.mul_(1e-30)
    after = convergence(model, images.float(), ["gradient"]).values["csc"]
    np.testing.assert_allclose(after, before, rtol=1e-4)


def test_methods_that_follow_no_propagation_to_the_input_are_refused_with_the_reason(images: Tensor) -> None:
    asked = ["grad_cam", "gradient", "lrp_epsilon@one", "guided_grad_cam", "smooth_grad", "integrated_gradients"]
    found = convergence(Convolutional(), images, asked)
    assert set(found.values["method"]) == {"gradient"}
    assert list(found.refused) == [name for name in asked if name != "gradient"]
    assert "propagates nothing" in found.refused["grad_cam"]
    assert all(fact in found.refused["lrp_epsilon@one"] for fact in ("at one", "propagates nothing"))
    assert "product" in found.refused["guided_grad_cam"]
    assert "many inputs" in found.refused["smooth_grad"]
    with pytest.raises(sl.RefusalError, match=r"grad_cam.*propagates nothing"):
        found.lost_at("grad_cam")
    with pytest.raises(sl.InputError, match=r"gradien\b.*gradient\b"):
        found.lost_at("gradien")
    alone = convergence(Convolutional(), images, ["grad_cam"])
    assert alone.values.empty
    assert alone.values.columns.tolist() == found.values.columns.tolist()


def test_a_propagation_without_a_rule_is_refused_and_the_others_go_on(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 3)).double().eval()
    found = convergence(model, images, ["lrp_epsilon", "gradient", "guided_backprop", "deep_taylor"])
    assert set(found.values["method"]) == {"gradient"}
    assert "sigmoid in 1" in found.refused["lrp_epsilon"]
    assert set(found.refused) == {"lrp_epsilon", "guided_backprop", "deep_taylor"}


def test_methods_of_one_propagation_share_its_numbers_and_the_start_is_not_theirs(images: Tensor) -> None:
    """Deep Taylor and Excitation Backprop are z+ from another start, but for Deep Taylor's rule at the image."""
    model = Convolutional()
    model.sightline_info = ModelInfo(
        spec="test", preprocessing=Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.05,) * 3), weights=""
    )
    asked = [
        "lrp_z_plus",
        "deep_taylor",
        "excitation_backprop",
        "saliency",
        "gradient",
        "contrastive_excitation_backprop",
    ]
    found = convergence(model, images, asked)
    assert not found.refused
    table = found.values.pivot_table(index=["depth", "layer", "image"], columns="method", values="csc")
    np.testing.assert_allclose(table["excitation_backprop"], table["lrp_z_plus"], rtol=1e-12)
    np.testing.assert_allclose(table["deep_taylor"][:6], table["lrp_z_plus"][:6], rtol=1e-12)
    assert not np.allclose(table["deep_taylor"][6:], table["lrp_z_plus"][6:], atol=1e-3)
    assert (table["saliency"] == table["gradient"]).all()
    assert not np.allclose(table["contrastive_excitation_backprop"], table["excitation_backprop"], atol=1e-2)


def test_every_propagation_of_the_catalogue_is_followed(images: Tensor) -> None:
    model = Convolutional()
    model.sightline_info = ModelInfo(
        spec="test", preprocessing=Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.05,) * 3), weights=""
    )
    known = {row.propagation: row for row in sl.catalogue().values() if row.times is None}
    rows = [sl.Method(propagation=propagation, name=propagation.name) for propagation in known]
    found = convergence(model, images, rows)
    assert not found.refused
    assert list(dict.fromkeys(found.values["method"])) == [row.name for row in rows]
    known_values = found.values["csc"].dropna()
    assert known_values.between(0, 1 + 1e-12).all()
    assert len(known_values) > 0.9 * len(found.values)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)) + x)


def test_layers_that_all_ways_pass_are_read_evenly() -> None:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def layers(count: int) -> list[str]:
        body = nn.Sequential(*(Block(4) for _ in range(count)))
        model = nn.Sequential(stem, body, head).double().eval()
        found = [convergence(model, image, [method]) for method in ("gradient", "lrp_epsilon")]
        first, second = (list(series(one, name)) for one, name in zip(found, ("gradient", "lrp_epsilon"), strict=True))
        # What is read does not depend on what is asked.
        assert first == second
        return first[::-1]

    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    # Neither branches nor a convolution that is one with its batch norm, and each result by its outermost name.
    assert layers(2) == [INPUT, "0.1", "0", "1.0", "1", "2.0", "2.1"]
    many = layers(20)
    assert len(many) == 11
    assert many[:2] == [INPUT, "0.1"]
    assert many[-1] == "2.1"
    steps = np.diff([int(name.partition(".")[2]) for name in many if name.startswith("1.")])
    assert set(steps) <= {2, 3}


def test_named_layers(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    model = model.double().eval()
    found = convergence(model, images, ["gradient", "lrp_epsilon"], layers=["2", "0"])
    assert list(series(found, "gradient")) == ["2", "0", INPUT]
    assert all(fact in found.refused["lrp_epsilon"] for fact in ("lrp_epsilon", "no relevance", "batch norm"))
    assert list(series(convergence(model, images, ["gradient"], layers=[]), "gradient")) == [INPUT]
    with pytest.raises(sl.InputError, match="no layer 'nine'"):
        convergence(model, images, ["gradient"], layers=["nine"])
    with pytest.raises(sl.InputError, match=r"modules.*late"):
        convergence(model, images, ["gradient"], layers=["late"])
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(64, 5), nn.Flatten(), nn.Linear(15, 3)).double().eval()
    with pytest.raises(sl.RefusalError, match=r"'1'.*\(3, 3, 5\)"):
        convergence(tokens, images, ["gradient"], layers=["1"])
    assert list(series(convergence(tokens, images, ["gradient"]), "gradient")) == ["2", INPUT]

    class Cut(Convolutional):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0 * self.two(self.one(x)).detach().sum()

    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.aside = Convolutional(), nn.Conv2d(3, 2, 1).double()

        def forward(self, x: Tensor) -> Tensor:
            self.aside(x)
            return self.body(x)

    found = convergence(Aside().eval(), images, ["gradient"], layers=["aside"])
    assert all(fact in found.refused["gradient"] for fact in ("logits", "'aside'"))
    with pytest.raises(sl.RefusalError, match="runs 2 times"):
        convergence(Cut(), images, ["gradient"], layers=["one"])
    # The logits without what is added to them are one layer below.
    assert list(series(convergence(Cut(), images, ["gradient"]), "gradient")) == ["dense", INPUT]


def test_what_cannot_be_used(images: Tensor) -> None:
    model = Convolutional()
    for methods in ([], ["gradient", "gradient"]):
        with pytest.raises(sl.InputError, match=r"(?i)at least one method"):
            convergence(model, images, methods)
    with pytest.raises(sl.InputError, match=r"draws.*at least 2.*1"):
        convergence(model, images, ["gradient"], draws=1)
    with pytest.raises(sl.InputError, match=r"Images.*batch, channel, height, width"):
        convergence(model, images[0], ["gradient"])
    with pytest.raises(sl.RefusalError, match="not class scores"):
        convergence(model.one, images, ["gradient"])


def test_an_images_numbers_are_its_own_and_the_model_stays(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Convolutional()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    methods = ["gradient", "lrp_epsilon"]
    whole = convergence(model, images, methods).values
    turned = convergence(model, images.flip(0), methods).values
    np.testing.assert_allclose(turned.query("image == 2")["csc"], whole.query("image == 0")["csc"], rtol=1e-10)
    monkeypatch.setattr(module, "first_chunk", lambda row: 2)
    np.testing.assert_allclose(convergence(model, images, methods).values["csc"], whole["csc"], rtol=1e-10)
    assert not np.allclose(convergence(model, images, methods, seed=1).values["csc"], whole["csc"], rtol=1e-3)
    with torch.inference_mode():
        np.testing.assert_allclose(convergence(model, images, methods).values["csc"], whole["csc"], rtol=1e-10)
    assert not images.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    alone = convergence(lambda x: model(x), images, methods).values
    np.testing.assert_allclose(alone["csc"], whole.query("layer == @INPUT")["csc"], rtol=1e-10)


def test_a_trained_network(data_dir: Path, networks_file: Path) -> None:
    model = sl.load_model(f"{networks_file}:resnet20_cifar", weights=data_dir / "weights" / "resnet20_cifar10.pt")
    images = sl.load_images(data_dir / "images" / "cifar10" / "val", model)[:6]
    methods = ["gradient", "lrp_epsilon", "lrp_alpha2_beta1", "lrp_z_plus", "deep_taylor", "excitation_backprop"]
    found = convergence(model, images, methods)
    assert [found.lost_at(method) is None for method in methods] == [True] * 3 + [False] * 3
    # z+ has arrived at rank one long before the image, as Sixt et al. find it in other networks.
    assert found.lost_at("lrp_z_plus") not in {None, INPUT}


def test_whole_layers_are_compared_too() -> None:
    """Where every position has lost its channels, how much each gets may still tell the class."""
    rng = np.random.default_rng(5)
    strengths, direction = rng.uniform(1, 2, size=(3, 1, 6, 1)), rng.normal(size=(1, 1, 1, 4))
    signals = torch.from_numpy(np.swapaxes(strengths * direction, 2, 3))
    assert csc(signals) == pytest.approx([1.0])
    flat = signals.flatten(1).numpy()
    pairs = [
        abs(flat[a] @ flat[b]) / np.linalg.norm(flat[a]) / np.linalg.norm(flat[b]) for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert csc(signals.flatten(2)) == pytest.approx([np.median(pairs)])
    assert max(pairs) < 1
