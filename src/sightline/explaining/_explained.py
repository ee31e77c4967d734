"""What is explained of one image, as a value: an output of the model, a pair of outputs, or something else in words."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sightline.models import OutputKind


@dataclass(frozen=True)
class Explained:
    """What is explained of one image.

    Attributes:
        number: the output that is explained, such as a class; None where it is none of the model's outputs.
        other: of a pair, the output that it is compared with.
        predicted: whether it is explained because the model predicts it.
        words: what is explained where it is no output, such as a hidden unit.
        remark: what else must be known of it.

    Example:
        >>> Explained(0, other=1).describe()
        'class 0 rather than class 1'
    """

    number: int | None = None
    other: int | None = None
    predicted: bool = False
    words: str = ""
    remark: str = ""

    @property
    def is_one_output(self) -> bool:
        """Whether it is the value of one output and nothing else."""
        return self.number is not None and self.other is None and not self.remark

    def describe(self, noun: str = "class") -> str:
        """In words, outputs by number.

        Args:
            noun: what an output is called.
        """
        return " rather than ".join(self._parts(lambda number: f"{noun} {number}"))

    def parts(self, output: OutputKind, class_names: Sequence[str]) -> list[str]:
        """In words, outputs by name: what is explained and, of a pair, what it is compared with."""
        return self._parts(lambda number: class_name(number, output, class_names))

    def named(self, output: OutputKind, class_names: Sequence[str]) -> str:
        """In words, outputs by name: `cat rather than dog`."""
        return " rather than ".join(self.parts(output, class_names))

    def record(self) -> dict[str, Any]:
        """Ready for JSON; `Explained(**record)` is the same."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "") and value is not False}

    def _parts(self, name: Callable[[int], str]) -> list[str]:
        numbers = [number for number in (self.number, self.other) if number is not None]
        parts = [name(number) for number in numbers] or [self.words]
        if self.predicted:
            parts[0] = f"predicted {parts[0]}"
        if self.remark:
            parts[-1] += f", {self.remark}"
        return parts


def class_name(label: int, output: OutputKind, class_names: Sequence[str]) -> str:
    """The name of an output, or its number where it has none."""
    return one_line(class_names[label]) if label < len(class_names) else f"{output.noun} {label}"


def one_line(text: str) -> str:
    """Text of any origin on one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
