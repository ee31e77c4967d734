"""Class scores out of whatever a model returns."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sightline._common.words import counted
from sightline.errors import RefusalError


class NoScoresError(RefusalError):
    """A model's output holds no class scores that can be told from what else it holds.

    Attributes:
        found: what the output is, in sentences without advice.
    """

    def __init__(self, found: str) -> None:
        super().__init__(f"{found} {_ADVICE}")
        self.found = found


_ADVICE = (
    "Say what to explain with a callable: target=lambda output: ... that returns one value per image; or by a layer's "
    'channel: target=sightline.Unit("LAYER", channel=0), on the command line --target unit:LAYER:0.'
)


def class_scores(output: Any, rows: int) -> Float[Tensor, "rows classes"]:
    """The class scores in a model's output.

    A tensor is taken as it is; in a dict or a `ModelOutput` the entry `logits`; else, and in a tuple, the only
    tensor that has the shape of class scores.

    Args:
        output: what the model returned.
        rows: number of images it was given.

    Returns:
        Shape (rows, classes); one column for a head with one logit.

    Raises:
        NoScoresError: there is no such tensor, or more than one.
    """
    if isinstance(output, Tensor):
        scores = _as_scores(output, rows)
        if scores is None:
            raise NoScoresError(
                f"The model returned a tensor of shape {tuple(output.shape)} for {counted(rows, 'image')}, not class "
                f"scores of shape ({rows}, classes)."
            )
        return scores
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return class_scores(logits, rows)
    if isinstance(output, Mapping):
        named = {repr(key): value for key, value in output.items()}
    elif isinstance(output, tuple | list):
        named = {str(index): value for index, value in enumerate(output)}
    else:
        raise NoScoresError(f"The model returned a {type(output).__name__}, not class scores.")
    found = {
        key: scores
        for key, value in named.items()
        if isinstance(value, Tensor) and (scores := _as_scores(value, rows)) is not None
    }
    if len(found) != 1:
        shapes = ", ".join(
            f"{key}: {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
            for key, value in named.items()
        )
        count = "none" if not found else f"{len(found)}"
        raise NoScoresError(
            f"The model returned a {type(output).__name__} ({shapes}), of which {count} could be the class scores."
        )
    return next(iter(found.values()))


def _as_scores(tensor: Tensor, rows: int) -> Tensor | None:
    if not tensor.is_floating_point() or tensor.dim() == 0 or tensor.shape[0] != rows or 0 in tensor.shape:
        return None
    if tensor.dim() == 1:
        return tensor.unsqueeze(1)
    if tensor.dim() == 2:
        return tensor
    if all(size == 1 for size in tensor.shape[2:]):
        return tensor.flatten(1)
    return None
