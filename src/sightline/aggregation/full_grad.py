"""FullGrad: the input's term and every bias's, joined in one map.

z = x . dz/dx + sum over layers l and positions of b_l dz/dh_l holds exactly, with b_l the intercepts of
`sightline.operations.intercepts`. Srinivas and Fleuret 2019, arXiv 1905.00780, equations 2 and 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from sightline.aggregation.base import Map, Reads, Sign
from sightline.aggregation.resize import resized, spread
from sightline.errors import InputError
from sightline.operations import INPUT, Intercept


@dataclass(frozen=True)
class FullGrad:
    """M = p(x * dz/dx) + sum_l Up(p(b_l * dz/dh_l)), p summing over channels. Shape: (batch, 1, height, width).

    With `rescale`, p(t) is s(t) brought to 0..1 by its least and greatest value over all channels and positions of one
    image, before it is summed over channels, and Up is bilinear. Without, p(t) is s(t) and Up keeps sums, so that a
    signed map sums to z less the terms of layers without height and width.

    Attributes:
        sign: which part of each term is kept.
        rescale: whether each term is brought to 0..1; not for signed terms.
        biases: whether gradients are multiplied by the biases (FullGrad), or taken as they are (simple FullGrad).
        join_input: whether the input's term is summed over channels before its sign is handled (smooth FullGrad).

    Raises:
        InputError: signed terms are to be rescaled, or the sign is unknown.
    """

    sign: Sign = Sign.ABSOLUTE
    rescale: bool = True
    biases: bool = True
    join_input: bool = False

    places = (INPUT,)
    reads = Reads.DERIVATIVE

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "sign", Sign(self.sign))
        except ValueError:
            raise InputError(f"A sign is one of {', '.join(Sign)}; came {self.sign!r}.") from None
        if self.sign is Sign.SIGNED and self.rescale:
            raise InputError(
                "Bringing signed terms to 0..1 would hide their sign: FullGrad(Sign.SIGNED, rescale=False)."
            )

    def hears(self, intercept: Intercept) -> bool:
        """Whether an operation has a part in the map: without biases as factors, only layers that have some."""
        return self.biases or intercept.per_channel

    def term(self, intercept: Intercept, signal: Tensor) -> Tensor:
        """A layer's term, of the shape of its result, channels first."""
        return intercept.channels_first(intercept.times(signal) if self.biases else signal)

    def input_term(self, values: Tensor, signal: Tensor) -> Tensor:
        """The input's term."""
        term = values * signal
        return term.sum(1, keepdim=True) if self.join_input else term

    def part(self, term: Tensor) -> Tensor:
        """What of a term goes into the map, at the term's own size."""
        return self._joined(self.sign(term))

    def layer_part(self, intercept: Intercept, signal: Tensor) -> Tensor:
        """`part` of `term`, without making the term where it is only summed."""
        if self.sign is Sign.SIGNED and self.biases:
            return intercept.over_channels(signal)
        return self.part(self.term(intercept, signal))

    def _joined(self, kept: Tensor) -> Tensor:
        summed = kept.sum(1, keepdim=True)
        if not self.rescale:
            return summed
        low, high = kept.flatten(1).aminmax(dim=1)
        low, high = low.view(-1, 1, 1, 1), high.view(-1, 1, 1, 1)
        if self.sign is Sign.NEGATIVE:
            # Brought to -1..0: nothing stays nothing.
            return (summed - kept.shape[1] * high) / (high - low + _TINY)
        return (summed - kept.shape[1] * low) / (high - low + _TINY)

    def join(self, parts: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The map, from all parts; those of one size are added before they are resized."""
        by_size: dict[tuple[int, ...], Tensor] = {}
        for part in parts:
            shape = tuple(part.shape[2:])
            by_size[shape] = part if shape not in by_size else by_size[shape] + part
        up = resized if self.rescale else spread
        return sum((up(part, size) for part in by_size.values()), start=parts[0].new_zeros(()))

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        """The input's part alone; a job adds the layers'."""
        return self.part(self.input_term(results[INPUT], signals[INPUT]))


_TINY = 1e-6
