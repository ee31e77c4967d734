"""Places: the inner results that an aggregation reads, by layer name or found from the operations.

Which axis of a result is which is told by its layout (`operations.layout`), never by its shape.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from sightline._common.words import counted
from sightline.errors import InputError, RefusalError, alternatives
from sightline.operations import _graph as graph
from sightline.operations._modules import ModuleStack
from sightline.operations._origins import cut
from sightline.operations._vocabulary import Operation
from sightline.operations.layout import Grid, Layout, Layouts, Unreadable, channel_axis, grid_of

INPUT = "<input>"
"""The place of the input itself."""

LAST_SPATIAL = "<last spatial feature map>"
"""The last feature map with more than one position that is not yet the class scores: of those through which all that
decides passes, the last that a weighted operation builds on."""

DEPTHS = ("early", "middle", "late")
"""Places by depth, unless a module bears such a name: of the feature maps through which all that decides passes, the
last of each resolution; of these, the one a quarter of the way, half of it, and the last spatial feature map."""


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
        layout: what its axes are; None where that is not known.
        grid: how its places are read, or why they cannot be.
    """

    values: Tensor
    edge: GradientEdge | None
    where: str
    layout: Layout | None
    grid: Grid | Unreadable

    def channels_first(self) -> Tensor:
        """The values as (batch, channel, ...): places in their order where they are known, else other axes as they are.

        Raises:
            RefusalError: along which axis the channels run is not known.
        """
        if isinstance(self.grid, Grid):
            return self.grid.read(self.values)
        if self.values.dim() == 2:
            return self.values
        axis = channel_axis(self.layout)
        if axis is None or axis == 0:
            raise RefusalError(
                f"Along which axis of {self.where}, shape {tuple(self.values.shape)}, the channels run cannot be told: "
                f"{self.grid.reason}."
            )
        return self.values.movedim(axis, 1)


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
        layouts: what the axes of each result are; None in a pass that reads no inner result.

    Attributes:
        kept: the result at each place.
        refused: why a place has no result.
        looking: whether feature maps have to be found.

    Raises:
        InputError: a name is not in the model.
    """

    def __init__(
        self, model: Callable[..., Any], wanted: Collection[str], modules: ModuleStack, layouts: Layouts | None
    ) -> None:
        self.kept: dict[str, Place] = {}
        self.refused: dict[str, str] = {}
        asked = frozenset(wanted) - {INPUT, LAST_SPATIAL}
        known = dict(model.named_modules()) if asked and isinstance(model, nn.Module) else {}
        self._depths = asked.intersection(DEPTHS) - known.keys()
        self._names = asked - self._depths
        self._last = frozenset(wanted) & ({LAST_SPATIAL} | (self._depths & {"late"}))
        self.looking = bool(self._last or self._depths)
        self._modules, self._layouts = modules, layouts
        self._finder: _Features | None = None
        self._rows = 0
        for place in self._names:
            name = place.partition("#")[0]
            if name not in known or not name:
                raise InputError(f"The model has no layer {name!r}. {alternatives(name, sorted(filter(None, known)))}")

    @property
    def rows(self) -> int:
        """Number of images in this pass."""
        return self._rows

    @property
    def named(self) -> bool:
        """Whether any place is a module's result."""
        return bool(self._names)

    def start(self, inputs: Tensor) -> None:
        """Begin a pass on `inputs`."""
        self._rows = inputs.shape[0]
        if self._layouts is not None:
            self._layouts.begin(inputs)
            if self.looking:
                self._finder = _Features(self._layouts, self._rows, every=bool(self._depths - {"late"}))
        if inputs.requires_grad:
            self.kept[INPUT] = self._place(inputs, get_gradient_edge(inputs), "the input", inputs)

    def _place(self, values: Tensor, edge: GradientEdge | None, where: str, made: Tensor) -> Place:
        layout = None if self._layouts is None else self._layouts.of(made)
        return Place(values, edge, where, layout, grid_of(layout, self._rows))

    def note(self, results: list[Tensor], operation: Operation, *, weighs: bool) -> None:
        """See the results of one operation on the way from the input.

        Args:
            results: its results.
            operation: the operation.
            weighs: whether it multiplies one signal by weights.
        """
        if self._finder is not None:
            self._finder.note(results, operation, weighs=weighs)

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
                if self._layouts is not None:
                    self._layouts.take(leaf, output)
                self.kept[place] = self._place(leaf, get_gradient_edge(leaf), name, leaf)
                output = leaf.clone()
                cut(output)
                continue
            self.kept[place] = self._place(output.clone(), get_gradient_edge(output), name, output)
        return output

    @property
    def after_hooks(self) -> dict[str, Callable[[str, Any], None]]:
        """What is to be shown the results of named layers after the layers' own forward hooks."""
        return dict.fromkeys((place.partition("#")[0] for place in self._names), self._after_hooks)

    def _after_hooks(self, name: str, output: Any) -> None:
        """See whether a named layer's own forward hooks left the result as it was kept."""
        for place in (name, f"{name}#{self._modules.calls[name]}"):
            if place in self.kept and self.kept[place].edge is not None:
                kept = self.kept[place].values
                if not (isinstance(output, Tensor) and output.shape == kept.shape and torch.equal(output, kept)):
                    del self.kept[place]
                    self.refused[place] = (
                        f"The layer {name!r} carries forward hooks, which change its result after we would read it; "
                        "name the layer that follows."
                    )

    def _unreadable(self, name: str, output: Any) -> str:
        if not isinstance(output, Tensor):
            return f"The layer {name!r} returns a {type(output).__name__}, not one tensor; name a sub-module of it."
        if torch.is_inference_mode_enabled():
            return f"The layer {name!r} runs under torch.inference_mode, through which nothing flows back."
        layout = None if self._layouts is None else self._layouts.of(output)
        if output.dim() == 0 or (output.shape[0] != self._rows and isinstance(grid_of(layout, self._rows), Unreadable)):
            return (
                f"The layer {name!r} gives a result of shape {tuple(output.shape)} for {counted(self._rows, 'image')}, "
                "so its rows are not the images; name another layer."
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

    def seen_from(self, value: Tensor) -> "Seen":
        """The places as one explained value has them: which feature map is early or last may depend on it."""
        seen, start = Seen(dict(self.kept), dict(self.refused)), self.kept.get(INPUT)
        if start is None or start.edge is None or value.grad_fn is None:
            seen.refused.update(dict.fromkeys(self._last | self._depths, NO_PATH))
            return seen
        if self._finder is None:
            return seen
        try:
            last = self._finder.last(value, start.edge)
        except RefusalError as error:
            seen.refused.update(dict.fromkeys(self._last | self._depths, str(error)))
            return seen
        seen.kept.update(dict.fromkeys(self._last, last.place))
        for depth in self._depths - {"late"}:
            try:
                seen.kept[depth] = self._finder.at(depth, last, value, start.edge)
            except RefusalError as error:
                seen.refused[depth] = str(error)
        return seen

    def __getitem__(self, place: str) -> Place:
        """The result at a place, whatever is explained."""
        return Seen(self.kept, self.refused)[place]


class _Feature(NamedTuple):
    """A result along whose axes places of the input run, or did before they were lost."""

    tensor: Tensor
    edge: GradientEdge
    operation: Operation
    version: int
    layout: Layout | None
    grid: Grid | Unreadable

    @property
    def intact(self) -> bool:
        return self.tensor._version == self.version

    @property
    def where(self) -> str:
        return self.operation.where or f"{self.operation.name} in the model's own forward"

    @property
    def place(self) -> Place:
        return Place(self.tensor.detach(), self.edge, self.where, self.layout, self.grid)


class _Features:
    """Notes feature maps while operations pass by: those that a weighted operation follows, and with `every` all.

    Which of them lie on the way to a value is asked once the pass is over: branches that are computed later, such as
    auxiliary heads, have no part in it.
    """

    def __init__(self, layouts: Layouts, rows: int, *, every: bool) -> None:
        self._layouts, self._rows = layouts, rows
        self._every: list[_Feature] | None = [] if every else None
        self._latest: _Feature | None = None
        # With each, the nodes of the weighted operations that were performed before the next was met.
        self._candidates: list[tuple[_Feature, list[graph.Node]]] = []
        self._weighted = False

    def note(self, results: list[Tensor], operation: Operation, *, weighs: bool) -> None:
        if weighs:
            self._weighted = True
            if self._latest is not None and (not self._candidates or self._candidates[-1][0] is not self._latest):
                self._candidates.append((self._latest, []))
            if self._candidates:
                self._candidates[-1][1].append(results[0].grad_fn)
        # A split gives parts of a feature map, not the next one.
        if not operation.kind.makes_features(operation.name) or len(results) != 1:
            return
        tensor, layout = results[0], self._layouts.of(results[0])
        grid = grid_of(layout, self._rows)
        if isinstance(grid, Unreadable) and grid.pooled:
            return
        self._latest = _Feature(tensor, get_gradient_edge(tensor), operation, tensor._version, layout, grid)
        if self._every is not None and self._weighted and isinstance(grid, Grid):
            self._every.append(self._latest)

    def last(self, value: Tensor, start: GradientEdge) -> _Feature:
        """The last feature map through which all that decides passes.

        Raises:
            RefusalError: there is none, or it cannot be read, or part of the model runs out of sight behind it.
        """
        behind = graph.ancestors(value)
        passed = ""
        for feature, weighted in reversed(self._candidates):
            if feature.edge.node not in behind or behind.isdisjoint(weighted):
                continue
            if graph.avoids(value, feature.edge.node, start.node):
                passed = passed or f"not all that decides passes {feature.where}, the last to be met"
                continue
            unseen = graph.walk(value, [feature.edge.node]).unseen
            if unseen:
                raise RefusalError(
                    f"Which feature map is the last cannot be told: after {feature.where} the model runs where its "
                    f"operations cannot be seen ({unseen[0]}). {_NAME_ONE}"
                )
            if isinstance(feature.grid, Unreadable):
                raise RefusalError(
                    f"The last feature map ({feature.operation}, shape {feature.operation.shape}) cannot be read, "
                    f"because {feature.grid.reason}. {_NAME_ONE}"
                )
            if not feature.intact:
                raise RefusalError(f"The last feature map ({feature.operation}) is changed in place later. {_NAME_ONE}")
            return feature
        raise RefusalError(
            f"No feature map with more than one place was found that all that decides passes, before the last weighted "
            f"operation{f': {passed}' if passed else ''}. {_NAME_ONE}"
        )

    def at(self, depth: str, final: _Feature, value: Tensor, start: GradientEdge) -> Place:
        """The feature map at a depth, see `DEPTHS`."""
        assert self._every is not None  # noqa: S101
        if graph.walk(value, [start.node]).unseen:
            raise RefusalError(
                f"Where the network's {depth} feature map lies cannot be told: part of the model runs where its "
                f"operations cannot be seen. {_NAME_ONE}"
            )
        stages: dict[tuple[int, ...], _Feature] = {}
        for feature in self._every:
            usable = feature.intact and feature.operation.order <= final.operation.order
            if usable and isinstance(feature.grid, Grid) and not graph.avoids(value, feature.edge.node, start.node):
                stages[feature.grid.sizes] = feature
        ordered = sorted(stages.values(), key=lambda feature: feature.operation.order)
        place = (len(ordered) - 1) // (4 if depth == "early" else 2)
        if len(ordered) < 2 or (depth == "middle" and place == 0):
            raise RefusalError(
                f"This network has no {depth} feature map apart from others: all that decides passes feature maps of "
                f"{len(ordered)} resolution(s). {_NAME_ONE}"
            )
        return ordered[place].place


NO_PATH = (
    "The explained value does not depend, through differentiable operations, on the place that this method reads: the "
    "graph is cut (detach, no_grad, inference_mode, rounding, argmax, a reentrant checkpoint around that layer), or "
    "that layer is not used. Nothing flows back: there is no map."
)
"""Why nothing flows back to a place."""
_NAME_ONE = "Name a layer: grad_cam@LAYER."
