"""Feature maps: which results of a pass are the last one, the early one and the one in the middle of a network."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from sightline._common.torch_private import version_of
from sightline.errors import RefusalError
from sightline.operations import _graph as graph
from sightline.operations._vocabulary import Operation
from sightline.operations.layout import Grid, Layout, Layouts, Unreadable, channel_axis, grid_of


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


class FeatureMap(NamedTuple):
    """A result along whose axes places of the input run, or did before they were lost."""

    tensor: Tensor
    edge: GradientEdge
    operation: Operation
    version: int
    layout: Layout | None
    grid: Grid | Unreadable

    @property
    def intact(self) -> bool:
        return version_of(self.tensor) == self.version

    @property
    def where(self) -> str:
        return self.operation.where or f"{self.operation.name} in the model's own forward"

    @property
    def place(self) -> Place:
        return Place(self.tensor.detach(), self.edge, self.where, self.layout, self.grid)


class FeatureMaps:
    """Notes feature maps while operations pass by: those that a weighted operation follows, and with `every` all.

    Which of them lie on the way to a value is asked once the pass is over: branches that are computed later, such as
    auxiliary heads, have no part in it.
    """

    def __init__(self, layouts: Layouts, rows: int, *, every: bool) -> None:
        self._layouts, self._rows = layouts, rows
        self._every: list[FeatureMap] | None = [] if every else None
        self._latest: FeatureMap | None = None
        # With each, the nodes of the weighted operations that were performed before the next was met.
        self._candidates: list[tuple[FeatureMap, list[graph.Node]]] = []
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
        self._latest = FeatureMap(tensor, get_gradient_edge(tensor), operation, version_of(tensor), layout, grid)
        if self._every is not None and self._weighted and isinstance(grid, Grid):
            self._every.append(self._latest)

    def last(self, value: Tensor, start: GradientEdge) -> FeatureMap:
        """The last feature map through which all that decides passes.

        Raises:
            RefusalError: there is none, or it cannot be read, or part of the model runs out of sight behind it.
        """
        behind = set(graph.nodes_behind(value))
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

    def at(self, depth: str, final: FeatureMap, value: Tensor, start: GradientEdge) -> Place:
        """The feature map at a depth, see `places.DEPTHS`."""
        assert self._every is not None  # noqa: S101
        if graph.walk(value, [start.node]).unseen:
            raise RefusalError(
                f"Where the network's {depth} feature map lies cannot be told: part of the model runs where its "
                f"operations cannot be seen. {_NAME_ONE}"
            )
        stages: dict[tuple[int, ...], FeatureMap] = {}
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


_NAME_ONE = "Name a layer: grad_cam@LAYER."
