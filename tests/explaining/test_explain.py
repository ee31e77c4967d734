"""The contracts of `explain`: the model untouched, a target per image, maps that depend on nothing they should not."""

import copy
import gc
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import CAM
from sightline.explaining import as_target
from sightline.explaining._chunks import Chunks
from sightline.explaining._network import Network
from sightline.explaining._planner import Job
from sightline.propagation import GUIDED_BACKPROP, deep_taylor, epsilon_gamma_box
from sightline.sampling import Expected, Noise

ALL = list(sl.catalogue())
# Pixels of these tests lie between 0 and 1, which nothing tells the two methods that ask for it.
RANGED = {"lrp_epsilon_gamma_box": epsilon_gamma_box(0.0, 1.0), "deep_taylor": deep_taylor(0.0, 1.0)}
REFERENCES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(3))
EVERY = [replace(row, propagation=RANGED[name]) if name in RANGED else row for name, row in sl.catalogue().items()]
EVERY[ALL.index("expected_gradients")] = replace(
    sl.catalogue()["expected_gradients"], sampling=Expected(samples=5, references=REFERENCES)
)

# The tests check annotations at run time; users do not, and must get a sentence all the same.
unchecked = inspect.unwrap(sl.explain)


class Net(nn.Module):
    """A small network with all that a careless pass could change: BatchNorm, in-place ReLU, dropout, a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.conv2(x) + x)
        return self.head(self.drop(x.mean((2, 3))))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    net = Net().eval()
    net.bn1.running_mean.normal_()
    return net


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def _state(model: nn.Module) -> Iterator[object]:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        yield name, id(tensor), tensor.detach().clone(), tensor.requires_grad, tensor.grad, dict(vars(tensor))
    for name, module in model.named_modules():
        hooks = [v for k, v in vars(module).items() if "hooks" in k]
        yield name, type(module), module.training, getattr(module, "inplace", None), copy.deepcopy(hooks)
        yield sorted(vars(module)), list(nn.modules.module._global_forward_hooks)


def _same(before: object, after: object) -> bool:
    if isinstance(before, Tensor):
        return isinstance(after, Tensor) and torch.equal(before, after)
    if isinstance(before, tuple | list):
        return len(before) == len(after) and all(map(_same, before, after))
    return before == after


@pytest.mark.parametrize("failing", [False, True], ids=["", "after an exception"])
def test_the_model_comes_back_untouched(model: nn.Module, images: Tensor, failing: bool) -> None:
    model.conv1.weight.grad = torch.ones_like(model.conv1.weight)
    model.conv2.bias.requires_grad_(False)
    before = list(_state(model))
    state = torch.get_rng_state()
    given = images.clone()
    if failing:
        with pytest.raises(ZeroDivisionError):
            sl.explain(model, images, EVERY, lambda output: output[:, 0] / 0 if 1 // 0 else output)
    else:
        sl.explain(model, images, EVERY)
    assert _same(before, list(_state(model)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(given, images)
    assert not images.requires_grad


def test_an_exception_within_the_model_leaves_it_untouched_too(model: nn.Module) -> None:
    before = list(_state(model))
    with pytest.raises(sl.InputError, match=r"fails.*\bconv1\b.*\(1, 5, 8, 8\)"):
        sl.explain(model, torch.rand(1, 5, 8, 8), EVERY)
    assert _same(before, list(_state(model)))


def test_one_image_a_batch_and_another_order_give_the_same_maps(model: nn.Module, images: Tensor) -> None:
    """Noise included: it is named by an image's content, not by its place."""
    model, images = model.double(), images.double()
    together = sl.explain(model, images, EVERY, [0, 1, 2, 3, 0])
    for index in (0, 3):
        alone = sl.explain(model, images[index : index + 1], EVERY, [[0, 1, 2, 3, 0][index]])
        for name in ALL:
            torch.testing.assert_close(alone[name][0], together[name][index], rtol=1e-10, atol=1e-14)
    turned = sl.explain(model, images.flip(0), EVERY, [0, 3, 2, 1, 0], chunk=3)
    for name in ALL:
        torch.testing.assert_close(turned[name].flip(0), together[name], rtol=1e-10, atol=1e-14)


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_noise(model: nn.Module, images: Tensor) -> None:
    first, again = (sl.explain(model, images, EVERY, seed=7, chunk=4) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in ALL)
    other = sl.explain(model, images, ["smooth_grad", "gradient"], seed=8, chunk=4)
    assert torch.equal(other["gradient"], first["gradient"])
    assert not torch.allclose(other["smooth_grad"], first["smooth_grad"])


def test_a_target_per_image(model: nn.Module, images: Tensor) -> None:
    targets = [3, 0, 2, 2, 1]
    together = sl.explain(model, images, "gradient", targets)["gradient"]
    for form in (torch.tensor(targets), np.array(targets), tuple(targets)):
        assert torch.equal(sl.explain(model, images, "gradient", form)["gradient"], together)
    for index, target in enumerate(targets):
        alone = sl.explain(model, images, "gradient", target)["gradient"][index]
        torch.testing.assert_close(alone, together[index])
    predicted = sl.explain(model, images, "gradient")
    labels = model(images).argmax(1)
    assert torch.equal(predicted.predicted, labels)
    torch.testing.assert_close(predicted.values, model(images).amax(1))
    torch.testing.assert_close(predicted.probabilities, F.softmax(model(images), 1).amax(1).detach())
    assert torch.equal(predicted["gradient"], sl.explain(model, images, "gradient", labels)["gradient"])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([0, 1], "5 image.*2 class"),
        ([0, 1, 2, 3, 4], r"Class 4\b.*\b4 outputs.*\b0 to 3\b"),
        (4, "Class 4"),
        (-1, r"integers.*\b0\b.*-1\b"),
        (1.5, "got 1.5"),
        ([0, 1, 2, 3, 0.5], "integers"),
        (torch.tensor([0.0] * 5), "integers"),
        ("cat", "no class named 'cat'"),
        (sl.Pair(1, 9), r"\(1, 9\).*\b4 outputs"),
        (sl.Pair([1, 9, 0, 1, 1], [0, 0, 1, 0, 0]), r"\[1, 9, 0, 1, 1\].*\b4 outputs"),
        (sl.Pair([1, 0], [0, 1]), r"pair.*\b5 image.*\b2 class"),
        (sl.Unit("conv2", 6), r"conv2.*\b6 channels.*channel 6\b"),
        (sl.Unit("conv9", 0), "no layer 'conv9'"),
        (10**30, r"integers.*\b0\b.*10{30}"),
        (sl.Unit("conv2", 1, (99, 99)), r"conv2.*\(7, 7\).*\(99, 99\)"),
        (sl.Direction("conv2", torch.ones(3)), "direction of shape"),
    ],
)
def test_wrong_targets_are_refused_in_a_sentence(model: nn.Module, images: Tensor, target, message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        unchecked(model, images, "gradient", target)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 8, 8), r"batch, channel, height, width.*image\[None\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floating point"),
        (torch.full((2, 3, 8, 8), float("nan")), "not finite"),
        (torch.rand(0, 3, 8, 8), r"none.*0.*\(0, 3, 8, 8\)"),
        (np.zeros((1, 3, 8, 8)), "got ndarray"),
    ],
)
def test_wrong_images_are_refused_in_a_sentence(model: nn.Module, images, message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        unchecked(model, images, "gradient")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("gradint", r"gradint\b.*\bgradient\b"),
        ([], "none came"),
        (["gradient", "gradient"], "gradient came twice"),
        ([3], "got 3"),
        ("gradient@conv1", "reads no layer"),
    ],
)
def test_wrong_methods_are_refused_in_a_sentence(model: nn.Module, images: Tensor, methods, message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        unchecked(model, images, methods)


def test_training_mode_is_refused_before_it_changes_anything(model: nn.Module, images: Tensor) -> None:
    before = model.bn1.running_mean.clone()
    model.drop.p = 0.0
    with pytest.raises(sl.RefusalError, match=r"batch_norm.*\bbn1\b.*training.*model\.eval\(\)"):
        sl.explain(model.train(), images, "gradient")
    assert torch.equal(model.bn1.running_mean, before)
    model.bn1.eval()
    model.drop.p = 0.5
    with pytest.raises(sl.RefusalError, match="dropout in drop"):
        sl.explain(model, images, "gradient")


class Returns(nn.Module):
    def __init__(self, inner: nn.Module, form) -> None:
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, x: Tensor):
        return self.form(self.inner(x))


def test_outputs_of_every_form(model: nn.Module, images: Tensor) -> None:
    image_classifier_output = pytest.importorskip("transformers.modeling_outputs").ImageClassifierOutput

    expected = sl.explain(model, images, "guided_backprop", 2)["guided_backprop"]
    forms = {
        "dict": lambda z: {"logits": z, "features": z * 2},
        "dict, one tensor": lambda z: {"scores": z},
        "ModelOutput": lambda z: image_classifier_output(logits=z),
        "tuple": lambda z: (z, z.new_zeros(7, 2)),
        "one position": lambda z: z[:, :, None, None],
    }
    for form in forms.values():
        found = sl.explain(Returns(model, form), images, "guided_backprop", 2)["guided_backprop"]
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for form in (
        lambda z: (z, z),
        lambda z: "cat",
        lambda z: z[:, :, None, None].expand(-1, -1, 2, 2),
        lambda z: z[:2],
    ):
        with pytest.raises(sl.RefusalError, match="target=lambda output"):
            sl.explain(Returns(model, form), images, "gradient")
    two = sl.explain(Returns(model, lambda z: (z, z)), images, "guided_backprop", lambda output: output[1][:, 2])
    torch.testing.assert_close(two["guided_backprop"], expected, rtol=0, atol=0)


def test_one_logit(model: nn.Module, images: Tensor) -> None:
    for form in (lambda z: z[:, 1], lambda z: z[:, 1:2]):
        one = Returns(model, form)
        explanation = sl.explain(one, images, ["gradient", "grad_cam"], output="labels")
        torch.testing.assert_close(explanation["gradient"], sl.explain(model, images, "gradient", 1)["gradient"])
        torch.testing.assert_close(explanation.probabilities, model(images)[:, 1].sigmoid().detach())
        with pytest.raises(sl.InputError, match=r"Class 1\b.*one output.*class.*\b0\b"):
            sl.explain(one, images, "gradient", 1)


def test_multi_label(model: nn.Module, images: Tensor) -> None:
    single = sl.explain(sl.load_model(model), images, "gradient")
    labelled = sl.explain(sl.load_model(model, multi_label=True), images, "gradient")
    scores = model(images).detach()
    torch.testing.assert_close(single.probabilities, scores.softmax(1).amax(1))
    torch.testing.assert_close(labelled.probabilities, scores.sigmoid().amax(1))
    assert torch.equal(single["gradient"], labelled["gradient"])


def test_a_detached_stem_has_no_input_map_but_a_class_activation_map(model: nn.Module, images: Tensor) -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor, cut: bool = True) -> Tensor:
            x = self.stem(x).detach() if cut else self.stem(x)
            return self.head(self.body(x).relu().mean((2, 3)))

    torch.manual_seed(0)
    detached = Detached()
    with pytest.raises(sl.RefusalError, match="graph is cut"):
        sl.explain(detached, images, "gradient")
    found = sl.explain(detached, images, ["gradient", "grad_cam@body"], 1, on_refusal="record")
    whole = sl.explain(lambda x: detached(x, cut=False), images, "gradient", 1)
    assert whole["gradient"].abs().max() > 0
    with torch.no_grad():
        features = detached.body(detached.stem(images))
        signal = detached.head.weight[1].view(1, 4, 1, 1) / 16 * (features > 0)
        expected = (signal.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(found["grad_cam@body"], expected)


def test_saturation_and_dead_gradients_are_said_in_words(images: Tensor) -> None:
    torch.manual_seed(0)
    saturated = nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.Softmax(1))
    with torch.no_grad():
        saturated[1].weight.mul_(1e4)
    explanation = sl.explain(saturated, images, "gradient")
    assert any("softmax" in note and "not a logit" in note for note in explanation.checks.notes)
    assert any(re.match(r"gradient .*zero everywhere.*\b5 image", note) for note in explanation.checks.notes)
    torch.testing.assert_close(explanation.probabilities, torch.ones(5))
    dead = nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        dead[1].bias.fill_(-1e6)
    notes = sl.explain(dead, images, "gradient").checks.notes
    assert any("zero everywhere" in note and "dead rectifiers" in note for note in notes)


def test_overflow_is_counted_and_said(images: Tensor) -> None:
    explanation = sl.explain(lambda x: (x - x).sqrt().flatten(1) + x.flatten(1), images, "gradient", 0)
    assert explanation.checks.nan["gradient"] == images.numel()
    assert any("not finite" in note for note in explanation.checks.notes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions(model: nn.Module, images: Tensor, dtype: torch.dtype) -> None:
    reference = sl.explain(copy.deepcopy(model).double(), images.double(), EVERY, 1)
    explanation = sl.explain(model.to(dtype), images, EVERY, 1)
    assert explanation.checks.settings["dtype"] == str(dtype).removeprefix("torch.")
    # A few roundings of half a unit in the last place; a ReLU that flips would show as per cents.
    tolerance = {torch.float64: 1e-12, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    for name in ALL:
        if name.startswith("rect_grad") and dtype is not torch.float64:
            continue  # which values pass its threshold is decided by their last bits
        error = (explanation[name].double() - reference[name]).norm() / reference[name].norm()
        # A square doubles a relative error; a variance is of differences, which are smaller than what was rounded.
        assert error < {"smooth_grad_squared": 2, "var_grad": 8}.get(name, 1) * tolerance, name


def test_it_works_where_gradients_are_off(model: nn.Module, images: Tensor) -> None:
    expected = sl.explain(model, images, ["gradient", "guided_backprop"])
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            found = sl.explain(model, images.clone(), ["gradient", "guided_backprop"])
            assert all(torch.equal(found[name], expected[name]) for name in expected.maps)


def test_chunks_do_not_change_the_maps(model: nn.Module, images: Tensor) -> None:
    model, images = model.double(), images.double()
    whole = sl.explain(model, images, EVERY, 0, chunk=1000)
    for chunk in (1, 3, 7):
        cut = sl.explain(model, images, EVERY, 0, chunk=chunk)
        assert set(cut.checks.settings["rows_per_pass"]["path"][:-1]) == {chunk}
        for name in ALL:
            torch.testing.assert_close(cut[name], whole[name], rtol=1e-9, atol=1e-14)


def test_chunks_follow_the_memory_at_hand(model: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row's results are measured; twice that, forty per cent of what is free, and powers of two give the chunk."""
    job = Job(Network(model, images, [as_target(0, 5)]), [sl.catalogue()["smooth_grad"]])
    measured = 0

    def free(_device: torch.device) -> int:
        return int(2 * measured * 5.9 / 0.4) if measured else int(700 * images[0].numel() * 4 * 2.5 / 0.4)

    monkeypatch.setattr("sightline._common.memory.available", free)
    record = Chunks.ran

    def remember(self: Chunks, rows: int, taken: int) -> None:
        nonlocal measured
        record(self, rows, taken)
        measured = self._measured

    monkeypatch.setattr(Chunks, "ran", remember)
    chunks = job.run()[0].chunks
    assert chunks["image"][0] == 2
    assert chunks["noise"][0] == 2
    # A block of two images and one of three, each image with its 25 samples; the last chunk of a block is what is left.
    assert chunks["noise"] == [2, *[4] * 12, *[4] * 18, 3]
    assert sum(chunks["noise"]) == 5 * 25


def test_heatmaps_record_what_was_done(model: nn.Module, images: Tensor) -> None:
    explanation = sl.explain(model, images, ["gradient", "saliency", "grad_cam"], 0)
    torch.testing.assert_close(explanation.heatmap("gradient"), explanation["gradient"].mean(1))
    torch.testing.assert_close(explanation.heatmap("saliency"), explanation["saliency"].amax(1))
    assert explanation.heatmap_steps("gradient") == ("mean over 3 channels",)
    assert explanation.heatmap_steps("saliency") == ("max over 3 channels",)
    assert explanation.heatmap("grad_cam").shape == (5, 8, 8)


def test_upsampling_conserves_the_sum(images: Tensor) -> None:
    """Bilinear without aligned corners keeps the sum, scaled by the areas; with aligned corners it would not."""
    model = nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    big = F.interpolate(images, size=(32, 32))
    explanation = sl.explain(model, big, "grad_cam", 0)
    raw, heat = explanation["grad_cam"], explanation.heatmap("grad_cam")
    (step,) = explanation.heatmap_steps("grad_cam")
    assert re.match(r"bilinear.*\b8x8\b.*\b32x32\b.*not aligned", step)
    torch.testing.assert_close(heat.sum((1, 2)), raw.sum((1, 2, 3)) * 16, rtol=1e-4, atol=1e-4)


def test_saving_and_reading_back(model: nn.Module, images: Tensor, tmp_path) -> None:
    explanation = sl.explain(model, images, EVERY, sl.Pair(1, 3), on_refusal="record")
    explanation.save(tmp_path / "maps")
    stored = load_file(tmp_path / "maps" / "maps.safetensors")
    one_sided = {"lrp_w_squared", "lrp_flat", "excitation_backprop", "contrastive_excitation_backprop"}
    assert set(explanation.refused) == one_sided
    assert set(stored) == set(ALL) - one_sided
    assert all(torch.equal(stored[name], explanation[name]) for name in stored)
    manifest = json.loads((tmp_path / "maps" / "manifest.json").read_text())
    assert manifest["images"][2]["explained"] == "class 1 rather than class 3"
    assert manifest["images"][2]["box"] == [0, 0, 8, 8]
    assert manifest["methods"]["grad_cam"]["layer"] == "relu"
    assert manifest["methods"]["smooth_grad"]["sampling"] == {
        "name": "Noise",
        "samples": 25,
        "sd": 0.15,
        "reduction": "mean",
        "before": False,
    }
    assert manifest["settings"]["versions"]["sightline"] == sl.__version__
    (tmp_path / "file").write_text("")
    with pytest.raises(sl.InputError, match="cannot be written"):
        explanation.save(tmp_path / "file" / "maps")


def test_the_montage_shows_signs_and_how_many(model: nn.Module, tmp_path) -> None:
    """White where a signed map is zero, red for, blue against: read back from the pixels of the picture."""
    weight = torch.zeros(2, 3, 16, 16)
    weight[0, :, :8], weight[0, :, 12:] = 1, -1
    linear = nn.Sequential(nn.Flatten(), nn.Linear(768, 2, bias=False))
    with torch.no_grad():
        linear[1].weight.copy_(weight.flatten(1))
    explanation = sl.explain(linear, torch.rand(13, 3, 16, 16), "gradient", 0)
    explanation.save(tmp_path)
    assert [path.name for path in tmp_path.glob("*.png")] == ["montage.png"]
    figure = explanation.show()
    assert any("12 of 13 images" in text.get_text() for text in figure.texts)
    shown = explanation.show(overlay=0).axes[1].images[0].get_array()
    red, blue = shown[0, 0], shown[15, 0]
    assert red[0] > red[2] + 0.2
    assert blue[2] > blue[0] + 0.2
    assert shown[10, 0].min() > 0.95


class Around(nn.Module):
    """A small network with a body of its own."""

    def __init__(self, body) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.c, self.d = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.i, self.fc = nn.Identity(), nn.Linear(4, 5)
        self.norm = nn.LayerNorm(4)
        self.lstm = nn.LSTM(4, 4, num_layers=2, dropout=0.5, batch_first=True)
        self.register_buffer("n", torch.ones(1))
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)

    def head(self, z: Tensor) -> Tensor:
        return self.fc(z.mean((2, 3)))


def _written_over(m: Around, x: Tensor) -> Tensor:
    z = m.c(x)
    m.i(z).relu_()
    return m.head(m.d(z))


def test_naming_a_layer_changes_neither_the_model_nor_what_was_read(images: Tensor) -> None:
    """The layer's result is written over by the model: the model must see that, and the map must not."""
    model = Around(_written_over).eval()
    plain = images.clone().requires_grad_()
    logits = model(plain)[:, 1]
    (gradient,) = torch.autograd.grad(logits.sum(), plain)
    explanation = sl.explain(model, images, ["gradient", "grad_cam@i"], 1)
    assert torch.equal(explanation.values, logits.detach())
    assert torch.equal(explanation["gradient"], gradient)
    features = model.c(images).detach().requires_grad_()
    (signal,) = torch.autograd.grad(model.head(model.d(features.relu()))[:, 1].sum(), features)
    expected = (signal.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(explanation["grad_cam@i"], expected.detach())


def _gated(m: Around, x: Tensor) -> Tensor:
    z = m.c(x)
    return m.head(m.d(z * m.i((z > 0).float())).relu())


def test_naming_the_layer_that_makes_a_mask_does_not_hide_the_mask(images: Tensor) -> None:
    model = Around(_gated).eval()
    for methods in ("guided_backprop", ["guided_backprop", "grad_cam@i"]):
        with pytest.raises(sl.RefusalError, match=r"\bmul .*factor cut"):
            sl.explain(model, images, methods, 1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda m, x: (z := m.c(x), a := m.d(z.relu()), m.fc(z.mean((2, 3))) + m.fc(a.mean((2, 3))))[-1], "passes"),
        (lambda m, x: m.head(torch.jit.trace(m.d, torch.zeros(1, 4, 8, 8))(m.c(x))), "cannot be seen"),
    ],
    ids=["two branches", "unseen trunk"],
)
def test_an_unclear_last_feature_map_is_refused(images: Tensor, body, message: str) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(sl.RefusalError, match=message):
            sl.explain(Around(body).eval(), images, "grad_cam", 1)


def test_a_split_feature_map_is_read_whole(images: Tensor) -> None:
    def body(m: Around, x: Tensor) -> Tensor:
        first, second = m.c(x).relu().chunk(2, dim=1)
        return m.fc(torch.cat([first.mean((2, 3)), second.mean((2, 3))], 1))

    explanation = sl.explain(Around(body).eval(), images, ["grad_cam", "grad_cam@c"], 1)
    assert explanation.layers["grad_cam"] == "relu in the model's own forward"


def test_layers_of_other_shapes_are_refused(images: Tensor) -> None:
    lost = Around(lambda m, x: m.head(m.i(m.c(x).flatten(2).sort(2).values.view(-1, 4, 8, 8)))).eval()
    with pytest.raises(sl.RefusalError, match=r"\bi\b.*\bsort\b"):
        sl.explain(lost, images, "grad_cam@i", 1)
    gathered = Around(lambda m, x: m.head(m.c(x)) + m.i(m.c(x).mean(0, keepdim=True)).mean()).eval()
    with pytest.raises(sl.RefusalError, match=r"batch.*\bmean\b"):
        sl.explain(gathered, images, "grad_cam@i", 1)


def test_layers_are_read_whatever_the_order_of_their_axes(images: Tensor) -> None:
    """With channels last, and with images and channels in one axis, maps and units are those of the plain order."""
    plain = Around(lambda m, x: m.head(m.i(m.norm(m.c(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).relu())).eval()
    last = Around(lambda m, x: m.head(m.norm(m.c(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).relu())).eval()
    folded = Around(
        lambda m, x: m.head(
            m.i(m.norm(m.c(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).reshape(1, -1, 8, 8)).view(-1, 4, 8, 8).relu()
        )
    ).eval()
    for model in (last, folded):
        model.load_state_dict(plain.state_dict())
    expected = sl.explain(plain, images, "grad_cam@i", 1)["grad_cam@i"]
    for model, layer in ((last, "norm"), (folded, "i")):
        found = sl.explain(model, images, f"grad_cam@{layer}", 1)[f"grad_cam@{layer}"]
        torch.testing.assert_close(found, expected)
        units = [sl.explain(net, images, "gradient", sl.Unit(name, 3)) for net, name in ((plain, "i"), (model, layer))]
        torch.testing.assert_close(units[1].values, units[0].values)
        torch.testing.assert_close(units[1]["gradient"], units[0]["gradient"])


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: m.head(m.c(x) * torch.empty(4, 1, 1).bernoulli_(0.5)),
        lambda m, x: m.fc(m.lstm(m.c(x).flatten(2).transpose(1, 2))[0].mean(1)),
        lambda m, x: m.head(F.scaled_dot_product_attention(z := m.c(x), z, z, None, 0.5)),
    ],
    ids=["bernoulli", "LSTM in training mode", "attention with dropout"],
)
def test_chance_in_any_spelling_is_refused(images: Tensor, body) -> None:
    with pytest.raises(sl.RefusalError, match=r"random numbers.*model\.eval"):
        sl.explain(Around(body), images, "gradient", 1)


def test_each_pass_sees_the_model_as_it_came(images: Tensor) -> None:
    def body(m: Around, x: Tensor) -> Tensor:
        m.n.data.add_(1)
        m.register_buffer("made", torch.ones(1))
        return m.head(m.c(x) * m.n)

    model = Around(body).eval()
    whole = sl.explain(model, images, "gradient", 1)
    cut = sl.explain(model, images, "gradient", 1, chunk=1)
    torch.testing.assert_close(cut["gradient"], whole["gradient"])
    assert model.n.item() == 1
    assert not hasattr(model, "made")


def test_logits_beside_probabilities(model: nn.Module, images: Tensor) -> None:
    both = Returns(model, lambda z: {"logits": z, "probabilities": z.softmax(1)})
    explanation = sl.explain(both, images, "gradient", output="classes")
    torch.testing.assert_close(explanation.probabilities, model(images).softmax(1).amax(1).detach())
    assert not explanation.checks.notes


def test_a_target_function_sees_the_whole_batch_or_the_positions(model: nn.Module, images: Tensor) -> None:
    labels = torch.tensor([3, 0, 2, 2, 1])
    expected = sl.explain(model, images, ["gradient", "integrated_gradients"], labels)
    found = sl.explain(
        model, images, ["gradient", "integrated_gradients"], lambda z: z.gather(1, labels[: len(z), None])[:, 0]
    )
    cut = sl.explain(
        model, images, ["gradient", "integrated_gradients"], lambda z, i: z.gather(1, labels[i, None])[:, 0], chunk=2
    )
    for name in expected.maps:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(cut[name], expected[name], rtol=1e-4, atol=1e-6)
    with pytest.raises(sl.InputError, match=r"chunk=2\b.*\b5\b"):
        sl.explain(model, images, "gradient", sl.WholeBatch(lambda z: z[:, 0]), chunk=2)


def test_passes_are_freed(model: nn.Module, images: Tensor) -> None:
    """A node that held its tape would close a circle through C++, which Python's collector cannot see."""
    from sightline.operations import Tape

    for _ in range(3):
        sl.explain(model, images, ["guided_backprop", "grad_cam"])
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Tape]


def test_baselines_per_image_are_refused() -> None:
    with pytest.raises(sl.InputError, match=r"\(2, 3, 8, 8\).*one by one"):
        sl.Method(sl.sampling.Path(5, torch.zeros(2, 3, 8, 8)))
    with pytest.raises(sl.InputError, match="finite"):
        sl.sampling.Path(5, float("nan"))


def test_grey_images_of_a_model_that_says_nothing_of_them() -> None:
    model = sl.load_model(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)))
    shown = sl.explain(model, torch.linspace(-3, 5, 64).view(1, 1, 8, 8), "gradient").display
    assert shown.shape == (1, 8, 8, 3)
    np.testing.assert_allclose(shown[0, ..., 1].ravel(), np.linspace(0, 1, 64), atol=1e-6)


def test_a_backward_that_fails_refuses_its_own_methods_only(images: Tensor) -> None:
    """sigmoid's result is written over, so no signal passes it; the layer behind it has its map all the same."""

    def body(m: Around, x: Tensor) -> Tensor:
        z = m.c(x).sigmoid()
        return m.head(m.d(z.mul_(2)).relu())

    model = Around(body).eval()
    guided_cam = sl.Method(propagation=GUIDED_BACKPROP, aggregation=CAM(layer="d"), name="guided_cam")
    found = sl.explain(model, images, ["gradient", guided_cam], 1, on_refusal="record")
    assert "writes in place" in found.refused["gradient"]
    with pytest.raises(sl.RefusalError, match="writes in place"):
        found["gradient"]
    features = model.d(model.c(images).sigmoid() * 2).detach()
    weights = (model.fc.weight[1].view(1, 4, 1, 1).clamp(min=0) / 64 * (features > 0)).mean((2, 3), keepdim=True)
    expected = (weights * features).sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(found["guided_cam"], expected.detach())


def test_two_samplings_of_a_kind_are_recorded_apart(model: nn.Module, images: Tensor) -> None:
    few = sl.Method(sampling=Noise(3), name="few")
    found = sl.explain(model, images, ["smooth_grad", few], chunk=25).checks.settings["rows_per_pass"]
    assert found == {"image": [5], "noise": [25] * 5, "noise 2": [15]}


def test_zero_maps_are_explained_truly() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    notes = sl.explain(linear, torch.rand(1, 3, 2, 2), ["gradient", "var_grad"], 0).checks.notes
    assert any(re.match("var_grad .*zero everywhere", note) and "samples' maps agree" in note for note in notes)
    torch.manual_seed(0)
    negative = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        negative[4].weight.copy_(-negative[4].weight.abs())
    found = sl.explain(negative, torch.rand(1, 3, 6, 6), ["gradient", "guided_backprop", "guided_grad_cam"], 0)
    assert found["gradient"].any()
    said = {note.split()[0]: note for note in found.checks.notes if "zero everywhere" in note}
    assert "rules of guided_backprop" in said["guided_backprop"]
    assert "two factors" in said["guided_grad_cam"]
