"""Training: one support network, from the original's weights to its targets, resumable at every checkpoint."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name torch's own documentation gives it)

from sightline._common.seeds import seed_of
from sightline._common.torch_private import BatchNormBase
from sightline.errors import RefusalError
from sightline.gad._samples import Samples
from sightline.gad._settings import Mode, Training
from sightline.gad._weights import read, write
from sightline.models import class_scores, home_of
from sightline.operations import steady_unseen


@dataclass(frozen=True)
class Task:
    """What one network is trained to say.

    Attributes:
        name: of the network, from which its randomness is derived.
        samples: the images.
        numbers: shape (image,): which of the samples are used.
        targets: for each of them, what `loss` compares with the network's output.
        loss: from outputs and targets to one number; by default the mean squared error.
        decay: Adam's weight decay.
        augment: what is done to the images of a step, from the images and the number of the step.
    """

    name: str
    samples: Samples
    numbers: Tensor
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss
    decay: float = 0.0
    augment: Callable[[Tensor, int], Tensor] | None = None


class Checkpoints(NamedTuple):
    """Where the state of a training is kept, to go on from.

    Attributes:
        file: the file.
        belongs: a name for the fit that it belongs to; a checkpoint of another fit is ignored.
        every: steps between two checkpoints; by default an epoch.
    """

    file: Path
    belongs: str = ""
    every: int | None = None


class Stage(NamedTuple):
    """Where a fit stands.

    Attributes:
        network: which network is trained, in words.
        step: optimiser steps done.
        steps: optimiser steps in all.
        loss: mean squared error of the last step.
        shift: on its images of the first and of the second class, by how much the other's logit has fallen; NaN where
            it had none.
    """

    network: str
    step: int
    steps: int
    loss: float
    shift: tuple[float, float]


class Trained(NamedTuple):
    """A training that ended: its steps, the error of the last epoch, and its seconds."""

    steps: int
    loss: float
    seconds: float


def train(
    network: nn.Module,
    task: Task,
    training: Training,
    checkpoints: Checkpoints | None = None,
    *,
    shift: Callable[[Tensor, Tensor], tuple[float, float]] | None = None,
    progress: Callable[[Stage], None] | None = None,
) -> Trained:
    """Train a network in place by Adam, to give the targets of a task.

    Mazini Rodrigues et al. 2024, arXiv 2401.14434, sections 4.2 and 6.

    Args:
        network: starts with the original's weights, unless the checkpoint has others.
        task: what it is trained to say.
        training: how.
        checkpoints: where the state of training is kept; by default nowhere.
        shift: for the rows of a step and the network's output for them, how far both classes have moved.
        progress: called after each step.

    Raises:
        RefusalError: the error is not finite; the last good checkpoint stays.
    """
    numbers, samples = task.numbers, task.samples
    checkpoint = None if checkpoints is None else checkpoints.file
    owner = f"{'' if checkpoints is None else checkpoints.belongs} {task.name}"
    parameters = [p for p in network.parameters() if p.is_floating_point()]
    for parameter in parameters:
        parameter.requires_grad_()
    optimiser = torch.optim.Adam(parameters, lr=training.rate, weight_decay=task.decay)
    device = parameters[0].device
    parts = _parts(len(numbers), training.batch_size)
    total = training.steps if training.steps is not None else training.epochs * len(parts)
    every = (checkpoints and checkpoints.every) or len(parts)
    done, losses, before = 0, 0.0, 0.0
    if checkpoint is not None and checkpoint.is_file():
        done, losses, before = _restore(checkpoint, network, optimiser, owner)
    started = time.perf_counter()

    def save() -> None:
        # Weights that are not finite are not saved: the checkpoint before is the last good one.
        if checkpoint is not None and all(bool(p.isfinite().all()) for p in parameters):
            state = {"step": done, "losses": losses, "seconds": before + time.perf_counter() - started}
            _keep(checkpoint, network, optimiser, owner, state)

    with _training(network, training.mode), _own_generators(device):
        while done < total:
            epoch, within = divmod(done, len(parts))
            losses = losses if within else 0.0
            order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed_of(training.seed, epoch)))
            chosen = [order[part.start : part.stop] for part in parts[within : within + total - done]]
            for rows, (images, _) in zip(chosen, samples.batches([numbers[r].tolist() for r in chosen]), strict=True):
                if training.mode == "train":
                    reseed(seed_of(training.seed, task.name, done), device)
                wanted = task.targets[rows].to(device)
                like = wanted.dtype if wanted.is_floating_point() else torch.float32
                images = _on(images, network)
                if task.augment is not None:
                    images = task.augment(images, done)
                with torch.autocast(device.type, torch.bfloat16) if training.autocast else nullcontext():
                    outputs = class_scores(network(images), len(rows))
                error = task.loss(outputs.to(like), wanted)
                value = float(error.detach())
                if not math.isfinite(value):
                    raise RefusalError(_diverged(task.name, done, checkpoint, training))
                optimiser.zero_grad()
                steady_unseen(error, set())
                error.backward()
                optimiser.step()
                done, losses = done + 1, losses + value
                if progress is not None:
                    moved = (math.nan, math.nan) if shift is None else shift(rows, outputs.detach())
                    progress(Stage(task.name, done, total, value, moved))
                if done % every == 0 and done < total:
                    save()
    # The last step may have diverged, which only the outputs after it tell.
    few = numbers[: training.batch_size].tolist()
    with torch.no_grad():
        for images, _ in samples.batches([few]):
            if not bool(class_scores(network(_on(images, network)), len(few)).isfinite().all()):
                raise RefusalError(_diverged(task.name, done, checkpoint, training))
    last = (done - 1) % len(parts) + 1
    return Trained(done, losses / last, before + time.perf_counter() - started)


def norms_are_folded(network: nn.Module) -> bool:
    """Whether the batch norms' statistics were multiplied into the weights, as converted networks often have it.

    Such a norm has mean 0 and variance 1, which are not those of what it is given, so that normalising by the batch
    makes another network of it. A network that was never trained has them too, but no biases yet.
    """
    norms = [
        (norm.running_mean, norm.running_var, norm.bias)
        for norm in network.modules()
        if isinstance(norm, BatchNormBase)
    ]
    known = [(mean, var, bias) for mean, var, bias in norms if mean is not None and var is not None]
    unset = all(not bool(mean.any()) and bool((var - 1).abs().max() < 1e-3) for mean, var, _ in known)
    return bool(known) and unset and any(bias is not None and bool(bias.any()) for _, _, bias in known)


def check_norms(network: nn.Module, mode: Mode) -> None:
    """Refuse train mode where it would make another network of it.

    Raises:
        RefusalError: the batch norms' statistics were folded into the weights.
    """
    if mode == "train" and norms_are_folded(network):
        raise RefusalError(
            "All batch norms of this network have mean 0 and variance 1: their statistics were folded into the weights "
            "when it was converted. Train mode would normalise by each batch instead, which makes another network of "
            'it. Take mode="eval".'
        )


def _on(images: Tensor, network: nn.Module) -> Tensor:
    device, dtype = home_of(network, images)
    return images.to(device, dtype, non_blocking=True)


def _parts(count: int, size: int) -> list[range]:
    """The steps of an epoch; a last image alone joins the step before, since it has no batch statistics."""
    parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [range(parts[-2].start, count)]
    return parts


@contextmanager
def _training(network: nn.Module, mode: Mode) -> Iterator[None]:
    network.train(mode == "train")
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield
    finally:
        network.eval()


@contextmanager
def _own_generators(device: torch.device) -> Iterator[None]:
    """Leave torch's global generators alone."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def reseed(seed: int, device: torch.device) -> None:
    """Seed what dropout draws from; `torch.manual_seed` would seed all devices."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _diverged(name: str, step: int, checkpoint: Path | None, training: Training) -> str:
    there = checkpoint is not None and checkpoint.is_file()
    kept = f"The last good checkpoint is kept in {checkpoint}" if there else "There is no checkpoint yet"
    return (
        f"Training {name} stopped at step {step}: its error is not finite (NaN or infinity). {kept}. Take a smaller "
        f"rate than {training.rate:g}, or look for such values in the images."
    )


def _keep(path: Path, network: nn.Module, optimiser: torch.optim.Adam, name: str, state: dict[str, Any]) -> None:
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{key}": value for key, value in moments.items()}
    write(path, tensors, {"name": name, "state": json.dumps(state)})


def _restore(path: Path, network: nn.Module, optimiser: torch.optim.Adam, name: str) -> tuple[int, float, float]:
    """Go on from a checkpoint, if it is this network's and whole."""
    try:
        tensors, words = read(path)
    except ValueError:
        return 0, 0.0, 0.0
    if words.get("name") != name:
        return 0, 0.0, 0.0
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "adam":
            number, _, moment = rest.partition(".")
            moments.setdefault(int(number), {})[moment] = value
    known = optimiser.state_dict()
    optimiser.load_state_dict({"state": moments, "param_groups": known["param_groups"]})
    state = json.loads(words["state"])
    return int(state["step"]), float(state["losses"]), float(state["seconds"])
