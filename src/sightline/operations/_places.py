"""Places: the inner results that an aggregation reads, by layer name or found from the operations.

Which axis of a result is which is told by its layout (`operations.layout`), never by its shape.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from sightline._common.words import counted
from sightline.errors import InputError, RefusalError, alternatives
from sightline.operations._feature_maps import FeatureMaps, Place
from sightline.operations._modules import ModuleStack
from sightline.operations._origins import cut
from sightline.operations._vocabulary import Operation
from sightline.operations.layout import Grid, Layout, Layouts, Unreadable, grid_of

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
        self._finder: FeatureMaps | None = None
        self._rows = 0
        for place in self._names:
            name = place.partition("#")[0]
            if name not in known or not name:
                raise InputError(f"The model has no layer {name!r}. {alternatives(name, sorted(filter(None, known)))}")

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
                self._finder = FeatureMaps(self._layouts, self._rows, every=bool(self._depths - {"late"}))
        if inputs.requires_grad:
            self.kept[INPUT] = self._place(inputs, get_gradient_edge(inputs), "the input", inputs)

    def _place(self, values: Tensor, edge: GradientEdge | None, where: str, made: Tensor) -> Place:
        return Place(values, edge, where, *self.layout_of(made))

    def layout_of(self, made: Tensor) -> tuple[Layout | None, Grid | Unreadable]:
        """What the axes of a result are, where that is followed, and how its places are read."""
        layout = None if self._layouts is None else self._layouts.of(made)
        return layout, grid_of(layout, self._rows)

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
        unreadable = isinstance(self.layout_of(output)[1], Unreadable)
        if output.dim() == 0 or (output.shape[0] != self._rows and unreadable):
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


NO_PATH = (
    "The explained value does not depend, through differentiable operations, on the place that this method reads: the "
    "graph is cut (detach, no_grad, inference_mode, rounding, argmax, a reentrant checkpoint around that layer), or "
    "that layer is not used. Nothing flows back: there is no map."
)
"""Why nothing flows back to a place."""
