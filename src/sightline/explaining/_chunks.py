"""How many rows of a job go through the network at once."""

from collections.abc import Iterator

from torch import Tensor

from sightline._common.memory import first_chunk, next_chunk
from sightline.errors import InputError
from sightline.explaining._options import Progress


class Chunks:
    """The sizes of a job's passes, from the memory that earlier ones took; and how far the job is.

    Args:
        images: shape (image, channel, height, width).
        chunk: rows of each pass; by default from the memory at hand.
        memory: bytes that a pass may take, where `chunk` does not say; by default from the memory at hand.
        progress: called with rows done and rows in all.
    """

    def __init__(
        self, images: Tensor, *, chunk: int | None = None, memory: int | None = None, progress: Progress | None = None
    ) -> None:
        self._images, self._chunk, self._memory, self._progress = images, chunk, memory, progress
        self._measured = self._done = self._total = 0

    def begin(self, total: int) -> None:
        """A job of so many rows begins."""
        self._done, self._total = 0, total

    def all_at_once(self) -> None:
        """From now on, have all images in each pass.

        Raises:
            InputError: the user wants other chunks.
        """
        if self._chunk not in {None, len(self._images)}:
            raise InputError(
                f"A target function needs all images at once, but chunk={self._chunk} cuts the {len(self._images)} "
                "images. Leave chunk out, or let the function take (output, images) and find each image by its "
                "position."
            )
        self._chunk = len(self._images)

    @property
    def size(self) -> int:
        """Rows of the next pass."""
        row = self._images[0]
        if self._chunk:
            return self._chunk
        return next_chunk(row, self._measured, self._memory) if self._measured else first_chunk(row, self._memory)

    def cut(self, rows: int) -> Iterator[range]:
        """Cut rows into chunks; each has the size that is right when its turn comes."""
        start = 0
        while start < rows:
            size = self.size
            yield range(start, min(start + size, rows))
            start += size

    def ran(self, rows: int, taken: int) -> None:
        """Learn how many bytes the results of a pass took, and report progress."""
        self._measured = max(self._measured, taken // rows)
        self._done += rows
        self._total = max(self._total, self._done)
        if self._progress is not None:
            self._progress(self._done, self._total)
