"""What an aggregation is, and how it may treat signs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from torch import Tensor, nn

from sightline._common.meaning import Meaning
from sightline.aggregation._reader import Backward, Map, Part, Reader
from sightline.errors import RefusalError
from sightline.operations import INPUT, Tape


class Sign(StrEnum):
    """Which part of a signed quantity is kept."""

    SIGNED = "signed"
    POSITIVE = "positive"
    ABSOLUTE = "absolute"
    NEGATIVE = "negative"

    def __call__(self, values: Tensor) -> Tensor:
        """Values, max(values, 0), |values| or min(values, 0)."""
        match self:
            case Sign.SIGNED:
                return values
            case Sign.POSITIVE:
                return values.clamp(min=0)
            case Sign.ABSOLUTE:
                return values.abs()
            case Sign.NEGATIVE:
                return values.clamp(max=0)


class Reads(StrEnum):
    """What an aggregation makes of the signal, which decides with which propagations it has a meaning."""

    SIGNAL = "the signal as it is"
    PRODUCT = "the signal times the values there, which relevance already holds as a factor"
    DERIVATIVE = "the signal as a derivative, in a formula that holds for nothing else"


class Aggregation(ABC):
    """Makes a map from the results and the signals at some places of the network.

    A subclass defines `__call__`, and says by the attributes what it reads and what is known of its map.

    Attributes:
        places: the places it reads, see `sightline.operations._places`; by default the input.
        reads: what it makes of the signal.
        reads_biases: whether it listens to the signal at bias terms, which are then noted during the forward.
        on_grid: whether it reads inner results as (batch, channel, *space), whatever the order of their axes.
        at_input: whether its map is made of the input and the signal there alone.
        whole_signal: whether its map is the signal at the input, signs included, so that its sum is what arrives.
        has_terms: whether it is made of terms that can be averaged over samples before their signs are handled.
        decomposes: whether it draws the explained value's exact decomposition.
        completes: whether its map of the derivative, integrated along a path from a baseline, sums to the value's
            change.
        input_factor: where in its formula the input, or the way from a baseline to it, is a factor; empty where
            nowhere.
        blind: whether that factor makes every pixel zero where it is zero.
        needs: what a model must have, as sentences.
        adds_up: to what its map adds up where it draws a decomposition.
    """

    reads_biases: bool = False
    on_grid: bool = False
    has_terms: bool = False
    completes: bool = False
    blind: bool = False
    needs: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        return (INPUT,)

    @property
    def reads(self) -> Reads:
        return Reads.SIGNAL

    @property
    def at_input(self) -> bool:
        return tuple(self.places) == (INPUT,)

    @property
    def whole_signal(self) -> bool:
        return False

    @property
    def decomposes(self) -> bool:
        return False

    @property
    def input_factor(self) -> str:
        return ""

    @property
    def adds_up(self) -> str:
        return ""

    @abstractmethod
    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map:
        """The map, shape (batch, channel, height, width), from what stood at each place and what flowed back to it."""

    def reader(self, backward: Backward, average: Callable[[int, Part], None] | None = None) -> Reader:
        """What reads one backward for this aggregation; by default it calls it.

        Args:
            backward: the backward, which is about to run.
            average: takes each term, by a number of its own, where terms are averaged over samples before their signs
                are handled; `join` makes a map of the averages. Only for an aggregation that has terms.
        """
        del backward, average
        return Reader(self)

    def join(self, terms: Sequence[Part], size: tuple[int, int]) -> Map:
        """The map from terms that were averaged over samples, for an aggregation that has some."""
        raise NotImplementedError

    def refusal(self, tape: Tape, values: Tensor) -> str:
        """Why its map cannot be made of a forward that has run, for these explained values; empty where it can."""
        del tape, values
        return ""

    def conflict(self, propagation: str, *, derivative: bool) -> str:
        """Why it has no meaning for the signal of a propagation; empty where it has one.

        Args:
            propagation: the propagation's name.
            derivative: whether its signal is the derivative of the explained value.
        """
        if self.reads is not Reads.DERIVATIVE or derivative:
            return ""
        return (
            f"{type(self).__name__} is a formula in derivatives of the explained value, and {propagation} gives none. "
            "Use GRADIENT, or an aggregation that takes any signal."
        )

    def meaning(self, signal: Meaning) -> Meaning:
        """What is known of its map, given what is known of the signal; by default only why it may be zero."""
        return Meaning(zero=signal.zero if INPUT in self.places else NO_POSITION)

    def without_input(self) -> "Aggregation | None":
        """The same without `input_factor`; None where that has no meaning."""
        return None

    def at(self, layer: str | nn.Module, *, relevance: bool) -> "Aggregation | None":
        """The same at another layer; None where it reads none.

        Args:
            layer: a module, its name, or a depth.
            relevance: whether the signal is relevance, which has a meaning of its own at every layer.
        """
        del layer, relevance
        return None


NO_POSITION = "no position of the layer speaks for the target"


def check_spatial(layer: str, values: Tensor) -> None:
    """Refuse a layer without height and width.

    Raises:
        RefusalError: its result is not of shape (batch, channel, height, width).
    """
    if values.dim() != 4:
        raise RefusalError(
            f"A map of a layer needs a result of shape (batch, channel, height, width); the layer {layer!r} gives "
            f"{tuple(values.shape)}. Name a convolutional layer."
        )
