"""A saliency method: three choices, and what is known of them."""

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from sightline._common.meaning import Meaning
from sightline.aggregation import Aggregation, InputSignal, Reads
from sightline.errors import InputError
from sightline.operations import place_of, without_input_of
from sightline.propagation import GRADIENT, Propagation
from sightline.sampling import Image, Reduction, Sampling

Reduced = Literal["mean", "max"]


@dataclass(frozen=True)
class Method:
    """A saliency method: three choices, and what is known of them.

    Attributes:
        sampling: at which inputs the network is asked, and how the answers are reduced.
        propagation: how the signal flows back through each operation.
        aggregation: which tensors make the map, with which sign handling.
        name: its name in results; for a method of your own, made from the three choices unless given.
        formula: the map as a formula.
        source: the paper and place it is defined in.
        cost: matrix work in forward passes, counted on ResNet-18 at 224 px; None where nobody counted.
        reduction: how `heatmap` joins the channels of an input-space map: the signed `mean`, or the `max`.
        differs: how its map differs from what its authors' code gives, and the setting that gives theirs.
        times: another method whose map, brought to this one's size, multiplies it (Guided Grad-CAM).
        coincides: names of other methods, each with when it gives the same numbers.

    Raises:
        InputError: the combination has no defined meaning.
    """

    sampling: Sampling = field(default_factory=Image)
    propagation: Propagation = GRADIENT
    aggregation: Aggregation = field(default_factory=InputSignal)
    name: str = ""
    formula: str = ""
    source: str = ""
    cost: float | None = None
    reduction: Reduced = "mean"
    differs: str = ""
    times: "Method | None" = None
    coincides: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for choice, wanted in (("sampling", Sampling), ("propagation", Propagation), ("aggregation", Aggregation)):
            came = getattr(self, choice)
            if isinstance(came, type) or not isinstance(came, wanted):
                raise InputError(
                    f"A method's {choice} is a {wanted.__name__}; got {came!r}. A function or class that makes one "
                    "has to be called, as in lrp_epsilon()."
                )
        if self.times is not None and (not isinstance(self.times, Method) or self.times.times is not None):
            raise InputError("A method is multiplied by one other Method, which is no product itself.")
        reason = self._meaningless()
        if reason:
            raise InputError(reason)
        if not self.name:
            parts = (type(self.sampling).__name__, self.propagation.name, type(self.aggregation).__name__)
            times = "" if self.times is None else f" x ({self.times.name})"
            object.__setattr__(self, "name", " x ".join(parts) + times)

    def _meaningless(self) -> str:
        """Why the combination has no defined meaning, if so."""
        sampling, propagation, aggregation = self.sampling, self.propagation, self.aggregation
        multiplied = aggregation.reads is Reads.PRODUCT
        return (
            propagation.conflict(from_baseline=sampling.from_baseline, multiplied=multiplied)
            or aggregation.conflict(propagation.name, derivative=propagation.derivative)
            or sampling.conflict(
                type(aggregation).__name__,
                at_input=aggregation.at_input,
                has_terms=aggregation.has_terms,
                complete=self.complete,
            )
        )

    @property
    def factors(self) -> tuple["Method", ...]:
        """The methods whose maps are computed: itself, or the two that are multiplied."""
        if self.times is None:
            return (self,)
        return (
            replace(self, times=None, name=f"{self.name} (first factor)"),
            replace(self.times, name=f"{self.name} (second factor)"),
        )

    @property
    def complete(self) -> bool:
        """Whether the map must sum to the value's difference between image and baseline, up to quadrature."""
        return (
            self.sampling.from_baseline
            and not self.sampling.random
            and self.sampling.reduction is Reduction.MEAN
            and self.propagation.derivative
            and self.aggregation.completes
        )

    @property
    def decomposes(self) -> bool:
        """Whether the map is drawn from the value's exact decomposition."""
        return self.aggregation.decomposes and self.sampling.at_images

    @property
    def has_books(self) -> bool:
        """Whether the map is all the relevance of one pass, so that it can be told where the rest went."""
        return self.propagation.conserves and self.sampling.at_images and self.aggregation.whole_signal

    @property
    def meaning(self) -> Meaning:
        """What is known of its map, without that of a method that multiplies it."""
        return self.aggregation.meaning(self.sampling.meaning(self.propagation.meaning))

    @property
    def signal_at_input(self) -> bool:
        """Whether its map is the signal at the input, with whatever sign handling."""
        return self.aggregation.at_input and self.aggregation.reads is Reads.SIGNAL

    @property
    def input_factor(self) -> str:
        """Where in its formula the input, or the way to it from a baseline, is a factor; empty where nowhere."""
        own = self.aggregation.input_factor
        if not own and self.propagation.times_input and self.signal_at_input:
            own = "the rule of the first layer multiplies by the input"
        return own or ("" if self.times is None else self.times.input_factor)

    @property
    def encoding_enters(self) -> str:
        """Why its map changes where the same function reads the same pictures in another encoding; empty if it stays.

        A baseline by name, or references, are encoded as the images are, and so is the way from there.
        """
        if self.sampling.from_baseline:
            fixed = self.sampling.fixed_baseline
            own = "its baseline is a number of the encoding, which is another colour in another one" if fixed else ""
        else:
            own = replace(self, times=None).input_factor
        return own or ("" if self.times is None else self.times.encoding_enters)

    @property
    def without_input(self) -> "Method | None":
        """The same method without its factor of the input, named after it; None where that has no meaning."""
        if not self.input_factor:
            return None
        name = f"{self.name} without the input"
        times = self.times
        if times is not None and times.input_factor and (times := times.without_input) is None:
            return None
        bare = replace(self, times=times, name=name, coincides=())
        if self.aggregation.input_factor:
            other = self.aggregation.without_input()
            # An adaptive path is steered by what that factor makes complete.
            return None if other is None or self.sampling.steered else replace(bare, aggregation=other)
        if self.propagation.times_input and self.signal_at_input:
            return replace(bare, propagation=without_input_of(self.propagation))
        return bare

    def at(self, layer: str | nn.Module) -> "Method":
        """The same method reading another layer: a class activation map's, or relevance as it arrives there.

        Args:
            layer: a module, its name, or a depth: "early", "middle", "late".

        Raises:
            InputError: the method reads no layer.
        """
        name = f"{self.name}@{place_of(layer).strip('<>')}"
        if self.times is not None:
            return replace(self, times=self.times.at(layer), name=name)
        aggregation = self.aggregation.at(layer, relevance=self.propagation.relevance)
        if aggregation is None:
            raise InputError(f"{self.name} reads no layer, so it cannot be moved to {layer!r}.")
        return replace(self, aggregation=aggregation, name=name)
