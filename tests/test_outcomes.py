"""The trap zoo: each method on each trap is right against slow reference code, or refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

import sightline as sl
from helpers import outcomes, zoo
from helpers import reference as ref

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:To copy construct from a tensor"),
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.filterwarnings("ignore:An output with one or more elements was resized"),
]
ALL = pytest.mark.parametrize("trap", zoo.ALL, ids=lambda trap: trap.name)


@ALL
def test_every_method_is_right_or_refused_by_name(trap: zoo.AnyTrap) -> None:
    problems = []
    for name, outcome in outcomes.outcomes(trap).items():
        if outcome.expected is None and not (outcome.found is None and outcome.named):
            problems.append(f"{name} must be refused for one of {outcome.words}: {outcome.refusal or 'it gave a map'}")
        elif outcome.expected is not None and outcome.found is None:
            problems.append(f"{name} is refused without need: {outcome.refusal}")
        elif outcome.expected is not None and outcome.error > outcomes.AGREEMENT:
            problems.append(f"{name} is off by {outcome.error:.1e}")
    assert not problems, "\n".join(problems)


@ALL
def test_the_traps_bite(trap: zoo.AnyTrap) -> None:
    """No map is empty, and none is the plain gradient or the gradient times the input: agreement says something."""
    found = {name: o.expected for name, o in outcomes.outcomes(trap).items() if o.expected is not None}
    batch = outcomes.images(trap).flatten(1).numpy()
    for name, maps in found.items():
        assert np.abs(maps).max() > 1e-6, name
        if name in ("gradient", "lrp_0"):  # on ReLU networks LRP-0 is the gradient times the input
            continue
        for plain in (found["gradient"], found["gradient"] * batch):
            assert np.abs(maps - plain).max() > 1e-6 * np.abs(plain).max(), name


def test_no_two_traps_share_a_name() -> None:
    assert len({trap.name for trap in zoo.ALL}) == len(zoo.ALL)


def test_the_reference_knows_every_propagation_of_the_catalogue() -> None:
    changed = {name for name, row in sl.catalogue().items() if row.propagation.name != "gradient" and row.times is None}
    assert changed <= set(outcomes.REFERENCE)


def test_the_page_is_what_the_code_does() -> None:
    page = outcomes.table()
    assert "WRONG" not in page
    assert "without need" not in page
    assert outcomes.PAGE.read_text(encoding="utf-8") == page, (
        "run: PYTHONPATH=tests .venv/bin/python -m helpers.outcomes --write"
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_agrees_with_the_reference_to_its_own_precision(dtype: torch.dtype) -> None:
    """The reference takes the rounded weights and images, so that what is left is the rounding of the passes.

    Of two images: on the third, the plain gradient differs too, as a unit is zero within bfloat16's precision.
    """
    names = ["guided_backprop", "lrp_epsilon_plus"]
    (trap,) = (trap for trap in zoo.TRAPS if trap.name == "residual in place on a BN result")
    network, batch = trap.network().to(dtype), outcomes.images(trap)[:2].to(dtype)
    explanation = sl.explain(network, batch, names, [0, 1])
    rounded: nn.Module = network.double()
    for name in names:
        for image, label, found in zip(batch.double(), (0, 1), explanation[name], strict=True):
            scores, start = trap.graph(rounded, image)
            expected = ref.explain(ref.pick(scores, label), start, outcomes.REFERENCE[name])
            difference = np.linalg.norm(found.double().flatten().numpy() - expected)
            assert difference < 2e-2 * np.linalg.norm(expected)
