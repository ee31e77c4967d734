"""The engine of a cluster."""

from collections.abc import Callable, Sequence

from sightline.runs.work import Worker


def run_ray(worker: Worker, missing: Sequence[tuple[int, str]], done: Callable[[], None]) -> None:
    """Work through what is missing."""
    raise NotImplementedError
