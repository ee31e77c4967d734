"""The audits that a recipe asks for, of the first images that can be read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sightline.auditing import AuditOptions, Plan, Randomisation, groups_of, is_saved
from sightline.errors import InputError
from sightline.models import model_info
from sightline.runs._source import read
from sightline.runs._work import Worker


class Audited(NamedTuple):
    """An audit of some methods of a run.

    Attributes:
        folder: where it lies.
        plan: what is to be done.
    """

    folder: Path
    plan: Plan


def audits_of(worker: Worker) -> list[Audited]:
    """The audits of a run: one of the methods that it began with, and one of each that were added together.

    Raises:
        InputError: the folder is not on this machine, or holds other audits, or no image can be read.
    """
    asked, place = worker.recipe.audit, worker.store.place.local
    if asked is None:
        return []
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
    shapes = worker.store.manifest["shapes"]
    known: set[str] = set()
    audits = []
    for tag, pairs in worker.store.tasks.items():
        own = {method for target, methods in pairs for method in methods if method in shapes.get(target, {})} - known
        if own:
            folder = place / (f"audit-{tag}" if known else "audit")
            options = AuditOptions(
                worker.recipe.methods_of(
                    list(dict.fromkeys(method for _, methods in pairs for method in methods if method in own))
                ),
                worker.recipe.tests(),
                randomisation=Randomisation(stages=asked.stages, seed=worker.recipe.seed, networks=asked.networks),
                groups=groups_of(found.batch, asked.groups) if asked.groups else None,
                seed=worker.recipe.seed,
                block=asked.block,
                folder=folder,
            )
            plan = Plan(worker.network, found.batch, options)
            audits.append(Audited(folder, plan))
            known |= own
    return audits


def audit_run(worker: Worker, audits: Sequence[Audited], progress: Callable[[int, int, str], None]) -> None:
    """Audit the methods of a run, from where it was interrupted."""
    # The plan has seen that what is there is this audit.
    left = [number for number, one in enumerate(audits) if not (is_saved(one.folder) and one.plan.kept)]
    if left and worker.recipe.engine.name == "ray":
        from sightline.runs._on_ray import audit_ray

        workers = worker.recipe.engine.workers
        audit_ray(worker, [(i, *share) for i in left for share in audits[i].plan.shares(workers)], progress)
    for number in left:
        folder, plan = audits[number]
        for block in range(plan.blocks):
            plan.keep(block, progress=lambda words, done, of: progress(done, of, words))
        plan.found().save(folder)
