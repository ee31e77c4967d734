"""Agreement with Captum, on models where Captum is right."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.sampling import Path

pytest.importorskip("captum")

import captum.attr as captum


class Block(nn.Module):
    """A residual block with a ReLU module of its own for each use, which is what module hooks need."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.second(self.relu1(self.first(x))) + x)


@pytest.fixture(params=["vgg-like", "residual"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "vgg-like":
        body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()]
        head = [nn.Flatten(), nn.Linear(8 * 36, 20), nn.ReLU(), nn.Linear(20, 5)]
    else:
        body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Block(8), nn.MaxPool2d(2), Block(8)]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    network = nn.Sequential(nn.Sequential(*body), *head).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


TARGET = [0, 3, 4]


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("gradient", lambda m, x, t: captum.Saliency(m).attribute(x, t, abs=False)),
        ("saliency", lambda m, x, t: captum.Saliency(m).attribute(x, t)),
        ("input_x_gradient", lambda m, x, t: captum.InputXGradient(m).attribute(x, t)),
        ("guided_backprop", lambda m, x, t: captum.GuidedBackprop(m).attribute(x, t)),
        ("deconvnet", lambda m, x, t: captum.Deconvolution(m).attribute(x, t)),
        ("grad_cam", lambda m, x, t: captum.LayerGradCam(m, m[0]).attribute(x, t, relu_attributions=True)),
    ],
)
def test_agrees_with_captum(name: str, peer, model: nn.Module, images: Tensor) -> None:
    ours = sl.explain(model, images, name, TARGET)[name]
    theirs = peer(model, images.clone().requires_grad_(), torch.tensor(TARGET)).detach()
    assert _difference(ours, theirs) < 1e-10


class CaptumsPath(Path):
    """Captum rounds its quadrature weights to single precision; so does this path, to compare all the rest."""

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(torch.tensor(super().weights).float().double().tolist())


def test_integrated_gradients_agrees_with_captum(model: nn.Module, images: Tensor) -> None:
    method = replace(sl.catalogue()["integrated_gradients"], sampling=CaptumsPath(50), name="rounded")
    explanation = sl.explain(model, images, ["integrated_gradients", method], TARGET)
    peer = captum.IntegratedGradients(model)
    theirs, delta = peer.attribute(
        images, torch.zeros_like(images), torch.tensor(TARGET), n_steps=50, return_convergence_delta=True
    )
    assert _difference(explanation["rounded"], theirs) < 1e-10
    assert _difference(explanation["integrated_gradients"], theirs) < 1e-7
    torch.testing.assert_close(explanation.checks.completeness["rounded"], delta, rtol=1e-6, atol=1e-9)
