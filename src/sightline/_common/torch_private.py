"""All that Sightline uses of torch and that torch does not promise to keep.

Nothing else in the package reads an underscored name of torch, of a tensor or of a module; a test sees to that. What
each function relies on has a test of its own (`tests/common/test_torch_private.py`), so that a newer torch which
changes it fails there, by name.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, _engine_run_backward
from torch.nn.modules.batchnorm import _BatchNorm as BatchNormBase
from torch.nn.modules.dropout import _DropoutNd as DropoutBase
from torch.utils import checkpoint
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode_temporarily,
)
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

__all__ = [
    "REENTRANT_CHECKPOINT",
    "BatchNormBase",
    "DropoutBase",
    "TorchDispatchMode",
    "buffers_of",
    "has_forward_hooks",
    "has_gradient_hooks",
    "has_old_gradient_hooks",
    "in_checkpoint",
    "is_functorch_wrapped",
    "is_leaf_node",
    "is_module_hook_node",
    "is_view",
    "operator_namespace",
    "padding_of",
    "root_of",
    "run_backward",
    "tree_flatten",
    "tree_leaves",
    "tree_unflatten",
    "version_of",
    "without_dispatch_modes",
]

REENTRANT_CHECKPOINT = "CheckpointFunctionBackward"
"""Class name of the autograd node of a reentrant checkpoint."""


def version_of(tensor: Tensor) -> int:
    """How often a tensor's memory was written to in place, through any of its views."""
    return tensor._version


def is_view(tensor: Tensor) -> bool:
    """Whether a tensor is a differentiable view of another."""
    return tensor._is_view()


def root_of(tensor: Tensor) -> Tensor:
    """The tensor that a view shows a part of, itself never a view; a tensor that is no view, itself."""
    base = tensor._base
    return tensor if base is None else base


def is_functorch_wrapped(tensor: Tensor) -> bool:
    """Whether a transform of torch.func (vmap, grad) is at work on a tensor."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def in_checkpoint() -> bool:
    """Whether the code that runs is inside a non-reentrant checkpoint, which will run it again in the backward."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None and getattr(hooks[0], "__module__", "") == checkpoint.__name__


def run_backward(
    values: Sequence[Tensor], signals: Sequence[Tensor], edges: Sequence[GradientEdge], *, keep_graph: bool
) -> tuple[Tensor | None, ...]:
    """A backward to some edges, or without them to all leaves, during which torch function modes stay active.

    `torch.autograd.grad` and `torch.autograd.backward` suspend them.
    """
    found: tuple[Tensor | None, ...] = _engine_run_backward(
        tuple(values),
        tuple(signals),
        keep_graph,
        False,
        tuple(edges),
        allow_unreachable=True,
        accumulate_grad=not edges,
    )
    return found


@contextmanager
def without_dispatch_modes() -> Iterator[None]:
    """Suspend all dispatch modes, such as counters of floating point operations."""
    with ExitStack() as stack:
        for _ in _get_current_dispatch_mode_stack():
            stack.enter_context(_pop_mode_temporarily())
        yield


def operator_namespace(function: Callable[..., Any]) -> str | None:
    """The library of an operator under `torch.ops` ("aten" for torch's own); None for any other function."""
    if isinstance(function, torch._ops.OpOverloadPacket):
        return function._qualified_op_name.split("::")[0]
    return function.namespace if isinstance(function, torch._ops.OpOverload) else None


def is_leaf_node(node: object) -> bool:
    """Whether an autograd node stands for a leaf, which it has as its `variable`."""
    return type(node).__name__ == "AccumulateGrad"


def is_module_hook_node(node: object) -> bool:
    """Whether an autograd node only serves a module's backward hooks: it hands on the signal that it gets."""
    return type(node).__name__ == "BackwardHookFunctionBackward"


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether a module has forward hooks of its own."""
    return bool(module._forward_hooks)


def has_gradient_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks that run in the backward."""
    return bool(module._backward_hooks or module._backward_pre_hooks)


def has_old_gradient_hooks(module: nn.Module) -> bool:
    """Whether some of them were registered by the deprecated `register_backward_hook`."""
    return bool(module._backward_hooks) and not module._is_full_backward_hook


def buffers_of(module: nn.Module) -> dict[str, Tensor | None] | None:
    """A module's own buffers, in the dictionary that holds them; None for a scripted module, which shows a copy."""
    return module._buffers if type(module._buffers) is dict else None


def padding_of(convolution: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> list[int]:
    """A convolution's padding before and after each axis, from the last axis on, as `functional.pad` takes it."""
    return list(convolution._reversed_padding_repeated_twice)
