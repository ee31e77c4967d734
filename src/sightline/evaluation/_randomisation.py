"""Randomised networks: a model whose layers lose what they learned, one after another."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from sightline._common.seeds import seed_of
from sightline.arrays import whole
from sightline.errors import InputError
from sightline.evaluation._layers import Layer, layers_of
from sightline.options import AuditOptions


class Order(StrEnum):
    """Which layers are random at a stage.

    `output`: more and more of them, from the output on; `input`: from the input on; `alone`: one part after the
    other, each by itself; `whole`: all of them at once.
    """

    OUTPUT = "output"
    INPUT = "input"
    ALONE = "alone"
    WHOLE = "whole"


class Explained(StrEnum):
    """Which class is explained of a randomised network: that which the trained one predicts, or its own."""

    KEPT = "kept"
    PREDICTED = "re-predicted"


class Stage(NamedTuple):
    """A step of a randomisation.

    Attributes:
        name: the first and the last layer that lose their weights in it.
        layers: these layers.
    """

    name: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Randomisation:
    """How a network is randomised (Adebayo et al. 2018, arXiv 1810.03292, section 3).

    A layer is given the initialisation that its class has (`reset_parameters`), from a generator of its own that is
    named after it; where it has none, or where that leaves a parameter as it is, the parameter's values are permuted.
    Buffers, such as the statistics of batch norms, are kept unless `reset_buffers` is set.

    Attributes:
        order: which layers are random at a stage.
        stages: at most so many; layers are joined to that number, the first stage by itself.
        reset_buffers: whether buffers are initialised too.
        seed: base of all randomness.
        target: whether the explained class is `kept`, or `re-predicted` by each randomised network.
        networks: how many networks with all layers random are asked, each with weights of its own draw; those between
            the trained one and the first of these are one cascade. A verdict needs at least five.
        smooth: average all maps over so many draws of noise on the images (smooth MPRT; Hedström et al. 2024, arXiv
            2405.02383, takes 50); 0 for the maps themselves.

    Raises:
        InputError: there is no such order or target, or no stage.
    """

    order: Order | str = AuditOptions.order
    stages: int = AuditOptions.stages
    reset_buffers: bool = False
    seed: int = 0
    target: Explained | str = Explained.KEPT
    smooth: int = 0
    networks: int = AuditOptions.networks

    def __post_init__(self) -> None:
        if self.order not in set(Order):
            raise InputError(f"Layers are randomised by {', '.join(Order)}; got {self.order!r}.")
        if self.target not in set(Explained):
            raise InputError(f"The explained class is {' or '.join(Explained)}; got {self.target!r}.")
        object.__setattr__(self, "order", Order(self.order))
        object.__setattr__(self, "target", Explained(self.target))
        whole("smooth", self.smooth, 0)
        whole("stages", self.stages)
        whole("networks", self.networks)

    def plan(self, model: nn.Module, image: Tensor) -> list[Stage]:
        """The stages for a model, in order.

        Args:
            model: the network.
            image: shape (1, channel, height, width): from whose pass the order of layers is read.
        """
        layers = layers_of(model, image)
        if self.order is Order.WHOLE:
            return [_stage(layers)]
        if self.order is Order.OUTPUT:
            layers.reverse()
        count = min(self.stages, len(layers))
        # The first stage is one layer, the one whose loss must show most; the others share the rest evenly.
        ends = [1 + round(i * (len(layers) - 1) / max(count - 1, 1)) for i in range(count)] if count > 1 else []
        starts = [0, *ends[:-1]] if ends else [0]
        return [_stage(layers[start:end]) for start, end in zip(starts, ends or [len(layers)], strict=True)]

    def cascade(self, model: nn.Module, stages: Sequence[Stage]) -> Iterator[tuple[Stage, nn.Module]]:
        """The randomised network of each stage; each takes the place of the one before, and the model stays.

        Args:
            model: the network.
            stages: from `plan`.
        """
        network = _copy(model)
        for stage in stages:
            if self.order is Order.ALONE:
                network.load_state_dict(model.state_dict())
                _keep_others(network, model)
            for layer in stage.layers:
                randomise(network, layer, self.seed, reset_buffers=self.reset_buffers)
            yield stage, network

    def random(self, model: nn.Module, stages: Sequence[Stage], number: int) -> nn.Module:
        """A network with all layers random.

        Args:
            model: the network, which stays as it is.
            stages: from `plan`.
            number: which draw of weights, from 2; the first is the last network of the cascade.
        """
        network, seed = _copy(model), seed_of(self.seed, "network", number)
        for stage in stages:
            for layer in stage.layers:
                randomise(network, layer, seed, reset_buffers=self.reset_buffers)
        return network

    def table(self, model: nn.Module, stages: Sequence[Stage]) -> pd.DataFrame:
        """What happens to each parameter: its stage, its layer, and whether it is reset, permuted or stays the same."""
        network, rows = _copy(model), []
        for number, stage in enumerate(stages, 1):
            for layer in stage.layers:
                done = randomise(network, layer, self.seed, reset_buffers=self.reset_buffers)
                rows += [
                    {"stage": number, "layer": layer.name, "parameter": name, "how": how, "used": layer.used}
                    for name, how in done.items()
                ]
        return pd.DataFrame(rows)


def randomise(network: nn.Module, layer: Layer, seed: int, *, reset_buffers: bool = False) -> dict[str, str]:
    """Give a layer of a network random weights, in place.

    Args:
        network: the network.
        layer: one of its layers.
        seed: base of the randomness, which is the layer's own by its name.
        reset_buffers: whether its buffers are initialised too.

    Returns:
        For each parameter `reset`, `permuted`, or `the same` for one whose values are all equal and stay so.
    """
    module = network.get_submodule(layer.name)
    own = {name: network.get_parameter(name) for name in layer.parameters}
    before = {name: parameter.detach().clone() for name, parameter in own.items()}
    device = next(iter(own.values())).device
    kept = {id(p): (p, p.detach().clone()) for p in module.parameters() if all(p is not o for o in own.values())}
    buffers = [] if reset_buffers else [(b, b.clone()) for b in module.buffers()]
    found = {}
    with torch.no_grad(), _seeded(seed_of(seed, "randomised", layer.name), device):
        reset = getattr(module, "reset_parameters", None)
        if callable(reset) and not is_parametrized(module):
            reset()
        for parameter, values in [*kept.values(), *buffers]:
            parameter.copy_(values)
        for name, parameter in own.items():
            if not torch.equal(parameter, before[name]):
                found[name] = "reset"
                continue
            flat = parameter.flatten()
            parameter.copy_(flat[torch.randperm(len(flat), device="cpu").to(device)].view_as(parameter))
            found[name] = "the same" if bool((flat == flat[:1]).all()) else "permuted"
    return found


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise InputError(
            f"The model cannot be copied, and only a copy may be randomised ({error}). Give a model whose tensors are "
            "parameters or buffers."
        ) from error


def _keep_others(network: nn.Module, model: nn.Module) -> None:
    """Put back what a state dictionary leaves out: buffers that are not saved."""
    with torch.no_grad():
        for mine, theirs in zip(network.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


def _stage(layers: Sequence[Layer]) -> Stage:
    first, last = (layer.name or "the model itself" for layer in (layers[0], layers[-1]))
    return Stage(first if len(layers) == 1 else f"{first} to {last}", tuple(layers))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators, which initialisations draw from, seeded here and as they were afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield
