"""The backward of a recorded pass, under the rules of one propagation at a time."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.utils.checkpoint import CheckpointError

from sightline._common.torch_private import run_backward
from sightline.errors import RefusalError, SightlineError
from sightline.operations import _graph as graph
from sightline.operations._active import Active, Ledger
from sightline.operations._dependence import Dependence, Recomputation
from sightline.operations._hooks import Hooks
from sightline.operations._intercepts import Intercept, Intercepts
from sightline.operations._propagation import Propagation
from sightline.operations._steady import steady_unseen
from sightline.operations.kinds._spelling import spelling


class RecomputationError(RefusalError):
    """A pass with rules, or one for FullGrad, met a checkpoint that recomputes part of the model."""


class Pull(Protocol):
    """A way to have autograd pull a signal back to some edges."""

    def __call__(
        self, values: Tensor, edges: list[GradientEdge], start: Tensor, *, keep_graph: bool
    ) -> Sequence[Tensor | None]:
        """The signal at each edge; None where the values do not depend on it."""


class Backward:
    """Pulls signals back through one pass, from one thread at a time.

    Args:
        active: where the nodes of the pass look up the propagation in effect.
        dependence: what cut constants from the graph during the pass.
        hooks: the gradient hooks that the pass met.
        intercepts: the intercepts of the pass, where they were noted.
        attentive: whether it matters that a hook changes a signal.
    """

    def __init__(
        self, active: Active, dependence: Dependence, hooks: Hooks, intercepts: Intercepts | None, *, attentive: bool
    ) -> None:
        self._active, self._dependence, self._hooks, self._intercepts = active, dependence, hooks, intercepts
        self._attentive = attentive
        self._lock = threading.Lock()
        self._steady: set[graph.Node] = set()

    def run(
        self,
        values: Tensor,
        propagation: Propagation,
        edges: Mapping[str, GradientEdge],
        pull: Pull,
        *,
        keep_graph: bool,
        again: bool,
        on_intercept: Callable[[Intercept, Tensor], None] | None,
    ) -> tuple[dict[str, Tensor | None], Ledger | None]:
        """The signal at each of some edges, by place; for relevance, also the ledger. See `Tape.pull_back`."""
        folded = [place for place, edge in edges.items() if graph.is_folded(edge.node)]
        if propagation.relevance and folded:
            raise RefusalError(
                f"{propagation.name} has no relevance of its own at {folded[0]!r}: that layer is one with the batch "
                "norm, or the sum of parallel layers, that follows it, and relevance goes straight to its input. Name "
                "that batch norm, or the module that adds them, instead."
            )
        again_alike = nullcontext() if pull is natively else Recomputation(self._dependence, spelling)
        active, start = self._active, propagation.start(values.detach())
        ledger = Ledger(len(values)) if propagation.relevance else None
        steady_unseen(values, self._steady)
        listening = self._listening(on_intercept)
        try:
            with self._lock, again_alike:
                active.propagation, active.ledger = propagation, ledger
                active.last, active.again = not keep_graph, again
                self._hooks.watching, self._hooks.changed = self._attentive, []
                if propagation.contrasts:
                    active.final_layers = graph.final(values)
                found = pull(values, list(edges.values()), start, keep_graph=keep_graph)
        except SightlineError:
            raise
        except RuntimeError as error:
            if isinstance(error, CheckpointError) or "checkpoint" in str(error).lower():
                raise RefusalError(recomputed(propagation.name)) from error
            if "modified by an inplace operation" in str(error):
                raise RefusalError(
                    f"{propagation.name} cannot be pulled back: the model writes in place over values that the "
                    "backward needs, so it cannot be trained as it stands. Use that operation out of place."
                ) from error
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise RefusalError(
                f"{propagation.name} cannot be pulled back: the model's own backward fails with {error}"
            ) from error
        finally:
            for handle in listening:
                handle.remove()
            active.propagation = active.ledger = None
            active.last = active.again = self._hooks.watching = False
            self._dependence.forget()
        if self._hooks.changed and propagation.rules:
            raise RefusalError(f"{propagation.name} cannot be pulled back: {self._hooks.reason}")
        return dict(zip(edges, found, strict=True)), ledger

    def _listening(self, hear: Callable[[Intercept, Tensor], None] | None) -> list[Any]:
        """Have each intercept's node show the signal that reaches it, before the node passes it on."""
        if hear is None or self._intercepts is None:
            return []

        def heard(intercept: Intercept) -> Callable[[Sequence[Tensor | None]], None]:
            def show(signals: Sequence[Tensor | None]) -> None:
                signal = signals[intercept.output]
                if signal is not None:
                    hear(intercept, signal)

            return show

        return [intercept.node.register_prehook(heard(intercept)) for intercept in self._intercepts.found]


def natively(values: Tensor, edges: list[GradientEdge], start: Tensor, *, keep_graph: bool) -> Sequence[Tensor | None]:
    """By torch's own function."""
    return torch.autograd.grad(values, edges, start, retain_graph=keep_graph, allow_unused=True)


def under_modes(
    values: Tensor, edges: list[GradientEdge], start: Tensor, *, keep_graph: bool
) -> Sequence[Tensor | None]:
    """The same under a mode, which torch's own function would suspend."""
    return run_backward([values], [start], edges, keep_graph=keep_graph)


def by_accumulation(
    values: Tensor, edges: list[GradientEdge], start: Tensor, *, keep_graph: bool
) -> Sequence[Tensor | None]:
    """The same by a backward to all leaves, which is the only one that a reentrant checkpoint allows."""
    found: list[Tensor | None] = [None] * len(edges)

    def hear(place: int, output: int) -> Callable[[Sequence[Tensor | None]], None]:
        def show(signals: Sequence[Tensor | None]) -> None:
            found[place] = signals[output]

        return show

    before = [(leaf, leaf.grad) for leaf in graph.leaves(values)]
    handles = [edge.node.register_prehook(hear(place, edge.output_nr)) for place, edge in enumerate(edges)]
    try:
        for leaf, _ in before:
            leaf.grad = None
        # The graph of weights may be the user's own, so it is left as it was.
        run_backward([values], [start], [], keep_graph=keep_graph or len(before) > 1)
    finally:
        for handle in handles:
            handle.remove()
        for leaf, gradient in before:
            leaf.grad = gradient
    return found


def recomputed(name: str) -> str:
    """Why a method with rules, or FullGrad, is refused where the model recomputes part of itself."""
    return (
        f"{name} cannot be pulled back: the model recomputes part of itself during the backward (activation "
        "checkpointing), where rules cannot follow. Switch checkpointing off for explaining, or use a method that "
        "needs only the gradient."
    )
