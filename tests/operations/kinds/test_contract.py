"""What kinds state of themselves, against the operations: for each kind, calls of torch on one signal."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sightline.operations import KINDS, Kind, kinds
from sightline.operations._vocabulary import Intercepted
from sightline.operations.kinds._spelling import layout_rule, spelling
from sightline.operations.layout import Layouts

DRAWN = torch.Generator().manual_seed(0)
X = torch.randn(2, 3, 4, 6, generator=DRAWN, dtype=torch.float64)
KERNEL, MATRIX = torch.randn(5, 3, 3, 3, generator=DRAWN).double(), torch.randn(6, 5, generator=DRAWN).double()
MEAN, VARIANCE = torch.randn(3, generator=DRAWN).double(), torch.rand(3, generator=DRAWN).double() + 0.5
BIAS = torch.randn(5, generator=DRAWN).double()
SAME = torch.randn(2, 3, 4, 6, generator=DRAWN, dtype=torch.float64)

CALLS: dict[Kind, dict[str, Callable[[Tensor], Any]]] = {
    kinds.LINEAR: {
        "conv2d": lambda x: F.conv2d(x, KERNEL, BIAS, padding=1),
        "conv_transpose2d": lambda x: F.conv_transpose2d(x, KERNEL.transpose(0, 1), BIAS, stride=2),
        "linear": lambda x: F.linear(x, MATRIX.t(), BIAS),
        "matmul": lambda x: x @ MATRIX,
    },
    kinds.MATMUL: {"constant on the left": lambda x: SAME @ x.transpose(2, 3)},
    kinds.BATCH_NORM: {"batch_norm": lambda x: F.batch_norm(x, MEAN, VARIANCE, VARIANCE, MEAN)},
    kinds.NORMALISATION: {"layer_norm": lambda x: F.layer_norm(x, (6,)), "group_norm": lambda x: F.group_norm(x, 3)},
    kinds.RESPONSE_NORM: {"local_response_norm": lambda x: F.local_response_norm(x, 3, alpha=0.5, k=2.0)},
    kinds.RECTIFIER: {"relu": F.relu, "relu6": lambda x: F.relu6(x), "clamp": lambda x: x.clamp(min=0)},
    kinds.ACTIVATION: {
        "gelu": F.gelu,
        "leaky_relu": F.leaky_relu,
        "tanh": torch.tanh,
        "hardtanh": F.hardtanh,
    },
    kinds.POINTWISE: {
        "abs": torch.abs,
        "exp": torch.exp,
        "clamp": lambda x: x.clamp(0.1, 1),
        "quotient": lambda x: 2.0 / x,
        "maximum": lambda x: torch.maximum(x, SAME),
    },
    kinds.GATE: {"sigmoid": torch.sigmoid},
    kinds.SOFTMAX: {"softmax": lambda x: x.softmax(1)},
    kinds.MAX_POOLING: {"max_pool2d": lambda x: F.max_pool2d(x, 2), "adaptive": lambda x: F.adaptive_max_pool2d(x, 2)},
    kinds.MAXIMUM: {"amax": lambda x: x.amax(1), "max": lambda x: x.max(1), "topk": lambda x: x.topk(2, 1)},
    kinds.AVERAGE_POOLING: {"avg_pool2d": lambda x: F.avg_pool2d(x, 2)},
    kinds.REDUCTION: {"mean": lambda x: x.mean(1), "sum": lambda x: x.sum((2, 3), keepdim=True)},
    kinds.RESAMPLING: {"bilinear": lambda x: F.interpolate(x, (8, 8), mode="bilinear")},
    kinds.ADD: {"a number": lambda x: 3.0 - x, "a tensor": lambda x: x + SAME},
    kinds.SCALING: {"mul": lambda x: x * SAME, "div": lambda x: x / 2, "neg": torch.neg},
    kinds.PRODUCT: {"mul": lambda x: x * (1 * x)},
    kinds.RESHAPE: {
        "flatten": lambda x: x.flatten(1),
        "getitem": lambda x: x[:, :2, ::2],
        "pad": lambda x: F.pad(x, (1, 1), value=2.0),
        "cat": lambda x: torch.cat([x, SAME], 1),
        "roll": lambda x: x.roll(1, 2),
        "split": lambda x: x.split(2, 1),
    },
    kinds.IDENTITY: {"clone": torch.clone, "dropout": lambda x: F.dropout(x, training=False)},
}
NAMED = [(kind, name) for kind, calls in CALLS.items() for name in calls]


class Last(TorchFunctionMode):
    """Keeps the last call, and follows layouts."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.layouts = Layouts()
        self.layouts.begin(x)
        self.call: Intercepted | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name, kind, in_place = spelling(func)
        if name != "requires_grad":
            taken = [value for value in args if isinstance(value, Tensor)]
            taken += [value for arg in args if isinstance(arg, list) for value in arg]
            self.call = Intercepted(func, name, kind, args, kwargs or {}, taken, in_place=in_place)
            self.call.kind = kind.read(self.call)
            rule = layout_rule(self.call.name, self.call.kind)
            self.layouts.follow(func, self.call.name, rule, args, kwargs or {}, taken, tensors(result))
        return result


def tensors(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [value for value in result if isinstance(value, Tensor)]


def called(kind: Kind, name: str) -> tuple[Intercepted, list[Tensor], Layouts]:
    x = X.clone().requires_grad_()
    last = Last(x)
    with last:
        result = CALLS[kind][name](x)
    assert last.call is not None
    return last.call, tensors(result), last.layouts


def values(kind: Kind, name: str, x: Tensor) -> Tensor:
    return torch.cat([t.flatten() for t in tensors(CALLS[kind][name](x)) if t.is_floating_point()])


@pytest.mark.parametrize("kind", tuple(KINDS), ids=str)
def test_every_kind_that_a_call_is_read_as_has_calls(kind: Kind) -> None:
    # A gate, and what is cut from the graph, are known in a pass alone.
    assert kind in CALLS or kind in {kinds.GATING, kinds.DERIVED_FACTOR, kinds.UNKNOWN}


@pytest.mark.parametrize(("kind", "name"), NAMED, ids=str)
def test_a_call_is_read_as_its_kind(kind: Kind, name: str) -> None:
    assert called(kind, name)[0].kind is kind


@pytest.mark.parametrize(("kind", "name"), NAMED, ids=str)
def test_the_bias_term_is_what_the_derivative_leaves(kind: Kind, name: str) -> None:
    """B = f(x) - J(x) x, where a kind states it; a kind that states none has no such term to give."""
    call, made, _ = called(kind, name)
    found = kind.bias_term(call)
    stated = kind not in {kinds.MATMUL, kinds.NORMALISATION, kinds.SOFTMAX, kinds.PRODUCT}
    assert (found is not None) is stated
    if found is None:
        return
    value, axis = found
    result, product = torch.autograd.functional.jvp(lambda x: values(kind, name, x), X, X)
    given = torch.zeros(()) if value is None else value
    if axis is not None:
        given = given.reshape([-1 if at == axis % made[0].dim() else 1 for at in range(made[0].dim())])
    flat = given.broadcast_to(made[0].shape).flatten() if given.dim() else given.expand(result.shape)
    torch.testing.assert_close(flat.double(), result - product, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "name"), NAMED, ids=str)
def test_what_is_homogeneous_scales(kind: Kind, name: str) -> None:
    scales = torch.allclose(values(kind, name, 2 * X), 2 * values(kind, name, X))
    assert scales or not kind.homogeneous


@pytest.mark.parametrize(("kind", "name"), [one for one in NAMED if one[0].elementwise], ids=str)
def test_an_elementwise_value_depends_on_the_value_in_its_place(kind: Kind, name: str) -> None:
    changed = X.clone()
    changed[1, 2, 3, 4] += 0.7
    moved = (values(kind, name, changed) != values(kind, name, X)).reshape(X.shape)
    moved[1, 2, 3, 4] = False
    assert not moved.any()


@pytest.mark.parametrize(("kind", "name"), [one for one in NAMED if one[0].selects], ids=str)
def test_what_selects_gives_values_of_its_inputs(kind: Kind, name: str) -> None:
    assert torch.isin(values(kind, name, X), torch.cat([X.flatten(), SAME.flatten(), torch.tensor([2.0])])).all()


@pytest.mark.parametrize(("kind", "name"), NAMED, ids=str)
def test_the_layout_has_the_shape_of_the_result(kind: Kind, name: str) -> None:
    _, made, layouts = called(kind, name)
    for tensor in made:
        layout = layouts.of(tensor)
        assert layout is not None
        assert layout.shape == tuple(tensor.shape)
        assert not layout.lost or name == "topk"
