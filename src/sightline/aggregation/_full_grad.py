"""FullGrad: the input's term and every bias's, joined in one map.

z = x . dz/dx + sum over layers l and positions of b_l dz/dh_l holds exactly, with b_l the intercepts of
`sightline.operations._intercepts`. Srinivas and Fleuret 2019, arXiv 1905.00780, equations 2 and 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from sightline.aggregation._base import Map, Reads, Sign
from sightline.aggregation._placement import Placement
from sightline.aggregation._resize import resized, spread
from sightline.errors import InputError
from sightline.operations import INPUT, Grid, Intercept


@dataclass(frozen=True)
class FullGrad:
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

    places = (INPUT,)
    reads = Reads.DERIVATIVE

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

    def hears(self, intercept: Intercept) -> bool:
        """Whether an operation has a part in the map: without biases as factors, only layers that have some."""
        return self.biases or intercept.is_bias

    def term(self, intercept: Intercept, signal: Tensor) -> Tensor:
        """A layer's term, of the shape of its result, channels first."""
        return intercept.on_grid(intercept.times(signal) if self.biases else signal)

    def input_term(self, values: Tensor, signal: Tensor) -> Tensor:
        """The input's term."""
        term = values * signal if self.times_input else signal
        return term.sum(1, keepdim=True) if self.join_input else term

    def part(self, term: Tensor) -> Tensor:
        """What of a term goes into the map, at the term's own size."""
        return self._joined(self.sign(term))

    def layer_part(self, layer: "Heard") -> Tensor:
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

    def join(self, parts: Sequence[tuple[Tensor, Placement | None]], size: tuple[int, int]) -> Tensor:
        """The map, from all parts; those of one size are added before they are resized.

        Args:
            parts: each with where its cells lie, if it is a layer's. The paper stretches each over the whole image;
                where the model pads, crops or flips, so that this would be off by more than half a cell, a part is
                drawn where it lies.
            size: the image's.
        """
        by_size: dict[tuple[int, ...], Tensor] = {}
        for part, placement in parts:
            if placement is not None and not placement.covers_evenly(tolerance=0.5):
                part = placement.draw(part) if self.rescale else placement.spread_over(part)
            shape = tuple(part.shape[2:])
            by_size[shape] = part if shape not in by_size else by_size[shape] + part
        up = partial(resized, align_corners=self.align_corners) if self.rescale else spread
        return sum((up(part, size) for part in by_size.values()), start=parts[0][0].new_zeros(()))

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        """The input's part alone; a job adds the layers'."""
        return self.part(self.input_term(results[INPUT], signals[INPUT]))


class Heard:
    """The signal at a layer, with what several members of the family read off it: one pass over it serves all.

    With a bias b_c for each channel, sum_c |b_c g_c| = sum_c |b_c| |g_c|, and what is positive in b_c g_c is half the
    sum of that and of b_c g_c; the extremes follow from those of each channel. No term is ever made.
    """

    def __init__(self, intercept: Intercept, signal: Tensor) -> None:
        self.intercept, self.signal = intercept, signal

    @cached_property
    def total(self) -> Tensor:
        """What the layer adds to the value, shape (row,)."""
        if isinstance(self.intercept.grid, Grid) and self.intercept.per_channel:
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
