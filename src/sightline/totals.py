"""Totals: the answers at an image's samples, added up to one."""

import torch
from torch import Tensor

from sightline.sampling import Reduction


class Total:
    """One quantity for each image of a block, reduced over samples as they come.

    Args:
        images: number of images.
        reduction: how samples become one.
    """

    def __init__(self, images: int, reduction: Reduction) -> None:
        self._images, self._reduction = images, reduction
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None
        self._first: Tensor | None = None
        self._known = torch.zeros(images, dtype=torch.bool)

    def add(self, part: Tensor, images: Tensor, weights: Tensor) -> None:
        """Add weighted rows to their images, in single precision at least."""
        part = part.detach()
        part = part.to(torch.promote_types(part.dtype, torch.float32))
        if self._reduction is Reduction.VARIANCE:
            part = part - self._origins(part, images)
        if self._reduction is not Reduction.MEAN:
            self._squares = self._added(self._squares, part.square(), images, weights)
        if self._reduction is not Reduction.MEAN_SQUARE:
            self._sum = self._added(self._sum, part, images, weights)

    def value(self) -> Tensor:
        """The samples, as one."""
        match self._reduction:
            case Reduction.MEAN:
                assert self._sum is not None  # noqa: S101 - asked for once something was added
                return self._sum
            case Reduction.MEAN_SQUARE:
                assert self._squares is not None  # noqa: S101
                return self._squares
            case Reduction.VARIANCE:
                assert self._sum is not None  # noqa: S101
                assert self._squares is not None  # noqa: S101
                return (self._squares - self._sum.square()).clamp(min=0)

    def _added(self, total: Tensor | None, part: Tensor, images: Tensor, weights: Tensor) -> Tensor:
        if total is None and images.tolist() == list(range(self._images)) and bool((weights == 1).all()):
            return part
        if total is None:
            total = part.new_zeros((self._images, *part.shape[1:]))
        return total.index_add_(0, images, part * weights.to(part).view(-1, *[1] * (part.dim() - 1)))

    def _origins(self, part: Tensor, images: Tensor) -> Tensor:
        """The first sample of each row's image; taken off, it leaves squares that do not cancel."""
        if self._first is None:
            self._first = part.new_zeros((self._images, *part.shape[1:]))
        for row, image in enumerate(images.tolist()):
            if not self._known[image]:
                self._first[image], self._known[image] = part[row], True
        return self._first[images]


class Postponed:
    """The same for samples whose weights are known at the end."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, slice]] = []

    def add(self, part: Tensor, images: Tensor, rows: slice) -> None:
        """Keep the rows of one pass; `rows` are their places in the order of asking."""
        self._parts.append((part.detach(), images, rows))

    def into(self, total: Total, weights: Tensor) -> None:
        """Add all, with the weight of each row asked."""
        for part, images, rows in self._parts:
            total.add(part, images, weights[rows])
        self._parts.clear()
