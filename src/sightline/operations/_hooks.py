"""Gradient hooks of the user's, or of another library's: called as torch calls them, and watched.

A hook that only looks on changes nothing for a rule. One that gives another signal back makes the map something else
than what the rule defines, so the method is refused. Which it is shows only while a backward runs: the signal before
the hook is compared with the signal after it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline._common.torch_private import has_gradient_hooks, has_old_gradient_hooks, is_module_hook_node
from sightline.operations import _graph as graph
from sightline.operations._notes import carry_over

Signals = Sequence[Tensor | None]


class Hooks:
    """The gradient hooks of a pass.

    Args:
        model: the network, whose modules may carry some.

    Attributes:
        unwatched: phrases for those whose effect cannot be told.
        watching: whether it matters just now that a hook changes a signal.
        changed: phrases for the hooks that did, in the backward at hand.
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        modules = model.named_modules() if isinstance(model, nn.Module) else ()
        carry = [(n or "the model", m) for n, m in modules if has_gradient_hooks(m)]
        # The old kind hangs on a module's last node alone, where what it changes cannot be told.
        old = [name for name, module in carry if has_old_gradient_hooks(module)]
        self.unwatched = [f"gradient hooks of {name} by register_backward_hook" for name in old]
        names = [name for name, _ in carry]
        self._modules = "one of " * (len(names) > 1) + ", ".join(names) if names else "a module"
        self.watching = False
        self.changed: list[str] = []

    @property
    def reason(self) -> str:
        """What they did, as the reason of a refusal."""
        return (
            f"{'; '.join(dict.fromkeys(self.changed))} changed the signal on its way, so that the map would be another "
            "one than the method's. Remove what changes it; hooks that only look on may stay."
        )

    def on_tensor(self, hook: Callable[..., Tensor | None], where: str) -> Callable[..., Tensor | None]:
        """A tensor's hook, watched; torch's own (of its counters and trackers) only look on."""
        if (getattr(hook, "__module__", None) or "").startswith("torch."):
            return hook

        def watched(signal: Tensor | None) -> Tensor | None:
            if signal is None:
                # A layer that is one with the batch norm after it gets no signal of its own.
                return None
            if not self.watching:
                return hook(signal)
            before = signal.clone()
            found = hook(signal)
            self._compare([before], [signal if found is None else found], f"a gradient hook{where}")
            return found

        return watched

    def on_module(self, tensor: Tensor) -> None:
        """See through the nodes that torch puts around a module with backward hooks, and watch them.

        The nodes hand on what they get. They count as part of the operation that made the tensor, and the tensor has
        the notes of that operation's result.
        """
        node: graph.Node = tensor.grad_fn
        output, chain = tensor.output_nr, []
        while is_module_hook_node(node):
            chain.append(node)
            node, output = node.next_functions[output]
        if not chain or node is None:
            return
        for hooked in chain:
            if graph.adopt_from(hooked, node):
                self._watch(hooked)
        carry_over(tensor, node)

    def _watch(self, node: graph.Node) -> None:
        arrived: list[Tensor | None] = []

        def before(signals: Signals) -> None:
            arrived[:] = [None if s is None or not self.watching else s.clone() for s in signals]

        def after(found: Signals, _given: Signals) -> None:
            if self.watching:
                self._compare(arrived, found, f"gradient hooks of {self._modules}")
            arrived.clear()

        # Torch's own are hooks after the node, and were there before.
        node.register_prehook(before)
        node.register_hook(after)

    def _compare(self, before: Signals, after: Signals, phrase: str) -> None:
        if not all(map(_equal, before, after)):
            self.changed.append(phrase)


def _equal(before: Tensor | None, after: Tensor | None) -> bool:
    if before is None or after is None:
        # Nothing may become zeros on the way through a node.
        return all(signal is None or not bool(signal.any()) for signal in (before, after))
    return before.shape == after.shape and torch.allclose(before, after, rtol=0, atol=0, equal_nan=True)
