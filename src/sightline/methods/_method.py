"""A saliency method: three choices, and what is known of them."""

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from sightline.aggregation import CAM, Aggregation, FullGrad, InputSignal, InputTimesSignal, LayerSignal, Reads, Sign
from sightline.errors import InputError
from sightline.operations import INPUT, place_of, without_input_of
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
        kind = type(aggregation).__name__
        if sampling.from_baseline and (tuple(aggregation.places) != (INPUT,) or isinstance(aggregation, FullGrad)):
            return (
                f"A path is integrated at the input; {kind} reads other layers, where the path is none. Use an "
                "aggregation of the input, or Noise."
            )
        if propagation.relevance and (sampling.from_baseline or aggregation.reads is Reads.PRODUCT):
            return (
                f"{propagation.name} gives relevance, which already holds the values there as a factor; multiplying it "
                "by them again, or integrating it along a path, has no defined meaning. Use InputSignal, LayerSignal, "
                "a CAM that pools by the mean, or Noise."
            )
        if aggregation.reads is Reads.DERIVATIVE and propagation is not GRADIENT:
            return (
                f"{kind} is a formula in derivatives of the explained value, and {propagation.name} gives none. Use "
                "GRADIENT, or an aggregation that takes any signal."
            )
        if sampling.before and not isinstance(aggregation, FullGrad):
            return f"{kind} has no terms that could be averaged before their signs are handled; leave `before` out."
        if sampling.steered and not self.complete:
            return (
                "An adaptive path is steered by its completeness residual, which only the gradient times the way from "
                "the baseline has: GRADIENT and InputTimesSignal. Use Path."
            )
        return ""

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
            and self.propagation is GRADIENT
            and isinstance(self.aggregation, InputTimesSignal)
        )

    @property
    def decomposes(self) -> bool:
        """Whether the map is drawn from the value's exact decomposition."""
        aggregation = self.aggregation
        return isinstance(aggregation, FullGrad) and aggregation.biases and isinstance(self.sampling, Image)

    @property
    def has_books(self) -> bool:
        """Whether the map is all the relevance of one pass, so that it can be told where the rest went."""
        return (
            self.propagation.conserves
            and isinstance(self.sampling, Image)
            and isinstance(self.aggregation, InputSignal)
            and self.aggregation.sign is Sign.SIGNED
        )

    @property
    def input_factor(self) -> str:
        """Where in its formula the input, or the way to it from a baseline, is a factor; empty where nowhere."""
        own = getattr(self.aggregation, "input_factor", "")
        if not own and self.propagation.times_input and isinstance(self.aggregation, InputSignal):
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
        if isinstance(self.aggregation, InputTimesSignal):
            # An adaptive path is steered by what that factor makes complete.
            return None if self.sampling.steered else replace(bare, aggregation=InputSignal())
        if isinstance(self.aggregation, FullGrad) and self.aggregation.times_input:
            return (
                None
                if self.aggregation.biases
                else replace(bare, aggregation=replace(self.aggregation, times_input=False))
            )
        if self.propagation.times_input and isinstance(self.aggregation, InputSignal):
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
        if isinstance(self.aggregation, CAM | LayerSignal):
            return replace(self, aggregation=replace(self.aggregation, layer=layer), name=name)
        if self.propagation.relevance and isinstance(self.aggregation, InputSignal):
            return replace(self, aggregation=LayerSignal(layer), name=name)
        raise InputError(f"{self.name} reads no layer, so it cannot be moved to {layer!r}.")
