"""Places: the inner results that an aggregation reads, by layer name or found from the operations."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from sightline.errors import InputError, RefusalError, alternatives
from sightline.operations import graph
from sightline.operations.modules import ModuleStack
from sightline.operations.origins import cut
from sightline.operations.vocabulary import Kind, Operation

INPUT = "<input>"
"""The place of the input itself."""

LAST_SPATIAL = "<last spatial feature map>"
"""The last feature map (batch, channel, height, width) with more than one position that is not yet the class scores:
the one that the last weighted operation builds on."""

DEPTHS = ("early", "middle", "late")
"""Places by depth, unless a module bears such a name: of the feature maps through which all that decides passes, the
last of each resolution; of these, the one a quarter of the way, half of it, and the last spatial feature map."""

_FEATURES = frozenset(
    {
        Kind.LINEAR,
        Kind.BATCH_NORM,
        Kind.NORMALISATION,
        Kind.RECTIFIER,
        Kind.ACTIVATION,
        Kind.POINTWISE,
        Kind.ADD,
        Kind.SCALING,
        Kind.GATING,
        Kind.PRODUCT,
        Kind.MAX_POOLING,
        Kind.RESAMPLING,
        Kind.RESHAPE,
    }
)


def place_of(layer: str | nn.Module) -> str:
    """The place of a layer by name; of one given as a module, which has a name where the model is known."""
    return layer if isinstance(layer, str) else f"<{type(layer).__name__}>"


@dataclass(frozen=True)
class Place:
    """A result kept from a pass.

    Attributes:
        values: the result, as it was then.
        edge: where it stands in the graph, whatever the model writes over it later; None outside the graph.
        where: the module or operation that made it.
    """

    values: Tensor
    edge: GradientEdge | None
    where: str


@dataclass(frozen=True)
class Seen:
    """The places of a pass.

    Attributes:
        kept: the result at each place.
        refused: why a place has no result.
    """

    kept: dict[str, Place]
    refused: dict[str, str]

    def __getitem__(self, place: str) -> Place:
        """The result at a place.

        Raises:
            RefusalError: it has none.
        """
        if place in self.refused:
            raise RefusalError(self.refused[place])
        return self.kept[place]


class Places:
    """Keeps the results at the places asked for while a pass runs.

    Args:
        model: the network.
        wanted: names of modules (`layer3`; `block#2` for the second of several calls), `LAST_SPATIAL`, and `DEPTHS`.
        modules: where the pass is.
        follow: whether to follow where channels stand, whatever is wanted.

    Attributes:
        kept: the result at each place.
        refused: why a place has no result.
        looking: whether feature maps have to be found.

    Raises:
        InputError: a name is not in the model.
    """

    def __init__(
        self, model: Callable[..., Any], wanted: Collection[str], modules: ModuleStack, *, follow: bool = False
    ) -> None:
        self.kept: dict[str, Place] = {}
        self.refused: dict[str, str] = {}
        asked = frozenset(wanted) - {INPUT, LAST_SPATIAL}
        known = dict(model.named_modules()) if asked and isinstance(model, nn.Module) else {}
        self._depths = asked.intersection(DEPTHS) - known.keys()
        self._names = asked - self._depths
        self._last = frozenset(wanted) & ({LAST_SPATIAL} | (self._depths & {"late"}))
        self.looking = bool(self._last or self._depths)
        self._follow = follow or self.looking or bool(self._names)
        self._modules = modules
        self._finder = _LastSpatial(every=bool(self._depths - {"late"}))
        self._rows = 0
        for place in self._names:
            name = place.partition("#")[0]
            if name not in known or not name:
                raise InputError(f"The model has no layer {name!r}. {alternatives(name, sorted(filter(None, known)))}")
            if known[name]._forward_hooks:
                self.refused[place] = (
                    f"The layer {name!r} carries forward hooks, which change its result after we would read it; name "
                    "the layer that follows."
                )

    @property
    def channels_last(self) -> bool:
        """Whether channels stand last in results of four dimensions, just now."""
        return self._finder.channels_last

    @property
    def named(self) -> bool:
        """Whether any place is a module's result."""
        return bool(self._names)

    def start(self, inputs: Tensor) -> None:
        """Begin a pass on `inputs`."""
        self._rows = inputs.shape[0]
        if inputs.requires_grad:
            self.kept[INPUT] = Place(inputs, get_gradient_edge(inputs), "the input")

    def note(self, results: list[Tensor], operation: Operation) -> None:
        """See the results of one operation on the way from the input."""
        if self._follow:
            self._finder.note(results, operation)

    def on_module_exit(self, name: str, output: Any) -> Any:
        """Keep a named layer's result as it is now, since the model may write over it."""
        if not self._names:
            return None
        for place in (name, f"{name}#{self._modules.calls[name]}"):
            if place not in self._names or place in self.refused:
                continue
            reason = self._unreadable(name, output)
            if reason:
                self.refused[place] = reason
                continue
            if not output.requires_grad and torch.is_floating_point(output):
                # Behind a detached stem the graph begins here; the model goes on with a copy of the new leaf.
                leaf = (output.clone() if output.is_inference() else output.detach()).requires_grad_()
                self.kept[place] = Place(leaf, get_gradient_edge(leaf), name)
                output = leaf.clone()
                cut(output)
                continue
            self.kept[place] = Place(output.clone(), get_gradient_edge(output), name)
        return output

    def _unreadable(self, name: str, output: Any) -> str:
        if not isinstance(output, Tensor):
            return f"The layer {name!r} returns a {type(output).__name__}, not one tensor; name a sub-module of it."
        if torch.is_inference_mode_enabled():
            return f"The layer {name!r} runs under torch.inference_mode, through which nothing flows back."
        if output.dim() == 0 or output.shape[0] != self._rows:
            return (
                f"The layer {name!r} gives a result of shape {tuple(output.shape)} for {self._rows} image(s), so its "
                "rows are not the images; name another layer."
            )
        if output.dim() == 4 and self._finder.channels_last:
            return (
                f"The layer {name!r} gives its channels last, shape {tuple(output.shape)}; name a layer whose result "
                "is of shape (batch, channel, height, width)."
            )
        return ""

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
        if self.looking:
            try:
                last = self._finder.found(self._rows)
            except RefusalError as error:
                self.refused |= dict.fromkeys(self._last | self._depths, str(error))
            else:
                self.kept |= dict.fromkeys(self._last, last)

    def seen_from(self, value: Tensor) -> "Seen":
        """The places as one explained value has them: which feature map is early or last may depend on it."""
        seen, start = Seen(dict(self.kept), dict(self.refused)), self.kept.get(INPUT)
        if start is None or start.edge is None or value.grad_fn is None:
            return seen
        for place in self._last & self.kept.keys():
            reason = self._not_last(self.kept[place], value, start.edge)
            if reason:
                seen.refused[place] = reason
        for depth in self._depths - {"late"} - self.refused.keys():
            try:
                seen.kept[depth] = self._finder.at(depth, value, start.edge, self._rows)
            except RefusalError as error:
                seen.refused[depth] = str(error)
        return seen

    def _not_last(self, found: Place, value: Tensor, start: GradientEdge) -> str:
        """Why a feature map may not be the last one, or only one of several; all should pass it, in sight."""
        if found.edge is None:
            return ""
        unseen = graph.walk(value, [found.edge.node]).unseen
        if unseen:
            reason = f"after {found.where} the model runs where its operations cannot be seen ({unseen[0]})"
        elif graph.avoids(value, found.edge.node, start.node):
            reason = f"not all that decides passes {found.where}, the last feature map to be met"
        else:
            return ""
        return f"Which feature map is the last is not clear: {reason}. Name a layer: grad_cam@LAYER."

    def __getitem__(self, place: str) -> Place:
        """The result at a place, whatever is explained."""
        return Seen(self.kept, self.refused)[place]


class _Feature(NamedTuple):
    """A spatial feature map that went by."""

    tensor: Tensor
    edge: GradientEdge
    operation: Operation
    version: int

    @property
    def intact(self) -> bool:
        return self.tensor._version == self.version

    def place(self) -> Place:
        where = self.operation.where or f"{self.operation.name} in the model's own forward"
        return Place(self.tensor.detach(), self.edge, where)


class _LastSpatial:
    """Finds spatial feature maps while operations pass by: the last, and with `every` all of them."""

    def __init__(self, *, every: bool) -> None:
        self.channels_last = False
        self._every: list[_Feature] | None = [] if every else None
        self._spatial: _Feature | None = None
        self._candidate: _Feature | None = None
        self._tokens_since = False
        self._weighted = False

    def note(self, results: list[Tensor], operation: Operation) -> None:
        tensor = results[0]
        if operation.kind in {Kind.LINEAR, Kind.MATMUL}:
            self._weighted = True
            self._candidate = self._spatial or self._candidate
        positions = tensor.dim() == 4 and tensor.shape[2] * tensor.shape[3] > 1
        # Linear layers and layer norms act on the last axis, so there the channels stand last.
        if operation.name in {"linear", "layer_norm"}:
            self.channels_last = tensor.dim() == 4
            if tensor.dim() == 3 and tensor.shape[1] > 1:
                self._tokens_since = True
        elif operation.kind is Kind.LINEAR or operation.name in {"batch_norm", "group_norm"}:
            self.channels_last = False
        elif operation.name in {"permute", "transpose", "movedim"} and positions:
            self.channels_last = not self.channels_last
        # A split gives parts of a feature map, not the next one.
        if positions and not self.channels_last and operation.kind in _FEATURES and len(results) == 1:
            self._spatial = _Feature(tensor, get_gradient_edge(tensor), operation, tensor._version)
            self._tokens_since = False
            if self._every is not None and self._weighted:
                self._every.append(self._spatial)

    def found(self, rows: int) -> Place:
        if self._candidate is None:
            raise RefusalError(
                "No spatial feature map was found before the last weighted operation (a result of shape batch, "
                "channel, height, width with more than one position). Name a layer that has one: grad_cam@LAYER."
            )
        operation = self._candidate.operation
        if self._tokens_since or self.channels_last:
            raise RefusalError(
                f"After {operation}, this network works on tokens or with channels last, so its last feature map is "
                "not of shape (batch, channel, height, width). Name a layer that is: grad_cam@LAYER."
            )
        if not self._candidate.intact:
            raise RefusalError(
                f"The last spatial feature map ({operation}) is changed in place later. Name a layer: grad_cam@LAYER."
            )
        if self._candidate.tensor.shape[0] != rows:
            raise RefusalError(
                f"The last spatial feature map ({operation}) has shape {tuple(self._candidate.tensor.shape)} for "
                f"{rows} image(s), so its rows are not the images. Name a layer: grad_cam@LAYER."
            )
        return self._candidate.place()

    def at(self, depth: str, value: Tensor, start: GradientEdge, rows: int) -> Place:
        """The feature map at a depth, see `DEPTHS`."""
        assert self._candidate is not None  # noqa: S101 - `found` has been asked before
        assert self._every is not None  # noqa: S101
        if graph.walk(value, [start.node]).unseen:
            raise RefusalError(
                f"Where the network's {depth} feature map lies cannot be told: part of the model runs where its "
                "operations cannot be seen. Name a layer: grad_cam@LAYER."
            )
        last = self._candidate.operation.order
        stages: dict[tuple[int, int], _Feature] = {}
        for feature in self._every:
            usable = feature.intact and feature.operation.order <= last and feature.tensor.shape[0] == rows
            if usable and not graph.avoids(value, feature.edge.node, start.node):
                height, width = feature.tensor.shape[2:]
                stages[height, width] = feature
        ordered = sorted(stages.values(), key=lambda feature: feature.operation.order)
        place = (len(ordered) - 1) // (4 if depth == "early" else 2)
        if len(ordered) < 2 or (depth == "middle" and place == 0):
            raise RefusalError(
                f"This network has no {depth} feature map apart from others: all that decides passes feature maps of "
                f"{len(ordered)} resolution(s). Name a layer: grad_cam@LAYER."
            )
        return ordered[place].place()
