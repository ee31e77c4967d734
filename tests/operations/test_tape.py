"""Activation checkpointing: methods that need only the gradient give it, alone and in any company."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import sightline as sl

pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
Part = Callable[[Callable[..., Tensor], Tensor], Tensor]
RULED = ["guided_backprop", "lrp_epsilon", "full_grad"]


def _plain(part: Callable[..., Tensor], x: Tensor) -> Tensor:
    return part(x)


WAYS: dict[str, Part] = {
    "reentrant": lambda part, x: checkpoint(part, x, use_reentrant=True),
    "not reentrant": lambda part, x: checkpoint(part, x, use_reentrant=False),
    "late stop": lambda part, x: _late(part, x),
    "nested": lambda part, x: checkpoint(lambda t: checkpoint(part, t, use_reentrant=False), x, use_reentrant=False),
    "nested, reentrant": lambda part, x: checkpoint(
        lambda t: checkpoint(part, t, use_reentrant=True), x, use_reentrant=True
    ),
    "mixed": lambda part, x: checkpoint(lambda t: checkpoint(part, t, use_reentrant=False), x, use_reentrant=True),
    "sequential": lambda part, x: checkpoint_sequential([part, nn.Identity()], 2, x, use_reentrant=False),
    "sequential, reentrant": lambda part, x: checkpoint_sequential([part, nn.Identity()], 2, x, use_reentrant=True),
}


def _late(part: Callable[..., Tensor], x: Tensor) -> Tensor:
    with torch.utils.checkpoint.set_checkpoint_early_stop(False):
        return checkpoint(part, x, use_reentrant=False)


class Checkpointed(nn.Module):
    """Square dense layers, so that tensors saved in the wrong order would fit."""

    def __init__(self, way: Part) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.stem, self.inner, self.late = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3)
        self.dense, self.head = nn.Linear(6, 6), nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.rand(6, 8, 8))
        self.plain = torch.rand(6, dtype=torch.float64, requires_grad=True)
        self.double().eval()

    def part(self, h: Tensor) -> Tensor:
        h = self.inner(h).relu() * self.scale
        t = torch.nn.functional.gelu(self.dense(h.flatten(2).transpose(1, 2)))
        t = t * (self.plain * 2) * t
        return t.transpose(1, 2).unflatten(2, (8, 8)) + h

    def forward(self, x: Tensor) -> Tensor:
        h = self.way(self.part, torch.relu(self.stem(x)))
        return self.head(self.late(h).relu().mean((2, 3)))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 3, 10, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_does_not_depend_on_its_company(way: str, images: Tensor) -> None:
    model = Checkpointed(WAYS[way])
    x = images.clone().requires_grad_()
    (right,) = torch.autograd.grad(Checkpointed(_plain)(x)[:, 1].sum(), x)
    right_cams = sl.explain(Checkpointed(_plain), images, ["grad_cam", "grad_cam@stem", "grad_cam@late"], 1)
    for beside in ([], ["grad_cam"], ["grad_cam@stem"], *[[name] for name in RULED], ["grad_cam@late", *RULED]):
        found = sl.explain(model, images, ["gradient", *beside], 1, on_refusal="record")
        torch.testing.assert_close(found["gradient"], right, rtol=1e-12, atol=1e-14)
        assert set(found.refused) == set(beside) & set(RULED)
        for name in set(beside) - set(RULED):
            torch.testing.assert_close(found[name], right_cams[name], rtol=1e-12, atol=1e-14)
    assert all(p.grad is None for p in [*model.parameters(), model.plain])


@pytest.mark.parametrize("method", RULED)
@pytest.mark.parametrize("way", WAYS)
def test_methods_with_rules_are_refused_by_themselves(way: str, method: str, images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match=r"(?i)checkpoint"):
        sl.explain(Checkpointed(WAYS[way]), images, method, 1)


@pytest.mark.parametrize("way", ["not reentrant", "nested", "late stop"])
def test_a_layer_inside_a_checkpoint_has_its_gradient(way: str, images: Tensor) -> None:
    right = sl.explain(Checkpointed(_plain), images, ["grad_cam@inner", "layer_cam@inner"], 1)
    found = sl.explain(Checkpointed(WAYS[way]), images, ["gradient", "grad_cam@inner", "layer_cam@inner"], 1)
    for name in ("grad_cam@inner", "layer_cam@inner"):
        torch.testing.assert_close(found[name], right[name], rtol=1e-12, atol=1e-14)


def test_a_layer_inside_a_reentrant_checkpoint_is_refused(images: Tensor) -> None:
    model = Checkpointed(WAYS["reentrant"])
    found = sl.explain(model, images, ["gradient", "grad_cam@inner"], 1, on_refusal="record")
    assert "checkpoint" in found.refused["grad_cam@inner"]
    assert set(found.maps) == {"gradient"}


def test_samples_and_paths_are_asked_of_checkpoints_too(images: Tensor) -> None:
    names = ["integrated_gradients", "smooth_grad"]
    right = sl.explain(Checkpointed(_plain), images[:2], names, 1, seed=3)
    for way in ("reentrant", "not reentrant"):
        found = sl.explain(Checkpointed(WAYS[way]), images[:2], [*names, "lrp_epsilon"], 1, seed=3, on_refusal="record")
        for name in names:
            torch.testing.assert_close(found[name], right[name], rtol=1e-10, atol=1e-12)
        assert set(found.refused) == {"lrp_epsilon"}


@pytest.mark.parametrize("targets", [1, 2])
def test_several_targets_are_asked_of_checkpoints_too(targets: int, images: Tensor) -> None:
    chosen = [1, 2][:targets]
    for way in ("reentrant", "not reentrant"):
        found = sl.explain(
            Checkpointed(WAYS[way]), images, ["gradient", "grad_cam@late", "lrp_0"], targets=chosen, on_refusal="record"
        )
        for one, target in zip(found, chosen, strict=True):
            right = sl.explain(Checkpointed(_plain), images, "gradient", target)["gradient"]
            torch.testing.assert_close(one["gradient"], right, rtol=1e-12, atol=1e-14)
            assert set(one.refused) == {"lrp_0"}


def test_densenets_own_checkpoints() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    settings = {"growth_rate": 4, "block_config": (2, 2), "num_init_features": 8, "num_classes": 4}
    plain = torchvision.models.DenseNet(**settings).eval()
    model = torchvision.models.DenseNet(**settings, memory_efficient=True).eval()
    model.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    right = sl.explain(plain, images, ["gradient", "grad_cam"], 1)
    found = sl.explain(model, images, ["gradient", "grad_cam", "guided_backprop"], 1, on_refusal="record")
    for name in right.maps:
        torch.testing.assert_close(found[name], right[name], rtol=1e-5, atol=1e-7)
    assert set(found.refused) == {"guided_backprop"}
