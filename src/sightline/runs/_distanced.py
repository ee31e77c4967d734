"""The support networks that a recipe asks for; each is trained by itself, here or by a worker."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from sightline.arrays import PictureStore, labelled_pictures, store_pictures
from sightline.errors import InputError
from sightline.gad import GAD, Alpha, Kind, Stage, Step, fit_networks, merge_fits, steps_of
from sightline.models import model_info
from sightline.options import GADPart
from sightline.runs._work import Worker

FOLDER = "gad"


def fit_run(worker: Worker, progress: Callable[[int, int, str], None]) -> None:
    """Train the support networks; they lie in `gad` in the run's folder, as `sightline gad fit` leaves them.

    Raises:
        InputError: the folder is not on this machine; or see `GAD.fit`.
        RefusalError: see `GAD.fit`.
    """
    asked, folder = _asked(worker), _folder(worker)
    data = _pictures(worker)
    tasks: list[tuple[Kind, Step]] = []
    if worker.recipe.engine.name == "ray":
        from sightline.runs._on_ray import fit_ray

        tasks = [task for task in _tasks(asked) if not _place(folder, *task).exists()]
        fit_ray(worker, tasks, progress)
        for task in _tasks(asked):
            merge_fits(folder, _place(folder, *task))
    gad = distancing(worker, steps_of(asked.alphas), folder)

    def told(stage: Stage) -> None:
        progress(stage.step, stage.steps, f"training {stage.network}")

    # What workers have trained is taken as it is; this also says how far each network moved.
    gad.fit(data, names=asked.labels, controls=asked.controls, progress=told)
    shutil.rmtree(folder / "tasks", ignore_errors=True)


def check_fit(worker: Worker) -> None:
    """Tell mistakes in what is asked, before any work is done.

    Raises:
        InputError: the folder is not on this machine, there are no such pictures; or see `GAD`.
        RefusalError: see `GAD`.
    """
    asked = _asked(worker)
    distancing(worker, steps_of(asked.alphas), _folder(worker))
    labelled_pictures(worker.recipe.folder / asked.images).of(asked.labels)


def fit_one(worker: Worker, kind: Kind, alphas: Step) -> None:
    """Train one network in a folder of its own; an interrupted training goes on there."""
    asked, folder = _asked(worker), _folder(worker)
    place = _place(folder, kind, alphas)
    half = place.with_name(f"{place.name}.half")
    gad = distancing(worker, (alphas,), half)
    fit_networks(gad, _pictures(worker), [kind], asked.labels, batch_size=asked.batch_size)
    half.replace(place)


def distancing(worker: Worker, alphas: Sequence[Alpha], folder: Path) -> GAD:
    """The fit of a recipe, for some distances."""
    asked = _asked(worker)
    whole = folder == _folder(worker)
    return GAD(
        worker.network,
        asked.classes,
        alphas,
        mode=asked.mode,
        # The weights for a distance are the same whatever is made of them.
        strategy=asked.strategy if whole else "trained",
        rate=asked.rate,
        epochs=asked.epochs,
        steps=asked.steps,
        batch_size=asked.batch_size,
        seed=worker.recipe.seed,
        folder=folder,
    )


def _tasks(asked: GADPart) -> list[tuple[Kind, Step]]:
    steps = steps_of(asked.alphas)
    kinds: list[Kind] = ["distanced", "shuffled"] if asked.controls else ["distanced"]
    return [(kind, step) for kind in kinds for step in (steps[-1:] if asked.strategy == "interpolated" else steps)]


def _pictures(worker: Worker) -> PictureStore:
    asked = _asked(worker)
    pictures = labelled_pictures(worker.recipe.folder / asked.images).of(asked.labels)
    part = [row for row, split in enumerate(pictures.training) if split is None or split]
    chosen = (pictures[part] if part else pictures).of(asked.labels)
    return store_pictures(chosen, model_info(worker.network).preprocessing, _folder(worker))


def _asked(worker: Worker) -> GADPart:
    assert worker.recipe.gad is not None  # noqa: S101 - who asks has looked
    return worker.recipe.gad


def _folder(worker: Worker) -> Path:
    place = worker.store.place.local
    if place is None:
        raise InputError(
            f"Support networks are kept in a folder that all machines see, and {worker.store.place.url} is none. Leave "
            "[gad] out, and run `sightline gad fit` beside."
        )
    return place / FOLDER


def _place(folder: Path, kind: Kind, alphas: Step) -> Path:
    return folder / "tasks" / f"{kind}-{alphas[0]:g}-{alphas[1]:g}"
