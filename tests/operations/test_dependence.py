"""What counts is whether a tensor depends on the image, not whether it requires gradients."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import sightline as sl

METHODS = ["gradient", "grad_cam", "guided_backprop", "lrp_epsilon", "lrp_z_plus", "full_grad"]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 10, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def gradient(model: Callable[[Tensor], Tensor], images: Tensor, target: int = 1) -> Tensor:
    """Plain autograd, image by image, so that no image can help another."""
    rows = [image.clone().requires_grad_() for image in images.split(1)]
    return torch.cat([torch.autograd.grad(model(row)[0, target], row)[0] for row in rows])


class Small(nn.Module):
    """A convolution whose weights a subclass or an attribute may make, a rectifier and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.double().eval()

    def weight(self) -> Tensor:
        return self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        h = F.conv2d(x, self.weight(), self.conv.bias).relu()
        return self.head(h.mean((2, 3)))


def standardised(weight: Tensor) -> Tensor:
    return F.batch_norm(weight.reshape(1, len(weight), -1), None, None, training=True, eps=1e-6).reshape_as(weight)


def by_torchs_own(weight: Tensor) -> Tensor:
    flat = weight.reshape(1, len(weight), -1)
    return torch.batch_norm(flat, None, None, None, None, True, 0.0, 1e-6, False).reshape_as(weight)


class Standardised(Small):
    def __init__(self, norm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = norm

    def weight(self) -> Tensor:
        return self.norm(self.conv.weight)


NORMS = {
    "F.batch_norm": standardised,
    "torch.batch_norm": by_torchs_own,
    "native": lambda w: torch.native_batch_norm(w.reshape(1, len(w), -1), None, None, None, None, True, 0.0, 1e-6)[
        0
    ].reshape_as(w),
    "instance norm": lambda w: F.instance_norm(w.reshape(1, len(w), -1), use_input_stats=True).reshape_as(w),
    "dropout of nothing": lambda w: F.dropout(w, 0.0, training=True),
    "under no_grad": torch.no_grad()(standardised),
    "detached": lambda w: standardised(w.detach()),
}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_weights_may_be_normalised_by_their_own_statistics(norm: Callable[[Tensor], Tensor], images: Tensor) -> None:
    model, fixed = Standardised(norm), Small()
    with torch.no_grad():
        fixed.conv.weight.copy_(norm(model.conv.weight))
    found, right = sl.explain(model, images, METHODS, 1), sl.explain(fixed, images, METHODS, 1)
    torch.testing.assert_close(found["gradient"], gradient(model, images), rtol=1e-12, atol=1e-14)
    for method in METHODS:
        torch.testing.assert_close(found[method], right[method], rtol=1e-9, atol=1e-12)
    paths = sl.explain(model, images, "integrated_gradients", 1)
    assert float(paths.checks.completeness["integrated_gradients"].abs().max()) < 0.1


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "F.batch_norm": lambda h: F.batch_norm(h, None, None, training=True),
    "native": lambda h: torch.native_batch_norm(h, None, None, None, None, True, 0.0, 1e-5)[0],
    "detached statistics": lambda h: h + F.batch_norm(h.detach(), None, None, training=True),
    "under no_grad": lambda h: h + torch.no_grad()(F.batch_norm)(h, None, None, training=True),
    "of a mask": lambda h: h * F.batch_norm((h > 0.1).double(), None, None, training=True),
}


class Mixing(Small):
    def __init__(self, norm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("methods", ["gradient", "grad_cam", "lrp_epsilon", []])
@pytest.mark.parametrize("norm", MIXING.values(), ids=MIXING)
def test_images_may_not_be_normalised_by_each_other(
    norm: Callable[[Tensor], Tensor], methods: object, images: Tensor
) -> None:
    with pytest.raises(sl.RefusalError, match=r"batch_norm.*batch"):
        sl.explain(Mixing(norm), images, methods or sl.Method(sampling=sl.catalogue()["gradient"].sampling), 1)


def test_a_batch_norm_without_statistics_is_told_what_it_lacks(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).double()
    with pytest.raises(sl.RefusalError, match=r"batch_norm in 1 .*model\.eval\(\) first"):
        sl.explain(model, images, "gradient", 1)
    with pytest.raises(sl.RefusalError, match=r"batch_norm in 1 .*eval mode already.*track_running_stats=True") as told:
        sl.explain(model.eval(), images, "gradient", 1)
    assert "eval() first" not in str(told.value)


def test_dropout_that_is_always_on_is_told_so(images: Tensor) -> None:
    model = Mixing(lambda h: F.dropout(h, 0.5))
    with pytest.raises(sl.RefusalError, match=r"dropout.*Switch that off"):
        sl.explain(model, images, "gradient", 1)
    weights = Standardised(lambda w: F.dropout(w, 0.5))
    with pytest.raises(sl.RefusalError, match=r"dropout.*Switch that off"):
        sl.explain(weights, images, "gradient", 1)


def _fast(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """One inner step of meta-learning: weights that are results of other tensors."""
    slow = dict(model.named_parameters())
    loss = F.cross_entropy(functional_call(model, slow, (images,)), torch.tensor([0, 1, 2]))
    gradients = torch.autograd.grad(loss, list(slow.values()), create_graph=True)
    return {name: w - 0.1 * g for (name, w), g in zip(slow.items(), gradients, strict=True)}


WEIGHTS: dict[str, Callable[[nn.Module, Tensor], dict[str, Tensor]]] = {
    "parameters": lambda m, x: dict(m.named_parameters()),
    "plain leaves": lambda m, x: {k: v.detach().clone().requires_grad_() for k, v in m.named_parameters()},
    "results": lambda m, x: {k: v * 1.5 for k, v in m.named_parameters()},
    "views": lambda m, x: {k: v[:] for k, v in m.named_parameters()},
    "an inner step": _fast,
}


@pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_require_gradients_are_constants(
    make: Callable[[nn.Module, Tensor], dict[str, Tensor]], images: Tensor
) -> None:
    model = Small()
    weights = make(model, images)
    fixed = Small()
    fixed.load_state_dict({k: v.detach() for k, v in weights.items()})
    right = sl.explain(fixed, images, METHODS, 1)
    for methods in (METHODS, ["gradient"], ["grad_cam"], ["lrp_epsilon"]):
        found = sl.explain(lambda x: functional_call(model, weights, (x,)), images, methods, 1)
        for method in methods:
            torch.testing.assert_close(found[method], right[method], rtol=1e-12, atol=1e-14)
    assert all(w.requires_grad for w in weights.values())
    assert all(w.grad is None for w in [*weights.values(), *model.parameters()] if w.is_leaf)
    # The user's own graph is whole: it can still be differentiated.
    torch.autograd.grad(sum(w.sum() for w in weights.values()), list(model.parameters()), allow_unused=True)


def _buffer(model: Small) -> None:
    model.register_buffer("extra", torch.ones(4, 3, 3, 3, dtype=torch.float64).requires_grad_())


MADE: dict[str, Callable[[Small], Tensor]] = {
    "scaled": lambda m: m.conv.weight * m.extra,
    "by weight norm": lambda m: torch._weight_norm(m.conv.weight, m.extra[:, :1, :1, :1], 0),
    "by a network of its own": lambda m: (m.head(m.conv.weight.flatten(1)[:, :4]).relu() @ m.head.weight[:, :3])[
        :, :, None, None
    ].expand(-1, -1, 3, 3),
    "by scripted code": lambda m: _scripted(m.conv.weight, m.extra),
    "in place on a copy": lambda m: m.conv.weight.clone().mul_(m.extra),
    "cast": lambda m: m.conv.weight.float().double() + m.extra,
}


def _scripted(weight: Tensor, scale: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(_made)(weight, scale)


def _made(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight * scale).tanh()


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_weights_made_from_weights_are_constants(make: Callable[[Small], Tensor], images: Tensor) -> None:
    class Made(Small):
        def weight(self) -> Tensor:
            return make(self)

    model, fixed = Made(), Small()
    _buffer(model)
    with torch.no_grad():
        fixed.conv.weight.copy_(make(model))
    found, right = sl.explain(model, images, METHODS, 1), sl.explain(fixed, images, METHODS, 1)
    for method in METHODS:
        torch.testing.assert_close(found[method], right[method], rtol=1e-12, atol=1e-14)
    assert model.extra.requires_grad
    assert model.extra.grad is None


def test_weights_made_from_the_image_are_no_constants(images: Tensor) -> None:
    class Made(Small):
        def weight(self) -> Tensor:
            return self.conv.weight * self.scale

        def forward(self, x: Tensor) -> Tensor:
            self.scale = x.mean()
            return super().forward(x)

    with pytest.raises(sl.RefusalError, match="conv2d"):
        sl.explain(Made(), images[:1], "lrp_epsilon", 1)
    found = sl.explain(Made(), images[:1], "gradient", 1)["gradient"]
    torch.testing.assert_close(found, gradient(Made(), images[:1]), rtol=1e-12, atol=1e-14)


def test_a_write_into_a_weight_joins_it_to_the_image(images: Tensor) -> None:
    """What is cut from the graph must not be what the image is written into."""

    class Written(Small):
        def forward(self, x: Tensor) -> Tensor:
            canvas = self.canvas * 2
            canvas[:, :1] = self.conv(x).relu().mean((2, 3))[:, :1]
            return self.head(canvas)

    model = Written()
    model.canvas = torch.rand(1, 4, dtype=torch.float64, requires_grad=True)
    for methods in (["gradient"], ["gradient", "guided_backprop"]):
        found = sl.explain(model, images[:1], methods, 1)
        torch.testing.assert_close(found["gradient"], gradient(model, images[:1]), rtol=1e-12, atol=1e-14)
    outside = torch.rand(1, 4, dtype=torch.float64, requires_grad=True)
    model.forward = lambda x: model.head(_overwritten(outside * 1, model.conv(x).relu().mean((2, 3))))
    found = sl.explain(model, images[:1], ["gradient", "guided_backprop"], 1)
    torch.testing.assert_close(found["gradient"], gradient(model, images[:1]), rtol=1e-12, atol=1e-14)


def _overwritten(canvas: Tensor, values: Tensor) -> Tensor:
    canvas.add_(values)
    return canvas


def test_a_model_may_differentiate_inside(images: Tensor) -> None:
    """Leaves that the model makes for itself are left to it, and so are the transforms of torch.func."""

    class Inner(Small):
        def forward(self, x: Tensor) -> Tensor:
            inner = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(super().forward(inner).sum(), inner)
            made = torch.zeros(3, dtype=torch.float64, requires_grad=True)
            (ones,) = torch.autograd.grad((made * 2).sum(), made)
            pulled = torch.func.grad(lambda w: (w**2).sum())(self.head.weight)
            return super().forward(x * slope) + ones + pulled.sum()

    model = Inner()
    for methods in (["gradient"], ["gradient", "grad_cam@conv"]):
        try:
            found = sl.explain(model, images, methods, 1, on_refusal="record")["gradient"]
        except sl.RefusalError as error:
            raise AssertionError(error) from error
        torch.testing.assert_close(found, gradient(model, images), rtol=1e-12, atol=1e-14)
