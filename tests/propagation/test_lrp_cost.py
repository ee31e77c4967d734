"""What propagations cost, in counted matrix work: units of one forward pass at 224 px, batch 1."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import sightline as sl

RECTIFIED = ["gradient", "guided_backprop", "deconvnet", "rect_grad", "rect_grad_no_input"]


def _flops(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def _network(name: str) -> nn.Module:
    torchvision = pytest.importorskip("torchvision")

    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    # Of both signs, so that the first layer takes the dearer form of z+.
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    ("name", "methods", "bound"),
    [
        ("resnet18", ["gradient"], 2.05),
        ("resnet18", RECTIFIED, 5.2),
        ("resnet18", ["lrp_epsilon"], 2.1),
        ("resnet18", ["lrp_epsilon_plus"], 3.2),
        ("mobilenet_v2", ["lrp_epsilon_plus"], 3.6),
        ("resnet18", ["lrp_epsilon_alpha2_beta1"], 4.1),
    ],
)
def test_the_targets_hold(name: str, methods: list[str], bound: float, images: torch.Tensor) -> None:
    model = _network(name)
    forward = _flops(lambda: model(images))
    assert _flops(lambda: sl.explain(model, images, methods, 0)) <= bound * forward


@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "lrp_epsilon"])
def test_ten_classes_share_one_forward(method: str, images: torch.Tensor) -> None:
    model = _network("resnet18")
    forward = _flops(lambda: model(images))
    assert _flops(lambda: sl.explain(model, images, method, targets=range(10))) <= 11.1 * forward


def test_what_depends_on_no_class_is_computed_once(images: torch.Tensor) -> None:
    """z+ needs its denominators once, whatever the number of classes: each further class costs the backward alone."""
    model = _network("resnet18")
    one, two, three = (
        _flops(lambda n=n: sl.explain(model, images, "lrp_epsilon_plus", targets=range(n))) for n in (1, 2, 3)
    )
    forward = _flops(lambda: model(images))
    first_layer = 2 * 64 * 3 * 7 * 7 * 112 * 112
    assert three - two == two - one == pytest.approx(forward + first_layer, rel=1e-12)


def test_all_of_a_kind_share_one_pass(images: torch.Tensor) -> None:
    model = _network("resnet18")
    forward = _flops(lambda: model(images))
    alone = sum(_flops(lambda m=m: sl.explain(model, images, m, 0)) - forward for m in ("lrp_0", "lrp_epsilon_plus"))
    assert _flops(lambda: sl.explain(model, images, ["lrp_0", "lrp_epsilon_plus"], 0)) == alone + forward
