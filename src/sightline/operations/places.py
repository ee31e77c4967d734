"""Places: the inner results that an aggregation reads, by layer name or found from the operations."""

import difflib
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import InputError, RefusalError
from sightline.operations.modules import ModuleStack
from sightline.operations.vocabulary import Kind, Operation

INPUT = "<input>"
"""The place of the input itself."""

LAST_SPATIAL = "<last spatial feature map>"
"""The last feature map (batch, channel, height, width) with more than one position that is not yet the class scores:
the one that the last weighted operation builds on."""

_FEATURES = frozenset(
    {
        Kind.LINEAR,
        Kind.NORMALISATION,
        Kind.RECTIFIER,
        Kind.ACTIVATION,
        Kind.ADD,
        Kind.MULTIPLY,
        Kind.MAX_POOLING,
        Kind.RESHAPE,
    }
)


class Places:
    """Keeps the results at the places asked for while a pass runs.

    Args:
        model: the network.
        wanted: names of modules (`layer3`; `block#2` for the second of several calls) and `LAST_SPATIAL`.
        modules: where the pass is.

    Attributes:
        kept: the result at each place.
        where: the module (or operation) that made it.
        refused: why a place has no result.

    Raises:
        InputError: a name is not in the model.
    """

    def __init__(self, model: Callable[..., Any], wanted: Collection[str], modules: ModuleStack) -> None:
        self.kept: dict[str, Tensor] = {}
        self.where: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._names = frozenset(wanted) - {INPUT, LAST_SPATIAL}
        self._modules = modules
        self._finder = _LastSpatial() if LAST_SPATIAL in wanted else None
        known = {name for name, _ in model.named_modules()} if isinstance(model, nn.Module) else set()
        for place in self._names:
            name = place.partition("#")[0]
            if name not in known or not name:
                raise InputError(_unknown(name, known))

    def note(self, tensor: Tensor, operation: Operation) -> None:
        """See one result on the way from the input."""
        if self._finder is not None:
            self._finder.note(tensor, operation)

    def on_module_exit(self, name: str, output: Any) -> Any:
        """Keep a named layer's result, and let the model go on with a copy of it."""
        for place in (name, f"{name}#{self._modules.calls[name]}"):
            if place not in self._names:
                continue
            if not isinstance(output, Tensor):
                self.refused[place] = (
                    f"The layer {name!r} returns a {type(output).__name__}, not one tensor; name a sub-module of it."
                )
                continue
            if not output.requires_grad and torch.is_floating_point(output):
                # Behind a detached stem the graph begins here.
                output = output.detach()
                vars(output).clear()
                output.requires_grad_()
            self.kept[place], self.where[place] = output, name
            # An in-place operation after the layer must not change what it returned.
            output = output.clone()
        return output

    def collect(self) -> None:
        """After the pass: see that each place was met, once; `refused` says which was not."""
        for place in self._names:
            name, _, call = place.partition("#")
            calls = self._modules.calls[name]
            if not call and calls > 1:
                self.refused[place] = (
                    f"The layer {name!r} runs {calls} times in one pass; name one call, {name}#1 to {name}#{calls}."
                )
            elif place not in self.kept:
                self.refused.setdefault(
                    place, f"The layer {place!r} has no result: the model ran {name!r} {calls} time(s)."
                )
        if self._finder is not None:
            try:
                tensor, operation = self._finder.found()
            except RefusalError as error:
                self.refused[LAST_SPATIAL] = str(error)
            else:
                self.kept[LAST_SPATIAL] = tensor
                self.where[LAST_SPATIAL] = operation.where or f"{operation.name} in the model's own forward"
            self._finder = None

    def __getitem__(self, place: str) -> Tensor:
        """The result at a place.

        Raises:
            RefusalError: it has none.
        """
        if place in self.refused:
            raise RefusalError(self.refused[place])
        return self.kept[place]


class _LastSpatial:
    """Finds the last spatial feature map while operations pass by."""

    def __init__(self) -> None:
        self._spatial: tuple[Tensor, Operation, int] | None = None
        self._candidate: tuple[Tensor, Operation, int] | None = None
        self._channels_last = False
        self._tokens_since = False

    def note(self, tensor: Tensor, operation: Operation) -> None:
        if operation.kind in {Kind.LINEAR, Kind.MATMUL} and self._spatial is not None:
            self._candidate = self._spatial
        positions = tensor.dim() == 4 and tensor.shape[2] * tensor.shape[3] > 1
        # Linear layers and layer norms act on the last axis, so there the channels stand last.
        if operation.name in {"linear", "layer_norm"}:
            self._channels_last = tensor.dim() == 4
            if tensor.dim() == 3 and tensor.shape[1] > 1:
                self._tokens_since = True
        elif operation.kind is Kind.LINEAR or operation.name in {"batch_norm", "group_norm"}:
            self._channels_last = False
        elif operation.name in {"permute", "transpose", "movedim"} and positions:
            self._channels_last = not self._channels_last
        if positions and not self._channels_last and operation.kind in _FEATURES:
            self._spatial = (tensor, operation, tensor._version)
            self._tokens_since = False

    def found(self) -> tuple[Tensor, Operation]:
        if self._candidate is None:
            raise RefusalError(
                "No spatial feature map was found before the last weighted operation (a result of shape batch, "
                "channel, height, width with more than one position). Name a layer that has one: grad_cam@LAYER."
            )
        tensor, operation, version = self._candidate
        if self._tokens_since or self._channels_last:
            raise RefusalError(
                f"After {operation}, this network works on tokens or with channels last, so its last feature map is "
                "not of shape (batch, channel, height, width). Name a layer that is: grad_cam@LAYER."
            )
        if tensor._version != version:
            raise RefusalError(
                f"The last spatial feature map ({operation}) is changed in place later. Name a layer: grad_cam@LAYER."
            )
        return tensor, operation


def _unknown(name: str, known: Collection[str]) -> str:
    names = sorted(filter(None, known))
    close = difflib.get_close_matches(name, names, n=4, cutoff=0.4)
    hint = f"Close names: {', '.join(close)}." if close else f"Some that it has: {', '.join(names[:8])}."
    return f"The model has no layer {name!r}. {hint}"
