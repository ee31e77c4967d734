"""The audit that a recipe asks for, of the first images that can be read."""

from collections.abc import Callable

from sightline.audit import Randomisation, audit
from sightline.errors import InputError
from sightline.models import model_info
from sightline.runs.source import read
from sightline.runs.work import Worker


def audit_run(worker: Worker, progress: Callable[[int, int, str], None]) -> None:
    """Audit the methods of a run; it lies in `audit` in its folder, and goes on where it was interrupted.

    Raises:
        InputError: the folder is not on this machine, or no image can be read.
    """
    asked, place = worker.recipe.audit, worker.store.place.local
    if asked is None:
        return
    if place is None:
        raise InputError(
            f"An audit writes to a folder of this machine, and {worker.store.place.url} is none. Leave [audit] out, "
            "and run `sightline audit` beside."
        )
    folder = place / "audit"
    if (folder / "audit.json").exists():
        return
    found = read(
        worker.source,
        range(min(asked.images, len(worker.source.names))),
        model_info(worker.network).preprocessing,
        worker.recipe.data.max_pixels,
    )
    if found.batch is None:
        raise InputError(f"None of the first {asked.images} images can be read, so there is nothing to audit.")
    methods = [method for method in worker.recipe.methods if method in worker.store.manifest["shapes"]]
    result = audit(
        worker.network,
        found.batch,
        methods,
        asked.tests,
        randomisation=None if asked.stages is None else Randomisation(stages=asked.stages),
        seed=worker.recipe.seed,
        folder=folder,
        progress=lambda words, done, of: progress(done, of, words),
    )
    result.save(folder)
