"""Ordinary ways of writing a network: every method right against slow reference code, or refused by name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sightline as sl
from helpers import reference as ref
from helpers import traps

RULES = ["gradient", "guided_backprop", "deconvnet"]


def named(name: str):
    return pytest.mark.parametrize("trap", getattr(traps, name), ids=lambda trap: trap.name)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@named("TRAPS")
def test_every_spelling_is_right(trap: traps.Trap, images: Tensor) -> None:
    network = trap.network()
    target = [0, 1, 2, 0]
    explanation = sl.explain(network, images, RULES, target)
    for rule in RULES:
        for image, label, found in zip(images, target, explanation[rule], strict=True):
            expected = traps.reference_map(trap, network, image, label, rule)
            np.testing.assert_allclose(found.flatten().numpy(), expected, rtol=1e-12, atol=1e-14)


@named("TRAPS")
def test_the_traps_bite(trap: traps.Trap, images: Tensor) -> None:
    """Were the rules not applied, the maps would differ: otherwise the test above could not fail."""
    network = trap.network()
    maps = {rule: [traps.reference_map(trap, network, image, 1, rule) for image in images] for rule in RULES}
    assert not np.allclose(maps["gradient"], maps["guided_backprop"])
    assert not np.allclose(maps["guided_backprop"], maps["deconvnet"])


@named("ESCAPES")
def test_what_escapes_the_interception_is_refused(trap: traps.Trap, images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match=r"guided_backprop.*(computed|pulled back)"):
        sl.explain(trap.network(), images, "guided_backprop", 0)


@named("ESCAPES")
def test_the_gradient_of_what_escapes_is_still_right(trap: traps.Trap, images: Tensor) -> None:
    network = trap.network()
    x = images.clone().requires_grad_()
    # Not `torch.autograd.grad`, which a reentrant checkpoint does not allow.
    network(x)[:, 0].sum().backward()
    found = sl.explain(trap.network(), images, "gradient", 0)["gradient"]
    torch.testing.assert_close(found, x.grad, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
@named("IN_DISGUISE")
def test_a_rectifier_in_disguise_or_an_undefined_operation_is_named(trap: traps.Trap, images: Tensor) -> None:
    network = trap.network()
    scores, _ = trap.graph(network, images[0])
    (operation,) = ref.objections(scores, traps.METHODS["guided_backprop"])
    with pytest.raises(sl.RefusalError, match=f"{operation}.*own forward"):
        sl.explain(network, images, ["guided_backprop"], 0)


@named("OUTSIDE")
def test_what_happens_outside_the_graph_is_refused(trap: traps.Trap, images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match=r"taken out of torch|outside the graph"):
        sl.explain(trap.network(), images, "guided_backprop", 0)


FIRST_COMPILATION = """
import torch
from helpers import traps
import sightline as sl
(trap,) = (trap for trap in traps.TRAPS if trap.name == "compiled function")
image = torch.randn(1, 1, 2, 3, dtype=torch.float64)
network = trap.network()
found = sl.explain(network, image, "guided_backprop", 0)["guided_backprop"]
expected = traps.reference_map(trap, network, image[0], 0, "guided_backprop")
print(abs(found.flatten().numpy() - expected).max() < 1e-12)
"""


@pytest.mark.slow
def test_the_first_compilation_of_a_process_is_seen_through_too() -> None:
    """What torch imports when it first compiles must not hide the compiled operations of that very pass."""
    command = [sys.executable, "-W", "ignore", "-c", FIRST_COMPILATION]
    found = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True"]


def test_a_network_without_rectifiers_is_refused(images: Tensor) -> None:
    network = traps.Trap("sigmoid", lambda m, x: torch.sigmoid(m.first(x)), lambda layer, x: x).network()
    with pytest.raises(sl.RefusalError, match=r"guided_backprop.*plain gradient"):
        sl.explain(network, images, "guided_backprop", 0)


def test_the_other_methods_go_on_when_one_is_refused(images: Tensor) -> None:
    (gelu,) = (trap for trap in traps.IN_DISGUISE if trap.name == "GELU")
    explanation = sl.explain(gelu.network(), images, ["gradient", "deconvnet"], 0, on_refusal="record")
    assert set(explanation.maps) == {"gradient"}
    with pytest.raises(sl.RefusalError, match="gelu"):
        explanation["deconvnet"]
