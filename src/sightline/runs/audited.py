"""The audit that a recipe asks for, of the first images that can be read."""

from collections.abc import Callable

from sightline.audit import Randomisation
from sightline.audit.auditing import Plan
from sightline.errors import InputError
from sightline.models import model_info
from sightline.runs.source import read
from sightline.runs.work import Worker


def plan_of(worker: Worker) -> Plan:
    """The audit of a run, which falls into shares.

    Raises:
        InputError: the folder is not on this machine, or no image can be read.
    """
    asked, place = worker.recipe.audit, worker.store.place.local
    assert asked is not None  # noqa: S101 - who asks has looked
    if place is None:
        raise InputError(
            f"An audit writes to a folder that all machines see, and {worker.store.place.url} is none. Leave [audit] "
            "out, and run `sightline audit` beside."
        )
    found = read(
        worker.source,
        range(min(asked.images, len(worker.source.names))),
        model_info(worker.network).preprocessing,
        worker.recipe.data.max_pixels,
    )
    if found.batch is None:
        raise InputError(f"None of the first {asked.images} images can be read, so there is nothing to audit.")
    return Plan(
        worker.network,
        found.batch,
        [m for m in worker.recipe.methods if any(m in own for own in worker.store.manifest["shapes"].values())],
        asked.tests,
        randomisation=None if asked.stages is None else Randomisation(stages=asked.stages, seed=worker.recipe.seed),
        seed=worker.recipe.seed,
        block=asked.block,
        folder=place / "audit",
    )


def audit_run(worker: Worker, plan: Plan, progress: Callable[[int, int, str], None]) -> None:
    """Audit the methods of a run; it lies in `audit` in its folder, and goes on where it was interrupted."""
    place = worker.store.place.local
    assert place is not None  # noqa: S101 - the plan has looked
    if (place / "audit" / "audit.json").exists():
        # The plan has seen that it is this one.
        return
    if worker.recipe.engine.name == "ray":
        from sightline.runs.on_ray import audit_ray

        audit_ray(worker, plan.shares(worker.recipe.engine.workers), progress)
    for number in range(plan.blocks):
        plan.keep(number, progress=lambda words, done, of: progress(done, of, words))
    plan.found().save(place / "audit")
