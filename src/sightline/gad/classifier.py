"""A classifier for two classes, fine-tuned from a network of a thousand: what the paper's tables start from."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name torch's own documentation gives it)

from sightline.errors import InputError, RefusalError
from sightline.gad.networks import fingerprint
from sightline.gad.samples import Samples
from sightline.gad.survey import survey
from sightline.gad.training import reseed, write
from sightline.models import load_weights
from sightline.models.outputs import class_scores
from sightline.sampling.seeds import seed_of

FILE = "classifier.safetensors"


@dataclass(frozen=True)
class Tuning:
    """How the classifier is trained: cross-entropy by Adam, each picture mirrored by chance.

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
        RefusalError: the loss was not finite.
    """
    network = with_outputs(model, 2, tuning.seed)
    identity = json.dumps({"start": fingerprint(network), "pictures": len(samples), **asdict(tuning)}, sort_keys=True)
    file = folder / FILE
    if file.is_file():
        with safe_open(file, "pt") as there:
            known = (there.metadata() or {}).get("identity")
        if known != identity:
            raise InputError(
                f"{file} was trained from other weights or pictures, or in another way. Name another folder, or remove "
                "it."
            )
        load_weights(network, file)
        return network.eval().requires_grad_(False)
    parameters = [p.requires_grad_() for p in network.parameters() if p.is_floating_point()]
    optimiser = torch.optim.Adam(parameters, lr=tuning.rate, weight_decay=tuning.decay)
    like = parameters[0]
    size = min(tuning.batch_size, len(samples))
    each = len(samples) // size
    total = tuning.steps if tuning.steps is not None else tuning.epochs * each
    network.train()
    devices = [like.device] if like.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(mode=False), torch.enable_grad():
        reseed(tuning.seed, like.device)
        for epoch in range(-(-total // each)):
            generator = torch.Generator().manual_seed(seed_of(tuning.seed, "classifier", epoch))
            order = torch.randperm(len(samples), generator=generator)[: each * size].view(each, size)
            order = order[: total - epoch * each]
            for done, (images, labels) in enumerate(samples.batches(order.tolist()), epoch * each + 1):
                mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
                images = torch.where(mirrored, images.flip(3), images).to(like.device, like.dtype)
                with torch.autocast(like.device.type, torch.bfloat16, enabled=tuning.autocast):
                    scores = class_scores(network(images), len(images))
                loss = F.cross_entropy(scores.float(), labels.to(like.device))
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise RefusalError(
                        f"Training the classifier stopped at step {done}: its loss is not finite. Take a smaller rate "
                        f"than {tuning.rate:g}."
                    )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if progress is not None:
                    progress(done, total, value)
    if not all(bool(p.isfinite().all()) for p in parameters):
        raise RefusalError(f"Training the classifier ended in weights that are not finite; rate {tuning.rate:g}.")
    write(file, network.state_dict(), {"identity": identity})
    return network.eval().requires_grad_(False)


def accuracy(network: nn.Module, samples: Samples, batch_size: int) -> float:
    """The share of samples of classes 0 and 1 that are told right."""
    said = survey(network, samples, (0, 1), batch_size)
    right: Tensor = said.logits.argmax(1) == said.labels
    return float(right.double().mean())
