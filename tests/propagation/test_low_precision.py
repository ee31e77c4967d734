"""Relevance of networks that compute in half precision or under autocast: by the results that they went on with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline as sl
from sightline.propagation import epsilon_plus, lrp_0, lrp_epsilon, lrp_gamma, lrp_z_plus

DTYPES = [torch.bfloat16, torch.float16]


class Net(nn.Module):
    """Convolutions before batch norms, one of which a skip reads too, a batch norm alone, dense layers."""

    def __init__(self, *, straight: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.straight = straight
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.bn3, self.dense, self.head = nn.BatchNorm2d(16), nn.Linear(16, 16), nn.Linear(16, 3)
        for norm in (self.bn1, self.bn2, self.bn3):
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.uniform_(norm.running_mean, -0.3, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        h = self.conv2(x)
        x = F.relu(self.bn2(h) if self.straight else self.bn3(F.relu(self.bn2(h)) + h))
        return self.head(F.relu(self.dense(F.avg_pool2d(x, 8).flatten(1))))


class Autocast(nn.Module):
    """Autocast inside the model's own forward."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner, dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", self.dtype):
            return self.inner(x).float()


HOW: dict[str, Callable[[nn.Module, Tensor, torch.dtype], tuple[nn.Module, Tensor]]] = {
    "converted": lambda model, images, dtype: (model.to(dtype), images.to(dtype)),
    "autocast inside": lambda model, images, dtype: (Autocast(model, dtype), images),
    "autocast around": lambda model, images, dtype: (model, images),
}


def explained(how: str, dtype: torch.dtype, *propagations: Any, straight: bool = False) -> dict[str, Tensor]:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    model, images = HOW[how](Net(straight=straight).eval(), images, dtype)
    rows = [sl.Method(propagation=made, name=name) for name, made in propagations]
    with torch.autocast("cpu", dtype, enabled=how == "autocast around"):
        explanation = sl.explain(model, images, ["input_x_gradient", *rows], 1)
    return {name: found.double() for name, found in explanation.maps.items()}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("how", HOW)
def test_lrp_0_is_the_input_times_the_gradient_in_the_same_precision(how: str, dtype: torch.dtype) -> None:
    """Denominators made again differ from the results near zero, and so by many times the map's largest value."""
    for straight in (False, True):
        settings = [("lrp_0", lrp_0()), ("epsilon", lrp_epsilon(0.0))]
        # gamma passes a batch norm by itself
        settings += [("gamma", lrp_gamma(0.0, 0.0))] if straight else []
        found = explained(how, dtype, *settings, straight=straight)
        expected = found["input_x_gradient"]
        for name, _ in settings:
            assert float((found[name] - expected).abs().max()) < 0.05 * float(expected.abs().max()), name


def _by_hand(rule: str, x: Tensor, layer: nn.Linear, y: Tensor, relevance: Tensor) -> Tensor:
    """One dense layer in double precision, with the result that the layer had in low precision."""
    x, y, weight, bias = (t.detach().double() for t in (x, y, layer.weight, layer.bias))
    terms = x[:, None, :] * weight
    sign = torch.where(y < 0, -1.0, 1.0)
    match rule:
        case "lrp_epsilon":
            total = y + 1e-3 * sign
        case "lrp_gamma":
            # x >= 0: weights and biases of the result's sign count 1.25 times.
            more, plus = terms * (sign[..., None] * weight > 0), bias * (sign * bias > 0)
            total = y + 0.25 * (more.sum(2) + plus) + 1e-6 * sign
            terms = terms + 0.25 * more
        case _:
            terms = terms.clamp(min=0)
            total = terms.sum(2) + (bias.clamp(min=0) if rule == "epsilon_plus" else 0) + 1e-6
    return (terms * (relevance / total)[..., None]).sum(1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rule", ["lrp_epsilon", "lrp_gamma", "lrp_z_plus"])
def test_rules_by_hand(rule: str, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    first, second = nn.Linear(12, 20).to(dtype), nn.Linear(20, 3).to(dtype)
    images = torch.rand(5, 3, 2, 2).to(dtype)
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second).eval()
    made = {"lrp_epsilon": lrp_epsilon(), "lrp_gamma": lrp_gamma(), "lrp_z_plus": lrp_z_plus()}[rule]
    found = sl.explain(model, images, sl.Method(propagation=made, name=rule), 0)[rule].flatten(1).double()
    x = images.flatten(1)
    y = first(x)
    h = y.relu()
    z = second(h)
    at_output = torch.zeros(5, 3, dtype=torch.float64)
    at_output[:, 0] = z[:, 0].detach().double()
    expected = _by_hand(rule, x, first, y, _by_hand(rule, h, second, z, at_output).to(dtype).double())
    # What is handed from layer to layer is rounded to the model's precision.
    assert float((found - expected).abs().max()) < 2 * torch.finfo(dtype).eps * float(expected.abs().sum(1).max())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_deviation_is_noted(dtype: torch.dtype) -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    notes = sl.explain(Net().eval().to(dtype), images, ["lrp_0", "lrp_z_plus"], 1).checks.notes
    name = str(dtype).removeprefix("torch.")
    (found,) = [note for note in notes if name in note]
    assert "lrp_0" in found
    assert "lrp_z_plus" not in found  # its denominators are no results of the network


def test_nothing_is_noted_in_single_precision() -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    notes = sl.explain(Net().eval(), images, "lrp_0", 1).checks.notes
    assert not [note for note in notes if "float32" in note]


@pytest.mark.parametrize("made", [lrp_z_plus(), epsilon_plus(), lrp_gamma()], ids=lambda made: made.name)
@pytest.mark.parametrize("how", HOW)
def test_rules_of_parts_are_close_to_those_of_single_precision(how: str, made: Any) -> None:
    """Positive parts add up without cancelling, so that rounding stays rounding."""
    found = explained(how, torch.bfloat16, ("made", made), straight=True)["made"]
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = sl.explain(Net(straight=True).eval(), images, sl.Method(propagation=made, name="made"), 1)[
        "made"
    ].double()
    assert float(F.cosine_similarity(found.flatten(), expected.flatten(), 0)) > 0.99
