"""How far down a network a propagation still carries the class: convergence of the relevance of random logits.

Sixt, Granz and Landgraf 2020, When Explanations Lie, arXiv 1912.09818. A propagation is a chain of matrices, and a
chain of non-negative matrices converges to rank one: whatever is put in at the output, one and the same relevance
arrives, but for a factor. Here the relevance of the logits is replaced by random vectors; at a layer l

    CSC_l = median over positions p and pairs a < b of |cos(r_l(v_a)_p, r_l(v_b)_p)|,   v ~ N(0, 1)^K

with r_l(v)_p the relevance of all channels at a position. At 1 the channels of a position say nothing of the class any
more. How much each position gets may still depend on it, and a rule that gives all channels the same share (flat) is at
1 by itself; so the cosine over all channels and positions of the layer stands beside it.

Sixt et al. also begin at inner layers, where v has the shape of the layer's result, and a method's own rules lead from
there; `start` names such layers. The median of the cosines with their sign tells apart what arrives as one vector from
what arrives as a line, on which half of the pairs are opposite.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.special import betaincinv
from torch import Tensor, nn

from sightline._common.equality import Compared
from sightline._common.memory import first_chunk
from sightline._common.seeds import image_key, seed_of
from sightline.arrays import as_images, ends_of, whole
from sightline.errors import InputError, RefusalError, alternatives
from sightline.evaluation._images import Asked, values_of
from sightline.methods import Method, as_method
from sightline.models import class_scores, home_of, untouched
from sightline.operations import DEPTHS, INPUT, LAST_SPATIAL, Tape, avoids, is_folded, kinds, nodes_behind
from sightline.propagation import Propagation
from sightline.sampling import Context

LOST = 0.99
"""The mean over images above which a layer has lost the class: what two logit vectors send to a position is then within
8 degrees."""
LOGITS = "<logits>"
"""The start of a propagation that begins at the network's scores."""
_COLUMNS = ["method", "start", "layer", "depth", "image", "csc", "csc_signed", "chance", "layer_cosine"]
LAYERS = 10
"""Layers that are read besides the input, unless they are named."""


@dataclass(frozen=True, eq=False)
class Convergence(Compared):
    """How alike the relevance of random logits becomes on its way down.

    Attributes:
        values: a row for each `method`, `start`, `layer` and `image`. `depth` counts layers from the start down, the
            input last; `csc` is NaN where no position has two vectors that are finite and not zero; `csc_signed` is the
            median of the same cosines with their sign; `chance` is the `csc` that independent vectors would give, of as
            many dimensions as there are channels or, if fewer, values at the start; `layer_cosine` is the median |cos|
            of whole layers.
        refused: for each method without a number, why.
    """

    values: pd.DataFrame
    refused: Mapping[str, str]

    def lost_at(self, method: str, start: str = LOGITS) -> str | None:
        """The first layer from the start down whose mean over images is above `LOST`; None where there is none.

        That is where the channels of each position have lost the class. A layer where chance is above `LOST` too (one
        channel, or one logit) says nothing, and is passed over.

        Raises:
            InputError: the method was not asked for.
            RefusalError: it has no number.
        """
        if method in self.refused:
            raise RefusalError(self.refused[method])
        rows = self.values
        for column, asked in (("method", method), ("start", start)):
            known = list(rows[column].unique())
            if asked not in known:
                raise InputError(f"The convergence of {asked!r} was not asked for. {alternatives(asked, known)}")
            rows = rows[rows[column] == asked]
        return first_lost(rows.groupby("depth").agg({"layer": "first", "csc": "mean", "chance": "first"}))


def convergence(
    model: Callable[..., Any],
    images: Asked,
    methods: str | Method | Sequence[str | Method],
    *,
    draws: int = 5,
    layers: Sequence[str] | None = None,
    start: str | Sequence[str] = LOGITS,
    seed: int = 0,
) -> Convergence:
    """Propagate random vectors down a network by the rules of some methods, and compare what arrives at its layers.

    What counts of a method is its propagation, so that methods which share one share their numbers.

    Args:
        model: the network.
        images: encoded images, at which the rules are applied.
        methods: names of the catalogue, or `Method`s.
        draws: random vectors for each image.
        layers: modules whose results are read besides the input; by default at most ten, evenly chosen from those that
            all ways from the input to the logits pass. Elsewhere what one branch loses another may still carry.
        start: where the random vectors begin: the logits, or a layer by its module's name; one, or several, each of
            which is followed to the layers below it.
        seed: base of the randomness, which is each image's own by its content.

    Raises:
        InputError: images, methods, layers, starts or draws cannot be used.
        RefusalError: the model gives no class scores or draws at random, or a named layer has no vectors to compare.

    Example:
        `convergence(model, images, "lrp_z_plus", start=["layer4", "layer3"]).lost_at("lrp_z_plus", "layer4")`
    """
    batch = as_images(values_of(images))
    whole("draws", draws, 2)
    asked = [as_method(one) for one in ([methods] if isinstance(methods, str | Method) else methods)]
    order = {one.name: number for number, one in enumerate(asked)}
    if not order or len(order) < len(asked):
        raise InputError(f"At least one method is needed, each under a name of its own; got {methods}.")
    refused = {one.name: reason for one in asked if (reason := _no_propagation(one))}
    sharing: dict[Propagation, list[str]] = {}
    for one in asked:
        if one.name not in refused:
            sharing.setdefault(one.propagation, []).append(one.name)
    ruled = {kind for propagation in sharing for kind in propagation.rules}
    pixel_range = Context(ends_of(model, images, batch.shape[1])).pixel_range
    found: list[tuple[Any, ...]] = []
    with torch.inference_mode(mode=False), torch.enable_grad(), untouched(model):
        inputs = batch.detach().to(*home_of(model, batch))
        names = _layers(model, inputs[:1]) if layers is None else _named(model, layers)
        starts = list(dict.fromkeys([start] if isinstance(start, str) else start))
        begun = _named(model, [one for one in starts if one != LOGITS])
        for numbers in torch.arange(len(inputs)).split(first_chunk(inputs[0])):
            tape = Tape(model, ruled, list(dict.fromkeys([*names, *begun])), pixel_range)
            scores = _scores(tape, inputs[numbers])
            below = {one: _places(tape, names, one) for one in starts}
            for propagation, sharers in list(sharing.items()):
                try:
                    if propagation.passes is not None:
                        gates = kinds.GATING not in propagation.rules
                        propagation.check(tape.walk(scores, _places(tape, names), gates=gates))
                    for begin, places in below.items():
                        values = scores if begin == LOGITS else tape.places[begin].values
                        vectors = [
                            random_vectors(image, values.shape[1:], draws, seed, begin) for image in batch[numbers]
                        ]
                        given = torch.stack(vectors, 1).to(values)
                        signals = _signals(tape, values, propagation, places, given, begin)
                        for depth, (place, signal) in enumerate(signals.items()):
                            by_chance = chance(min(signal.shape[2], values[0].numel()))
                            columns = csc(signal), csc(signal, signed=True), csc(signal.flatten(2))
                            for number, plain, signed, whole_layer in zip(numbers.tolist(), *columns, strict=True):
                                row = (begin, place, depth, number, plain, signed, by_chance, whole_layer)
                                found += [(name, *row) for name in sharers]
                except RefusalError as error:
                    refused |= dict.fromkeys(sharing.pop(propagation), str(error))
    rows = [row for row in found if row[0] not in refused]
    rows.sort(key=lambda row: (order[row[0]], starts.index(row[1]), *row[3:5]))
    return Convergence(pd.DataFrame(rows, columns=_COLUMNS), refused)


def first_lost(layers: pd.DataFrame) -> str | None:
    """The first `layer` whose `csc` is above `LOST` while its `chance` is not; None where there is none.

    Args:
        layers: a row for each layer, from the output down.
    """
    lost = layers["layer"][(layers["csc"] > LOST) & (layers["chance"] <= LOST)]
    return None if lost.empty else str(lost.iloc[0])


def random_vectors(image: Tensor, shape: Sequence[int], draws: int, seed: int, start: str = LOGITS) -> Tensor:
    """The v ~ N(0, 1) in place of an image's logits, or of a layer's relevance: shape (draws, *shape), float64."""
    where = () if start == LOGITS else (start,)
    generator = torch.Generator().manual_seed(seed_of(seed, "convergence", *where, image_key(image)))
    return torch.randn(draws, *shape, generator=generator, dtype=torch.float64)


def csc(signals: Float[Tensor, "draw batch channel *position"], *, signed: bool = False) -> list[float]:
    """For each image the median |cos| over positions and pairs of draws; NaN where no pair has an angle.

    Args:
        signals: what each draw sends.
        signed: whether the cosines keep their sign.
    """
    wide = signals.double()
    # By the largest magnitude first, against over- and underflow of squares.
    scaled = wide / wide.abs().amax(2, keepdim=True)
    units = scaled / scaled.square().sum(2, keepdim=True).sqrt()
    pairs = [(units[a] * units[b]).sum(1) for a, b in combinations(range(len(units)), 2)]
    cosines = torch.stack(pairs, 1).flatten(1)
    every = [row[~row.isnan()].numpy() for row in (cosines if signed else cosines.abs()).cpu()]
    return [float(np.median(row)) if len(row) else float("nan") for row in every]


def chance(dimension: int) -> float:
    """The median |cos| of two independent Gaussian vectors: cos^2 is distributed as Beta(1/2, (dimension - 1) / 2)."""
    return float(np.sqrt(betaincinv(0.5, (dimension - 1) / 2, 0.5))) if dimension > 1 else 1.0


def _no_propagation(method: Method) -> str:
    """Why a method has no number, if so."""
    if method.times is not None:
        return f"{method.name} is a product of two maps, which no one propagation makes. Ask for its factors."
    if not method.sampling.at_images:
        return (
            f"{method.name} joins the answers at many inputs, and a propagation is followed at one. Ask for a method "
            f"that propagates by {method.propagation.name} at the image itself."
        )
    if INPUT not in method.aggregation.places:
        where = ", ".join(method.aggregation.places)
        return (
            f"{method.name} makes its map at {where} and propagates nothing to the layers below, so that nothing "
            "converges there. Ask for a method whose map is made at the input."
        )
    return ""


def _named(model: Callable[..., Any], layers: Sequence[str]) -> list[str]:
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    if nameless := {LAST_SPATIAL, *DEPTHS}.intersection(layers) - modules.keys():
        raise InputError(f"Layers are named as their modules are; got {', '.join(sorted(nameless))}.")
    return list(layers)


def _layers(model: Callable[..., Any], image: Tensor) -> list[str]:
    """Modules whose results are vectors of channels that all ways from the input to the logits pass, evenly chosen."""
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    # Relevance goes past a layer that is one with its batch norm: left out, so that all methods are read alike.
    tape = Tape(model, (kinds.LINEAR, kinds.BATCH_NORM), [name for name, _ in modules if name])
    scores = _scores(tape, image)
    start = tape.places.kept.pop(INPUT).edge
    assert start is not None  # noqa: S101 - the input requires gradients
    found: dict[Any, str] = {}
    for name, place in tape.places.kept.items():
        node = None if place.edge is None else place.edge.node
        unread = name in tape.places.refused or node in {None, scores.grad_fn} or not _has_vectors(place.values)
        if not unread and not is_folded(node) and not avoids(scores, node, start.node):
            # Of modules with one result, the outermost.
            found[node] = min(found.get(node, name), name, key=lambda one: one.count("."))
    every = list(found.values())
    return [every[i] for i in np.linspace(0, len(every) - 1, min(LAYERS, len(every))).round().astype(int)]


def _scores(tape: Tape, inputs: Tensor) -> Tensor:
    output = tape.record(inputs.requires_grad_())
    return tape.select(lambda said: class_scores(said, len(inputs)), output)


def _places(tape: Tape, names: Sequence[str], start: str = LOGITS) -> list[str]:
    """The layers of a pass that are read and the input, from the start down."""
    for name in (*names, *(() if start == LOGITS else (start,))):
        if not _has_vectors(values := tape.places[name].values):
            raise RefusalError(
                "Relevance is compared over the channels of results of shape (batch, channel) or (batch, channel, "
                f"height, width); the layer {name!r} gives {tuple(values.shape)}. Name another layer."
            )
    read = [name for name in reversed(tape.places.kept) if name in {*names, INPUT}]
    if start == LOGITS:
        return read
    begun = tape.places[start]
    if begun.edge is None or begun.values.grad_fn is None:
        raise RefusalError(f"The layer {start!r} does not depend on the image, so nothing can be sent down from it.")
    reached = set(nodes_behind(begun.values)) - {begun.edge.node}
    return [name for name in read if (edge := tape.places[name].edge) is not None and edge.node in reached]


def _has_vectors(values: Tensor) -> bool:
    return values.dim() in {2, 4}


def _signals(
    tape: Tape, values: Tensor, propagation: Propagation, places: Sequence[str], vectors: Tensor, start: str
) -> dict[str, Tensor]:
    """What arrives at each place, shape (draw, batch, channel, ...), from vectors of shape (draw, *values)."""
    given = iter(vectors)
    # One propagation for all draws, so that what depends on none of them is computed once.
    seeded = replace(propagation, start=lambda _: next(given))
    found: dict[str, list[Tensor]] = {place: [] for place in places}
    for left in reversed(range(len(vectors))):
        signals, _ = tape.pull_back(values, seeded, places, keep_graph=True, again=left > 0)
        for place, signal in signals.items():
            if signal is None:
                origin = "the logits" if start == LOGITS else repr(start)
                raise RefusalError(f"{propagation.name} sends nothing from {origin} to {place!r}. Name another layer.")
            found[place].append(signal)
    return {place: torch.stack(each) for place, each in found.items()}
