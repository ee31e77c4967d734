"""Golden maps: what every method gives on three small networks in double precision, kept in `tests/golden`.

They prove nothing about being right, which the other tests do; they notice when another version of torch, or a change
that should not, gives other digits. `PYTHONPATH=tests python -m helpers.golden --write` writes them anew.
"""

import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import sightline as sl
from sightline.propagation import deep_taylor, epsilon_gamma_box

FILE = Path(__file__).parents[1] / "golden" / "maps.safetensors"
LOW, HIGH = -1.0, 1.0


def waves(count: int, step: float) -> Tensor:
    """Numbers between -1 and 1 that depend on no random generator."""
    return torch.cos(step * torch.arange(1, count + 1, dtype=torch.float64))


def images() -> Tensor:
    return waves(2 * 2 * 8 * 8, 1.7).reshape(2, 2, 8, 8)


def _filled(network: nn.Module) -> nn.Module:
    """The network with weights, biases and statistics of its own, none of them zero."""
    network = network.double().eval()
    with torch.no_grad():
        for number, (name, tensor) in enumerate(network.state_dict().items(), 1):
            if tensor.is_floating_point():
                values = waves(tensor.numel(), 2.3 + 0.1 * number).reshape(tensor.shape)
                fan = math.prod(tensor.shape[1:]) if tensor.dim() > 1 else 4
                tensor.copy_(1 + 0.5 * values if "var" in name else values * math.sqrt(3 / fan))
    return network


class Residual(nn.Module):
    """Convolutions, batch norms, a skip, both poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm1(self.first(x))), 2)
        x = F.relu(x + self.norm2(self.second(x)))
        return self.head(F.avg_pool2d(x, 2).flatten(1))


class Gated(nn.Module):
    """Smooth activations, a group norm, a channel gate."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, stride=2), nn.GroupNorm(2, 4)
        self.gate, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.first(x)))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[..., None, None]
        return self.head(F.gelu(x).mean((2, 3)))


class Tokens(nn.Module):
    """One block of a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(2, 6, 4, stride=4), nn.LayerNorm(6)
        self.inside, self.outside, self.head = nn.Linear(6, 18), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        query, key, value = self.inside(self.norm(x)).chunk(3, dim=-1)
        x = x + self.outside(F.scaled_dot_product_attention(query, key, value))
        return self.head(x.mean(1))


GRADIENTS = ("gradient", "input_x_gradient", "integrated_gradients", "smooth_grad", "var_grad")


def maps() -> dict[str, Tensor]:
    """Every map by `network/method`."""
    ranges = {"deep_taylor": deep_taylor(LOW, HIGH), "lrp_epsilon_gamma_box": epsilon_gamma_box(LOW, HIGH)}
    every = [
        sl.Method(row.sampling, ranges[name], row.aggregation, name=name) if name in ranges else name
        for name, row in sl.catalogue().items()
    ]
    found = {}
    for network, methods in ((Residual(), every), (Gated(), [*GRADIENTS, "grad_cam"]), (Tokens(), list(GRADIENTS))):
        given = images()
        explained = sl.explain(_filled(network), given, methods, [0, 2], references=given.flip(0), seed=0)
        name = type(network).__name__.lower()
        found |= {f"{name}/{method}": explained[method].contiguous() for method in explained.maps}
    return found


if __name__ == "__main__" and "--write" in sys.argv:
    torch.set_num_threads(1)
    save_file(maps(), FILE, metadata={"torch": torch.__version__.split("+")[0]})
