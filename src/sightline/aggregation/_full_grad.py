"""FullGrad: the input's term and every bias's, joined in one map.

z = x . dz/dx + sum over layers l and positions of b_l dz/dh_l holds exactly, with b_l the intercepts of
`sightline.operations._intercepts`. Srinivas and Fleuret 2019, arXiv 1905.00780, equations 2 and 4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from sightline._common.meaning import Meaning
from sightline.aggregation._base import Aggregation, Reads, Sign
from sightline.aggregation._placement import Placement
from sightline.aggregation._reader import Amount, Backward, Map, Part, Reader
from sightline.aggregation._resize import resized, spread
from sightline.errors import InputError, RefusalError
from sightline.operations import INPUT, Grid, Intercept, Tape, Unreadable, wide


@dataclass(frozen=True)
class FullGrad(Aggregation):
    """M = p(x * dz/dx) + sum_l Up(p(b_l * dz/dh_l)), p summing over channels. Shape: (batch, 1, height, width).

    With `rescale`, p(t) is s(t) brought to 0..1 by its least and greatest value over all channels and positions of one
    image, before it is summed over channels, and Up is bilinear. Without, p(t) is s(t) and Up keeps sums, so that a
    signed map sums to z less the terms of layers without height and width.

    Attributes:
        sign: which part of each term is kept.
        rescale: whether each term is brought to 0..1; not for signed terms.
        biases: whether gradients are multiplied by the biases (FullGrad), or taken as they are at the layers that have
            some (simple FullGrad): weighted layers, batch norms and other normalisations. The latter needs no
            decomposition, so that an operation whose intercept is unknown does not matter to it.
        join_input: whether the input's term is summed over channels before its sign is handled (smooth FullGrad).
        times_input: whether the term of the input is x * dz/dx, or dz/dx alone. The latter has a meaning without
            biases only: x * dz/dx and the bias of the first layer trade what an encoding shifts, so that neither term
            of the decomposition can be left out.
        align_corners: whether the centres of a layer's corner cells are brought to the centres of the image's corner
            pixels, as in the authors' code, or its borders to the image's. The former does not keep sums.

    Raises:
        InputError: signed terms are to be rescaled, the sign is unknown, or two settings contradict each other.
    """

    sign: Sign = Sign.ABSOLUTE
    rescale: bool = True
    biases: bool = True
    join_input: bool = False
    times_input: bool = True
    align_corners: bool = False

    reads = Reads.DERIVATIVE
    at_input = False
    has_terms = True
    reads_biases = True
    needs = ("needs operations whose constant part is known: no products of signals, softmax or layer norm",)

    @property
    def decomposes(self) -> bool:
        return self.biases

    @property
    def input_factor(self) -> str:
        """Where the input is a factor."""
        if not self.times_input:
            return ""
        bias = ", and the bias of the first layer, another term, depends on the encoding" if self.biases else ""
        return f"its term of the input multiplies by the input{bias}"

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "sign", Sign(self.sign))
        except ValueError:
            raise InputError(f"A sign is one of {', '.join(Sign)}; got {self.sign!r}.") from None
        if self.sign is Sign.SIGNED and self.rescale:
            raise InputError(
                "Bringing signed terms to 0..1 would hide their sign: FullGrad(Sign.SIGNED, rescale=False)."
            )

        if self.biases and not self.times_input:
            raise InputError(
                "FullGrad's terms with biases are a decomposition of the value, of which x * dz/dx is a part: "
                "times_input=False needs biases=False."
            )
        if self.align_corners and not self.rescale:
            raise InputError(
                "Resizing with align_corners=True does not keep sums, which is what terms that are not rescaled are "
                "for. Use align_corners=False, or rescale=True."
            )

    @property
    def adds_up(self) -> str:
        if self.sign is Sign.SIGNED:
            return "its map and the terms of layers without height and width, which the checks list, to the value"
        return "to nothing; the terms that it is drawn from, with their signs, to the value"

    def meaning(self, signal: Meaning) -> Meaning:
        if not self.biases:
            directness = "low: gradients of layers, brought to one scale and added"
        elif self.rescale:
            directness = "low: shares of the value in each layer, brought to one scale and added"
        else:
            directness = "high: the part of the value that comes from here, biases of layers with height and width " + (
                "included; with those of the other layers, which the checks list, it sums to the value"
                if self.sign is Sign.SIGNED
                else "included"
            )
        return replace(
            super().meaning(signal),
            directness=directness,
            minimality="dense: every layer adds to it",
            coherence="smooth, with the object's outline; a large part comes from layers, not pixels",
        )

    def without_input(self) -> "FullGrad | None":
        return None if self.biases else replace(self, times_input=False)

    def refusal(self, tape: Tape, values: Tensor) -> str:
        """Why what the map is made of is not known, if so: every bias term, or the layers that have a bias."""
        assert tape.intercepts is not None  # noqa: S101 - noted, since `reads_biases`
        walk = tape.walk(values)
        unknown = tape.intercepts.unread if self.biases else tape.intercepts.obscure
        bad = [str(o) for o in walk.operations if o.order in unknown] + list(walk.unseen)
        if not bad:
            return ""
        listed = "; ".join(dict.fromkeys(bad[:4])) + (" ..." if len(bad) > 4 else "")
        if not self.biases:
            return (
                "Simple FullGrad takes the gradient at every layer with a bias, and whether these have one cannot be "
                f"told: {listed}. Use a method that needs only the gradient at the input or at one layer."
            )
        return (
            "FullGrad counts what every operation adds without a signal, and that is known for weighted layers, batch "
            f"norms, constants and functions of each value by itself. Here it is not for: {listed}. Use a method that "
            "needs only the gradient at the input or at one layer."
        )

    def reader(self, backward: Backward, average: Callable[[int, Part], None] | None = None) -> Reader:
        return _Reader(self, backward, average)

    def counts(self, intercept: Intercept) -> bool:
        """Whether an operation has a part in the map: without biases as factors, only layers that have some."""
        return self.biases or intercept.is_bias

    def term(self, intercept: Intercept, signal: Tensor) -> Tensor:
        """A layer's term, of the shape of its result, channels first."""
        return intercept.on_grid(intercept.times(signal) if self.biases else signal)

    def input_term(self, values: Tensor, signal: Tensor) -> Tensor:
        """The input's term."""
        dtype = torch.promote_types(signal.dtype, torch.float32)
        values, signal = values.to(dtype), signal.to(dtype)
        term = values * signal if self.times_input else signal
        return term.sum(1, keepdim=True) if self.join_input else term

    def part(self, term: Tensor) -> Tensor:
        """What of a term goes into the map, at the term's own size."""
        return self._joined(self.sign(term))

    def layer_part(self, layer: "_Signal") -> Tensor:
        """`part` of `term` of a layer, from what its relatives have computed already where that suffices."""
        if layer.intercept.per_channel:
            return self._brought(
                layer.summed(self.sign, biases=self.biases), *layer.ends(self.sign, biases=self.biases)
            )
        return self.part(self.term(layer.intercept, layer.signal))

    def _joined(self, kept: Tensor) -> Tensor:
        low, high = kept.flatten(1).aminmax(dim=1) if self.rescale else (kept, kept)
        return self._brought(kept.sum(1, keepdim=True), low, high, kept.shape[1])

    def _brought(self, summed: Tensor, low: Tensor, high: Tensor, channels: int) -> Tensor:
        """The sum over channels of values that were brought to 0..1, or to -1..0, where nothing stays nothing."""
        if not self.rescale:
            return summed
        nothing = high if self.sign is Sign.NEGATIVE else low
        return (summed - (channels * nothing).view(-1, 1, 1, 1)) / (high - low + _TINY).view(-1, 1, 1, 1)

    def join(self, terms: Sequence[Part], size: tuple[int, int]) -> Map:
        return self.joined([Part(self.part(term.values), term.placement) for term in terms], size)

    def joined(self, parts: Sequence[Part], size: tuple[int, int]) -> Map:
        """The map, from all parts; those of one size are added before they are resized.

        Args:
            parts: each with where its cells lie, if it is a layer's. The paper stretches each over the whole image;
                where the model pads, crops or flips, so that this would be off by more than half a cell, a part is
                drawn where it lies.
            size: the image's.
        """
        by_size: dict[tuple[int, ...], Tensor] = {}
        for part in parts:
            values, placement = part.values, part.placement
            if placement is not None and not placement.covers_evenly(tolerance=0.5):
                values = placement.draw(values) if self.rescale else placement.spread_over(values)
            shape = tuple(values.shape[2:])
            by_size[shape] = values if shape not in by_size else by_size[shape] + values
        up = partial(resized, align_corners=self.align_corners) if self.rescale else spread
        return sum((up(part, size) for part in by_size.values()), start=parts[0].values.new_zeros(()))

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        """The input's part alone; the reader of a backward adds the layers'."""
        return self.part(self.input_term(results[INPUT], signals[INPUT]))


class _Reader(Reader):
    """Reads one backward for one FullGrad; the signal at each layer is read once for all of them."""

    def __init__(
        self, full_grad: FullGrad, backward: Backward, average: Callable[[int, Part], None] | None = None
    ) -> None:
        super().__init__(full_grad)
        self._full_grad, self._backward, self._average = full_grad, backward, average
        self._parts: list[Part] = []
        self._layers = backward.shared(_Layers, lambda: _Layers(backward))
        backward.listen(self._hear)

    def _hear(self, intercept: Intercept, signal: Tensor) -> None:
        layer = self._layers.signal(intercept, signal)
        if layer is None or layer.placement is None or not self._full_grad.counts(intercept):
            return
        if self._average is not None:
            order = intercept.operation.order
            self._average(order, Part(self._full_grad.term(intercept, layer.signal), layer.placement))
        else:
            self._parts.append(Part(self._full_grad.layer_part(layer), layer.placement))

    def map(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map | None:
        """The map, made of the input's part and those that the layers gave while the backward ran."""
        missed = self._layers.missed(results[INPUT], signals[INPUT])
        if self._backward.changed:
            raise RefusalError(f"FullGrad's parts do not add up to the explained value: {self._backward.changed}")
        if reason := self._layers.wrong(biases=self._full_grad.biases) or (missed if self._full_grad.biases else ""):
            raise RefusalError(reason)
        self.amounts = self._layers.amounts
        term = self._full_grad.input_term(results[INPUT], signals[INPUT])
        if self._average is not None:
            self._average(-1, Part(term))
            return None
        return self._full_grad.joined([Part(self._full_grad.part(term)), *self._parts], self._backward.size)


class _Layers:
    """The signals at the bias terms of one backward, each read once for all FullGrads, and what they add up to.

    Attributes:
        amounts: what each part of the value's decomposition adds, by its order.
    """

    def __init__(self, backward: Backward) -> None:
        self.amounts: dict[int, Amount] = {}
        self._values, self._size = backward.values.detach(), backward.size
        self._foreign = self._foreign_layer = self._unread = ""
        self._missed: str | None = None
        self._last: tuple[Intercept, Tensor, _Signal | None] | None = None

    def signal(self, intercept: Intercept, signal: Tensor) -> "_Signal | None":
        """The signal at a layer; None where it is not one per image."""
        if self._last is None or self._last[0] is not intercept or self._last[1] is not signal:
            self._last = intercept, signal, self._read(intercept, signal)
        return self._last[2]

    def _read(self, intercept: Intercept, signal: Tensor) -> "_Signal | None":
        operation, grid = intercept.operation, intercept.grid
        if signal.shape[0] != len(self._values):
            self._foreign = str(operation)
            if intercept.is_bias and signal.dim() == 4:
                self._foreign_layer = str(operation)
            return None
        if isinstance(grid, Unreadable) and grid.lost:
            self._unread = self._unread or f"{operation}: {grid.reason}"
        placement = Placement.of(grid, self._size) if isinstance(grid, Grid) else None
        layer = _Signal(intercept, wide(signal.detach()), placement)
        self.amounts[operation.order] = Amount(str(operation), layer.total, placement is not None)
        return layer

    def wrong(self, *, biases: bool) -> str:
        """Why the layers' parts are not what a map with or without biases is made of; empty where they are."""
        if foreign := self._foreign if biases else self._foreign_layer:
            return (
                f"FullGrad needs the part of each image in every layer, and {foreign} gives results that are not "
                "one per image."
            )
        if self._unread:
            return (
                f"FullGrad needs to know where in the image each layer's part lies, which is not so of {self._unread}."
            )
        return ""

    def missed(self, inputs: Tensor, signal: Tensor) -> str:
        """Why the terms are not the decomposition of the explained values, if so."""
        self._last = None
        if self._missed is None:
            self._missed = self._add_input(inputs, signal)
        return self._missed

    def _add_input(self, inputs: Tensor, signal: Tensor) -> str:
        amounts = (inputs.double() * signal.double()).flatten(1).sum(1)
        self.amounts[-1] = Amount("the input", amounts, in_map=True)
        values = self._values
        parts = torch.stack([amount.amounts for amount in self.amounts.values()])
        missed = (parts.sum(0) - values.double()).abs()
        # Sums of many parts of either sign, each rounded a few times.
        allowed = min(1e4 * torch.finfo(values.dtype).eps, 0.1) * parts.abs().sum(0)
        if not bool((missed > allowed + torch.finfo(values.dtype).tiny).any()):
            return ""
        return (
            f"FullGrad's parts do not add up to the explained value here, but miss it by up to "
            f"{float(missed.max()):.2g}. Something in the model adds to it where it cannot be seen (a gradient hook, a "
            "write out of sight, images that are mixed with one another)."
        )


class _Signal:
    """The signal at a layer, with what several members of the family read off it: one pass over it serves all.

    With a bias b_c for each channel, sum_c |b_c g_c| = sum_c |b_c| |g_c|, and what is positive in b_c g_c is half the
    sum of that and of b_c g_c; the extremes follow from those of each channel. No term is ever made.
    """

    def __init__(self, intercept: Intercept, signal: Tensor, placement: Placement | None) -> None:
        self.intercept, self.signal, self.placement = intercept, signal, placement

    @cached_property
    def total(self) -> Tensor:
        """What the layer adds to the value, shape (row,)."""
        if self.placement is not None and self.intercept.per_channel:
            return self._signed[:, 0].double().flatten(1).sum(1)
        return self.intercept.total(self.signal)

    def summed(self, sign: Sign, *, biases: bool) -> Tensor:
        """The sum over channels of what a sign keeps of b_c g_c, or of g_c, shape (row, 1, height, width)."""
        which = slice(0, 1) if biases else slice(1, 2)
        match sign:
            case Sign.SIGNED:
                return self._signed[:, which]
            case Sign.ABSOLUTE:
                return self._absolute[:, which]
            case Sign.POSITIVE:
                return (self._absolute[:, which] + self._signed[:, which]) / 2
            case Sign.NEGATIVE:
                return (self._signed[:, which] - self._absolute[:, which]) / 2

    def ends(self, sign: Sign, *, biases: bool) -> tuple[Tensor, Tensor, int]:
        """The least and the greatest value that a sign keeps, shape (row,), and the number of channels."""
        weights = self._weights[0] if biases else self._weights[1]
        if sign is Sign.ABSOLUTE:
            least, most = self._magnitude_ends
            low, high = least * weights.abs(), most * weights.abs()
        else:
            first, second = (end * weights for end in self._signal_ends)
            low, high = sign(torch.minimum(first, second)), sign(torch.maximum(first, second))
        return low.amin(1), high.amax(1), len(weights)

    @cached_property
    def _weights(self) -> Tensor:
        bias = self.intercept.value.to(self.signal.dtype)
        return torch.stack([bias, torch.ones_like(bias)])

    @cached_property
    def _values(self) -> Tensor:
        return self.intercept.on_grid(self.signal)

    @cached_property
    def _magnitudes(self) -> Tensor:
        return self._values.abs()

    @cached_property
    def _signed(self) -> Tensor:
        return _over_channels(self._weights, self._values)

    @cached_property
    def _absolute(self) -> Tensor:
        return _over_channels(self._weights.abs(), self._magnitudes)

    @cached_property
    def _signal_ends(self) -> tuple[Tensor, Tensor]:
        # Apart these two are many times faster than aminmax.
        flat = self._values.flatten(2)
        return flat.amin(2), flat.amax(2)

    @cached_property
    def _magnitude_ends(self) -> tuple[Tensor, Tensor]:
        low, high = self._signal_ends
        return self._magnitudes.flatten(2).amin(2), torch.maximum(-low, high)


def _over_channels(weights: Tensor, values: Tensor) -> Tensor:
    """sum_c w_kc v_nc at each position, shape (row, k, height, width)."""
    summed: Tensor = torch.matmul(weights, values.flatten(2)).unflatten(2, values.shape[2:])
    return summed


_TINY = 1e-6
