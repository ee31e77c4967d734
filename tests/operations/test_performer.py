"""A rule of every kind is called wherever the map says so, or the operation is refused by name."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import sightline as sl
from sightline.operations import KINDS, Kind, kinds
from sightline.operations._calls import Call
from sightline.operations._linear import Linear
from sightline.operations._rectifier import Rectified
from sightline.operations.kinds._rulable import Rulable
from sightline.propagation import Propagation, lrp_epsilon

DRAWN = torch.Generator().manual_seed(0)
IMAGES = torch.randn(2, 3, 4, 6, generator=DRAWN, dtype=torch.float64)
KERNEL = torch.randn(3, 3, 3, 3, generator=DRAWN, dtype=torch.float64)
MATRIX = torch.randn(6, 5, generator=DRAWN, dtype=torch.float64)
MEAN, VARIANCE = torch.randn(3, generator=DRAWN).double(), torch.rand(3, generator=DRAWN).double() + 0.5
WIDE = torch.randn(72, 2, generator=DRAWN, dtype=torch.float64)
LAST = torch.tensor([2, 0, 1])


def doubled(calls: list[Any]) -> Callable[[Tensor, Any], Any]:
    """A rule by which twice the gradient goes on."""

    def rule(signal: Tensor, seen: Any) -> Any:
        calls.append(seen)
        if isinstance(seen, Rectified):
            return 2 * seen.shut(signal)
        if isinstance(seen, Linear):
            return 2 * seen.pull_weights(signal)
        assert isinstance(seen, Call)
        return [2 * part for part in seen.gradient(signal)]

    return rule


def propagation(kind: Kind, calls: list[Any]) -> Propagation:
    return Propagation("doubled", MappingProxyType({kind: doubled(calls)}), frozenset(KINDS), "It doubles.")


def read(scores: Tensor) -> Tensor:
    """One value for each image, by a single operation that the vocabulary does not know."""
    return torch.logsumexp(scores, tuple(range(1, scores.dim())))


def through(write: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """What is left in x after a write into it."""
    write(x)
    return x


def joined(x: Tensor) -> Tensor:
    """The image and what a function that no kind but a reduction knows makes of it."""
    return x.sum(1, keepdim=True).expand_as(x)


CALLED: dict[Kind, dict[str, Callable[[Tensor], Tensor]]] = {
    kinds.LINEAR: {
        "conv2d": lambda x: F.conv2d(x, KERNEL, MEAN),
        "linear": lambda x: F.linear(x, MATRIX.t()),
        "matmul": lambda x: x @ MATRIX,
        "conv_transpose2d": lambda x: F.conv_transpose2d(x, KERNEL),
    },
    kinds.BATCH_NORM: {
        "batch_norm": lambda x: F.batch_norm(x, MEAN, VARIANCE, VARIANCE, MEAN),
        "after a convolution": lambda x: F.batch_norm(F.conv2d(x, KERNEL), MEAN, VARIANCE),
    },
    kinds.NORMALISATION: {
        "layer_norm": lambda x: F.layer_norm(x, (6,)),
        "group_norm": lambda x: F.group_norm(x, 3),
        "instance_norm": F.instance_norm,
        "rms_norm": lambda x: F.rms_norm(x, (6,)),
        "normalize": lambda x: F.normalize(x, dim=1),
    },
    kinds.RESPONSE_NORM: {"local_response_norm": lambda x: F.local_response_norm(x, 3)},
    kinds.RECTIFIER: {
        "relu": torch.relu,
        "relu_": lambda x: x.relu_(),
        "clamp": lambda x: x.clamp(min=0),
        "maximum": lambda x: torch.maximum(x, torch.zeros(())),
    },
    kinds.ACTIVATION: {"gelu": F.gelu, "leaky_relu_": lambda x: F.leaky_relu_(x), "tanh": torch.tanh},
    kinds.POINTWISE: {
        "square": torch.square,
        "exp": torch.exp,
        "pow": lambda x: x**3,
        "clamp": lambda x: x.clamp(0.1, 1),
        "clamp_": lambda x: through(lambda h: h.clamp_(0.1, 1), x),
        "masked_fill": lambda x: x.masked_fill(KERNEL[0, 0, 0, 0] > 0, 0.0),
        "clamp_ of a part": lambda x: through(lambda h: h[:, :1].clamp_(0.1, 1), x),
        "where": lambda x: torch.where(torch.arange(6) > 2, x, 0.5),
        "quotient": lambda x: 2.0 / x,
    },
    kinds.GATE: {"sigmoid": torch.sigmoid, "sigmoid_": lambda x: x.sigmoid_()},
    kinds.SOFTMAX: {"softmax": lambda x: x.softmax(1), "log_softmax": lambda x: F.log_softmax(x, 1)},
    kinds.MAX_POOLING: {"max_pool2d": lambda x: F.max_pool2d(x, 2), "adaptive": lambda x: F.adaptive_max_pool2d(x, 2)},
    kinds.MAXIMUM: {
        "amax": lambda x: x.amax(1),
        "all of an image": lambda x: x.amax((1, 2, 3), keepdim=True) + 0 * x,
        "maximum of two": lambda x: torch.maximum(x, joined(x)),
    },
    kinds.AVERAGE_POOLING: {"avg_pool2d": lambda x: F.avg_pool2d(x, 2)},
    kinds.REDUCTION: {"mean": lambda x: x.mean(1), "sum": lambda x: x.sum((2, 3))},
    kinds.RESAMPLING: {"bilinear": lambda x: F.interpolate(x, (8, 8), mode="bilinear")},
    kinds.ADD: {
        "two signals": lambda x: x + joined(x),
        "iadd": lambda x: through(lambda h: h.__iadd__(1.0), x),
        "sub": lambda x: torch.sub(x, joined(x), alpha=2),
        "a number": lambda x: 3.0 - x,
    },
    kinds.SCALING: {"mul": lambda x: 3 * x, "div_": lambda x: x.div_(2.0), "neg": torch.neg},
    kinds.GATING: {"mul": lambda x: x * x.sum(1, keepdim=True).sigmoid()},
    kinds.PRODUCT: {
        "mul": lambda x: x * joined(x),
        "mul_": lambda x: through(lambda h: h.mul_(joined(h)), x),
        "div": lambda x: x / joined(x),
    },
    kinds.MATMUL: {
        "matmul": lambda x: x @ joined(x).transpose(2, 3),
        "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, joined(x)),
        "attention": lambda x: F.scaled_dot_product_attention(x, joined(x), x.sigmoid()),
        "constant on the left": lambda x: KERNEL[0, 0].new_ones(5, 4) @ x,
        "addmm with beta": lambda x: torch.addmm(MEAN[:2], x.flatten(1), WIDE, beta=2.0),
    },
    kinds.RESHAPE: {
        "flatten": lambda x: x.flatten(1),
        "permute": lambda x: x.permute(0, 2, 3, 1),
        "getitem": lambda x: x[:, :2],
        "index": lambda x: x[:, LAST],
        "gather": lambda x: x.gather(1, LAST.view(1, 3, 1, 1).expand(2, 3, 4, 6)),
        "pad": lambda x: F.pad(x, (1, 1)),
        "roll": lambda x: x.roll(1, 2),
        "nearest": lambda x: F.interpolate(x, scale_factor=2),
        "expand": lambda x: x[:, :, None].expand(-1, 3, 2, 4, 6),
    },
    kinds.IDENTITY: {"clone": torch.clone, "to": lambda x: x.to(torch.float32).to(torch.float64)},
    kinds.DERIVED_FACTOR: {
        "mul": lambda x: x * (x > 0),
        "sub": lambda x: x - x.mean(1, keepdim=True).detach(),
        "mul_": lambda x: through(lambda h: h.mul_(h.detach().sign()), x),
    },
}
REFUSED: dict[tuple[Kind, str], Callable[[Tensor], Tensor]] = {
    (kinds.RESHAPE, "cat"): lambda x: torch.cat([x, x], 1),
    (kinds.RESHAPE, "stack"): lambda x: torch.stack([x, 2 * x]).movedim(1, 0),
    (kinds.RESHAPE, "split"): lambda x: x.split(2, 1)[0],
    (kinds.RESHAPE, "chunk"): lambda x: x.chunk(3, 1)[1],
    (kinds.RESHAPE, "unbind"): lambda x: x.unbind(1)[1],
    (kinds.RESHAPE, "setitem"): lambda x: through(lambda h: h.__setitem__((slice(None), 0), h[:, 1] * 2), x),
    (kinds.MAXIMUM, "max"): lambda x: x.max(1).values,
    (kinds.MAXIMUM, "max_pool2d"): lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    (kinds.MATMUL, "einsum"): lambda x: torch.einsum("bchw,bdhw->bcd", [x, joined(x)]),
    (kinds.GATING, "mul"): lambda x: through(lambda h: h[:, :1].mul_(h[:, 1:2].sigmoid()), 1 * x),
}


def explained(model: Callable[[Tensor], Tensor], row: sl.Method | list[sl.Method | str]) -> sl.Explanation:
    return sl.explain(model, IMAGES, row, read)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if isinstance(kind, Rulable)], ids=str)
def test_every_kind_has_calls_to_which_its_rule_is_applied(kind: Kind) -> None:
    assert CALLED[kind]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, calls in CALLED.items() for name in calls], ids=str)
def test_a_rule_shapes_the_map(kind: Kind, name: str) -> None:
    """Each way from the value to the image passes as many operations of the kind; each doubles what goes on."""
    model, calls = CALLED[kind][name], []
    x = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(read(model(x.clone())).sum(), x)
    found = explained(model, sl.Method(propagation=propagation(kind, calls), name="doubled"))
    ruled = found.checks.operations["doubled"]["ruled"]
    assert ruled == len(calls) >= 1
    expected = 2**ruled * gradient
    if name == "clamp_ of a part":
        expected = torch.cat([2 * gradient[:, :1], gradient[:, 1:]], 1)
    torch.testing.assert_close(found["doubled"], expected, rtol=1e-6 if name == "to" else 1e-10, atol=1e-12)


@pytest.mark.parametrize(("kind", "name"), REFUSED, ids=str)
def test_an_operation_that_no_rule_can_take_is_refused_by_name(kind: Kind, name: str) -> None:
    with pytest.raises(sl.RefusalError, match=rf"doubled.*{name}.*{kind}"):
        explained(REFUSED[kind, name], sl.Method(propagation=propagation(kind, []), name="doubled"))


@pytest.mark.parametrize(("kind", "name"), REFUSED, ids=str)
def test_other_methods_of_the_same_pass_go_on(kind: Kind, name: str) -> None:
    model = REFUSED[kind, name]
    x = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(read(model(x.clone())).sum(), x)
    rows = ["gradient", sl.Method(propagation=propagation(kind, []), name="doubled")]
    found = sl.explain(model, IMAGES, rows, read, on_refusal="record")
    assert set(found.refused) == {"doubled"}
    torch.testing.assert_close(found["gradient"], gradient)


def test_a_kind_is_the_same_beside_other_methods() -> None:
    """What is no weighted layer to LRP is a product of matrices, whoever else has rules in the pass."""
    for others in ([], ["lrp_epsilon"], ["guided_backprop"]):
        calls: list[Any] = []
        rows = [sl.Method(propagation=propagation(kinds.MATMUL, calls), name="doubled"), *others]
        found = sl.explain(CALLED[kinds.MATMUL]["addmm with beta"], IMAGES, rows, read, on_refusal="record")
        assert found.checks.operations["doubled"]["ruled"] == len(calls) == 1


def test_a_batch_norm_keeps_its_own_rule_beside_relevance() -> None:
    """LRP takes convolution and batch norm as one layer; a propagation that rules batch norms alone does not."""
    calls: list[Any] = []
    model = CALLED[kinds.BATCH_NORM]["after a convolution"]
    x = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(read(model(x)).sum(), x)
    row = sl.Method(propagation=propagation(kinds.BATCH_NORM, calls), name="doubled")
    folding = Propagation("lrp", lrp_epsilon().rules, frozenset(KINDS), relevance=True)
    found = sl.explain(model, IMAGES, [row, sl.Method(propagation=folding, name="lrp")], read)
    torch.testing.assert_close(found["doubled"], 2 * gradient)
    assert len(calls) == 1


def test_one_tensor_is_enough_where_there_is_one_input() -> None:
    rules = MappingProxyType({kinds.SOFTMAX: lambda signal, call: 2 * call.gradient(signal)[0]})
    made = Propagation("doubled", rules, frozenset(KINDS))
    x = IMAGES[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(read(x.softmax(1)).sum(), x)
    found = sl.explain(lambda x: x.softmax(1), IMAGES[:1], sl.Method(propagation=made, name="doubled"), read)
    torch.testing.assert_close(found["doubled"], 2 * gradient)


class Nodeless(Kind):
    """A kind that says how it is spelled, and nothing of a node."""

    name = "cumulative sum"


@pytest.mark.parametrize("kind", [kinds.UNKNOWN, Nodeless(), "attention"], ids=str)
def test_a_rule_for_what_has_no_node_is_refused_when_made(kind: Any) -> None:
    with pytest.raises(sl.InputError, match=f"got a rule for {kind}, which has none, so that the rule would never be"):
        Propagation("mine", {kind: lambda signal, seen: signal})


def test_a_written_over_view_that_a_rule_made_is_refused() -> None:
    def model(x: Tensor) -> Tensor:
        h = (2 * x).flatten(1)
        return h.relu_()

    with pytest.raises(sl.RefusalError, match="view"):
        explained(model, sl.Method(propagation=propagation(kinds.RESHAPE, []), name="doubled"))
