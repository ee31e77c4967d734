"""The same function in another encoding: that it is the same, and what each method makes of it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sightline as sl
from sightline.auditing import audit
from sightline.evaluation._encoding import _moved, reencoded, shifted
from sightline.models import ModelInfo, Preprocessing

SIDE = 9


def firsts() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "padded": nn.Conv2d(3, 6, 3, padding=1),
        "uneven": nn.Conv2d(3, 6, (3, 5), stride=2, padding=(2, 1)),
        "same, even kernel": nn.Conv2d(3, 6, 4, padding="same"),
        "dilated, grouped, no bias": nn.Conv2d(3, 6, 3, padding=2, dilation=2, groups=3, bias=False),
        "valid": nn.Conv2d(3, 6, 3, padding="valid"),
        "reflecting": nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"),
        "circular": nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"),
        "dense": nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 6), nn.Unflatten(1, (6, 1, 1))),
    }


def network(first: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).double().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(24, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", list(firsts()))
@pytest.mark.parametrize("shift", [-1.5, 0.7])
def test_the_function_stays_and_the_gradient_with_it(images: Tensor, name: str, shift: float) -> None:
    model = network(firsts()[name])
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    other, moved = shifted(model, images, shift)
    torch.testing.assert_close(moved, images + shift)
    torch.testing.assert_close(other(moved), model(images), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    methods = ["gradient", "input_x_gradient", "guided_backprop"]
    before, after = sl.explain(model, images, methods, 1), sl.explain(other, moved, methods, 1)
    for method in ("gradient", "guided_backprop"):
        torch.testing.assert_close(after[method], before[method], rtol=1e-10, atol=1e-14)
    expected = before["input_x_gradient"] + shift * before["gradient"]
    torch.testing.assert_close(after["input_x_gradient"], expected, rtol=1e-10, atol=1e-13)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", list(firsts()))
def test_channels_may_be_encoded_each_by_itself(images: Tensor, name: str) -> None:
    model = network(firsts()[name])
    scale, shift = torch.tensor([0.5, 2.0, 3.0]).double(), torch.tensor([-1.0, 0.3, 0.0]).double()
    other, moved = shifted(model, images, shift, scale)
    torch.testing.assert_close(moved, images * scale[:, None, None] + shift[:, None, None])
    torch.testing.assert_close(other(moved), model(images), rtol=1e-12, atol=1e-12)
    # By the chain rule; LRP-0 is the gradient times the input.
    before, after = sl.explain(model, images, "gradient", 1), sl.explain(other, moved, ["gradient", "lrp_0"], 1)
    expected = before["gradient"] / scale[:, None, None]
    torch.testing.assert_close(after["gradient"], expected, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(after["lrp_0"], expected * moved, rtol=1e-7, atol=1e-12)


def test_the_encoding_tells_how_it_came_about() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(1, 4, 4, 3))
    given = Preprocessing(size=(4, 4), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    scale, shift = torch.tensor([0.2, 0.25, 0.3]).double(), torch.tensor([0.5, 0.4, 0.3]).double()
    again = _moved(given, shift, scale)
    # Back to 0 ... 1: nothing taken off, divided by 1.
    np.testing.assert_allclose(again.mean, 0, atol=1e-12)
    np.testing.assert_allclose(again.std, 1)
    torch.testing.assert_close(again.encode(pixels), torch.from_numpy(pixels).movedim(-1, 1).float() / 255)


def test_models_that_use_the_image_elsewhere_are_refused(images: Tensor) -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network(nn.Conv2d(3, 6, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) + x.mean((1, 2, 3))[:, None]

    class PadsItself(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network(nn.Conv2d(3, 6, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(F.pad(x, (1, 1, 1, 1)))

    with pytest.raises(sl.RefusalError, match=r"first layer.*shifted images"):
        shifted(Skip().double().eval(), images, 1.0)
    for model in (PadsItself().double().eval(), nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()).double().eval()):
        with pytest.raises(sl.RefusalError, match="convolution or dense layer"):
            shifted(model, images, 1.0)
    with pytest.raises(sl.RefusalError, match=r"no torch.nn.Module"):
        shifted(lambda x: x.mean((2, 3)), images, 1.0)


def test_what_is_known_of_the_encoding_moves_along(images: Tensor) -> None:
    """Black is black in both, so that Integrated Gradients from black stays as it was."""
    pictures = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    preprocessing = Preprocessing(size=(SIDE, SIDE), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    encoded = preprocessing.encode(pictures).double()
    model = network(nn.Conv2d(3, 6, 3, padding=1))
    model.sightline_info = ModelInfo(spec="test", preprocessing=preprocessing, weights="")
    other, moved = shifted(model, encoded, 0.8)
    black = sl.Method(
        sampling=sl.sampling.Path(20, "black"), aggregation=sl.catalogue()["integrated_gradients"].aggregation
    )
    one, two = (sl.explain(m, x, black, 1)[black.name] for m, x in ((model, encoded), (other, moved)))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-8)
    assert reencoded(moved, moved, 0.8) is moved


def test_rect_grad_fails_as_published_and_passes_without_the_input(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 4)
    ).eval()  # fmt: skip
    methods = ["rect_grad", "rect_grad_no_input", "input_x_gradient", "lrp_epsilon"]
    found = audit(model, images.float(), methods, ["input_bias"])
    verdicts = found.verdicts["input_bias"]
    assert verdicts[[*methods, "gradient"]].tolist() == ["fail", "pass", "fail", "fail", "pass"]
    # |x g| against |x| by hand, for one image.
    x = images[:1].float()
    with torch.no_grad():
        c = int(model(x).argmax())
    inputs = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(model(inputs)[0, c], inputs)
    from scipy.stats import spearmanr

    expected = spearmanr((x * g).mean(1).abs().flatten(), x.abs().mean(1).flatten()).statistic
    row = found.scores.query("method == 'input_x_gradient' and case == 'encoding as it is' and measure == 'input'")
    assert row.iloc[0]["value"] == pytest.approx(expected, abs=1e-6)


def test_a_model_that_cannot_be_re_encoded_is_undecided_with_the_reason(images: Tensor) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 3)).eval()
    found = audit(model, images.float() + 1, ["gradient"], ["input_bias"])
    # A batch norm of fresh statistics is the identity but for rounding, so its result is not the image itself.
    assert found.verdicts.loc["gradient", "input_bias"] == "undecided"
    assert "dense layer" in found.reasons.iloc[0]["reason"]
