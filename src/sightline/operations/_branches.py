"""Parallel branches: the sum of weighted layers on one input, which relevance takes as one layer.

Networks that are re-parametrised after training (RepVGG, MobileOne, GhostNetV3) add the results of convolutions of
several sizes, each with a batch norm, and of a batch norm alone, all of one input. That is one layer, as a batch norm
and the convolution before it are: shared by their signed results, which nearly cancel, relevance would grow out of all
proportion, and the map would not be that of the same network folded. A branch may be scaled by constants, subtracted,
or itself be such a sum. The input itself is a branch beside two others (RepViT, FastViT). Beside a single one
(x + f(x), a residual skip) it is none: by the convention of the field (Zennit, TorchRay) that sum is shared in
proportion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline._common.torch_private import is_view, version_of
from sightline.errors import RefusalError
from sightline.operations._calls import Call, pull
from sightline.operations._linear import Linear, apply_rule
from sightline.operations._notes import Note
from sightline.operations._reading import Native
from sightline.operations._vocabulary import Kind


@dataclass(frozen=True)
class Branch:
    """A layer that made a result from x.

    Attributes:
        layer: makes it, once it is needed.
        x: its input.
        version: how often x had been written over.
    """

    layer: Callable[[], Linear]
    x: Tensor
    version: int


_BRANCHES = Note[tuple[tuple[Branch, ...], int]]("branches")


def note_branches(result: Tensor, *branches: Branch) -> None:
    """Note on a result which layers made it; of a batch norm with the layer before it, and of the batch norm alone."""
    _BRANCHES.put(result, (branches, version_of(result)))


def branches_of(h: Tensor) -> tuple[Branch, ...]:
    """The layers of which h is the result, untouched."""
    found = _BRANCHES.of(h)
    return () if found is None or found[1] != version_of(h) else found[0]


def scaled(h: Tensor, native: Native, result: Tensor) -> None:
    """Note that a result is h times a constant for each channel."""
    found = []
    for branch in branches_of(h):
        axis = branch.layer().form.axis % h.dim()
        shape = [1] * h.dim()
        shape[axis] = h.shape[axis]
        factors = native(h.new_ones(shape).detach())
        if factors.shape == torch.Size(shape):
            found.append(_scaled(branch, factors.flatten()))
    if found:
        note_branches(result, *found)


def _scaled(branch: Branch, factors: Tensor) -> Branch:
    return Branch(lambda: branch.layer().folded(factors, torch.zeros_like(factors)), branch.x, branch.version)


@dataclass(frozen=True)
class Joined:
    """The one layer that a sum amounts to.

    Attributes:
        layer: it, or the reason why it cannot be made.
        x: its input.
        at_once: whether the sum is shared as that layer. If not, it is a skip, which a further sum may take in.
    """

    layer: Linear | str
    x: Tensor
    at_once: bool

    def note(self, result: Tensor) -> None:
        """Note on the sum which layer it amounts to."""
        layer = self.layer
        if isinstance(layer, Linear):
            note_branches(result, Branch(lambda: layer, self.x, version_of(self.x)))


def summed(native: Native, tensors: Sequence[Tensor], *, in_place: bool) -> Joined | None:
    """The one layer that a sum amounts to; None where it is none.

    Args:
        native: the sum as a function of the tensors.
        tensors: what is added, all of it.
        in_place: whether it is written over the first of them.
    """
    shape = tensors[0].shape
    if any(t.shape != shape for t in tensors) or (in_place and is_view(tensors[0])):
        return None
    known = [branches_of(tensor) for tensor in tensors]
    inputs = [(branch.x, branch) for branches in known for branch in branches]
    for number, tensor in enumerate(tensors):
        beside = next((branch for x, branch in inputs if x is tensor), None)
        if beside is not None:
            known[number] = (*known[number], Branch(partial(_identity, tensor, beside), tensor, version_of(tensor)))
    chosen = _on_one_input(known)
    if not chosen:
        return None
    # What is added to the branches, and the factor of each, read off numbers.
    probes = torch.cat([torch.zeros(1, len(tensors)), torch.eye(len(tensors))]).double()
    with torch.no_grad():
        constant, *factors = [native(*(value.clone() for value in probe.unbind())) for probe in probes]
    if any(found.dim() > 0 for found in (constant, *factors)) or float(constant) != 0:
        return None
    x = chosen[0].x
    layers = [(branch.layer(), float(factor)) for branch, factor in zip(chosen, factors, strict=True)]
    # A sum of one (0 + f(x), which Python's sum begins with) is that layer.
    several = len(tensors) == 1 or sum(layer.layers for layer, _ in layers) > 1
    if any(branch.version != version_of(x) for branch in chosen) or (in_place and tensors[0] is x):
        return Joined(_OVERWRITTEN, x, at_once=True) if several else None
    layer = Linear.summed(layers, tuple(x.shape), tuple(shape))
    return None if layer is None else Joined(layer, x, at_once=several)


def _identity(x: Tensor, beside: Branch) -> Linear:
    """The input itself, as a layer beside another one on it."""
    like = beside.layer()
    ones = torch.ones(x.shape[like.form.axis], dtype=x.dtype, device=x.device)
    return like.identity(ones)


def _on_one_input(sets: Sequence[tuple[Branch, ...]]) -> list[Branch]:
    """A branch of each that takes the same input as the others."""
    for first in sets[0] if sets else ():
        alike = [[b for b in others if b.x is first.x and b.version == first.version] for others in sets[1:]]
        if all(alike):
            return [first, *(found[0] for found in alike)]
    return []


class RuledSum(torch.autograd.Function):
    """A sum of parallel branches on x. A rule for relevance hands its result to x, and nothing to the branches."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, layer: Linear | str, kinds: frozenset[Kind], x: Tensor, *tensors: Tensor
    ) -> Tensor:
        """Torch's own operation, in place where it is."""
        ctx.set_materialize_grads(False)
        y: Tensor = call.native(*tensors)
        ctx.mark_dirty(*(tensor for tensor in tensors if tensor is y))
        ctx.call, ctx.layer, ctx.kinds, ctx.dtype = call, layer, kinds, x.dtype
        ctx.dtypes = [tensor.dtype for tensor in tensors]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor | None) -> tuple[Tensor | None, ...]:
        """The active rule for the one layer; for what is no relevance, that for sums or the ordinary derivative."""
        call: Call = ctx.call
        nothing = [None] * len(ctx.dtypes)
        if signal is None:
            return (None, None, None, None, *nothing)
        active, layer = call._active, ctx.layer
        if active.joins(ctx.kinds):
            if isinstance(layer, str):
                raise RefusalError(layer)
            found = (None, None, None, apply_rule(signal, layer).to(ctx.dtype), *nothing)
        else:
            found = (None, None, None, None, *pull(call, signal, ctx.dtypes))
        if active.last:
            ctx.call = ctx.layer = None
        return found


_OVERWRITTEN = (
    "The input of parallel layers is written over in place before their results are added, so that they cannot be "
    "treated as one. Use that operation out of place."
)
