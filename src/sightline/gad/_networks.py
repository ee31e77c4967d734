"""Support networks: a base network and the weights that each distance gave it, kept in files and read one at a time."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sightline._common.seeds import seed_of
from sightline.errors import InputError
from sightline.gad._targets import Step
from sightline.gad._weights import read, write

Kind = Literal["distanced", "shuffled", "tuned", "noise"]
"""By the classes; by shuffled labels; without distancing, as a classifier; not trained, with noise on the weights."""
NOISE = 0.1
"""Standard deviation of the noise on a weight, as a share of that of its tensor."""


class Network(NamedTuple):
    """A support network.

    Attributes:
        alphas: by how much it pushes the first and the second class away from the other.
        network: the network itself; the next one takes its place.
    """

    alphas: Step
    network: nn.Module


class Networks:
    """The support networks of one base network.

    Args:
        base: the original network.
        alphas: the distances.
        interpolated: whether only the last one was trained, and the weights of the others lie on the line to it.
        folder: where their weights are.

    Attributes:
        known: names of the files that belong to this fit.
    """

    def __init__(self, base: nn.Module, alphas: tuple[Step, ...], folder: Path, *, interpolated: bool) -> None:
        self._base, self._alphas, self._folder, self._interpolated = base, alphas, folder, interpolated
        self.known: set[str] = set()

    @property
    def trained(self) -> tuple[Step, ...]:
        """The distances that are trained for."""
        return self._alphas[-1:] if self._interpolated else self._alphas

    def file(self, alphas: Step, kind: Kind) -> Path:
        """Where the weights for a distance are."""
        return self._folder / f"{kind}-{'-'.join(str(a).removesuffix('.0') for a in alphas)}.safetensors"

    def complete(self, kind: Kind) -> bool:
        """Whether all weights are there."""
        if kind == "noise":
            return True
        files = [self.file(alphas, kind) for alphas in self.trained]
        return all(file.name in self.known and file.is_file() for file in files)

    def has(self, alphas: Step, kind: Kind) -> bool:
        """Whether the weights for a distance are there, of this fit and whole."""
        file = self.file(alphas, kind)
        try:
            return file.name in self.known and bool(read(file))
        except ValueError:
            return False

    def keep(self, network: nn.Module, alphas: Step, kind: Kind) -> None:
        """Write the weights for a distance."""
        write(self.file(alphas, kind), network.state_dict(), {"alphas": str(alphas), "kind": kind})
        self.known.add(self.file(alphas, kind).name)

    def scratch(self) -> nn.Module:
        """A copy of the base network to work on, in evaluation mode."""
        return copy.deepcopy(self._base).eval().requires_grad_(False)

    def each(self, kind: Kind = "distanced") -> Iterator[Network]:
        """The networks, from the smallest distance up; each takes the place of the one before.

        Raises:
            InputError: they were not trained.
        """
        if not self.complete(kind):
            wanted = "Call fit first." if kind == "distanced" else f"Train them by fit(data, controls=[{kind!r}])."
            raise InputError(f"There are no {kind} support networks in {self._folder}. {wanted}")
        network = self.scratch()
        if kind == "noise":
            start = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
            for number, alphas in enumerate(self._alphas):
                with torch.no_grad():
                    for name, parameter in network.named_parameters():
                        parameter.copy_(_noisy(start[name], seed_of("weight noise", name, number)))
                yield Network(alphas, network)
            return
        if not self._interpolated:
            for alphas in self._alphas:
                network.load_state_dict(_read(self.file(alphas, kind)))
                yield Network(alphas, network)
            return
        start = {name: tensor.detach().cpu() for name, tensor in self._base.state_dict().items()}
        last = self._alphas[-1]
        end = _read(self.file(last, kind))
        for alphas in self._alphas:
            with torch.no_grad():
                for name, tensor in network.state_dict().items():
                    tensor.copy_(_between(start[name], end[name], alphas[0] / last[0]))
            yield Network(alphas, network)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return read(file)[0]
    except ValueError as error:
        raise InputError(
            f"{file} is damaged ({error}). Call fit again, which trains this one anew; the others are kept."
        ) from error


def _noisy(weights: Tensor, seed: int) -> Tensor:
    """Weights with normal noise of a tenth of their standard deviation."""
    if not weights.is_floating_point() or weights.numel() < 2:
        return weights
    drawn = torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return weights + NOISE * weights.float().std().to(weights) * drawn.to(weights)


def _between(start: Tensor, end: Tensor, share: float) -> Tensor:
    return torch.lerp(start, end, share) if start.is_floating_point() else start


def on_one_line(alphas: tuple[Step, ...]) -> bool:
    """Whether one share of the last distance gives both numbers of each."""
    last = alphas[-1]
    return all(abs(a / last[0] - b / last[1]) <= 1e-9 for a, b in alphas)
