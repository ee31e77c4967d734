"""torch's batch norm and instance norm on CPU, whose backward is wrong for some layouts of memory in a batch of one.

Their kernel reads a signal in the input's layout wherever torch takes both for the same. In a batch of one it takes a
tensor whose channels lie next to each other (tokens that were transposed into an image, (1, C, H, W) with strides
(C, 1, W C, C)) for one whose positions do, and reads the signal in the wrong order: `docs/upstream.md`. So the nodes of
these operations get their signal in a layout that is read rightly. What was right keeps its digits.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from sightline.operations._graph import Node, nodes_behind

_KEY = "sightline.steady"
_DEPTH = 4  # of the nodes that one norm leaves


def is_affected(name: str) -> bool:
    """Whether an operation is a batch norm or an instance norm, whatever its spelling."""
    return "batch_norm" in name or "instance_norm" in name


def steady(name: str, made: Sequence[Tensor], x: object) -> None:
    """Have the node that made a norm's result receive signals that its kernel reads rightly.

    Args:
        name: the operation's spelling.
        made: what it gave, by torch itself or by a node of ours, which needs nothing.
        x: its input.
    """
    # Instance norm copies its input into the plain layout, and works on a batch of one whatever the images are.
    plain = "instance_norm" in name or (isinstance(x, Tensor) and x.is_contiguous())
    node: Node = made[0].grad_fn if made else None
    for _ in range(_DEPTH):
        if node is None or _KEY in node.metadata:
            return
        if _is_norm(node):
            _hook(node, _contiguous if plain else _scattered)
            return
        node = next((parent for parent, _ in node.next_functions), None)


def steady_unseen(value: Tensor, done: set[Node]) -> None:
    """The same for norms that ran where no call is seen (another thread), so that nobody knows their input.

    Args:
        value: what will be pulled back.
        done: nodes that need no look; those that are met are added.
    """
    for node in nodes_behind(value, seen=done):
        if _is_norm(node) and _KEY not in node.metadata:
            _hook(node, _scattered)


def _is_norm(node: Node) -> bool:
    name = type(node).__name__
    return "BatchNorm" in name and not name.startswith("Ruled")


def _hook(node: Node, change: Callable[[Tensor], Tensor]) -> None:
    def changed(signals: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        return tuple(None if signal is None else change(signal) for signal in signals)

    node.metadata[_KEY] = True
    node.register_prehook(changed)


def _contiguous(signal: Tensor) -> Tensor:
    return signal.contiguous() if _is_one(signal) else signal


def _scattered(signal: Tensor) -> Tensor:
    """The signal with gaps in its memory, which no kernel takes for one layout or the other."""
    return signal.new_empty((*signal.shape, 2))[..., 0].copy_(signal) if _is_one(signal) else signal


def _is_one(signal: Tensor) -> bool:
    return signal.dim() > 3 and signal.shape[0] == 1
