"""`run`: from a recipe to maps of a whole data set; what is done is not done again."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from sightline._common.checksums import checksum
from sightline._common.memory import ran_out, says_short
from sightline.errors import InputError, SightlineError
from sightline.explaining import Explanation, explain
from sightline.models import model_info
from sightline.runs._audited import audit_run, audits_of
from sightline.runs._distanced import check_fit, fit_run
from sightline.runs._identity import FREE, differences, identity_now
from sightline.runs._local import run_local
from sightline.runs._opened import Run, open_run
from sightline.runs._recipe import Recipe, read_recipe
from sightline.runs._source import Files, Rows, contents_of, open_source, read
from sightline.runs._store import FORMAT, Store, tag_of
from sightline.runs._work import LEAST, Worker, stored, threads

Progress = Callable[[int, int, str], None]
_READ, _TRIED, _JUDGED = 100, 3, 8
"""How many images are read until one can be, tried until one is explained, and looked at for their range of values."""
_DEFINING = ("formula", "source", "reduction", "sampling", "propagation", "aggregation")


def run(
    recipe: Recipe | str | Path, *, progress: Progress | None = None, warn: Callable[[str], None] | None = None
) -> Run:
    """Explain a whole data set, or go on where an earlier sitting ended.

    Args:
        recipe: a recipe, or its file.
        progress: called with images done, images in all, and what is being done.
        warn: called with each sentence that must be known of the images before they are explained.

    Returns:
        The results.

    Raises:
        InputError: the recipe cannot be carried out; the folder holds another run, is written by another process, or is
            full; or memory ran out.
        RefusalError: no method can be right on this model.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    store = Store(folder_of(recipe))
    tell = progress or _silent
    with store.place.alone():
        done = total = images = 0

        def told() -> None:
            nonlocal done
            done += 1
            tell(done * images // total, images, "explaining")

        try:
            worker = prepare(recipe, store)
            if warn is not None:
                for sentence in store.manifest["warnings"]:
                    warn(sentence)
            # From here on the folder is known to be this run's.
            store.place.sweep()
            # Mistakes in what comes last are told first.
            if recipe.gad is not None:
                check_fit(worker)
            with threads(store.manifest["identity"]["threads"]):
                audits = audits_of(worker)
            tell(0, len(worker.source.names), "checking what is there")
            missing = store.unsound(recipe.engine.readers)
            total, images = len(store.tasks) * store.chunks, len(worker.source.names)
            done = total - len(missing)
            tell(done * images // max(total, 1), images, "explaining")
            if recipe.engine.name == "ray" and missing:
                from sightline.runs._on_ray import run_ray

                run_ray(worker, missing, told)
            else:
                with threads(store.manifest["identity"]["threads"]):
                    run_local(worker, missing, told)
            with threads(store.manifest["identity"]["threads"]):
                audit_run(worker, audits, tell)
                if recipe.gad is not None:
                    fit_run(worker, tell)
            return open_run(store.place.url)
        except OSError as error:
            raise stopped(error, store, done, total) from error
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            raise InputError(
                f"Memory ran out ({' '.join(str(error).split())[:200] or 'no more is said'}). {done} of {total} chunks "
                "are done and kept; with more memory the same command goes on from there."
            ) from error


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
    network = recipe.network()
    source = open_source(recipe.data, recipe.folder)
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    contents = contents_of(source, recipe.engine.readers)
    identity = identity_now(recipe, network, source, device) | {"content": checksum(*contents)}
    known = store.manifest
    if known:
        _check(known["identity"], identity, store, source.names, contents)
        identity |= {name: known["identity"][name] for name in FREE}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "identity": identity,
        "count": len(source.names),
        "recipe": recipe.record(),
        # How a report finds the pictures again, and shows maps and scores.
        "recipe_folder": str(recipe.folder.resolve()),
        "preprocessing": asdict(model_info(network).preprocessing),
        "output": known.get("output"),
        "placements": dict(known.get("placements", {})),
        "methods": dict(known.get("methods", {})),
        "shapes": dict(known.get("shapes", {})),
        "refused": dict(known.get("refused", {})),
        "class_names": list(model_info(network).class_names or ()),
        "skipped": [list(one) for one in source.skipped],
        "ignored": source.ignored,
        "warnings": read(
            source, range(min(_JUDGED, len(source.names))), model_info(network).preprocessing, recipe.data.max_pixels
        ).warnings,
        "tasks": dict(known.get("tasks", {})),
    }
    asked = {(target, method) for pairs in manifest["tasks"].values() for target, own in pairs for method in own}
    chosen = recipe.chosen()
    new = [
        (target, methods)
        for target in map(str, recipe.targets)
        if (methods := [method for method in chosen if (target, method) not in asked])
    ]
    if new:
        found, enough = probe(recipe, network, source, identity["memory"])
        if not known:
            identity["memory"] = enough
        _describe(manifest, found, recipe, {(t, m) for t, methods in new for m in methods})
        manifest["tasks"][tag_of(new)] = [[target, methods] for target, methods in new]
    store.manifest = manifest
    store.create()
    labels = pd.Series(list(source.labels), dtype=object)
    store.write_images(pd.DataFrame({"name": list(source.names), "label": labels, "content": contents}))
    store.write_manifest()
    return Worker(recipe, network, source, store)


def probe(recipe: Recipe, network: nn.Module, source: Files | Rows, memory: int) -> tuple[list[Explanation], int]:
    """Explain the first image that can be explained, for each target; and with how much memory a pass can be made.

    Raises:
        InputError: none of the first images can be read, or a target is not the model's.
        RefusalError: no method can be right on this model.
    """
    preprocessing = model_info(network).preprocessing
    failed: Exception | None = None
    tried = 0
    for number in range(min(_READ, len(source.names))):
        images = read(source, [number], preprocessing, recipe.data.max_pixels)
        if images.batch is None:
            failed = failed or InputError(f"{source.names[number]}: {images.failures[0][1]}.")
            continue
        targets = list(map(str, recipe.targets))
        # Another image may need less than one that fails.
        allowed = memory
        while True:
            found: list[Explanation] = []
            wrong: Exception | None = None
            try:
                found = explain(
                    network, images.batch, list(recipe.chosen().values()), targets=targets,
                    seed=recipe.seed, memory=allowed, on_refusal="record",
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001 - what fails on one image may be right on the next
                wrong = error
            short = next((why for one in found for why in one.refused.values() if says_short(why)), "")
            if not (short or ran_out(wrong)) or allowed <= LEAST:
                break
            # An image may take many rows, of which fewer are then computed at a time.
            allowed //= 4
        if wrong is None and short:
            raise InputError(f"Memory is too short to explain one image: {short}")
        if wrong is None:
            return found, allowed
        failed, tried = wrong if tried == 0 else failed, tried + 1
        if tried == _TRIED:
            break
    assert failed is not None  # noqa: S101 - a source has at least one image
    if isinstance(failed, SightlineError):
        raise failed
    raise InputError(f"None of the first images could be explained: {type(failed).__name__}: {failed}") from failed


def _describe(
    manifest: dict[str, Any], found: Sequence[Explanation], recipe: Recipe, new: set[tuple[str, str]]
) -> None:
    """Enter shapes and refusals of what is new, by target, and how it is read. Changed definitions are refused."""
    for target, one in zip(map(str, recipe.targets), found, strict=True):
        manifest["output"] = asdict(one.output)
        manifest["placements"] |= {method: place.record() for method, place in one.placements.items()}
        told = one.manifest()["methods"]
        for method in recipe.chosen():
            own = {key: told[method][key] for key in _DEFINING}
            if manifest["methods"].setdefault(method, own) != own:
                raise InputError(f"{method} was defined otherwise when this run began. Take another folder.")
            if (target, method) not in new:
                continue
            if method in one.refused:
                manifest["refused"].setdefault(target, {})[method] = one.refused[method]
            else:
                shape = list(stored(one, method, recipe.output)[0].shape[1:])
                manifest["shapes"].setdefault(target, {})[method] = shape


def _check(
    before: dict[str, Any], now: dict[str, Any], store: Store, names: Sequence[str], contents: Sequence[str]
) -> None:
    changed = differences(before, now)
    if changed == ["content"]:
        raise InputError(
            f"{store.place.url} holds a run of other images: {_replaced(store, names, contents)}. Maps of both would "
            "not belong together. Take another folder, or the images that the run began with."
        )
    if changed:
        said = ", ".join(
            f"{key} ({before.get(key)}, now {now[key]})" if isinstance(now[key], str | int | None) else key
            for key in changed
            if key != "content"
        )
        raise InputError(
            f"{store.place.url} holds a run of something else: {said}. Maps of both would not belong together. Take "
            "another folder, or the recipe that the run began with."
        )


def _replaced(store: Store, names: Sequence[str], contents: Sequence[str]) -> str:
    """Which pictures are not those of the run, in words."""
    try:
        known = store.images()["content"].tolist()
    except InputError:
        known = []
    if len(known) != len(names):
        return "some have another content under the same name"
    other = [name for name, then, now in zip(names, known, contents, strict=True) if then != now]
    return f"{len(other)} of {len(names)} have another content under the same name, first {other[0]}"
