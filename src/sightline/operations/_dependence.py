"""Which tensors depend on the input.

`requires_grad` alone does not tell: weights require gradients too, as parameters, as plain tensors or as results of
others. So whatever requires gradients without leading back to the input is cut from the graph on its way into an
operation. From then on `requires_grad` says one thing only, and torch keeps no activations for weight gradients that
nobody asked for.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sightline._common.torch_private import is_functorch_wrapped, is_leaf_node, run_backward
from sightline.operations import _graph as graph
from sightline.operations._notes import Note

_BEGINS = Note[object]("begins")
ASKS = frozenset({"requires_grad", "is_leaf", "grad", "grad_fn", "retains_grad"})
"""Properties that say what a tensor is to autograd, and are to say what they would without us."""

_WRITES = frozenset({"setitem", "set"})


class Dependence:
    """Cuts what does not depend on the input.

    Args:
        through_graph: whether results of other tensors are cut too, which takes a look at the graph. Leaves always are.
        on_copy: told of the copy of a tensor that cannot take part itself, and of the tensor.
    """

    def __init__(self, *, through_graph: bool, on_copy: Callable[[Tensor, Tensor], None] | None = None) -> None:
        self._through_graph, self._on_copy = through_graph, on_copy
        self._known: dict[graph.Node, bool] = {}
        # A leaf may be the user's and outlive the pass, so its note says of which pass it is.
        self._pass = object()

    def begin(self, leaf: Tensor) -> None:
        """Note a leaf from which the graph of the pass begins: the input, or a layer behind a cut."""
        _BEGINS.put(leaf, self._pass)

    def forget(self) -> None:
        """Let go of the graph."""
        self._known.clear()

    def arguments(
        self, name: str, in_place: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], list[Tensor]]:
        """The arguments of a call with constants cut from the graph, and all tensors among them."""
        tensors: list[Tensor] = []
        given = args
        args = self._without_constants(args, tensors)
        if kwargs:
            kwargs = dict(zip(kwargs, self._without_constants(tuple(kwargs.values()), tensors), strict=True))
        reaches = args is not given and args[0] is not given[0] and (in_place or name in _WRITES)
        if reaches and not given[0].is_inference():
            # A write must reach the tensor itself, which may join the graph by it.
            args = (given[0], *args[1:])
            if any(tensor.requires_grad for tensor in tensors):
                tensors[0] = given[0]
        return args, kwargs, tensors

    def depends(self, tensor: Tensor) -> bool:
        """Whether a tensor that requires gradients leads back to the input."""
        if tensor.is_leaf:
            return self._begins(tensor) or is_functorch_wrapped(tensor)
        node: graph.Node = tensor.grad_fn
        return graph.is_marked(node) or is_functorch_wrapped(tensor) or self._leads(node)

    def _begins(self, leaf: Tensor) -> bool:
        return _BEGINS.of(leaf) is self._pass

    def note_new(self, result: Any, name: str, args: tuple[Any, ...], *, required: bool) -> None:
        """After a call on constants: the model may have made a leaf of its own, to differentiate by it.

        Args:
            result: what the call gave.
            name: its spelling.
            args: its arguments.
            required: whether the first of them required gradients before it.
        """
        made = args[0] if name == "set" and args else result
        if isinstance(made, Tensor) and not required and made.requires_grad and made.is_leaf:
            self.begin(made)

    def _without_constants(self, values: tuple[Any, ...], tensors: list[Tensor]) -> tuple[Any, ...]:
        changed = None
        for position, value in enumerate(values):
            new = value
            if isinstance(value, Tensor):
                if value.requires_grad and self._is_constant(value):
                    new = value.detach()
                if value.is_inference() and not torch.is_inference_mode_enabled():
                    # Such a tensor knows no versions and may not be kept for a backward.
                    new = new.clone()
                    if self._on_copy is not None:
                        self._on_copy(new, value)
                tensors.append(new)
            elif type(value) is tuple:
                new = self._without_constants(value, tensors)
            elif type(value) is list:
                new = list(self._without_constants(tuple(value), tensors))
            if new is not value:
                changed = changed or list(values)
                changed[position] = new
        return values if changed is None else tuple(changed)

    def _is_constant(self, tensor: Tensor) -> bool:
        if tensor.is_leaf:
            return isinstance(tensor, nn.Parameter) or not self.depends(tensor)
        return self._through_graph and not self.depends(tensor)

    def _leads(self, node: graph.Node) -> bool:
        """Whether a node leads to the input; what is found is kept for every node on the way."""
        stack: list[tuple[graph.Node, bool]] = [(node, False)]
        while stack:
            here, done = stack.pop()
            if here in self._known and not done:
                continue
            parents = [parent for parent, _ in here.next_functions if parent is not None]
            if done:
                self._known[here] = any(self._known[parent] for parent in parents)
            elif is_leaf_node(here):
                self._known[here] = self._begins(here.variable)
            elif graph.is_marked(here):
                self._known[here] = True
            else:
                self._known[here] = False
                stack.append((here, True))
                stack.extend((parent, False) for parent in parents)
        return self._known[node]


class Recomputation(TorchFunctionMode):
    """Cuts constants during a backward as the pass did, where a checkpoint runs its part of the model again.

    Otherwise other tensors would be saved than in the pass, and the leaves among them would gather gradients.
    """

    def __init__(self, dependence: Dependence, spelling: Callable[..., tuple[str, Any, bool]]) -> None:
        super().__init__()
        self._dependence, self._spelling = dependence, spelling

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        if func is torch.autograd.backward and kwargs and kwargs["grad_tensors"] and not kwargs["inputs"]:
            # A checkpoint inside a reentrant one: torch's own function would run without this mode.
            with self:
                return run_backward(args[0], kwargs["grad_tensors"], [], keep_graph=bool(kwargs["retain_graph"]))
        name, _, in_place = self._spelling(func)
        if name in ASKS and asks(func):
            return func(*args, **(kwargs or {}))
        args, kwargs, _ = self._dependence.arguments(name, in_place, args, kwargs or {})
        required = requires(args)
        result = func(*args, **kwargs)
        self._dependence.note_new(result, name, args, required=required)
        return result


def asks(func: Callable[..., Any]) -> bool:
    """Whether a call reads a property."""
    return getattr(func, "__name__", "") == "__get__"


def requires(args: tuple[Any, ...]) -> bool:
    """Whether the first argument requires gradients."""
    return bool(args) and isinstance(args[0], Tensor) and args[0].requires_grad


def any_on_path(tensors: list[Tensor]) -> bool:
    """Whether one of some tensors depends on the input, all constants being cut."""
    # A loop, because a generator would take twice the time in the busiest place of all.
    for tensor in tensors:  # noqa: SIM110
        if tensor.requires_grad:
            return True
    return False


def tensors_of(result: Any) -> list[Tensor]:
    """The tensors among the results of a call."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, list | tuple):
        return [tensor for item in result for tensor in tensors_of(item)]
    return []
