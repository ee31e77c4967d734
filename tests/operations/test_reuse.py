"""Results that are taken over from pass to pass: never others, and no arithmetic twice."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

import sightline as sl
from sightline.auditing import Randomisation, audit
from sightline.operations._reuse import Reuse, reusing

METHODS = ["gradient", "guided_backprop", "lrp_epsilon_plus", "grad_cam"]


class Reused(nn.Module):
    """A layer that is used twice, a bare parameter, a skip, and a ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.rand(4, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x), inplace=True)
        x = F.relu(self.norm(self.twice(x))) + x
        x = F.relu(self.twice(x) * self.scale)
        return self.last(x.mean((2, 3)))


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True),
        nn.Conv2d(5, 4, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def normed() -> nn.Module:
    return nn.Sequential(
        weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), weight_norm(nn.Conv2d(4, 4, 3)), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {"plain": plain, "reused": Reused, "normed": normed}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().eval().requires_grad_(False)


def images(seed: int = 1, count: int = 2) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def maps(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    found = sl.explain(model, x, METHODS, 1, on_refusal="record")
    return {**found.maps, "values": found.values}


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(sorted(NETWORKS)))
def test_maps_are_those_without_it_whatever_changes(data: st.DataObject, name: str) -> None:
    model, reuse = made(name), Reuse(made(name))
    reuse.model = model
    tensors = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    with reusing(reuse):
        for _ in range(data.draw(st.integers(2, 5))):
            for number in data.draw(st.lists(st.integers(0, len(tensors) - 1), max_size=2)):
                with torch.no_grad():
                    tensors[number].mul_(1.1)
            x = images(data.draw(st.integers(1, 2)))
            found = maps(model, x)
            # Another network is none of its business.
            twin = made(name)
            twin.load_state_dict(model.state_dict())
            for key, expected in maps(twin, x).items():
                assert torch.equal(found[key], expected), key


def test_what_is_written_through_data_has_to_be_told() -> None:
    model = made("plain")
    reuse = Reuse(model)
    with reusing(reuse):
        maps(model, images())
        model[3].weight.data.neg_()
        reuse.changed(model[3])
        found = maps(model, images())
    for key, expected in maps(model, images()).items():
        assert torch.equal(found[key], expected), key


def forward_flops(model: nn.Module, x: Tensor) -> int:
    """Of a job of one pass, the arithmetic of its forward: all but what a backward on a network kept whole takes."""
    with FlopCounterMode(display=False) as counter:
        sl.explain(model, x, "lrp_epsilon", 1)
    return counter.get_total_flops()


def test_only_what_changed_and_what_follows_is_computed() -> None:
    model, x = made("plain"), images()
    # Two for a multiplication and an addition: outputs x inputs x places of each layer, two images.
    layers = [2 * 2 * n for n in (4 * 27 * 36, 5 * 36 * 16, 4 * 20 * 9, 3 * 4)]
    whole = forward_flops(model, x)
    with reusing(Reuse(model)):
        assert forward_flops(model, x) == whole
        assert forward_flops(model, x) == whole - sum(layers)
        for place, kept in ((9, 3), (5, 2), (3, 1), (0, 0), (9, 0)):
            with torch.no_grad():
                model[place].weight.add_(0.01)
            # What is dropped is not kept again, since the layers below are the next to change.
            assert forward_flops(model, x) == whole - sum(layers[:kept])
    assert forward_flops(model, x) == whole


def test_what_does_not_fit_is_not_kept() -> None:
    model, x = made("plain"), images()
    whole = forward_flops(model, x)
    first = 2 * 4 * 36 * 4
    for budget, kept in ((x.nbytes - 1, 0), (x.nbytes + first - 1, 0), (x.nbytes + first, 2 * 2 * 4 * 27 * 36)):
        with reusing(Reuse(model, budget)):
            forward_flops(model, x)
            assert forward_flops(model, x) == whole - kept
    reuse = Reuse(model, x.nbytes + first)
    with reusing(reuse):
        forward_flops(model, x)
        # Other inputs find no room; those that are kept stay.
        assert forward_flops(model, images(2)) == whole
        assert forward_flops(model, x) < whole


@pytest.mark.slow
@pytest.mark.parametrize("order", ["output", "input", "alone", "whole"])
def test_the_audit_finds_the_same(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    how = Randomisation(order, stages=4)
    one = audit(made("reused"), images(count=6), METHODS, ["parameter_randomization"], randomisation=how)
    monkeypatch.setattr(Reuse, "begin", lambda *_: None)
    other = audit(made("reused"), images(count=6), METHODS, ["parameter_randomization"], randomisation=how)
    assert one.scores.equals(other.scores)
