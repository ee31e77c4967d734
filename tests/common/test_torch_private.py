"""What Sightline relies on of torch beyond torch's promises, one test for each, so that a newer torch fails by name."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge, saved_tensors_hooks
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import sightline
from sightline._common import torch_private
from sightline._common.torch_private import (
    REENTRANT_CHECKPOINT,
    BatchNormBase,
    DropoutBase,
    TorchDispatchMode,
    buffers_of,
    has_forward_hooks,
    has_gradient_hooks,
    has_old_gradient_hooks,
    in_checkpoint,
    is_functorch_wrapped,
    is_leaf_node,
    is_module_hook_node,
    is_view,
    operator_namespace,
    padding_of,
    root_of,
    run_backward,
    tree_flatten,
    tree_leaves,
    tree_unflatten,
    version_of,
    without_dispatch_modes,
)

SOURCE = Path(sightline.__file__).parent
PRIVATE = {
    name
    for thing in (torch.Tensor, nn.Conv2d(1, 1, 1), torch.ops.aten.add, torch.ops.aten.add.Tensor)
    for name in dir(thing)
    if name.startswith("_") and not name.endswith("__")
}


def private_uses(source):
    """The underscored names of torch, tensors and modules that some code reads."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import() | ast.ImportFrom():
                names = [".".join(filter(None, [getattr(node, "module", ""), alias.name])) for alias in node.names]
                found |= {name for name in names if name.startswith("torch.") and "._" in name}
            case ast.Attribute(attr=attr, value=value) if attr.startswith("_") and not attr.endswith("__"):
                root = value
                while isinstance(root, ast.Attribute):
                    root = root.value
                own = isinstance(value, ast.Name) and value.id in {"self", "cls"}
                torchs = isinstance(root, ast.Name) and root.id in {"torch", "nn", "functional"}
                if torchs or (attr in PRIVATE and not own):
                    found.add(attr)
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=str(attr)), *_]
            ):
                if attr in PRIVATE:
                    found.add(attr)
    return found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x._version", {"_version"}),
        ("self.kept._base", {"_base"}),
        ("torch._C._autograd.f()", {"_C", "_autograd"}),
        ("from torch.utils._pytree import tree_leaves", {"torch.utils._pytree.tree_leaves"}),
        ("from torch.autograd.graph import _engine_run_backward", {"torch.autograd.graph._engine_run_backward"}),
        ("getattr(module, '_forward_hooks')", {"_forward_hooks"}),
        ("self._version; row._replace(); from sightline.operations._tape import Tape", set()),
    ],
)
def test_the_search_for_private_names_finds_them(code, expected):
    assert private_uses(code.replace("; ", "\n")) == expected


def test_no_other_module_reads_private_names_of_torch():
    files = {path.relative_to(SOURCE): path.read_text() for path in SOURCE.rglob("*.py")}
    del files[Path("_common/torch_private.py")]
    assert {str(path): found for path, text in files.items() if (found := private_uses(text))} == {}


def test_every_private_dependency_has_a_test():
    this = Path(__file__).read_text()
    bodies = [part for part in this.split("\ndef ") if part.startswith("test_")]
    assert [name for name in torch_private.__all__ if not any(name in body for body in bodies)] == []


def test_version_counts_writes_through_all_views():
    x = torch.zeros(4)
    assert version_of(x) == 0
    x[1:3].add_(1)
    assert version_of(x) == version_of(x.view(2, 2)) == version_of(x.detach()) == 1
    x.data.add_(1)
    assert version_of(x) == 1


def test_inference_tensors_have_no_version():
    with torch.inference_mode():
        x = torch.zeros(2)
    with pytest.raises(RuntimeError, match="version counter"):
        version_of(x)


def test_a_view_of_a_view_has_the_first_tensor_as_its_root():
    x = torch.zeros(4, requires_grad=True).clone()
    view = x.view(2, 2)[0]
    assert is_view(view)
    assert root_of(view) is x
    assert not is_view(x)
    assert root_of(x) is x
    assert not is_view(x + 1)


def test_a_view_of_a_constant_is_a_view_also_without_a_graph():
    x = torch.zeros(4)
    assert is_view(x[1:])
    assert root_of(x[1:]) is x


def test_functorch_wraps_tensors_during_its_transforms():
    seen = []

    def look(x):
        seen.append(is_functorch_wrapped(x))
        return x.sum()

    torch.func.grad(look)(torch.ones(2))
    torch.func.vmap(look)(torch.ones(2, 2))
    look(torch.ones(2))
    assert seen == [True, True, False]


def test_a_checkpoint_that_recomputes_shows_in_its_hooks_on_saved_tensors():
    seen = {}

    def look(name):
        def inside(x):
            seen.setdefault(name, in_checkpoint())
            return x * 2

        return inside

    x = torch.ones(2, requires_grad=True)
    checkpoint(look("checkpoint"), x, use_reentrant=False)
    look("outside")(x)
    with saved_tensors_hooks(lambda t: t, lambda t: t):
        look("other hooks")(x)
    assert seen == {"checkpoint": True, "outside": False, "other hooks": False}


def test_a_reentrant_checkpoint_is_a_node_of_its_own_name():
    x = torch.ones(2, requires_grad=True)
    y = checkpoint(lambda x: x * 2, x, use_reentrant=True)
    assert type(y.grad_fn).__name__ == REENTRANT_CHECKPOINT


class Calls(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, signal):
        return torch.mul(signal, 2)


def test_function_modes_stay_active_in_run_backward_and_nowhere_else():
    x = torch.ones(2, requires_grad=True)
    y = Doubled.apply(x)
    with Calls() as calls:
        torch.autograd.grad(y, [x], torch.ones(2), retain_graph=True)
    assert "mul" not in calls.names
    with Calls() as calls:
        (found,) = run_backward([y], [torch.tensor([1.0, 3.0])], [get_gradient_edge(x)], keep_graph=True)
    assert "mul" in calls.names
    assert found.tolist() == [2.0, 6.0]
    assert x.grad is None


def test_run_backward_without_edges_adds_to_the_leaves():
    x = torch.ones(2, requires_grad=True)
    y = x * 3
    run_backward([y], [torch.ones(2)], [], keep_graph=True)
    run_backward([y], [torch.ones(2)], [], keep_graph=False)
    assert x.grad.tolist() == [6.0, 6.0]


def test_run_backward_gives_none_where_the_value_does_not_depend():
    x, other = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    edges = [get_gradient_edge(x), get_gradient_edge(other)]
    found = run_backward([x * 3], [torch.ones(2)], edges, keep_graph=False)
    assert found[0].tolist() == [3.0, 3.0]
    assert found[1] is None


def test_counters_do_not_see_what_runs_without_dispatch_modes():
    x, w = torch.ones(2, 3), torch.ones(3, 5)
    with FlopCounterMode(display=False) as counter:
        with without_dispatch_modes():
            x @ w
        assert counter.get_total_flops() == 0
        x @ w
    assert counter.get_total_flops() == 2 * 2 * 3 * 5


def test_a_dispatch_mode_sees_operators_with_their_tags():
    drawn = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if torch.Tag.nondeterministic_seeded in func.tags:
                drawn.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Mode():
        torch.ones(2).add(1)
        torch.ones(2).bernoulli_(0.5)
    assert drawn == ["bernoulli_"]


def test_an_operator_names_its_library():
    assert operator_namespace(torch.ops.aten.add) == "aten"
    assert operator_namespace(torch.ops.aten.add.Tensor) == "aten"
    assert operator_namespace(torch.ops.prims.add) == "prims"
    assert operator_namespace(torch.ops.prims.add.default) == "prims"
    assert operator_namespace(torch.add) is None


def test_a_leaf_ends_in_a_node_that_has_it():
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    ((node, _),) = (edge for edge in y.grad_fn.next_functions if edge[0] is not None)
    assert is_leaf_node(node)
    assert node.variable is x
    assert not is_leaf_node(y.grad_fn)
    assert not is_leaf_node(None)


def test_a_module_with_backward_hooks_is_wrapped_in_nodes_that_hand_on():
    layer = nn.ReLU()
    plain = layer(torch.ones(2, requires_grad=True))
    layer.register_full_backward_hook(lambda *_: None)
    hooked = layer(torch.ones(2, requires_grad=True))
    node = hooked.grad_fn
    assert is_module_hook_node(node)
    (inner, output) = node.next_functions[hooked.output_nr]
    assert (type(inner).__name__, output) == ("ReluBackward0", 0)
    assert is_module_hook_node(inner.next_functions[0][0])
    assert not is_module_hook_node(plain.grad_fn)
    assert not is_module_hook_node(None)


def test_forward_hooks_of_a_module_show():
    layer = nn.ReLU()
    assert not has_forward_hooks(layer)
    handle = layer.register_forward_hook(lambda *_: None)
    assert has_forward_hooks(layer)
    handle.remove()
    assert not has_forward_hooks(layer)


@pytest.mark.parametrize("kind", ["full_backward_hook", "full_backward_pre_hook", "backward_hook"])
def test_gradient_hooks_of_a_module_show(kind):
    layer = nn.ReLU()
    assert not has_gradient_hooks(layer)
    assert not has_old_gradient_hooks(layer)
    getattr(layer, f"register_{kind}")(lambda *_: None)
    assert has_gradient_hooks(layer)
    assert has_old_gradient_hooks(layer) == (kind == "backward_hook")


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace_method` is deprecated")
def test_the_dictionary_of_buffers_is_the_module_s_own():
    norm = nn.BatchNorm2d(3)
    own = buffers_of(norm)
    assert own.keys() == {"running_mean", "running_var", "num_batches_tracked"}
    own["running_mean"] = torch.full((3,), 7.0)
    assert norm.running_mean.tolist() == [7.0, 7.0, 7.0]
    assert buffers_of(torch.jit.trace(norm.eval(), torch.ones(1, 3, 2, 2))) is None


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("padding", [(1, 2), "same", "valid"])
def test_padding_of_a_convolution_is_what_pad_takes(padding):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, (4, 3), padding=padding, dilation=(1, 2))
    x = torch.randn(1, 2, 9, 8)
    padded = functional.pad(x, padding_of(layer))
    found = functional.conv2d(padded, layer.weight, layer.bias, dilation=(1, 2))
    torch.testing.assert_close(found, layer(x))


def test_base_classes_of_layers_that_mix_a_batch_or_draw():
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    dropouts = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    assert all(issubclass(norm, BatchNormBase) for norm in norms)
    assert all(issubclass(dropout, DropoutBase) for dropout in dropouts)
    assert not any(issubclass(layer, BatchNormBase | DropoutBase) for layer in (nn.LayerNorm, nn.GroupNorm, nn.Linear))


def test_a_tree_of_tensors_is_flattened_and_put_together_again():
    tree = {"a": [1, (2, None)], "b": torch.ones(1)}
    leaves, structure = tree_flatten(tree)
    assert leaves[:3] == [1, 2, None]
    assert tree_leaves(tree)[3] is leaves[3] is tree["b"]
    assert tree_unflatten([3, 4, 5, 6], structure) == {"a": [3, (4, 5)], "b": 6}
