"""`run`: from a recipe to maps of a whole data set; what is done is not done again."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from sightline.errors import InputError, RefusalError, SightlineError
from sightline.explain import explain_each
from sightline.explanation import Explanation, versions
from sightline.memory import allowance
from sightline.models import model_info
from sightline.models.fingerprint import fingerprint
from sightline.runs.audited import audit_run
from sightline.runs.distanced import fit_run
from sightline.runs.local import run_local
from sightline.runs.opened import Run, open_run
from sightline.runs.recipe import Recipe, read_recipe, target_of
from sightline.runs.source import Files, Rows, identity_of, open_source, read
from sightline.runs.store import FORMAT, Store, tag_of
from sightline.runs.work import Worker, stored, threads

Progress = Callable[[int, int, str], None]
_TRIED = 100
"""Images that are tried until one can be explained."""
# What may differ between two sittings of a run.
_FREE = {"memory", "threads"}


def run(recipe: Recipe | str | Path, *, progress: Progress | None = None) -> Run:
    """Explain a whole data set, or go on where an earlier sitting ended.

    Args:
        recipe: a recipe, or its file.
        progress: called with images done, images in all, and what is being done.

    Returns:
        The results.

    Raises:
        InputError: the recipe cannot be carried out; the folder holds another run, is written by another process, or is
            full.
        RefusalError: no method can be right on this model.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    store = Store(folder_of(recipe))
    tell = progress or _silent
    with store.place.alone():
        store.place.sweep()
        worker = prepare(recipe, store)
        tasks, total = store.tasks, store.chunks
        missing = store.missing()
        done = len(tasks) * total - len(missing)
        images = len(worker.source.names)
        tell(done * images // max(len(tasks) * total, 1), images, "explaining")

        def told() -> None:
            nonlocal done
            done += 1
            tell(done * images // (len(tasks) * total), images, "explaining")

        try:
            if recipe.engine.name == "ray" and missing:
                from sightline.runs.on_ray import run_ray

                run_ray(worker, missing, told)
            else:
                with threads(store.manifest["identity"]["threads"]):
                    run_local(worker, missing, told)
            if recipe.audit is not None:
                audit_run(worker, tell)
            if recipe.gad is not None:
                fit_run(worker, tell)
        except OSError as error:
            raise stopped(error, store, done, len(tasks) * total) from error
    return open_run(store.place.url)


def _silent(done: int, of: int, what: str) -> None:
    del done, of, what


def stopped(error: OSError, store: Store, done: int, total: int) -> InputError:
    """What to say when the system refuses to write."""
    why = "There is no room left" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "The system refused to write"
    return InputError(
        f"{why} in {store.place.url} ({error.strerror or error}). {done} of {total} chunks are done and kept; mend "
        "that, and the same command goes on from there."
    )


def folder_of(recipe: Recipe) -> str:
    """Where a recipe's results go."""
    named = recipe.output.folder
    return named if "://" in named else str(recipe.folder / named)


def prepare(recipe: Recipe, store: Store) -> Worker:
    """Load model and images, and begin or take up the run.

    Raises:
        InputError: the folder holds another run.
    """
    network = recipe.model.load(recipe.folder)
    source = open_source(recipe.data, recipe.folder)
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    identity = _identity(recipe, network, source, device)
    known = store.manifest
    if known:
        _check(known["identity"], identity, store)
        identity |= {name: known["identity"][name] for name in _FREE}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "identity": identity,
        "count": len(source.names),
        "recipe": recipe.model_dump(mode="json"),
        "methods": dict(known.get("methods", {})),
        "shapes": dict(known.get("shapes", {})),
        "refused": dict(known.get("refused", {})),
        "class_names": list(model_info(network).class_names or ()),
        "skipped": [list(one) for one in source.skipped],
        "tasks": dict(known.get("tasks", {})),
    }
    asked = {(target, method) for pairs in manifest["tasks"].values() for target, own in pairs for method in own}
    new = [
        (target, methods)
        for target in map(str, recipe.targets)
        if (methods := [method for method in recipe.methods if (target, method) not in asked])
    ]
    if new:
        found = probe(recipe, network, source, identity["memory"])
        _describe(manifest, found, recipe)
        store.__dict__["manifest"] = manifest
        for target, methods in new:
            for method in methods:
                if method in manifest["shapes"]:
                    store.create(target, method, manifest["shapes"][method], manifest["methods"][method])
        manifest["tasks"][tag_of(new)] = [[target, methods] for target, methods in new]
        table = pd.DataFrame({"name": list(source.names), "label": pd.Series(list(source.labels), dtype=object)})
        store.write_images(table)
    store.write_manifest(manifest)
    return Worker(recipe, network, source, store)


def probe(recipe: Recipe, network: nn.Module, source: Files | Rows, memory: int) -> list[Explanation]:
    """Explain the first image that can be explained, for each target.

    Raises:
        InputError: none of the first images can be read, or a target is not the model's.
        RefusalError: no method can be right on this model.
    """
    preprocessing = model_info(network).preprocessing
    failed: SightlineError | None = None
    for number in range(min(_TRIED, len(source.names))):
        images = read(source, [number], preprocessing, recipe.data.max_pixels)
        if images.batch is None:
            failed = failed or InputError(f"{source.names[number]}: {images.failures[0][1]}.")
            continue
        try:
            return explain_each(
                network, images.batch, list(recipe.methods), [target_of(str(t), 1) for t in recipe.targets],
                seed=recipe.seed, memory=memory, on_refusal="record",
            )  # fmt: skip
        except RefusalError as error:
            failed = error
    assert failed is not None  # noqa: S101 - a source has at least one image
    raise failed


def _describe(manifest: dict[str, Any], found: Sequence[Explanation], recipe: Recipe) -> None:
    """Shapes and refusals of methods that are new, and what all are; definitions that changed are refused."""
    for method in recipe.methods:
        told = found[0].manifest()["methods"][method]
        own = {key: told[key] for key in ("formula", "source", "reduction", "sampling", "propagation", "aggregation")}
        if manifest["methods"].setdefault(method, own) != own:
            raise InputError(f"{method} was defined otherwise when this run began. Take another folder.")
        if method in found[0].refused:
            manifest["refused"].setdefault(method, found[0].refused[method])
        elif method not in manifest["shapes"]:
            manifest["shapes"][method] = list(stored(found[0], method, recipe.output)[0].shape[1:])


def _identity(recipe: Recipe, network: nn.Module, source: Files | Rows, device: torch.device) -> dict[str, Any]:
    """What must be the same for maps to belong together."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "model": fingerprint(network),
        "preprocessing": {key: str(value) for key, value in asdict(model_info(network).preprocessing).items()},
        "images": identity_of(source),
        "seed": recipe.seed,
        "precision": recipe.output.precision,
        "side": recipe.output.side,
        "channels": recipe.output.channels,
        "chunk": recipe.output.chunk,
        "device": name,
        "versions": {name: version for name, version in versions().items() if name != "python"},
        "memory": allowance(device),
        "threads": torch.get_num_threads(),
    }


def _check(before: dict[str, Any], now: dict[str, Any], store: Store) -> None:
    changed = [key for key in now if key not in _FREE and before.get(key) != now[key]]
    if changed:
        said = ", ".join(
            f"{key} ({before.get(key)}, now {now[key]})" if isinstance(now[key], str | int | None) else key
            for key in changed
        )
        raise InputError(
            f"{store.place.url} holds a run of something else: {said}. Maps of both would not belong together. Take "
            "another folder, or the recipe that the run began with."
        )
