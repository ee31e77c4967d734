"""Batch norms that normalise each image by the others in its batch, and what a user can do about them."""

from collections.abc import Mapping
from typing import Any

from sightline.operations._reading import argument

_BATCH_NORMS = frozenset({"batch_norm", "native_batch_norm"})


def remedy_for_batch_statistics(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """What a user can do about a batch norm that normalises by its batch; None for any other call."""
    if name not in _BATCH_NORMS or not argument(args, kwargs, 5, "training", default=False):
        return None
    # Running statistics are the second argument of one function, and the fourth of the other.
    if None in [argument(args, kwargs, place, "running_mean") for place in (1, 3)]:
        return (
            "It keeps no running statistics: give it some (track_running_stats=True, filled by a few batches in "
            "training mode), or use a norm of each image by itself, such as group_norm."
        )
    return "Its forward asks for that itself (training=True): let it pass training=self.training."
