"""Notes that a pass leaves on tensors: attributes, which die with the tensor.

Only tensors that a pass makes are noted on; where one may be the user's and outlive the pass, whoever notes takes the
note off again.
"""

from typing import Any, Generic, TypeVar

from torch import Tensor

from sightline._common.torch_private import root_of

_T = TypeVar("_T")
_THROUGH_HOOKS: list[str] = []


class Note(Generic[_T]):
    """One kind of note.

    Args:
        name: what it is called.
        on_memory: whether all views of a tensor share it.
        through_hooks: whether it is found behind the nodes that torch puts around a module with backward hooks.
    """

    def __init__(self, name: str, *, on_memory: bool = False, through_hooks: bool = False) -> None:
        self._name, self._on_memory, self._through_hooks = f"_sightline_{name}", on_memory, through_hooks
        if through_hooks:
            _THROUGH_HOOKS.append(self._name)

    def of(self, tensor: Tensor) -> _T | None:
        """What is noted on a tensor, if anything."""
        return getattr(root_of(tensor) if self._on_memory else tensor, self._name, None)

    def on(self, tensor: Tensor) -> bool:
        """Whether the note is on a tensor."""
        return hasattr(root_of(tensor) if self._on_memory else tensor, self._name)

    def put(self, tensor: Tensor, value: _T) -> None:
        """Note something on a tensor."""
        setattr(root_of(tensor) if self._on_memory else tensor, self._name, value)
        node: Any = tensor.grad_fn if self._through_hooks else None
        if node is not None:
            node.metadata[self._name] = value

    def drop(self, tensor: Tensor) -> None:
        """Take the note off a tensor, if it is there."""
        noted = root_of(tensor) if self._on_memory else tensor
        if hasattr(noted, self._name):
            delattr(noted, self._name)


def carry_over(tensor: Tensor, node: Any) -> None:
    """Note on a tensor what was noted on the result of a node, around which torch has put others for hooks."""
    for name in _THROUGH_HOOKS:
        if name in node.metadata:
            setattr(tensor, name, node.metadata[name])
