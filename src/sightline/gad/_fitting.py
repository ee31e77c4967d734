"""Fitting: the support networks of a fit are trained and looked at, one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name torch's own documentation gives it)

from sightline._common.seeds import seed_of
from sightline._common.torch_private import BatchNormBase, DropoutBase
from sightline.errors import InputError
from sightline.gad import _record as record
from sightline.gad._fit import Fit
from sightline.gad._networks import Kind
from sightline.gad._samples import Labels, Samples, samples_of
from sightline.gad._survey import Outputs, agreement, check_outputs, doubts, moved, survey, watch
from sightline.gad._targets import Step, distanced, shuffled, told
from sightline.gad._training import Checkpoints, Stage, Task, train
from sightline.models import model_info

LOOKED_AT = 1024
"""Training images on which the report looks."""
_CHECKPOINT = "training.safetensors"
_OF_A_BATCH = (BatchNormBase, DropoutBase)


def fit_networks(
    fit: Fit,
    data: object,
    kinds: Sequence[Kind],
    names: Labels = None,
    *,
    batch_size: int | None = None,
    every: int | None = None,
    progress: Callable[[Stage], None] | None = None,
) -> None:
    """Train support networks of some kinds and report how far they moved; see `GAD.fit`.

    Args:
        fit: the original network and the distances.
        data: labelled images; see `GAD.fit`.
        kinds: of the networks.
        names: see `GAD.fit`.
        batch_size: images of a step; by default what the data says, or else what the fit says.
        every: steps between two checkpoints; by default an epoch.
        progress: called after each step.
    """
    with torch.inference_mode(mode=False):
        if any(module.training for module in fit.model.modules() if isinstance(module, _OF_A_BATCH)):
            raise InputError(
                "The model is in training mode, where its maps would explain an accident of the batch. Call "
                "model.eval() first; how the copies are trained is said by mode=."
            )
        samples = samples_of(data, fit.classes, names, model_info(fit.model).class_names)
        if batch_size is None and samples.batch_size is not None:
            fit.training = replace(fit.training, batch_size=samples.batch_size)
        training = fit.training
        original = survey(fit.model, samples, fit.classes, training.batch_size, autocast=training.autocast)
        check_outputs(fit.model, samples, original, fit.classes)
        fit.begin(original.content, names)
        fit.record["doubts"] = doubts(original, fit.classes, fit.titles)
        labels = {kind: _labels(kind, original, training.seed) for kind in kinds}
        for kind in kinds:
            for alphas in fit.networks.trained:
                if not fit.networks.has(alphas, kind):
                    _train(fit, samples, original._replace(labels=labels[kind]), kind, alphas, every, progress)
        rows = [row for kind in kinds for row in _rows(fit, samples, original, labels[kind], kind)]
        fit.record["report"] = rows
        record.write(fit.folder, fit.record)
        fit.set_report(rows)


def _labels(kind: Kind, original: Outputs, seed: int) -> Tensor:
    return shuffled(original.labels, seed_of(seed, "shuffled labels")) if kind == "shuffled" else original.labels


def _train(
    fit: Fit,
    samples: Samples,
    original: Outputs,
    kind: Kind,
    alphas: Step,
    every: int | None,
    progress: Callable[[Stage], None] | None,
) -> None:
    """Train one support network and keep its weights.

    Args:
        fit: the fit.
        samples: the images.
        original: the original's outputs, with the labels that this kind is trained by.
        kind: of the network.
        alphas: its distance.
        every: steps between two checkpoints.
        progress: called after each step.
    """
    network, training = fit.networks.scratch(), fit.training
    name = f"{kind} network, alpha {told(alphas)}"
    if kind == "tuned":
        task = Task(name, samples, original.numbers, original.labels, F.cross_entropy)
        # In another order for each distance, which does not tell these networks apart otherwise.
        training = replace(training, seed=seed_of(training.seed, name))
    else:
        targets = distanced(original.logits, original.labels, fit.classes, alphas)
        task = Task(name, samples, original.numbers, targets)
    checkpoints = Checkpoints(fit.folder / _CHECKPOINT, fit.record["identity"], every)
    done = train(
        network, task, training, checkpoints, shift=watch(original, original.labels, fit.classes), progress=progress
    )
    file = fit.networks.file(alphas, kind)
    fit.record["trained"][file.name] = {"steps": done.steps, "last loss": done.loss, "seconds": done.seconds}
    fit.networks.keep(network, alphas, kind)
    record.write(fit.folder, fit.record)
    checkpoints.file.unlink(missing_ok=True)


def _rows(fit: Fit, samples: Samples, original: Outputs, labels: Tensor, kind: Kind) -> list[dict[str, Any]]:
    """The report's rows for the networks of a kind."""
    # Enough to tell how far a network moved, at a cost that does not count beside the training.
    part = torch.linspace(0, len(original.numbers) - 1, min(LOOKED_AT, len(original.numbers))).round().long()
    before = original._replace(numbers=original.numbers[part], labels=labels[part], logits=original.logits[part])
    rows: list[dict[str, Any]] = []
    for alphas, support in fit.networks.each(kind):
        after = survey(
            support, samples, fit.classes, fit.training.batch_size,
            among=before.numbers.tolist(), autocast=fit.training.autocast,
        )  # fmt: skip
        known = fit.record["trained"].get(fit.networks.file(alphas, kind).name, {})
        rows.append(
            {"kind": kind, "alpha": told(alphas), "alpha 1": alphas[0], "alpha 2": alphas[1]}
            | {"steps": known.get("steps", 0), "seconds": known.get("seconds", 0.0)}
            | {"label agreement": agreement(original, fit.classes)}
            | moved(before, after, fit.classes, alphas)
        )
    return rows
