"""What is explained, as a function of the model's output."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.errors import RefusalError
from sightline.explaining._explained import Explained
from sightline.explaining._rowwise import NeedsWholeBatch, Rowwise
from sightline.explaining._targets import Target


@dataclass(frozen=True)
class WholeBatch:
    """A target function that has to see the output for all images at once, in their order, in one pass.

    Its passes take as much memory as all images together.

    Attributes:
        function: from the model's output for all images to a tensor of shape (batch,).
    """

    function: Callable[..., Tensor]


class Function(Target):
    """Any function that returns one value per image.

    Args:
        function: from the model's output for some of the images, and their positions if it has two parameters, to a
            tensor of shape (row,).
        count: number of images.
        whole_batch: whether it is always given all images.
    """

    checks_rows = True

    def __init__(self, function: Callable[..., Tensor], count: int, *, whole_batch: bool = False) -> None:
        self._function, self._count = function, count
        self._takes_images = _parameters(function) > 1
        self.whole_batch = whole_batch
        self._rowwise = None if whole_batch else Rowwise(self._called, given_positions=self._takes_images)

    def _called(self, output: Any, images: Tensor) -> Tensor:
        return self._function(output, images) if self._takes_images else self._function(output)

    def values(self, output: Any, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
        del results
        everything = len(images) == self._count and bool((images.cpu() == torch.arange(self._count)).all())
        try:
            values = self._called(output, images)
        except Exception as error:
            if everything or self._takes_images:
                raise
            raise NeedsWholeBatch from error
        if not isinstance(values, Tensor) or values.shape != (len(images),):
            if not everything and not self._takes_images:
                raise NeedsWholeBatch
            came = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise RefusalError(
                f"The target function must return one value per image, shape ({len(images)},); got {came}."
            )
        return values

    def keep(self, output: Any, images: Tensor, values: Tensor) -> None:
        if self._rowwise is not None:
            self._rowwise.keep(output, images, values)

    def finish(self) -> None:
        if self._rowwise is not None:
            self._rowwise.check()

    def all_at_once(self) -> None:
        self.whole_batch, self._rowwise = True, None

    def explained(self, image: int) -> Explained:
        del image
        return Explained(words=getattr(self._function, "__name__", "a function of the output"))


def _parameters(function: Callable[..., Any]) -> int:
    """Number of positional parameters without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)
