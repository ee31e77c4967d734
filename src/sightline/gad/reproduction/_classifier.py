"""A classifier for two classes, fine-tuned from a network of a thousand: what the paper's tables start from."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name torch's own documentation gives it)

from sightline._common.seeds import seed_of
from sightline.errors import InputError
from sightline.gad._samples import Samples
from sightline.gad._settings import Training
from sightline.gad._survey import survey
from sightline.gad._training import Checkpoints, Task, norms_are_folded, train
from sightline.gad._weights import read, write
from sightline.models import fingerprint, load_weights

FILE, CHECKPOINT = "classifier.safetensors", "classifier.training.safetensors"


@dataclass(frozen=True)
class Tuning:
    """How the classifier is trained: cross-entropy by Adam, each picture mirrored by chance.

    It is trained in train mode, but in evaluation mode where the statistics of its batch norms were folded into the
    weights.

    Attributes:
        rate: Adam's learning rate.
        decay: its weight decay.
        epochs: how often each picture is seen.
        steps: optimiser steps in all, instead of epochs.
        batch_size: pictures of a step.
        seed: of the last layer's start, the order and the mirroring.
        autocast: whether to compute in bfloat16 where torch thinks it safe.
    """

    rate: float = 1e-4
    decay: float = 1e-5
    epochs: int = 3
    steps: int | None = None
    batch_size: int = 32
    seed: int = 0
    autocast: bool = False


def with_outputs(model: nn.Module, outputs: int, seed: int = 0) -> nn.Module:
    """A copy whose last layer gives so many outputs, started anew.

    Raises:
        InputError: the last layer is neither dense nor a 1 x 1 convolution.
    """
    made = copy.deepcopy(model)
    named = [(name, m) for name, m in made.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not named:
        raise InputError(f"{type(model).__name__} has no dense layer or convolution to put two outputs in place of.")
    name, last = named[-1]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if isinstance(last, nn.Linear):
            new: nn.Module = nn.Linear(last.in_features, outputs, bias=last.bias is not None)
        elif tuple(last.kernel_size) == (1, 1):
            new = nn.Conv2d(last.in_channels, outputs, 1, bias=last.bias is not None)
        else:
            raise InputError(
                f"The last layer of {type(model).__name__}, {name}, is a convolution over several positions; take a "
                "network that ends in a dense layer."
            )
    place, _, leaf = name.rpartition(".")
    like = next(last.parameters())
    setattr(made.get_submodule(place), leaf, new.to(like.device, like.dtype))
    return made


def fine_tuned(
    model: nn.Module,
    samples: Samples,
    tuning: Tuning,
    folder: Path,
    *,
    progress: Callable[[int, int, float], None] | None = None,
) -> nn.Module:
    """The model with two outputs, trained to tell samples apart; read back where it was trained already.

    Args:
        model: the network to start from.
        samples: pictures with labels 0 and 1.
        tuning: how.
        folder: where the trained weights are kept.
        progress: called after each step with the steps done, the steps in all and the loss.

    Raises:
        InputError: the last layer cannot be exchanged, or the folder holds a classifier that was trained otherwise.
        RefusalError: the loss was not finite; what was reached before is kept.
    """
    network = with_outputs(model, 2, tuning.seed)
    identity = json.dumps({"start": fingerprint(network), "pictures": len(samples), **asdict(tuning)}, sort_keys=True)
    file = folder / FILE
    try:
        words = read(file)[1]
    except ValueError:
        # Missing or damaged: trained anew.
        words = None
    if words is not None:
        if words.get("identity") != identity:
            raise InputError(
                f"{file} was trained from other weights or pictures, or in another way. Name another folder, or remove "
                "it."
            )
        load_weights(network, file)
        return network.eval().requires_grad_(False)
    numbers = list(range(len(samples)))
    parts = [numbers[i : i + tuning.batch_size] for i in range(0, len(numbers), tuning.batch_size)]
    labels = torch.cat([given for _, given in samples.batches(parts)])
    training = Training(
        "eval" if norms_are_folded(network) else "train",
        tuning.rate, tuning.epochs, tuning.steps, tuning.batch_size, tuning.seed, tuning.autocast
    )  # fmt: skip
    task = Task(
        "classifier", samples, torch.arange(len(samples)), labels, F.cross_entropy, tuning.decay,
        augment=lambda images, step: mirrored(images, seed_of(tuning.seed, "mirrored", step)),
    )  # fmt: skip
    checkpoints = Checkpoints(folder / CHECKPOINT, identity)
    folder.mkdir(parents=True, exist_ok=True)
    told = None if progress is None else lambda stage: progress(stage.step, stage.steps, stage.loss)
    train(network, task, training, checkpoints, progress=told)
    write(file, network.state_dict(), {"identity": identity})
    checkpoints.file.unlink(missing_ok=True)
    return network.eval().requires_grad_(False)


def mirrored(images: Tensor, seed: int) -> Tensor:
    """Each image as it is or mirrored left to right, by chance."""
    turned = torch.rand(len(images), 1, 1, 1, generator=torch.Generator().manual_seed(seed)) < 0.5
    return torch.where(turned.to(images.device), images.flip(3), images)


def accuracy(network: nn.Module, samples: Samples, batch_size: int) -> float:
    """The share of samples of classes 0 and 1 that are told right."""
    said = survey(network, samples, (0, 1), batch_size)
    right: Tensor = said.logits.argmax(1) == said.labels
    return float(right.double().mean())
