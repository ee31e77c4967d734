"""The engine of a cluster: Ray Data hands chunks to actors that hold the model.

A chunk is a block of its own, so that a worker that dies costs one chunk, which another worker does again. While one
chunk is computed, the actor reads the next one and writes the last one.
"""

import logging
import os
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline._common.memory import ran_out
from sightline.errors import InputError, SightlineError, install
from sightline.gad import Kind, Step
from sightline.runs._audited import audits_of
from sightline.runs._distanced import fit_one
from sightline.runs._identity import differences, identity_now
from sightline.runs._recipe import Recipe
from sightline.runs._source import open_source
from sightline.runs._store import Store
from sightline.runs._work import Worker, threads

AT_ONCE = 2
"""Chunks that an actor has in hand: one is computed, another is read or written."""
TRIES = 3
"""How often something is begun: what kills every worker that takes it would be tried for ever."""


def run_ray(worker: Worker, missing: Sequence[tuple[int, str]], done: Callable[[], None]) -> None:
    """Work through what is missing, on as many actors as the recipe says.

    Args:
        worker: whose recipe is carried out.
        missing: chunks and tasks.
        done: called after each that is written.

    Raises:
        InputError: Ray is missing, or a worker sees another model or other images.
        OSError: results could not be written.
    """
    _spread(worker, Actor, [{"number": number, "tag": tag} for number, tag in missing], lambda _: done())


def audit_ray(
    worker: Worker, shares: Sequence[tuple[int, int, int, int]], progress: Callable[[int, int, str], None]
) -> None:
    """See to an audit, on as many actors.

    Args:
        worker: whose recipe is carried out.
        shares: the number of an audit, and one of its `Plan.shares`.
        progress: called after each with how many are done.

    Raises:
        InputError: see `run_ray`.
        OSError: see `run_ray`.
    """
    rows = [dict(zip(("audit", "number", "share", "of"), one, strict=True)) for one in shares]
    _spread(worker, Auditor, rows, lambda done: progress(done, len(rows), "auditing"))


def fit_ray(worker: Worker, tasks: Sequence[tuple[Kind, Step]], progress: Callable[[int, int, str], None]) -> None:
    """Train support networks, each by one actor.

    Raises:
        InputError: see `run_ray`.
        OSError: see `run_ray`.
    """
    rows = [{"kind": kind, "first": alphas[0], "second": alphas[1]} for kind, alphas in tasks]
    if rows:
        _spread(worker, Fitter, rows, lambda done: progress(done, len(rows), "training support networks"))


def _spread(worker: Worker, kind: type, rows: Sequence[dict[str, Any]], done: Callable[[int], None]) -> None:
    """Have each row seen to by an actor of a kind; `done` is told after each how many are."""
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError as error:
        raise InputError(f"The engine `ray` needs: {install('ray')}.") from error
    engine = worker.recipe.engine
    started = not ray.is_initialized()
    if started:
        _start(ray, worker.recipe)
    context = DataContext.get_current()
    # The command tells errors and draws bars.
    context.enable_progress_bars, context.log_internal_stack_trace_to_stdout = False, False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        results = ray.data.from_items(list(rows), override_num_blocks=len(rows)).map_batches(
            kind,
            fn_constructor_args=(
                worker.recipe.record(), str(worker.recipe.folder), worker.store.place.url,
                ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Tries).remote(),
            ),
            batch_size=1,
            compute=ActorPoolStrategy(
                size=min(engine.workers, len(rows)), max_tasks_in_flight_per_actor=AT_ONCE,
                max_concurrent_calls_per_actor=AT_ONCE, enable_true_multi_threading=True,
            ),
            num_cpus=engine.threads,
            num_gpus=engine.gpus or None,
        )  # fmt: skip
        for count, told in enumerate(results.iter_batches(batch_size=1, prefetch_batches=0), 1):
            # Ray makes another kind of nothing of None.
            if isinstance(wrong := told["wrong"][0], Exception):
                raise wrong
            worker.store.place.sign()
            done(count)
    except ray.exceptions.RayError as error:
        raise _cause(error) from error
    finally:
        if started:
            ray.shutdown()


class Tries:
    """Counts how often each thing was begun, in a process of its own; on a machine that is lost it begins anew."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, what: str) -> int:
        """The how many-th time it is."""
        self._begun[what] += 1
        return self._begun[what]


class Actor:
    """A worker in a process of its own.

    Args:
        recipe: what `Recipe.record` gives.
        folder: the recipe's.
        url: where the results go.
        tries: handle of a `Tries`.
    """

    def __init__(self, recipe: dict[str, Any], folder: str, url: str, tries: Any) -> None:
        self._tries = tries
        read = Recipe.of(recipe, Path(folder))
        store = Store(url)
        network = read.network()
        source = open_source(read.data, read.folder)
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        other = differences(store.manifest["identity"], identity_now(read, network, source, device))
        if other:
            raise InputError(
                f"A worker finds something else than this process does: {', '.join(other)}. Put model and images where "
                "all machines see the same ones, and name the device in the recipe."
            )
        self._threads = int(store.manifest["identity"]["threads"])
        self._worker = Worker(read, network, source, store)
        self._computing = threading.Lock()

    def begin(self, key: str, what: str) -> None:
        """Count a try.

        Args:
            key: what tells the thing from others.
            what: the thing in words.

        Raises:
            InputError: it is one too many.
        """
        import ray

        if ray.get(self._tries.begin.remote(key)) > TRIES:
            raise InputError(
                f"{TRIES} workers died while they had {what} in hand. Memory may be too short for so many workers, or "
                "something there ends the process. What is done is kept; mend that, and the same command goes on."
            )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """See to one thing. What goes wrong is handed back, since Ray would hand on its words alone."""
        wrong: Exception | None = None
        try:
            self.do({name: values[0] for name, values in batch.items()})
        except (SightlineError, OSError) as error:
            wrong = error
        except Exception as error:  # noqa: BLE001 - who reads of it wants to know where
            words = f"{type(error).__name__}: {error}"
            wrong = RuntimeError(f"A worker failed. {words if ran_out(error) else traceback.format_exc()}")
        return {"wrong": np.array([wrong], dtype=object)}

    def do(self, row: dict[str, Any]) -> None:
        """Do one chunk."""
        number, tag = int(row["number"]), str(row["tag"])
        rows = self._worker.store.chunk(number)
        self.begin(f"{number}.{tag}", f"the images {rows.start} to {rows.stop - 1}")
        images = self._worker.read(number)
        with self._computing:
            # A thread that Ray started computes with as many threads as it was told, not as the process was.
            torch.set_num_threads(self._threads)
            made = self._worker.work(number, tag, images)
        self._worker.write(made)


class Auditor(Actor):
    """A worker that sees to shares of the audit."""

    def __init__(self, recipe: dict[str, Any], folder: str, url: str, tries: Any) -> None:
        super().__init__(recipe, folder, url, tries)
        with threads(self._threads):
            self._audits = audits_of(self._worker)

    def do(self, row: dict[str, Any]) -> None:
        """Do one share."""
        number, share, of = (int(row[name]) for name in ("number", "share", "of"))
        plan = self._audits[int(row["audit"])].plan
        self.begin(f"{row['audit']}.{number}.{share}", f"share {share + 1} of {of} of block {number + 1} of the audit")
        with self._computing:
            torch.set_num_threads(self._threads)
            plan.keep(number, share, of)


class Fitter(Actor):
    """A worker that trains support networks."""

    def do(self, row: dict[str, Any]) -> None:
        """Train one."""
        alphas = float(row["first"]), float(row["second"])
        kind: Kind = "shuffled" if row["kind"] == "shuffled" else "distanced"
        self.begin(f"{kind}.{alphas}", f"the {kind} support network of {alphas[0]:g} and {alphas[1]:g}")
        with self._computing:
            torch.set_num_threads(self._threads)
            fit_one(self._worker, kind, alphas)


def _start(ray: Any, recipe: Recipe) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray warns of how its own library starts actors.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    engine = recipe.engine
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if engine.address is None:
        # On one machine the recipe's word counts, also where it asks for more than there is.
        cores = max(os.cpu_count() or 1, engine.workers * engine.threads)
        settings |= {"num_cpus": cores, "include_dashboard": False}
    try:
        ray.init(address=engine.address, **settings)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        where = f" at {engine.address}" if engine.address else ""
        raise InputError(
            f"Ray cannot be reached{where} ({' '.join(str(error).split())[:200]}). Start a cluster (`ray start "
            "--head`) and name it as address = ... in [engine], or leave address out."
        ) from error


def _cause(error: BaseException) -> BaseException:
    """What went wrong in a worker, without Ray's wrapping."""
    seen: BaseException | None = error
    while seen is not None:
        inner = getattr(seen, "cause", None) or seen.__cause__
        if isinstance(seen, InputError) or (isinstance(seen, OSError) and seen.errno is not None):
            return seen
        seen = inner
    return InputError(f"A worker failed: {' '.join(str(error).split())[-400:]}")
