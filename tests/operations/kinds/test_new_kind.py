"""A kind is added in one place: a class and its registration give it rules, a bias term, a layout, feature maps."""

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import sightline as sl
from sightline.operations import KINDS
from sightline.operations._calls import Call
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.layout._axes import lone_space
from sightline.operations.layout._seen import Found, Seen
from sightline.propagation import Propagation, lrp_epsilon


class Difference(Rulable):
    """y_j = x_(j + 1) - x_j along the last axis, which no kind spells."""

    name = "difference of neighbours"
    spellings = "diff"
    homogeneous = features = single = True

    def layout(self, seen: Seen) -> Found:
        layout, only = seen.first, lone_space(seen.first.axes[-1])
        if only is None:
            return None
        # Each difference lies half a step behind the first of its two places.
        layout = layout.with_span(only.dim, layout.spans[only.dim].moved(only.step / 2))
        return layout.with_axis(-1, (replace(only, size=seen.shape[-1]),))


def in_proportion(signal: Tensor, call: Call) -> tuple[Tensor]:
    """R_i = x_i (s_(i - 1) / y_(i - 1) - s_i / y_i)."""
    (x,) = call.inputs
    shares = signal / call.again(x)
    return (x * (F.pad(shares, (1, 0)) - F.pad(shares, (0, 1))),)


@pytest.fixture
def difference() -> Iterator[Difference]:
    kind = KINDS.register(Difference())
    yield kind
    KINDS.unregister(kind)


ROW = torch.tensor([[[[1.0, 2.0, 4.0, 3.0]], [[2.0, 3.0, 1.0, 5.0]]]])  # differences: 1 2 -1 and 1 -2 4
WEIGHTS = torch.tensor([[6.0, 3.0, 0.0, 1.0, 2.0, -1.5]])


def model(x: Tensor) -> Tensor:
    return F.linear(x.diff().flatten(1), WEIGHTS)


def test_a_propagation_rules_it(difference: Difference) -> None:
    passes = frozenset(KINDS)
    rules = MappingProxyType({difference: in_proportion})
    found = sl.explain(model, ROW, sl.Method(propagation=Propagation("mine", rules, passes), name="mine"), 0)
    # Signals at the differences are the weights: 6/1 3/2 0/-1 in the first channel, 1/1 2/-2 -1.5/4 in the second.
    expected = [[-6.0, 2 * (6 - 1.5), 4 * (1.5 - 0), 0.0], [-2.0, 3 * (1 + 1), -1 + 0.375, 5 * -0.375]]
    torch.testing.assert_close(found["mine"], torch.tensor(expected).reshape(1, 2, 1, 4))
    assert found.checks.operations["mine"]["ruled"] == 1
    assert float(found["mine"].sum()) == pytest.approx(float(WEIGHTS.sum()))


def test_a_propagation_without_a_rule_refuses_it_by_name(difference: Difference) -> None:
    for row in ("lrp_epsilon", sl.Method(propagation=lrp_epsilon(0.5), name="mine")):
        with pytest.raises(sl.RefusalError, match="diff in the model's own forward"):
            sl.explain(model, ROW, row, 0)
    with pytest.raises(sl.InputError, match=f"Choose among .*{difference}"):
        Propagation("mine", {"attention": in_proportion})  # type: ignore[dict-item]


def with_biases(x: Tensor) -> Tensor:
    weight = torch.tensor([[1.0, -0.5], [0.25, 2.0]]).reshape(2, 2, 1, 1)
    return F.linear(F.conv2d(x, weight, torch.tensor([0.5, -3.0])).relu().diff().flatten(1), WEIGHTS)


def test_its_results_have_places_and_no_bias_term(difference: Difference) -> None:
    found = sl.explain(with_biases, ROW, ["full_grad_signed"], 0)
    torch.testing.assert_close(found["full_grad_signed"].sum((1, 2, 3)), with_biases(ROW)[:, 0])
    # Grad-CAM: the mean weights 3 and 0.5 of the two channels times the differences.
    found = sl.explain(model, ROW, "grad_cam", 0)
    torch.testing.assert_close(found["grad_cam"], torch.tensor([[[[3 + 0.5, 6 - 1.0, 0.0]]]]))


def test_without_it_the_same_is_refused() -> None:
    assert "difference of neighbours" not in map(str, KINDS)
    for row in ("full_grad_signed", "grad_cam"):
        with pytest.raises(sl.RefusalError):
            sl.explain(with_biases, ROW, row, 0)
