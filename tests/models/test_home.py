"""The precision that a network wants its images in; the right values are the network's own, by torch's autograd."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.models._asking import ask

SINGLE, DOUBLE, HALF, BRAIN = torch.float32, torch.float64, torch.float16, torch.bfloat16


class Net(nn.Module):
    """A scale declared first, a stem, a backbone and a head, each in a precision of its own, with casts."""

    def __init__(self, scale: torch.dtype, stem: torch.dtype, backbone: torch.dtype, head: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Parameter(torch.tensor(1.5, dtype=scale))
        self.backbone = nn.Conv2d(8, 8, 3).to(backbone)
        self.stem, self.head = nn.Conv2d(3, 8, 3).to(stem), nn.Linear(8, 4).to(head)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x * self.scale)
        h = self.backbone(h.to(self.backbone.weight.dtype)).relu().mean((2, 3))
        return self.head(h.to(self.head.weight.dtype))


def _frozen(dtype: torch.dtype) -> nn.Module:
    """All weights are buffers."""

    def freeze(module: nn.Module) -> None:
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())

    net = Net(SINGLE, dtype, dtype, dtype)
    net.apply(freeze)
    return net


def _beside_a_frozen_stem() -> nn.Module:
    """The parameters are half, and the layer that takes the image holds its weights in single precision as buffers."""
    net = Net(HALF, SINGLE, HALF, HALF)
    for name, parameter in list(net.stem.named_parameters()):
        delattr(net.stem, name)
        net.stem.register_buffer(name, parameter.detach())
    return net


class Quiet(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square().flatten(1)[:, :4]


# The network, the precision of the images that come, and that in which they are explained.
CASES: dict[str, tuple[Callable[[], nn.Module], torch.dtype, torch.dtype]] = {
    "a double scale before a single stem": (lambda: Net(DOUBLE, SINGLE, SINGLE, SINGLE), SINGLE, SINGLE),
    "a half scale before a single stem": (lambda: Net(HALF, SINGLE, SINGLE, SINGLE), SINGLE, SINGLE),
    "a half backbone before a single stem": (lambda: Net(SINGLE, SINGLE, BRAIN, SINGLE), SINGLE, SINGLE),
    "a double head": (lambda: Net(SINGLE, SINGLE, SINGLE, DOUBLE), SINGLE, SINGLE),
    "a half stem, single images": (lambda: Net(SINGLE, BRAIN, SINGLE, SINGLE), SINGLE, BRAIN),
    "a single stem, double images": (lambda: Net(DOUBLE, SINGLE, BRAIN, SINGLE), DOUBLE, SINGLE),
    "a double stem": (lambda: Net(SINGLE, DOUBLE, SINGLE, SINGLE), SINGLE, DOUBLE),
    "all brain half": (lambda: Net(BRAIN, BRAIN, BRAIN, BRAIN), SINGLE, BRAIN),
    "all double": (lambda: Net(DOUBLE, DOUBLE, DOUBLE, DOUBLE), SINGLE, DOUBLE),
    "all single, double images": (lambda: Net(SINGLE, SINGLE, SINGLE, SINGLE), DOUBLE, SINGLE),
    "frozen in single precision": (lambda: _frozen(SINGLE), SINGLE, SINGLE),
    "frozen in double precision": (lambda: _frozen(DOUBLE), SINGLE, DOUBLE),
    "a frozen single stem before half layers": (_beside_a_frozen_stem, SINGLE, SINGLE),
    "no parameters": (Quiet, DOUBLE, DOUBLE),
}


@pytest.mark.parametrize("name", CASES)
def test_images_come_in_the_precision_that_the_network_takes(name: str) -> None:
    make, given, taken = CASES[name]
    model = make().eval()
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(given)
    x = images.to(taken).requires_grad_()
    value = model(x)[:, 1]
    (gradient,) = torch.autograd.grad(value.sum(), x)
    state = copy.deepcopy(model.state_dict())
    for _ in range(2):
        found = sl.explain(model, images, "gradient", 1)
        assert found.checks.settings["dtype"] == str(taken).removeprefix("torch.")
        assert torch.equal(found["gradient"], gradient)
        torch.testing.assert_close(found.values.double(), value.double().detach(), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(ask(model, images, 1)[:, 1].double(), value.double().detach(), rtol=1e-2, atol=1e-2)
    assert all(torch.equal(before, model.state_dict()[name]) for name, before in state.items())


def test_a_network_that_runs_with_none_is_told_of_its_own_error() -> None:
    model = Net(DOUBLE, SINGLE, SINGLE, SINGLE).eval()
    with pytest.raises(sl.InputError, match=r"fails in stem.*\(1, 5, 8, 8\)"):
        sl.explain(model, torch.rand(1, 5, 8, 8), "gradient", 1)


def test_gad_and_audit_take_them_too() -> None:
    model = Net(DOUBLE, SINGLE, SINGLE, SINGLE).eval()
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    sl.audit(model, images, ["gradient"], ["class_sensitivity", "completeness", "parameter_randomization"])
    report = sl.GAD(model, (0, 1), (1,), steps=1).fit((images, torch.arange(6) % 2), controls=False).report
    assert len(report) == 1
