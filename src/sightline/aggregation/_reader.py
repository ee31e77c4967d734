"""How an aggregation reads one backward: what it listens to, the map of its rows, and what it remarks on them."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from jaxtyping import Float
from torch import Tensor

from sightline.aggregation._placement import Placement
from sightline.operations import Intercept

Map = Float[Tensor, "batch channel height width"]
T = TypeVar("T")
Listener = Callable[[Intercept, Tensor], None]
"""Takes the bias term of an operation, and the signal at the operation's result."""


@dataclass(frozen=True)
class Part:
    """A term that a map is made of.

    Attributes:
        values: shape (row, channel, *cells).
        placement: where its cells lie in the image; None for the input's own term.
    """

    values: Tensor
    placement: Placement | None = None


@dataclass(frozen=True)
class Amount:
    """What one part of the explained value's decomposition adds to it.

    Attributes:
        name: the operation, or the input.
        amounts: shape (row,).
        in_map: whether the map has it.
    """

    name: str
    amounts: Tensor
    in_map: bool


class Backward:
    """One backward of a pass, as those who read it see it: first to prepare, then with its signals.

    Args:
        values: shape (row,): the explained values.
        size: height and width of the images.
        derivative: whether the signal is the derivative of the explained value.

    Attributes:
        changed: once it has run, how a hook of the model changed a signal on its way; empty where none did.
    """

    def __init__(self, values: Tensor, size: tuple[int, int], *, derivative: bool) -> None:
        self.values, self.size, self.derivative = values, size, derivative
        self.changed = ""
        self._listeners: list[Listener] = []
        self._shared: dict[Hashable, Any] = {}

    def listen(self, listener: Listener) -> None:
        """Have a function called at each bias term that the signal meets.

        The signal there is freed afterwards, so that no layer's gradient is kept until the end.
        """
        self._listeners.append(listener)

    @property
    def on_bias(self) -> Listener | None:
        """Calls all listeners; None where there are none."""
        if not self._listeners:
            return None

        def call(term: Intercept, signal: Tensor) -> None:
            for listener in self._listeners:
                listener(term, signal)

        return call

    def ran(self, changed: str) -> None:
        """It has run, so that nobody listens any more; `changed` says how a hook changed a signal."""
        self.changed = changed
        self._listeners.clear()

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """What several readers of this backward need: made by the first that asks."""
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found


class Remark(Protocol):
    """What an aggregation has to say of a layer: a value that can be compared, such as a member of an `Enum`."""

    def describe(self) -> str:
        """In words, as the end of a sentence about the layer."""


class Reader:
    """Reads one backward for one aggregation.

    Args:
        make: makes the map from what stood at each place and from the signal there.

    Attributes:
        remarks: what about the layer makes choices coincide, for these rows; None where it looks for nothing of the
            kind.
        amounts: the explained value's decomposition by the order of execution, the input at -1, for an aggregation that
            draws it; known once the map is made.
    """

    remarks: frozenset[Remark] | None = None
    amounts: Mapping[int, Amount] | None = None

    def __init__(self, make: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Map]) -> None:
        self._make = make

    def map(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Map | None:
        """The map of the rows; None where its terms went to be averaged over samples first.

        Raises:
            RefusalError: what was read is not what the map is made of.
        """
        return self._make(results, signals)
