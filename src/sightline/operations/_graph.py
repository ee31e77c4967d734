"""The walk over the recorded graph: which operations lie between input and value, and which escaped notice.

The interception sees what runs as Python calls of torch. A scripted or compiled sub-module, another thread, a
checkpoint's recomputation or a user's own `autograd.Function` does not; but autograd records all of them. So every
node that an intercepted operation made is marked, and the walk from the explained value lists the marked operations
and every node that nobody marked.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sightline._common.torch_private import is_leaf_node, is_module_hook_node, is_view, root_of
from sightline.operations._vocabulary import Operation

_KEY = "sightline.operation"
_GATE = "sightline.gate"
_WEIGHTED = "sightline.weighted"
_FOLDED = "sightline.folded"

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


def nodes_behind(
    value: Tensor, *, beyond: Callable[[Node], bool] = lambda _: True, seen: set[Node] | None = None
) -> Iterator[Node]:
    """Each node behind a value, once, from the value down.

    Args:
        value: the value; without a graph, nothing is behind it.
        beyond: whether to go on past a node. The node itself is listed either way.
        seen: nodes to leave out, with what is reached through them alone; those that are met are added.
    """
    seen = set() if seen is None else seen
    stack: list[Node] = [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if beyond(node):
            stack.extend(parent for parent, _ in node.next_functions)


def is_marked(node: Node) -> bool:
    """Whether an intercepted operation made this node."""
    return _KEY in node.metadata


def makers(tensors: list[Tensor]) -> set[Node]:
    """The nodes that made these tensors: where marking of a later operation has to stop."""
    return {tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None}


def adopt(tensor: Tensor) -> None:
    """Mark the node of a view that torch made anew because its base was written to after the view was taken.

    Such a node leads straight to its base's, so it is the view again and nothing else.
    """
    node: Node = tensor.grad_fn
    base: Node = root_of(tensor).grad_fn if is_view(tensor) else None
    if base is None or node is None or _KEY in node.metadata:
        return
    if [parent for parent, _ in node.next_functions] == [base] and _KEY in base.metadata:
        node.metadata[_KEY] = base.metadata[_KEY]


def adopt_from(node: Node, maker: Node) -> bool:
    """Count a node as part of the operation that made another one; false where it is already."""
    if _KEY in node.metadata or _KEY not in maker.metadata:
        return False
    node.metadata[_KEY] = maker.metadata[_KEY]
    return True


def mark(results: list[Tensor], operation: Operation, before: set[Node]) -> None:
    """Mark every node from `results` back to the nodes that were there `before` the operation ran."""
    # A write through a view gives its base a new maker too.
    bases = [root_of(result) for result in results if is_view(result)]
    stack = [tensor.grad_fn for tensor in [*results, *bases] if tensor.grad_fn is not None]
    while stack:
        node: Node = stack.pop()
        if node in before or is_leaf_node(node) or _KEY in node.metadata:
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

    def moves(node: Node) -> bool:
        if node in wanted:
            return False
        name = type(node).__name__
        if _RESHAPING.match(name) or is_module_hook_node(node):
            return all(parent is not None for parent, _ in node.next_functions)
        return combined and _COMBINING.match(name) is not None

    ends = [node for node in nodes_behind(result, beyond=moves) if not moves(node)]
    return ends if all(node in wanted for node in ends) else []


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
    while is_module_hook_node(node):
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
    return any(node is start for node in nodes_behind(value, beyond=lambda node: node is not place))


def final(value: Tensor) -> frozenset[int]:
    """The order of each weighted layer that is met on some way from `value` before any other."""
    met = nodes_behind(value, beyond=lambda node: _WEIGHTED not in node.metadata)
    return frozenset(node.metadata[_WEIGHTED].order for node in met if _WEIGHTED in node.metadata)


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
    return any(type(node).__name__ == name for node in nodes_behind(value))


def leaves(value: Tensor) -> list[Tensor]:
    """The leaves behind `value`."""
    return [node.variable for node in nodes_behind(value) if is_leaf_node(node)]
