"""What is written beneath a picture: its name, and what the model says of it."""

import math
import re
from collections.abc import Sequence

import torch

from sightline.models._output_kind import OutputKind


def caption(
    name: str,
    explained: str,
    value: float,
    predicted: int | None,
    probability: float | None,
    output: OutputKind,
    class_names: Sequence[str] = (),
) -> str:
    r"""Name and what the model says, for one image.

    Of classes that is the predicted one with its probability, and what is explained where that is another; of labels
    and values the explained one: `P(Effusion) = 5%`, `Omega_m = 0.31`.

    Args:
        name: of the image.
        explained: what is explained, in the words of `Explanation.targets`.
        value: the explained value.
        predicted: the likeliest class or label; None where the model gives no scores of either.
        probability: its probability.
        output: what the model's outputs are.
        class_names: a name for each class, or empty.

    Example:
        >>> caption("a.png", "predicted class 1", 2.0, 1, 0.97, OutputKind(), ["cat", "dog"])
        'a.png\ndog, 97%'
    """
    lines = [one_line(name)]
    own = re.fullmatch(rf"(predicted )?{output.noun} (\d+)", explained)
    if output.kind != "classes" and own is not None:
        title = class_name(int(own[2]), output, class_names)
        if output.kind == "values":
            return "\n".join([*lines, f"{title} = {value:.4g}"])
        highest = ", the highest" if own[1] else ""
        read = float(output.read(torch.tensor([[value]], dtype=torch.float64)))
        return "\n".join([*lines, f"P({title}) = {share(read)}{highest}"])
    said = ""
    if output.kind == "classes" and predicted is not None and probability is not None:
        said = f"class {predicted}"
        lines.append(f"{class_name(predicted, output, class_names)}, {share(probability)}")
    if explained.removeprefix("predicted ") != said:
        parts = with_names(explained, output, class_names).split(" rather than ")
        lines += [f"explained: {part}" if n == 0 else f"not {part}" for n, part in enumerate(parts)]
    return "\n".join(lines)


def class_name(label: int, output: OutputKind, class_names: Sequence[str]) -> str:
    """The name of an output, or its number where it has none."""
    return one_line(class_names[label]) if label < len(class_names) else f"{output.noun} {label}"


def with_names(words: str, output: OutputKind, class_names: Sequence[str]) -> str:
    """What is explained, with names in place of numbers: `cat rather than dog` for `class 0 rather than class 1`."""
    return re.sub(rf"\b{output.noun} (\d+)", lambda match: class_name(int(match[1]), output, class_names), words)


def target_title(explained: str, named: str) -> str:
    """What a set of maps explains; which class was predicted may differ from image to image."""
    return "the predicted class" if explained.startswith("predicted ") else named


def share(probability: float) -> str:
    """A probability in per cent; what only rounding would make 0 or 100 is told as less or more."""
    if not math.isfinite(probability):
        return "not a number"
    words = f"{probability:.0%}"
    if words == "0%" and probability > 0:
        return "<1%"
    return ">99%" if words == "100%" and probability < 1 else words


def one_line(text: str) -> str:
    """Text of any origin on one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
