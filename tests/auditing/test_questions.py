"""The questions of an audit one by one: their figures against figures made by hand."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from helpers.networks import small
from sightline.aggregation import InputTimesSignal
from sightline.auditing import Randomisation, audit, blind_to, from_callable
from sightline.auditing.questions._block import CEILING, REFERENCE
from sightline.auditing.questions._input_bias import WITHOUT
from sightline.evaluation._convergence import convergence
from sightline.evaluation._similarity import cosine, entropy
from sightline.models import ModelInfo, Preprocessing
from sightline.sampling import Path


@pytest.fixture
def images() -> Tensor:
    return torch.randn(22, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> nn.Module:
    return small()


def values(found: sl.Audit, test: str, case: str, method: str, measure: str) -> np.ndarray:
    rows = found.scores.query("test == @test and case == @case and method == @method and measure == @measure")
    assert len(rows) > 0
    return rows.sort_values("image")["value"].to_numpy()


def gradient_of(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    inputs = images.clone().requires_grad_()
    return torch.autograd.grad(model(inputs).gather(1, classes[:, None]).sum(), inputs)[0]


def test_completeness_is_what_the_sum_misses(model: nn.Module, images: Tensor) -> None:
    methods = ["integrated_gradients", "full_grad", "lrp_0", "saliency"]
    found = audit(model, images, methods, ["completeness"])
    with torch.no_grad():
        logits, none = model(images), model(torch.zeros_like(images[:1]))
    predicted = logits.argmax(1)
    points, weights = np.polynomial.legendre.leggauss(50)
    total = torch.zeros(len(images), dtype=torch.double)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        total += weight * (images * gradient_of(model, images * point, predicted)).double().sum((1, 2, 3))
    change = (logits.gather(1, predicted[:, None])[:, 0] - none[0, predicted]).double()
    expected = ((total - change).abs() / change.abs()).numpy()
    case = "the sum of the map"
    np.testing.assert_allclose(
        values(found, "completeness", case, "integrated_gradients", "missing"), expected, atol=2e-5
    )
    assert values(found, "completeness", case, "full_grad", "missing").max() < 1e-4
    product = (images * gradient_of(model, images, predicted)).double().sum((1, 2, 3))
    arrived = product / logits.gather(1, predicted[:, None])[:, 0]
    np.testing.assert_allclose(values(found, "completeness", case, "lrp_0", "arrived"), arrived, rtol=1e-4)
    said = found.verdicts["completeness"]
    assert said["integrated_gradients"] == ("pass" if expected.max() < 0.05 else said["integrated_gradients"])
    assert said["full_grad"] == "pass"
    assert said["lrp_0"] == said["saliency"] == said["control: noise"] == "reported"
    assert found.verdicts.loc["saliency", "overall"] == "undecided"


def test_what_multiplies_by_the_input_cannot_see_its_null_colour(model: nn.Module, images: Tensor) -> None:
    found = audit(model, images, ["gradient", "input_x_gradient", "lrp_epsilon", "grad_cam"], ["input_bias"])
    for method in ("input_x_gradient", "lrp_epsilon", "control: input"):
        assert values(found, "input_bias", "a patch of zero", method, "seen").max() == 0
    patched = images.clone()
    patched[:, :, 4:8, 4:8] = 0
    with torch.no_grad():
        predicted = model(images).argmax(1)
    maps = gradient_of(model, patched, predicted).mean(1).abs().double()
    inside = maps[:, 4:8, 4:8].mean((1, 2))
    outside = (maps.sum((1, 2)) - maps[:, 4:8, 4:8].sum((1, 2))) / (144 - 16)
    seen = values(found, "input_bias", "a patch of zero", "gradient", "seen")
    np.testing.assert_allclose(seen, inside / outside, rtol=1e-5)
    assert blind_to(found.table) == {name: ["zero"] for name in ("input_x_gradient", "lrp_epsilon", "control: input")}


def test_a_function_that_multiplies_by_the_input_has_no_form_without_it(model: nn.Module, images: Tensor) -> None:
    """Nothing else that is audited has a factor of the input, so that no test without it was made."""

    def product(network: nn.Module, given: Tensor, classes: Tensor) -> Tensor:
        return given * gradient_of(network, given, classes)

    found = audit(model, images, [from_callable(product)], ["input_bias"])
    assert found.verdicts.loc["product", "input_bias"] == "fail"
    assert re.search(r"\bproduct\b.*input_bias.*do not read", found.advice)
    twice = audit(model, images, [from_callable(product, "one"), from_callable(product, "two")], ["input_bias"])
    figure = twice.findings["input_bias", "one"].figure
    assert re.search(rf"\bone \({figure:.2f}\) and two \({figure:.2f}\).*input_bias.*do not read", twice.advice)


@pytest.mark.slow
def test_each_method_s_null_colour_is_named(model: nn.Module, images: Tensor) -> None:
    encoding = Preprocessing(size=(12, 12), mean=(0.4, 0.5, 0.6), std=(0.2,) * 3)
    model.sightline_info = ModelInfo(spec="test", preprocessing=encoding, weights="")
    pictures = images.clamp(-2, 2)
    path = sl.Method(sampling=Path(steps=4, start="black"), aggregation=InputTimesSignal(), name="from black")
    found = audit(model, pictures, ["gradient", "input_x_gradient", path], ["input_bias"])
    blind = blind_to(found.table, found.settings["null_colour"])
    (zero,) = blind["input_x_gradient"]
    assert "(102, 128, 153)" in zero
    assert blind == {"input_x_gradient": [zero], "from black": ["black"], "control: input": [zero]}
    assert re.search(rf"{re.escape(zero)}[^.]*\binput_x_gradient\b", found.advice)
    assert re.search(r"(?<!from )\bblack\b[^.]*\bfrom black\b", found.advice)


def test_input_bias_is_asked_again_without_the_input(model: nn.Module, images: Tensor) -> None:
    methods = ["gradient", "input_x_gradient", "rect_grad", "lrp_0", "integrated_gradients"]
    found = audit(model, images, methods, ["input_bias"])
    case = "input +1 spreads"
    own = values(found, "input_bias", case, "gradient", "cosine")
    for method in ("input_x_gradient", "lrp_0"):
        assert values(found, "input_bias", case, method, "cosine").mean() < 0.9
        # Without the input both are the gradient.
        np.testing.assert_allclose(values(found, WITHOUT, case, method, "cosine"), own, atol=1e-5)
    # Along a path from another null the gradients are others, so it is not only the factor that moves.
    shift = float(images.double().std())
    with torch.no_grad():
        predicted = model(images).argmax(1)
    points, weights = np.polynomial.legendre.leggauss(50)
    averages = [
        sum(
            weight * gradient_of(model, start + point * (images - start), predicted)
            for point, weight in zip((points + 1) / 2, weights / 2, strict=True)
        ).mean(1)
        for start in (torch.zeros_like(images), torch.full_like(images, -shift))
    ]
    np.testing.assert_allclose(
        values(found, WITHOUT, case, "integrated_gradients", "cosine"), cosine(*averages), atol=1e-4
    )
    assert found.verdicts.loc["rect_grad"].tolist() == ["fail", "pass", "fail"]
    assert found.verdicts.loc["gradient"].tolist() == ["pass", "reported", "pass"]


def test_slight_noise_leaves_pixels_what_they_can_be(model: nn.Module) -> None:
    model.sightline_info = ModelInfo(
        spec="test", preprocessing=Preprocessing(size=(12, 12), mean=(0.0,) * 3, std=(1.0,) * 3, source="test")
    )
    images = torch.rand(22, 3, 12, 12, generator=torch.Generator().manual_seed(1)).mul(3).sub(1).clamp(0, 1)
    seen: list[Tensor] = []

    def record(network: nn.Module, given: Tensor, classes: Tensor) -> Tensor:
        seen.append(given)
        return given

    found = audit(model, images, ["deep_taylor", from_callable(record)], ["class_sensitivity"], block=22)
    # z^B is defined for pixels alone, and black and white ones have no room on one side; it starts at max(logit, 0).
    with torch.no_grad():
        speaks = (model(seen[-1]).gather(1, model(images).argmax(1)[:, None])[:, 0] > 0).numpy()
    assert speaks.sum() > 5
    assert np.isfinite(values(found, REFERENCE, CEILING, "deep_taylor", "spearman"))[speaks].all()
    noisy = seen[-1]
    assert not torch.equal(noisy, images)
    assert noisy.min() == 0
    assert noisy.max() == 1


def test_faithfulness_is_the_probability_as_pixels_go(model: nn.Module, images: Tensor) -> None:
    found = audit(model, images[:4], ["gradient"], ["faithfulness"])
    assert set(found.verdicts["faithfulness"]) == {"reported"}
    with torch.no_grad():
        predicted = model(images[:4]).argmax(1)
    maps = gradient_of(model, images[:4], predicted).mean(1)
    for number in range(4):
        order = np.argsort(-maps[number].flatten().numpy(), kind="stable")
        filled = images[number].mean((1, 2), keepdim=True).expand(3, 12, 12)
        said = []
        for step in range(11):
            picture = images[number].clone().flatten(1)
            gone = order[: 144 * step // 10]
            picture[:, gone] = filled.flatten(1)[:, gone]
            with torch.no_grad():
                said.append(float(model(picture.view(1, 3, 12, 12)).softmax(1)[0, predicted[number]]))
        area = (sum(said) - (said[0] + said[-1]) / 2) / 10
        assert values(found, "faithfulness", "mean", "gradient", "deletion")[number] == pytest.approx(area, abs=1e-5)
    # The encoding is not known, and so no black.
    assert set(found.scores.query("test == 'faithfulness'")["case"]) == {"mean", "blur"}


def test_localisation_is_asked_where_there_are_masks(model: nn.Module, images: Tensor) -> None:
    masks = torch.zeros(22, 12, 12, dtype=torch.bool)
    for number in range(22):
        masks[number, : number % 9 + 1, :5] = True
    found = audit(model, images, ["gradient"], ["class_sensitivity"], masks=masks, block=5)
    with torch.no_grad():
        predicted = model(images).argmax(1)
    maps = gradient_of(model, images, predicted).mean(1).abs().numpy()
    share = [m[k.numpy()].sum() / m.sum() for m, k in zip(maps, masks, strict=True)]
    np.testing.assert_allclose(values(found, "localisation", "masks", "gradient", "relevance_mass"), share, rtol=1e-4)
    area = [(n % 9 + 1) * 5 / 144 for n in range(22)]
    np.testing.assert_allclose(values(found, "localisation", "masks", "gradient", "area"), area)


def test_smooth_randomisation_averages_over_noise_and_the_image_itself(model: nn.Module) -> None:
    images = torch.rand(4, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    seen: list[Tensor] = []

    def record(network: nn.Module, given: Tensor, classes: Tensor) -> Tensor:
        seen.append(given)
        return given

    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 46 * 46, 3)).eval()
    how = Randomisation(order="whole", smooth=4, networks=1)
    found = audit(wide, images, [from_callable(record)], ["parameter_randomization"], randomisation=how, block=4)
    # The trained network's four, then the random one's, at the end; the same draws for both.
    trained, random = seen[-8:-4], seen[-4:]
    assert torch.equal(trained[-1], images)
    for one, other in zip(trained, random, strict=True):
        assert torch.equal(one, other)
    spread = images.amax((1, 2, 3)) - images.amin((1, 2, 3))
    for one in trained[:-1]:
        np.testing.assert_allclose((one - images).flatten(1).std(1) / spread, 0.1, rtol=0.05)
    assert not torch.equal(trained[0], trained[1])
    np.testing.assert_allclose(
        values(found, "parameter_randomization", "1: 0 to 2", "record", "cosine"), np.ones(4), atol=1e-6
    )


def test_the_class_is_kept_or_predicted_anew(model: nn.Module, images: Tensor) -> None:
    for target in ("kept", "re-predicted"):
        asked: list[tuple[Tensor, Tensor]] = []

        def record(network: nn.Module, given: Tensor, classes: Tensor, into: list = asked) -> Tensor:
            with torch.no_grad():
                into.append((network(given).argmax(1), classes))
            return given

        how = Randomisation(order="whole", target=target)
        audit(model, images, [from_callable(record)], ["parameter_randomization"], randomisation=how, block=22)
        own, explained = asked[-1]
        with torch.no_grad():
            first = model(images).argmax(1)
        assert not torch.equal(own, first)
        assert torch.equal(explained, first if target == "kept" else own)
    with pytest.raises(sl.InputError, match="kept or re-predicted"):
        Randomisation(target="other")


def test_entropy_is_that_of_the_histogram() -> None:
    from scipy import stats

    maps = torch.randn(5, 20, 20, dtype=torch.double, generator=torch.Generator().manual_seed(3)) ** 3 * 1e-5
    expected = [stats.entropy(np.histogram(m, 100)[0]) for m in maps.numpy()]
    np.testing.assert_allclose(entropy(maps), expected, atol=1e-12)
    assert entropy(torch.ones(1, 4, 4)).isnan().all()
    assert entropy(torch.full((1, 4, 4), torch.inf)).isnan().all()


def test_double_precision_and_slight_noise_are_asked(model: nn.Module, images: Tensor) -> None:
    kinds: list[torch.dtype] = []

    def record(network: nn.Module, given: Tensor, classes: Tensor) -> Tensor:
        kinds.append(given.dtype)
        # Single precision leaves a few digits of this.
        return gradient_of(network, given, classes) + 1e4

    found = audit(model, images, ["gradient", from_callable(record)], ["stability"], block=22)
    assert torch.double in kinds
    assert values(found, "stability", "in double precision", "gradient", "spearman").min() > 0.999999
    assert values(found, "stability", "in double precision", "record", "spearman").max() < 0.9999
    assert values(found, "stability", CEILING, "gradient", "max_sensitivity").min() > 0


def test_convergence_is_that_of_the_propagation(model: nn.Module, images: Tensor) -> None:
    found = audit(model, images, ["lrp_z_plus", "grad_cam", "gradient"], ["convergence"], block=7)
    assert set(found.verdicts["convergence"]) == {"reported"}
    own = convergence(model, images, ["lrp_z_plus", "gradient"]).values
    for (method, _), rows in own.groupby(["method", "depth"]):
        case = rows["layer"].iloc[0]
        for measure in ("csc", "layer_cosine"):
            np.testing.assert_allclose(values(found, "convergence", case, method, measure), rows[measure], atol=1e-6)
    assert found.scores.query("method == 'grad_cam' and test == 'convergence'").empty


def test_the_layer_where_the_class_is_lost_is_named(images: Tensor) -> None:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1), nn.ReLU()) for i in range(8)]
    deep = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 144, 3)).eval()
    found = audit(deep, images, ["lrp_z_plus", "gradient"], ["convergence"])
    lost = convergence(deep, images, ["lrp_z_plus", "gradient"])
    layer = lost.lost_at("lrp_z_plus")
    assert layer is not None
    assert lost.lost_at("gradient") is None
    last = lost.values.query("method == 'lrp_z_plus' and layer == '<input>'")["layer_cosine"].mean()
    reasons = found.reasons.set_index("method")["reason"]
    assert re.search(rf"class at {re.escape(layer)}\b.*cosine of {last:.2f}", reasons["lrp_z_plus"])
    assert reasons["gradient"] == ""
    assert re.search(rf"lrp_z_plus\W+{re.escape(reasons['lrp_z_plus'])}", found.advice)
