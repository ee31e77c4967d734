"""Hooks that only look on change nothing; those that change a value are refused where it matters."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_full_backward_hook

import sightline as sl
from sightline.propagation import deep_taylor

METHODS = [
    "gradient", "grad_cam", "grad_cam@2", "guided_backprop", "deconvnet", "lrp_0", "lrp_epsilon", "lrp_epsilon_plus",
    "full_grad", sl.Method(propagation=deep_taylor(0.0, 1.0), name="deep_taylor"),
]  # fmt: skip
GRADIENTS = ["gradient", "grad_cam", "grad_cam@2"]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.double().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 10, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _kept(module: nn.Module, *_: object) -> None:
    """Nothing."""


LOOK_ON: dict[str, Callable[[nn.Sequential], object]] = {
    "forward": lambda m: [module.register_forward_hook(_kept) for module in m.modules()],
    "forward, the result itself": lambda m: m[2].register_forward_hook(lambda _m, _i, output: output),
    "forward, a copy": lambda m: m[2].register_forward_hook(lambda _m, _i, output: output.clone()),
    "forward, with settings": lambda m: m[2].register_forward_hook(
        lambda _m, _i, _k, _o: None, with_kwargs=True, always_call=True
    ),
    "backward": lambda m: [module.register_full_backward_hook(_kept) for module in m.modules()],
    "backward, the signal itself": lambda m: [
        module.register_full_backward_hook(lambda _m, given, _o: given) for module in m.modules()
    ],
    "before the backward": lambda m: [
        module.register_full_backward_pre_hook(lambda _m, given: tuple(given)) for module in m.modules()
    ],
    "backward on a convolution": lambda m: m[0].register_full_backward_hook(_kept),
    "on a result": lambda m: m[2].register_forward_hook(
        lambda _m, _i, output: output.register_hook(lambda signal: None) and None
    ),
    "on a result, by name": lambda m: m[0].register_forward_hook(
        lambda _m, _i, output: output.register_hook(hook=lambda signal: signal * 1) and None
    ),
}


@pytest.mark.parametrize("hook", LOOK_ON)
def test_hooks_that_look_on_change_nothing(hook: str, images: Tensor) -> None:
    right = sl.explain(network(), images, METHODS, 1)
    model = network()
    LOOK_ON[hook](model)
    before = [len(module._forward_hooks) for module in model.modules()]
    together = sl.explain(model, images, METHODS, 1)
    for method in METHODS:
        name = method if isinstance(method, str) else method.name
        alone = sl.explain(model, images, method, 1)[name]
        for found in (alone, together[name]):
            torch.testing.assert_close(found, right[name], rtol=1e-12, atol=1e-14, msg=name)
    assert [len(module._forward_hooks) for module in model.modules()] == before


def test_hooks_on_every_module_there_is(images: Tensor) -> None:
    right = sl.explain(network(), images, METHODS, 1)
    handle = register_module_full_backward_hook(_kept)
    try:
        found = sl.explain(network(), images, METHODS, 1)
    finally:
        handle.remove()
    for name in right.maps:
        torch.testing.assert_close(found[name], right[name], rtol=1e-12, atol=1e-14)


def test_a_target_that_is_a_hooked_modules_result(images: Tensor) -> None:
    model = nn.Sequential(*network(), nn.Linear(3, 1), nn.Flatten(0)).double().eval()
    right = sl.explain(model, images, ["guided_backprop", "lrp_0", "full_grad"], lambda output: output)
    model[-1].register_full_backward_hook(_kept)
    found = sl.explain(model, images, ["guided_backprop", "lrp_0", "full_grad"], lambda output: output)
    for name in right.maps:
        torch.testing.assert_close(found[name], right[name], rtol=1e-12, atol=1e-14)


def test_hooks_are_called_as_torch_calls_them(images: Tensor) -> None:
    seen: list[list[Tensor]] = [[], []]
    for keep in seen:
        model = network()
        model[3].register_full_backward_hook(lambda _m, inside, out, keep=keep: keep.extend([inside[0], out[0]]))
        model[4].register_forward_hook(lambda _m, _i, output, keep=keep: output.register_hook(keep.append) and None)
        if keep is seen[0]:
            x = images.clone().requires_grad_()
            torch.autograd.grad(model(x)[:, 1].sum(), x)
        else:
            sl.explain(model, images, ["gradient", "grad_cam"], 1)
    assert len(seen[0]) == len(seen[1]) == 3
    for right, found in zip(*seen, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-14)


def _doubled(_module: nn.Module, inside: tuple[Tensor | None, ...], _out: object) -> tuple[Tensor | None, ...]:
    return tuple(None if signal is None else 2 * signal for signal in inside)


def _in_place(signal: Tensor) -> None:
    signal.data.mul_(2)


CHANGE: dict[str, Callable[[nn.Sequential], object]] = {
    "backward": lambda m: m[4].register_full_backward_hook(_doubled),
    "backward, in place": lambda m: m[4].register_full_backward_hook(lambda _m, inside, _o: _in_place(inside[0])),
    "before the backward": lambda m: m[4].register_full_backward_pre_hook(lambda _m, out: (2 * out[0],)),
    "on a result": lambda m: m[4].register_forward_hook(
        lambda _m, _i, output: output.register_hook(lambda signal: 2 * signal) and None
    ),
    "on a result, in place": lambda m: m[4].register_forward_hook(
        lambda _m, _i, output: output.register_hook(_in_place) and None
    ),
    "backward by the old kind": lambda m: m[4].register_backward_hook(_doubled),
}


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook")
@pytest.mark.parametrize("hook", CHANGE)
def test_hooks_that_change_the_signal_refuse_rules_and_no_gradient(hook: str, images: Tensor) -> None:
    model = network()
    CHANGE[hook](model)
    x = images.clone().requires_grad_()
    (right,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    for method in ("guided_backprop", "lrp_epsilon", "full_grad"):
        with pytest.raises(sl.RefusalError, match="gradient hook"):
            sl.explain(model, images, method, 1)
    found = sl.explain(model, images, [*GRADIENTS, "guided_backprop", "lrp_0", "full_grad"], 1, on_refusal="record")
    assert set(found.refused) == {"guided_backprop", "lrp_0", "full_grad"}
    torch.testing.assert_close(found["gradient"], right, rtol=1e-12, atol=1e-14)
    assert all(re.search(r"gradient hooks of 4\b|a gradient hook\b", reason) for reason in found.refused.values())


@pytest.mark.parametrize(
    "hook",
    [
        lambda _m, _i, output: output + 0.5,
        lambda _m, _i, output: output.clamp(max=0.1),
        lambda _m, _i, output: setattr(_m, "kept", output.mul_(2)),
        lambda _m, _i, output: _in_place(output.detach()),
        lambda _m, _i, output: (output,),
    ],
    ids=["other", "clamped", "in place", "in place on .data", "a tuple"],
)
def test_a_layer_whose_own_hooks_change_its_result_is_refused(hook: Callable[..., object], images: Tensor) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rest = network()[:3], network()[3:]

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            return self.rest(h[0] if isinstance(h, tuple) else h)

    model = Around().double().eval()
    model.first.register_forward_hook(hook)
    with pytest.raises(sl.RefusalError, match=r"'first' carries forward hooks"):
        sl.explain(model, images, "grad_cam@first", 1)
    assert len(model.first._forward_hooks) == 1


def test_another_librarys_living_object(images: Tensor) -> None:
    """As pytorch-grad-cam and captum keep activations and gradients of a layer."""

    class Keeps:
        def __init__(self, layer: nn.Module) -> None:
            self.values: list[Tensor] = []
            self.signals: list[Tensor] = []
            layer.register_forward_hook(lambda _m, _i, output: self.values.append(output.cpu().detach()))
            layer.register_forward_hook(self.listen)

        def listen(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
            if hasattr(output, "requires_grad") and output.requires_grad:
                output.register_hook(lambda signal: self.signals.append(signal.cpu().detach()))

    right = sl.explain(network(), images, METHODS, 1)
    model = network()
    keeps = Keeps(model[2])
    found = sl.explain(model, images, METHODS, 1)
    for name in right.maps:
        torch.testing.assert_close(found[name], right[name], rtol=1e-12, atol=1e-14)
    assert keeps.values
    assert keeps.signals
