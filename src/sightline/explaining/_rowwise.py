"""Whether a target function's value for an image is that image's own, whatever else is in the batch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline._common.torch_private import tree_flatten, tree_unflatten
from sightline.errors import RefusalError

Valued = Callable[[Any, Tensor], Tensor]
"""(output, positions of its images) -> one value for each."""

_KEPT = 1 << 28
_ASKED = 64


class NeedsWholeBatch(Exception):  # noqa: N818 - no error, but a question to be asked otherwise
    """A target function goes by the place of an image in the batch, so that it has to see all images at once."""


class Rowwise:
    """Keeps outputs of the passes on the images themselves, of which a function is asked again in other batches.

    Args:
        function: the function.
        given_positions: whether it looks at the positions.
    """

    def __init__(self, function: Valued, *, given_positions: bool) -> None:
        self._function, self._given_positions = function, given_positions
        self._parts: list[tuple[Any, Tensor, Tensor]] = []
        self._bytes = 0

    def keep(self, output: Any, images: Tensor, values: Tensor) -> None:
        """Keep what came of a pass, for as long as it does not take too much memory."""
        leaves, _ = tree_flatten(output)
        self._bytes += sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
        if self._bytes <= _KEPT or not self._parts:
            self._parts.append((_mapped(output, lambda t: t.detach().clone()), images, values.detach()))

    def check(self) -> None:
        """See that each value is its image's own, once all images have been through.

        Raises:
            RefusalError: it depends on other images.
            NeedsWholeBatch: it depends on the image's place in the batch.
        """
        parts, self._parts = self._parts, []
        images, values = (torch.cat([part[i] for part in parts]) for i in (1, 2))
        if len(images) < 2:
            return
        agree = self._as_a_whole(parts, images, values) if len(parts) > 1 else self._alone(*parts[0])
        if agree:
            return
        if self._mixes(*parts[0]):
            raise RefusalError(
                "The target function gives an image another value when other images are beside it, so that its map "
                "would change with the batch. Let each value depend on its own row of the output alone; where the "
                "batch as a whole is meant, say so: target=sightline.WholeBatch(function)."
            )
        if self._given_positions:
            raise RefusalError(
                "The target function gives an image another value when it is in another batch. It is called with some "
                "of the images at a time; let it find them by their positions, its second argument."
            )
        raise NeedsWholeBatch

    def _as_a_whole(self, parts: Sequence[tuple[Any, Tensor, Tensor]], images: Tensor, values: Tensor) -> bool:
        outputs = [part[0] for part in parts]
        counts = [len(part[1]) for part in parts]
        try:
            found = self._function(_joined(outputs, counts), images)
        except Exception:  # noqa: BLE001
            return False
        return _agree(found, values)

    def _alone(self, output: Any, images: Tensor, values: Tensor) -> bool:
        count = len(images)
        for row in torch.linspace(0, count - 1, min(count, _ASKED)).round().long().tolist():
            try:
                found = self._function(_rows(output, count, slice(row, row + 1)), images[row : row + 1])
            except Exception:  # noqa: BLE001
                return False
            if not _agree(found, values[row : row + 1]):
                return False
        return True

    def _mixes(self, output: Any, images: Tensor, values: Tensor) -> bool:
        """Whether the value of a row changes when all other rows become like it."""
        count = len(images)
        for row in {0, count - 1}:
            rows = torch.full((count,), row)
            try:
                found = self._function(_rows(output, count, rows), images)
            except Exception:  # noqa: BLE001
                return False
            if not _agree(found[row : row + 1], values[row : row + 1]):
                return True
        return False


def _agree(found: Any, values: Tensor) -> bool:
    if not isinstance(found, Tensor) or found.shape != values.shape:
        return False
    share = 1e3 * torch.finfo(values.dtype).eps if values.is_floating_point() else 0.0
    largest = float(values.abs().nan_to_num(posinf=0.0).amax())
    return torch.allclose(found.double(), values.double(), rtol=share, atol=share * largest, equal_nan=True)


def _mapped(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    leaves, structure = tree_flatten(output)
    return tree_unflatten([change(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure)


def _rows(output: Any, count: int, rows: slice | Tensor) -> Any:
    if not any(isinstance(leaf, Tensor) for leaf in tree_flatten(output)[0]):
        raise TypeError("an output whose rows cannot be told")
    return _mapped(output, lambda t: t[rows] if t.dim() and len(t) == count else t)


def _joined(outputs: Sequence[Any], counts: Sequence[int]) -> Any:
    flat = [tree_flatten(output) for output in outputs]
    joined = []
    for leaves in zip(*(leaves for leaves, _ in flat), strict=True):
        by_row = all(isinstance(t, Tensor) and t.dim() and len(t) == n for t, n in zip(leaves, counts, strict=True))
        joined.append(torch.cat(leaves) if by_row else leaves[0])
    return tree_unflatten(joined, flat[0][1])
