"""What is written beneath a picture: its name, and what the model says of it."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from sightline.explaining._explained import Explained, class_name, one_line
from sightline.models import OutputKind


def caption(
    name: str,
    explained: Explained,
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
        explained: what is explained.
        value: the explained value.
        predicted: the likeliest class or label; None where the model gives no scores of either.
        probability: its probability.
        output: what the model's outputs are.
        class_names: a name for each class, or empty.

    Example:
        >>> caption("a.png", Explained(1, predicted=True), 2.0, 1, 0.97, OutputKind(), ["cat", "dog"])
        'a.png\ndog, 97%'
    """
    lines = [one_line(name)]
    if output.kind != "classes" and explained.is_one_output:
        (title,) = replace(explained, predicted=False).parts(output, class_names)
        if output.kind == "values":
            return "\n".join([*lines, f"{title} = {value:.4g}"])
        highest = ", the highest" if explained.predicted else ""
        read = float(output.read(torch.tensor([[value]], dtype=torch.float64)))
        return "\n".join([*lines, f"P({title}) = {share(read)}{highest}"])
    shown = None
    if output.kind == "classes" and predicted is not None and probability is not None:
        shown = predicted
        lines.append(f"{class_name(predicted, output, class_names)}, {share(probability)}")
    if not explained.is_one_output or explained.number != shown:
        first, *others = explained.parts(output, class_names)
        lines += [f"explained: {first}", *(f"not {other}" for other in others)]
    return "\n".join(lines)


def share(probability: float) -> str:
    """A probability in per cent; what only rounding would make 0 or 100 is told as less or more."""
    if not math.isfinite(probability):
        return "not a number"
    words = f"{probability:.0%}"
    if words == "0%" and probability > 0:
        return "<1%"
    return ">99%" if words == "100%" and probability < 1 else words
