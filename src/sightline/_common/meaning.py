"""What a map means and how it looks, in sentences that a method's three choices make together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """What is known of a signal, or of a map made from it; a sentence is empty where nobody knows it.

    A propagation states it of its signal, a sampling passes it on for the reduced signal, an aggregation for its map.

    Attributes:
        directness: what one value means.
        product: what one value means once it is multiplied by the input, or by the way from a baseline to it.
        minimality: how much of the image it marks.
        coherence: how it looks, and where that misleads.
        zero: why it may be zero everywhere.
        derivative: whether it is the derivative of the explained value, reduced over samples or not.
    """

    directness: str = ""
    product: str = ""
    minimality: str = ""
    coherence: str = ""
    zero: str = ""
    derivative: bool = False


UNKNOWN = Meaning()
FEWER = "medium: fewer scattered pixels than the gradient"
