"""The walk over the recorded graph: which operations lie between input and value, and which escaped notice.

The interception sees what runs as Python calls of torch. A scripted or compiled sub-module, another thread, a
checkpoint's recomputation or a user's own `autograd.Function` does not; but autograd records all of them. So every
node that an intercepted operation made is marked, and the walk from the explained value lists the marked operations
and every node that nobody marked.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sightline.operations._vocabulary import Operation

_KEY = "sightline.operation"
_GATE = "sightline.gate"
_WEIGHTED = "sightline.weighted"
_FOLDED = "sightline.folded"
# What torch puts around a module with backward hooks: it hands its signal on to the hooks, and is no operation.
_HOOK = "BackwardHookFunctionBackward"
# A leaf: an input, a tapped tensor or a parameter. There is nothing behind it to rule.
_LEAF = "AccumulateGrad"

_RESHAPING = re.compile(
    r"_?(Alias|AsStrided|Cat|Clamp|ClampMax|ClampMin|Clone|Diagonal|Expand|Flip|Gather|Index|IndexSelect|Permute|Repeat|"
    r"Reshape|ReshapeAlias|Select|Slice|Split|SplitWithSizes|Squeeze|Stack|T|ToCopy|Transpose|Unbind|UnsafeSplit|"
    r"UnsafeView|Unsqueeze|View)Backward\w*"
)
_COMBINING = re.compile(r"(Add|Amax|Div|Max|Maximum|Mean|Minimum|Mul|NanToNum|Prod|Rsub|Sub|Sum|Where)Backward\w*")

Node = Any  # torch.autograd.graph.Node; its Python classes share no usable type


@dataclass(frozen=True)
class Walk:
    """What lies between the explained value and the places it is explained by.

    Attributes:
        operations: the intercepted operations, in order of execution.
        unseen: for every node that no intercepted operation made, a phrase that names it and its nearest known
            neighbour.
    """

    operations: tuple[Operation, ...]
    unseen: tuple[str, ...]


def is_marked(node: Node) -> bool:
    """Whether an intercepted operation made this node."""
    return _KEY in node.metadata


def is_leaf(node: Node) -> bool:
    """Whether a node stands for a leaf, which it has as its `variable`."""
    return type(node).__name__ == _LEAF


def makers(tensors: list[Tensor]) -> set[Node]:
    """The nodes that made these tensors: where marking of a later operation has to stop."""
    return {tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None}


def adopt(tensor: Tensor) -> None:
    """Mark the node of a view that torch made anew because its base was written to after the view was taken.

    Such a node leads straight to its base's, so it is the view again and nothing else.
    """
    node: Node = tensor.grad_fn
    base: Node = tensor._base.grad_fn if tensor._base is not None else None
    if base is None or node is None or _KEY in node.metadata:
        return
    if [parent for parent, _ in node.next_functions] == [base] and _KEY in base.metadata:
        node.metadata[_KEY] = base.metadata[_KEY]


def is_hook(node: Node) -> bool:
    """Whether a node only serves a module's backward hooks."""
    return node is not None and type(node).__name__ == _HOOK


def adopt_from(node: Node, maker: Node) -> bool:
    """Count a node as part of the operation that made another one; false where it is already."""
    if _KEY in node.metadata or _KEY not in maker.metadata:
        return False
    node.metadata[_KEY] = maker.metadata[_KEY]
    return True


def mark(results: list[Tensor], operation: Operation, before: set[Node]) -> None:
    """Mark every node from `results` back to the nodes that were there `before` the operation ran."""
    # A write through a view gives its base a new maker too.
    bases = [result._base for result in results if result._is_view()]
    stack = [tensor.grad_fn for tensor in [*results, *bases] if tensor is not None and tensor.grad_fn is not None]
    while stack:
        node: Node = stack.pop()
        if node in before or type(node).__name__ == _LEAF or _KEY in node.metadata:
            continue
        node.metadata[_KEY] = operation
        stack.extend(parent for parent, _ in node.next_functions if parent is not None)


def behind_reshaping(result: Tensor, wanted: Collection[Node], *, combined: bool = False) -> list[Node]:
    """The wanted nodes from which a result came by reshaping, joining and clamping alone; none where it did not.

    Args:
        result: the result.
        wanted: nodes.
        combined: whether sums, means, products and the larger of several, also with constants, may lie between.
    """
    found: list[Node] = []
    stack: list[Node] = [result.grad_fn]
    while stack:
        node = stack.pop()
        if node in wanted:
            found.append(node)
        elif node is not None and (_RESHAPING.match(type(node).__name__) or is_hook(node)):
            stack.extend(parent for parent, _ in node.next_functions)
        elif combined and node is not None and _COMBINING.match(type(node).__name__):
            stack.extend(parent for parent, _ in node.next_functions if parent is not None)
        else:
            return []
    return list(dict.fromkeys(found))


def mark_gate(result: Tensor, gate: int) -> None:
    """Note which of the tensors that a multiplication took is the gate."""
    node: Node = result.grad_fn
    node.metadata[_GATE] = gate


def mark_weighted(result: Tensor, operation: Operation) -> None:
    """Note that the operation is a weighted layer, a folded batch norm included."""
    node: Node = result.grad_fn
    node.metadata[_WEIGHTED] = operation


def mark_folded(result: Tensor) -> None:
    """Note that a batch norm takes this result's layer as a part of itself, so that relevance goes past the result."""
    node: Node = result.grad_fn
    output = result.output_nr
    while is_hook(node):
        node, output = node.next_functions[output]
    node.metadata[_FOLDED] = True


def is_folded(node: Node) -> bool:
    """Whether relevance goes past the result of this node."""
    return _FOLDED in node.metadata


def walk(value: Tensor, places: Collection[Node], *, gates: bool = True) -> Walk:
    """List the operations between `value` and `places`, and the nodes that escaped the interception.

    Nodes that lead to none of the places (work on weights alone) are left out: no signal passes them. Nor do the
    branches that make gates, for a propagation that sends no signal there (`gates` false).
    """
    leads: dict[Node, bool] = {}
    operations: dict[int, Operation] = {}
    unseen: list[str] = []
    stack: list[tuple[Node, Operation | None, bool]] = [(value.grad_fn, None, False)]
    while stack:
        node, later, done = stack.pop()
        if node is None or (node in leads and not done):
            continue
        gate = None if gates else node.metadata.get(_GATE)
        edges = enumerate(node.next_functions)
        parents = [parent for index, (parent, _) in edges if parent is not None and index != gate]
        operation: Operation | None = node.metadata.get(_KEY)
        if not done:
            leads[node] = node in places
            stack.append((node, later, True))
            stack.extend((parent, operation or later, False) for parent in parents)
            continue
        passes = any(leads[parent] for parent in parents)
        leads[node] = leads[node] or passes
        if not passes:
            continue
        if operation is None:
            name = type(node).__name__.removesuffix("Backward0").removesuffix("Backward")
            name = "activation checkpoint" if name == "CheckpointFunction" else name
            unseen.append(f"{name} (a step before {later})" if later else f"{name} (the model's last step)")
        else:
            operations[operation.order] = operation
    return Walk(tuple(operations[index] for index in sorted(operations)), tuple(dict.fromkeys(unseen)))


def avoids(value: Tensor, place: Node, start: Node) -> bool:
    """Whether some way from `value` back to `start` leads past `place`."""
    seen: set[Node] = {place}
    stack = [value.grad_fn]
    while stack:
        node: Node = stack.pop()
        if node is start:
            return True
        if node is None or node in seen:
            continue
        seen.add(node)
        stack.extend(parent for parent, _ in node.next_functions)
    return False


def ancestors(value: Tensor) -> set[Node]:
    """Every node behind a value."""
    found: set[Node] = set()
    stack = [value.grad_fn]
    while stack:
        node: Node = stack.pop()
        if node is not None and node not in found:
            found.add(node)
            stack.extend(parent for parent, _ in node.next_functions)
    return found


def final(value: Tensor) -> frozenset[int]:
    """The order of each weighted layer that is met on some way from `value` before any other."""
    found: set[int] = set()
    seen: set[Node] = set()
    stack = [value.grad_fn]
    while stack:
        node: Node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        operation: Operation | None = node.metadata.get(_WEIGHTED)
        if operation is not None:
            found.add(operation.order)
        else:
            stack.extend(parent for parent, _ in node.next_functions)
    return frozenset(found)


def elementwise_alike(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are functions, value by value, of the same one (h and 0.1 h, or h and -h)."""
    return _source(one) == _source(other)


def _source(tensor: Tensor) -> tuple[Node, int]:
    """The result that a tensor is a function of, value by value."""
    node: Node = tensor.grad_fn
    output = tensor.output_nr
    while node is not None and (operation := node.metadata.get(_KEY)) and operation.kind.elementwise:
        parents = [(parent, nr) for parent, nr in node.next_functions if parent is not None and is_marked(parent)]
        if len(set(parents)) != 1:
            break
        ((node, output),) = set(parents)
    return node, output


def holds(value: Tensor, name: str) -> bool:
    """Whether a node of that name lies behind `value`."""
    return any(type(node).__name__ == name for node in _behind(value))


def leaves(value: Tensor) -> list[Tensor]:
    """The leaves behind `value`."""
    return [node.variable for node in _behind(value) if is_leaf(node)]


def _behind(value: Tensor) -> set[Node]:
    seen: set[Node] = set()
    stack = [value.grad_fn]
    while stack:
        node: Node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack.extend(parent for parent, _ in node.next_functions)
    return seen
