"""The engine of this process: reading, computing and writing overlap, and no more than a few chunks are in memory."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from sightline.runs._source import Read
from sightline.runs._work import Worker

AHEAD = 2
"""Chunks that are read before they are needed, or wait to be written."""


def run_local(worker: Worker, missing: Sequence[tuple[int, str]], done: Callable[[], None]) -> None:
    """Work through what is missing, in order.

    Args:
        worker: does the work.
        missing: chunks and tasks.
        done: called after each that is written.
    """
    with (
        ThreadPoolExecutor(worker.recipe.engine.readers, "read") as readers,
        ThreadPoolExecutor(1, "write") as writer,
        closing(_read_ahead(worker, missing, readers)) as batches,
    ):
        writing: list[Future[None]] = []
        for (number, tag), images in zip(missing, batches, strict=True):
            writing.append(writer.submit(worker.write, worker.work(number, tag, images)))
            worker.store.place.sign()
            while len(writing) >= AHEAD:
                _finish(writing, done)
        while writing:
            _finish(writing, done)


def _finish(writing: list[Future[None]], done: Callable[[], None]) -> None:
    writing.pop(0).result()
    done()


def _read_ahead(worker: Worker, missing: Sequence[tuple[int, str]], readers: ThreadPoolExecutor) -> Generator[Read]:
    coming: list[Future[Read]] = []
    left = iter(missing)
    try:
        while True:
            for number, _ in left:
                coming.append(readers.submit(worker.read, number))
                if len(coming) >= AHEAD:
                    break
            if not coming:
                return
            yield coming.pop(0).result()
    finally:
        for one in coming:
            one.cancel()
