"""torch.inference_mode around the call, images, weights or forward: the map is right, or it is said why there is none.

The oracle is torch's autograd outside of that mode.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sightline as sl

METHODS = ["gradient", "input_x_gradient", "lrp_0", "grad_cam@2"]


class Net(nn.Sequential):
    """Homogeneous but for biases, so that LRP-0 is the input times the gradient."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
        )
        self.double()
        self.eval()


class Around(nn.Module):
    def __init__(self, forward: Callable[["Around", Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.body = Net(), forward
        with torch.inference_mode():
            self.half = torch.full((3, 1, 1), 0.5, dtype=torch.float64)
            self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def right(found: sl.Explanation, images: Tensor, scale: float = 1.0) -> None:
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Net()(x * scale)[:, 1].sum(), x)
    torch.testing.assert_close(found["gradient"], gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found["lrp_0"], images * gradient, rtol=1e-7, atol=1e-11)


def test_around_the_call(images: Tensor) -> None:
    model = Net()
    with torch.inference_mode():
        found = sl.explain(model, images, METHODS, 1)
    right(found, images)


def test_images_and_weights_made_in_it(images: Tensor) -> None:
    with torch.inference_mode():
        given, model = images.clone(), Net()
        within = sl.explain(model, given, METHODS, 1)
    assert model[0].weight.is_inference()
    right(within, images)
    outside = sl.explain(model, given, METHODS, 1)
    right(outside, images)
    assert all(torch.equal(outside[name], within[name]) for name in METHODS)
    assert all(parameter.is_inference() for parameter in model.parameters())


def test_constants_and_buffers_made_in_it(images: Tensor) -> None:
    def body(m: Around, x: Tensor) -> Tensor:
        m.calls += 1
        return m.net(x * m.half)

    model = Around(body).eval()
    right(sl.explain(model, images, ["gradient", "lrp_0"], 1), images, 0.5)
    assert model.calls.item() == 0


def test_a_forward_within_it_has_no_gradient_and_says_so(images: Tensor) -> None:
    @torch.inference_mode()
    def whole(m: Around, x: Tensor) -> Tensor:
        return m.net(x)

    def stem(m: Around, x: Tensor) -> Tensor:
        with torch.inference_mode():
            h = m.net[1](m.net[0](x))
        for layer in list(m.net)[2:]:
            h = layer(h)
        return h

    for method in ("gradient", "lrp_0", "guided_backprop", "full_grad", "grad_cam@net.2", "smooth_grad"):
        with pytest.raises(sl.RefusalError, match=r"graph is cut.*inference_mode") as caught:
            sl.explain(Around(whole).eval(), images, method, 1)
        assert "would equal" not in str(caught.value)
    with pytest.raises(sl.RefusalError, match="inference_mode"):
        sl.explain(Around(stem).eval(), images, "gradient", 1)
    # Behind the cut the graph begins anew, so that a layer there has a map.
    found = sl.explain(Around(stem).eval(), images, "grad_cam@net.2", 1)["grad_cam@net.2"]
    torch.testing.assert_close(found, sl.explain(Net(), images, "grad_cam@2", 1)["grad_cam@2"], rtol=1e-12, atol=1e-14)
