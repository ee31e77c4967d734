"""More ordinary ways of writing a network: convolutions and what stands between them, each with its reference.

The traps of `traps.py` are small dense networks; these are convolutional ones on images of shape (batch, 2, 5, 5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import erf
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from helpers import reference as ref
from helpers import traps

CLASSES = 3


class Net(nn.Module):
    """Two convolutions that keep the size, three BatchNorms and a head; a trap says what happens in between."""

    def __init__(self, body: Callable[[Net, Tensor], Tensor], features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.c1, self.c2 = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.n0, self.n1, self.n2 = nn.BatchNorm2d(2), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.relu, self.inplace = nn.ReLU(), nn.ReLU(inplace=True)
        self.head = nn.Linear(features, classes)
        # So that the highest score is positive and the lowest is not, whatever the body.
        self.head.bias.data.copy_(torch.tensor([1.0, 0.0, -1.0])[:classes])

    def forward(self, x: Tensor) -> Any:
        return self.returns(self.head(self.body(self, x).flatten(1)))

    def returns(self, scores: Tensor) -> Any:
        return scores


@dataclass(frozen=True)
class Trap:
    name: str
    body: Callable[[Net, Tensor], Tensor]
    reference: Callable[[Net, ref.Node], ref.Node]
    modules: Callable[[], dict[str, nn.Module | nn.Parameter]] = dict
    features: int = 75
    classes: int = CLASSES
    returns: Callable[[Tensor], Any] | None = None
    target: Callable[[Any], Tensor] | None = None
    shape: tuple[int, ...] = (2, 5, 5)
    seed: int = 0

    def network(self) -> nn.Module:
        torch.manual_seed(self.seed)
        network = Net(self.body, self.features, self.classes)
        for name, module in self.modules().items():
            setattr(network, name, module)
        if self.returns is not None:
            network.returns = self.returns
        settle(network)
        return network.double().eval()

    def graph(self, network: nn.Module, image: Tensor) -> tuple[ref.Node, ref.Node]:
        """The scores and the image they are computed from."""
        start = ref.image(image)
        features = ref.flatten(self.reference(network, start))
        return features if isinstance(network.head, nn.Identity) else ref.layer(features, network.head), start


def settle(network: nn.Module) -> None:
    """Statistics that a trained network could have, so that no BatchNorm is the identity; what is zero stays so."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d):
            if module.running_mean is not None:
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.3, 2.0)
            if module.affine and module.weight.any():
                nn.init.uniform_(module.weight, -1.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)


class Mask(nn.Module):
    """Every third weight is zero."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight * (torch.arange(weight.numel()) % 3 > 0).view(weight.shape)


def _pruned() -> nn.Module:
    module = nn.Conv2d(3, 4, 3, padding=1)
    parametrize.register_parametrization(module, "weight", Mask())
    return module


def _zero_batch_norm() -> nn.Module:
    module = nn.BatchNorm2d(3)
    nn.init.zeros_(module.weight)
    nn.init.uniform_(module.bias, -0.5, 0.5)
    return module


def _plain(m: Net, x: ref.Node) -> ref.Node:
    return ref.relu(ref.layer(_first(m, x), m.c2))


def _first(m: Net, x: ref.Node) -> ref.Node:
    return ref.relu(ref.layer(x, m.c1))


def _conv_bn(m: Net, x: Tensor) -> Tensor:
    return m.n2(m.c2(m.relu(m.n1(m.c1(x)))))


def _conv_bn_reference(m: Net, x: ref.Node) -> ref.Node:
    return ref.batch_norm(ref.layer(ref.relu(ref.batch_norm(ref.layer(x, m.c1), m.n1)), m.c2), m.n2)


def _residual_reference(m: Net, x: ref.Node) -> ref.Node:
    h = ref.relu(ref.batch_norm(ref.layer(x, m.c1), m.n1))
    return ref.relu(ref.add(ref.batch_norm(ref.layer(h, m.c2), m.n2), h))


def _residual_in_place(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.n1(m.c1(x)))
    out = m.n2(m.c2(h))
    out += h
    return m.inplace(out)


def _residual_on_the_other(m: Net, x: Tensor) -> Tensor:
    h = m.n1(m.c1(x)).relu_()
    out = h.clone()
    out += m.n2(m.c2(h))
    return out.relu_()


def _shared_conv(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    return m.c2(m.relu(m.n1(h))) + h


def _shared_conv_reference(m: Net, x: ref.Node) -> ref.Node:
    h = ref.layer(x, m.c1)
    return ref.add(ref.layer(ref.relu(ref.batch_norm(h, m.n1)), m.c2), h)


def _shared_conv_relu(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    return m.inplace(m.n1(h)) + m.relu(h)


def _add_before_bn(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.c1(x))
    out = m.c2(h)
    out += h
    return m.relu(m.n1(out))


def _relu_before_bn(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    h.relu_()
    return m.relu(m.n1(h))


def _in_place_arithmetic(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.c1(x))
    h *= 2.0
    h -= 0.1
    h = m.c2(h)
    h.neg_().div_(0.5)
    return m.relu(h)


def _dense_block(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.c1(x))
    return m.relu(torch.cat([h, m.n2(m.c2(m.relu(m.n1(h))))], 1))


def _dense_block_reference(m: Net, x: ref.Node) -> ref.Node:
    h = _first(m, x)
    new = ref.batch_norm(ref.layer(ref.relu(ref.batch_norm(h, m.n1)), m.c2), m.n2)
    return ref.relu(ref.join(h, new))


def _written_into_zeros(t: Tensor) -> Tensor:
    out = torch.zeros_like(t)
    out[:, :, 1:] = t[:, :, :-1]
    return out


def _gated_in_place(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.c1(x)).clone()
    h *= torch.sigmoid(m.c2(h).mean((1, 2, 3), keepdim=True))
    return h


def _concatenated_in_place(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    both = torch.cat([h, m.c2(h)], 1)
    return both.relu_()


def _se(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.c1(x))
    weights = torch.sigmoid(m.up(m.relu(m.down(h.mean((2, 3))))))
    return m.c2(h * weights[:, :, None, None])


def _se_reference(m: Net, x: ref.Node) -> ref.Node:
    h = _first(m, x)
    mean = ref.average(h, lambda t: t.mean((2, 3)))
    weights = ref.smooth(_sigmoid, ref.layer(ref.relu(ref.layer(mean, m.down)), m.up), name="sigmoid")
    return ref.layer(ref.gate(h, _over_pixels(weights)), m.c2)


def _se_conv(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.c1(x))
    return F.hardsigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(h, 1))))).mul(h)


def _se_conv_reference(m: Net, x: ref.Node) -> ref.Node:
    h = _first(m, x)
    mean = ref.average(h, lambda t: t.mean((2, 3), keepdim=True))
    weights = ref.smooth(_hardsigmoid, ref.layer(ref.relu(ref.layer(mean, m.down)), m.up), name="hardsigmoid")
    return ref.gate(h, ref.move(weights, lambda t: t.expand(-1, -1, 5, 5)))


def _over_pixels(x: ref.Node) -> ref.Node:
    return ref.move(x, lambda t: t[:, :, None, None].expand(-1, -1, 5, 5))


def _gated(m: Net, x: ref.Node, gate: Callable[[ref.Node], ref.Node]) -> ref.Node:
    h = _first(m, x)
    return ref.gate(h, gate(ref.layer(h, m.c2)))


def _glu_reference(m: Net, x: ref.Node) -> ref.Node:
    h = ref.layer(_first(m, x), m.wide)
    return ref.relu(ref.gate(ref.part(h, 0, 2), ref.smooth(_sigmoid, ref.part(h, 2, 4), name="sigmoid")))


def _attended(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.c1(x))
    weights = m.query(h).flatten(2).softmax(-1)
    return (h.flatten(2) * weights).sum(-1)


def _attended_reference(m: Net, x: ref.Node) -> ref.Node:
    h = _first(m, x)
    weights = ref.smooth(_softmax, ref.move(ref.layer(h, m.query), lambda t: t.flatten(2)), name="softmax")
    gated = ref.gate(ref.move(h, lambda t: t.flatten(2)), ref.move(weights, lambda t: t.expand(-1, 3, -1)))
    return ref.average(gated, lambda t: t.sum(-1))


def _product_reference(m: Net, x: ref.Node) -> ref.Node:
    h = _first(m, x)
    return ref.smooth(np.multiply, h, ref.layer(h, m.c2), name="mul")


def _tokens(m: Net, x: Tensor) -> Tensor:
    h = m.patch(x).flatten(2).transpose(1, 2)
    return torch.cat([m.token[None].expand(len(x), -1, -1), h], 1) + m.position


def _tokens_reference(m: Net, x: ref.Node) -> ref.Node:
    h = ref.move(ref.layer(x, m.patch), lambda t: t.flatten(2).transpose(1, 2))
    token = ref.Node(m.token.detach().numpy())
    return ref.shift(ref.join(token, h), m.position.detach().numpy().ravel())


def _vit(m: Net, x: Tensor) -> Tensor:
    t = _tokens(m, x)
    q, k, v = m.qkv(m.norm(t)).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)
    t = t + m.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    return (t + m.out(m.relu(m.hidden(m.norm(t)))))[:, 0]


def _vit_by_hand(m: Net, x: Tensor) -> Tensor:
    t = _tokens(m, x)
    q, k, v = m.qkv(m.norm(t)).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / 2**0.5).softmax(-1)
    t = t + m.project((weights @ v).transpose(1, 2).flatten(2))
    return (t + m.out(F.gelu(m.hidden(m.norm(t)))))[:, 0]


def _vit_reference(m: Net, x: ref.Node, active: Callable[[ref.Node], ref.Node] = ref.relu) -> ref.Node:
    def norm(t: ref.Node) -> ref.Node:
        return ref.smooth(lambda v: _normalised(v, -1), t, name="layer_norm")

    t = _tokens_reference(m, x)
    attended = ref.smooth(_attention, ref.layer(norm(t), m.qkv), name="scaled_dot_product_attention|softmax|matmul")
    t = ref.add(t, ref.layer(attended, m.project))
    return ref.part(ref.add(t, ref.layer(active(ref.layer(norm(t), m.hidden)), m.out)), 0, 1)


def _attention(qkv: np.ndarray) -> np.ndarray:
    """Two heads of two, from (token, 12)."""
    heads = []
    for head in (0, 1):
        q, k, v = (qkv[:, 4 * part + 2 * head : 4 * part + 2 * head + 2] for part in range(3))
        heads.append(_softmax(q @ k.T / np.sqrt(2)) @ v)
    return np.concatenate(heads, 1)


def _vit_modules() -> dict[str, nn.Module | nn.Parameter]:
    return {
        "patch": nn.Conv2d(2, 4, 2, stride=2),
        "token": nn.Parameter(torch.randn(1, 4)),
        "position": nn.Parameter(torch.randn(5, 4)),
        "norm": nn.LayerNorm(4),
        "qkv": nn.Linear(4, 12),
        "project": nn.Linear(4, 4),
        "hidden": nn.Linear(4, 6),
        "out": nn.Linear(6, 4),
    }


def _multi_head(m: Net, x: Tensor) -> Tensor:
    t = m.patch(x).flatten(2).transpose(1, 2)
    return m.relu(m.attention(t, t, t, need_weights=False)[0])


def _multi_head_reference(m: Net, x: ref.Node) -> ref.Node:
    weight, bias, w_out, b_out = (
        p.detach().numpy()
        for p in (
            m.attention.in_proj_weight,
            m.attention.in_proj_bias,
            m.attention.out_proj.weight,
            m.attention.out_proj.bias,
        )
    )
    t = ref.move(ref.layer(x, m.patch), lambda t: t.flatten(2).transpose(1, 2))
    return ref.relu(
        ref.refused(
            lambda t: _attention(t @ weight.T + bias) @ w_out.T + b_out,
            t,
            name="multi_head_attention|MultiheadAttention",
        )
    )


def _recurrent(m: Net, x: Tensor) -> Tensor:
    return m.lstm(m.relu(m.c1(x)).flatten(2))[0][:, -1]


def _recurrent_reference(m: Net, x: ref.Node) -> ref.Node:
    w_in, w_hidden, b_in, b_hidden = (p.detach().numpy() for p in m.lstm.parameters())

    def run(sequence: np.ndarray) -> np.ndarray:
        hidden = cell = np.zeros(4)
        for step in sequence:
            i, f, g, o = np.split(w_in @ step + b_in + w_hidden @ hidden + b_hidden, 4)
            cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
            hidden = _sigmoid(o) * np.tanh(cell)
        return hidden

    return ref.refused(run, ref.move(_first(m, x), lambda t: t.flatten(2)), name="lstm|LSTM")


def _cut(m: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = m.relu(m.c1(x))
    return m.relu(m.c2(h))


def _cut_reference(m: Net, x: ref.Node) -> ref.Node:
    word = "graph is cut|would equal the plain gradient"
    return ref.relu(ref.layer(ref.refused(lambda h: h, _first(m, x), name=word, gradient=word), m.c2))


def _by_hand(m: Net, x: Tensor) -> Tensor:
    h = F.conv2d(x, m.c1.weight, m.c1.bias, padding=1).relu().flatten(1)
    return F.relu(torch.addmm(m.dense.bias, h, m.dense.weight.t()))


def _matmul(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.c1(x)).flatten(1)
    return m.relu(h @ m.dense.weight.t() + m.dense.bias)


def _matmul_reference(m: Net, x: ref.Node) -> ref.Node:
    weight, bias = m.dense.weight.detach().numpy(), m.dense.bias.detach().numpy()
    return ref.relu(ref.shift(ref.linear(ref.flatten(_first(m, x)), weight), bias))


def _channels_last(m: Net, x: Tensor) -> Tensor:
    return m.relu(m.point(m.relu(m.c1(x)).permute(0, 2, 3, 1)))


def _shuffled(m: Net, x: Tensor) -> Tensor:
    h = m.relu(m.c1(x))
    kept, changed = h[:, :1], h[:, 1:]
    return torch.cat([m.c3(changed).relu_(), kept], 1)


def _shuffled_reference(m: Net, x: ref.Node) -> ref.Node:
    h = _first(m, x)
    return ref.join(ref.relu(ref.layer(ref.part(h, 1, 3), m.c3)), ref.part(h, 0, 1))


def _filtered_by_itself(m: Net, x: Tensor) -> Tensor:
    """A convolution whose kernels are the corners of what it is applied to."""
    h = m.relu(m.c1(x))
    weight = h[:, :, None, :3, :3].expand(-1, -1, 3, -1, -1).flatten(0, 1)
    return F.conv2d(h.view(1, -1, 5, 5), weight, padding=1, groups=len(x)).view(-1, 75)


def _filtered(h: np.ndarray) -> np.ndarray:
    padded = np.pad(h.sum(0), 1)
    return np.stack(
        [[[(padded[i : i + 3, j : j + 3] * kernel[:3, :3]).sum() for j in range(5)] for i in range(5)] for kernel in h]
    )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _hardsigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x.real >= 3, 1, np.where(x.real <= -3, 0, x / 6 + 0.5))


def _softmax(x: np.ndarray) -> np.ndarray:
    parts = np.exp(x - x.real.max(-1, keepdims=True))
    return parts / parts.sum(-1, keepdims=True)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.log(1 + np.exp(x))


def _elu(x: np.ndarray, alpha: float = 1.0, factor: float = 1.0) -> np.ndarray:
    return factor * np.where(x.real > 0, x, alpha * (np.exp(x) - 1))


def _normalised(x: np.ndarray, *axes: int) -> np.ndarray:
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5)


def _activated(name: str, function: Callable[[Tensor], Tensor], node: Callable[[ref.Node], ref.Node]) -> Trap:
    return Trap(
        name,
        lambda m, x: m.relu(m.c2(function(m.c1(x)))),
        lambda m, x: ref.relu(ref.layer(node(ref.layer(x, m.c1)), m.c2)),
    )


def _keeps_zero(name: str, function: Callable[[Tensor], Tensor], formula: Callable[[np.ndarray], np.ndarray]) -> Trap:
    """Relevance passes, and a rectifier's rule is not defined for it."""
    return _activated(name, function, lambda x: ref.activation(x, formula, name))


def _undefined(name: str, function: Callable[[Tensor], Tensor], formula: Callable[[np.ndarray], np.ndarray]) -> Trap:
    word = name.split(" ")[0]
    return _activated(name, function, lambda x: ref.refused(formula, x, name=word))


def _cut_off(h: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.where((h.real > low) & (h.real < high), h, np.clip(h.real, low, high))


def _cuts_off(name: str, function: Callable[[Tensor], Tensor], low: float, high: float, factor: float = 1.0) -> Trap:
    """Bounds with zero between them."""
    word = name.split(" ")[0].strip("_,")
    return _activated(
        name,
        lambda h: function(factor * h if factor != 1 else h),
        lambda x: (
            ref.activation(ref.scale(x, factor), lambda h: _cut_off(h, low, high), word)
            if factor != 1
            else ref.activation(x, lambda h: _cut_off(h, low, high), word)
        ),
    )


def _only_gradient(
    name: str, function: Callable[[Tensor], Tensor], formula: Callable[[np.ndarray], np.ndarray]
) -> Trap:
    return _activated(name, function, lambda x: ref.smooth(formula, x, name=name))


def _averaged(name: str, function: Callable[[Tensor], Tensor], features: int, seed: int = 0) -> Trap:
    """With a lone BatchNorm after it."""
    return Trap(
        name,
        lambda m, x: m.relu(m.n1(function(m.relu(m.c1(x))))),
        lambda m, x: ref.relu(ref.batch_norm(ref.average(_first(m, x), function), m.n1)),
        features=features,
        seed=seed,
    )


def _averaged_away(name: str, function: Callable[[Tensor], Tensor]) -> Trap:
    """Over all pixels."""
    return Trap(
        name, lambda m, x: function(m.relu(m.c1(x))), lambda m, x: ref.average(_first(m, x), function), features=3
    )


def _pooled(name: str, function: Callable[[Tensor], Tensor], features: int, **options: int | bool | str) -> Trap:
    """Before the ReLU, where no two entries tie, but for `amax`, which shares the signal where they do."""
    if options.get("shared"):
        return Trap(
            name,
            lambda m, x: function(m.relu(m.c1(x))),
            lambda m, x: ref.max_pool(_first(m, x), function, **options),
            features=features,
        )
    return Trap(
        name,
        lambda m, x: m.relu(function(m.c1(x))),
        lambda m, x: ref.relu(ref.max_pool(ref.layer(x, m.c1), function, **options)),
        features=features,
    )


def _moved(name: str, function: Callable[[Tensor], Tensor], features: int) -> Trap:
    return Trap(
        name,
        lambda m, x: m.relu(function(m.relu(m.c1(x)))),
        lambda m, x: ref.relu(ref.move(_first(m, x), function)),
        features=features,
    )


def _convolved(name: str, module: Callable[[], nn.Module], features: int) -> Trap:
    """The layer stands second, so that it sees no negative input, and with a BatchNorm of its own."""
    return Trap(
        name,
        lambda m, x: m.relu(m.after(m.layer(m.relu(m.c1(x))))),
        lambda m, x: ref.relu(ref.batch_norm(ref.layer(_first(m, x), m.layer), m.after)),
        lambda: {"layer": (layer := module()), "after": nn.BatchNorm2d(layer.out_channels)},
        features,
    )


def _padded_by(mode: str) -> Trap:
    """A convolution whose padding is not of zeros pads its input first: every entry moves, then a plain convolution."""

    def reference(m: Net, x: ref.Node) -> ref.Node:
        bare = nn.Conv2d(2, 3, 3)
        bare.weight, bare.bias = m.layer.weight, m.layer.bias
        return ref.relu(ref.layer(ref.move(x, lambda t: F.pad(t, (1, 1, 1, 1), mode=mode)), bare))

    return Trap(
        f"{mode} padding",
        lambda m, x: m.relu(m.layer(x)),
        reference,
        lambda: {"layer": nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode)},
    )


MEAN, SPREAD = 0.4, 0.7
MASK = torch.arange(75, dtype=torch.float64).remainder(4).view(3, 5, 5) - 1

TRAPS = [
    Trap("convolutions and ReLU", lambda m, x: m.relu(m.c2(m.relu(m.c1(x)))), _plain),
    Trap(
        "functional convolution and addmm",
        _by_hand,
        lambda m, x: ref.relu(ref.layer(ref.flatten(_first(m, x)), m.dense)),
        lambda: {"dense": nn.Linear(75, 6)},
        6,
    ),
    Trap("matmul and added bias", _matmul, _matmul_reference, lambda: {"dense": nn.Linear(75, 6)}, 6),
    Trap(
        "convolution called twice",
        lambda m, x: m.relu(m.c2(m.relu(m.c2(m.relu(m.c1(x)))))),
        lambda m, x: ref.relu(ref.layer(_plain(m, x), m.c2)),
    ),
    Trap("conv-BN", _conv_bn, _conv_bn_reference),
    Trap(
        "BN-conv",
        lambda m, x: m.relu(m.c2(m.relu(m.c1(m.n0(x))))),
        lambda m, x: _plain(m, ref.batch_norm(x, m.n0)),
    ),
    Trap(
        "BN alone",
        lambda m, x: m.relu(m.n2(m.relu(m.c1(x)))),
        lambda m, x: ref.relu(ref.batch_norm(_first(m, x), m.n2)),
    ),
    Trap(
        "linear-BN1d",
        lambda m, x: m.relu(m.after(m.dense(x.flatten(1)))),
        lambda m, x: ref.relu(ref.batch_norm(ref.layer(ref.flatten(x), m.dense), m.after)),
        lambda: {"dense": nn.Linear(50, 6), "after": nn.BatchNorm1d(6)},
        6,
    ),
    Trap("a convolution feeds BN and a skip", _shared_conv, _shared_conv_reference),
    Trap(
        "a convolution feeds BN and a ReLU",
        _shared_conv_relu,
        lambda m, x: ref.add(ref.relu(ref.batch_norm(h := ref.layer(x, m.c1), m.n1)), ref.relu(h)),
    ),
    Trap(
        "functional residual add",
        lambda m, x: m.relu(torch.add(m.n2(m.c2(h := m.relu(m.n1(m.c1(x))))), h)),
        _residual_reference,
    ),
    Trap("residual in place on a BN result", _residual_in_place, _residual_reference),
    Trap("residual in place on the shortcut", _residual_on_the_other, _residual_reference),
    Trap(
        "two BatchNorms share a convolution",
        lambda m, x: m.relu(m.n1(h := m.c1(x))) - m.relu(m.n2(h)),
        lambda m, x: ref.add(
            ref.relu(ref.batch_norm(h := ref.layer(x, m.c1), m.n1)),
            ref.scale(ref.relu(ref.batch_norm(h, m.n2)), -1.0),
        ),
    ),
    Trap(
        "BN without weights",
        lambda m, x: m.relu(m.plain(m.c2(m.relu(m.plain(m.c1(x)))))),
        lambda m, x: ref.relu(
            ref.batch_norm(ref.layer(ref.relu(ref.batch_norm(ref.layer(x, m.c1), m.plain)), m.c2), m.plain)
        ),
        lambda: {"plain": nn.BatchNorm2d(3, affine=False)},
    ),
    Trap(
        "BN with weights of zero",
        lambda m, x: m.relu(m.zero(m.c2(h := m.relu(m.c1(x)))) + h),
        lambda m, x: ref.relu(ref.add(ref.batch_norm(ref.layer(h := _first(m, x), m.c2), m.zero), h)),
        lambda: {"zero": _zero_batch_norm()},
    ),
    Trap(
        "two BatchNorms in a row",
        lambda m, x: m.relu(m.n2(m.n1(m.c1(x)))),
        lambda m, x: ref.relu(ref.batch_norm(ref.batch_norm(ref.layer(x, m.c1), m.n1), m.n2)),
    ),
    Trap(
        "dropout in eval mode between convolution and BN",
        lambda m, x: m.relu(m.n1(F.dropout(m.c1(x), 0.5, m.training))),
        lambda m, x: ref.relu(ref.batch_norm(ref.layer(x, m.c1), m.n1)),
    ),
    Trap(
        "in-place factor between convolution and BN",
        lambda m, x: m.relu(m.n1(m.c1(x).mul_(2.0))),
        lambda m, x: ref.relu(ref.batch_norm(ref.scale(ref.layer(x, m.c1), 2.0), m.n1)),
    ),
    Trap(
        "in-place add between convolution and BN",
        _add_before_bn,
        lambda m, x: ref.relu(ref.batch_norm(ref.add(ref.layer(h := _first(m, x), m.c2), h), m.n1)),
    ),
    Trap(
        "in-place ReLU between convolution and BN",
        _relu_before_bn,
        lambda m, x: ref.relu(ref.batch_norm(_first(m, x), m.n1)),
    ),
    Trap(
        "BN on a part of a convolution",
        lambda m, x: m.relu(m.n0(m.c1(x)[:, 1:])),
        lambda m, x: ref.relu(ref.batch_norm(ref.part(ref.layer(x, m.c1), 1, 3), m.n0)),
        features=50,
    ),
    Trap(
        "a tensor added to itself",
        lambda m, x: m.relu(m.c2((h := m.relu(m.c1(x))) + h)),
        lambda m, x: ref.relu(ref.layer(ref.add(h := _first(m, x), h), m.c2)),
    ),
    Trap(
        "in-place arithmetic",
        _in_place_arithmetic,
        lambda m, x: ref.relu(ref.scale(ref.layer(ref.shift(ref.scale(_first(m, x), 2.0), -0.1), m.c2), -2.0)),
    ),
    Trap(
        "two stems",
        lambda m, x: m.relu(m.c1(x)) + m.relu(m.stem(x[:, :, 1:])),
        lambda m, x: ref.add(_first(m, x), ref.relu(ref.layer(ref.move(x, lambda t: t[:, :, 1:]), m.stem))),
        lambda: {"stem": nn.Conv2d(2, 3, 2, padding=(1, 1), dilation=(1, 2))},
    ),
    Trap(
        "the image beside its features",
        lambda m, x: m.relu(m.both(torch.cat([x, m.relu(m.c1(x))], 1))),
        lambda m, x: ref.relu(ref.layer(ref.join(x, _first(m, x)), m.both)),
        lambda: {"both": nn.Conv2d(5, 3, 3, padding=1)},
    ),
    Trap(
        "two heads",
        lambda m, x: m.one(h := m.relu(m.c1(x)).flatten(1)) + m.other(m.relu(m.c2(h.view(-1, 3, 5, 5))).flatten(1)),
        lambda m, x: ref.add(
            ref.layer(ref.flatten(h := _first(m, x)), m.one),
            ref.layer(ref.flatten(ref.relu(ref.layer(h, m.c2))), m.other),
        ),
        lambda: {"one": nn.Linear(75, 3), "other": nn.Linear(75, 3), "head": nn.Identity()},
    ),
    Trap(
        "softmax at the end",
        lambda m, x: m.dense(m.relu(m.c1(x)).flatten(1)).softmax(1),
        lambda m, x: ref.smooth(_softmax, ref.layer(ref.flatten(_first(m, x)), m.dense), name="softmax"),
        lambda: {"dense": nn.Linear(75, 3), "head": nn.Identity()},
    ),
    Trap(
        "tied weights",
        lambda m, x: m.relu(F.linear(F.relu(F.linear(x.flatten(1), m.dense.weight)), m.dense.weight.t())),
        lambda m, x: ref.relu(
            ref.linear(
                ref.relu(ref.linear(ref.flatten(x), m.dense.weight.detach().numpy())),
                m.dense.weight.detach().numpy().T,
            )
        ),
        lambda: {"dense": nn.Linear(50, 6)},
        50,
    ),
    Trap(
        "one-dimensional convolution",
        lambda m, x: m.relu(m.row(x.flatten(2))),
        lambda m, x: ref.relu(ref.layer(ref.move(x, lambda t: t.flatten(2)), m.row)),
        lambda: {"row": nn.Conv1d(2, 3, 3, padding=1)},
    ),
    Trap(
        "BN after a residual add",
        lambda m, x: m.relu(m.n1(m.c2(h := m.relu(m.c1(x))) + h)),
        lambda m, x: ref.relu(ref.batch_norm(ref.add(ref.layer(h := _first(m, x), m.c2), h), m.n1)),
    ),
    Trap(
        "add with alpha",
        lambda m, x: m.relu(torch.add(m.c2(h := m.relu(m.c1(x))), h, alpha=-2.0)),
        lambda m, x: ref.relu(ref.add(ref.layer(h := _first(m, x), m.c2), ref.scale(h, -2.0))),
    ),
    Trap(
        "subtraction",
        lambda m, x: m.relu(m.c2(h := m.relu(m.c1(x))) - h),
        lambda m, x: ref.relu(ref.add(ref.layer(h := _first(m, x), m.c2), ref.scale(h, -1.0))),
    ),
    Trap(
        "subtraction from a constant",
        lambda m, x: m.relu(m.c2(1 - m.relu(m.c1(x)))),
        lambda m, x: ref.relu(ref.layer(ref.shift(ref.scale(_first(m, x), -1.0), 1.0), m.c2)),
    ),
    Trap(
        "broadcast add",
        lambda m, x: m.relu(m.c2(h := m.relu(m.c1(x))) + h.mean((2, 3), keepdim=True)),
        lambda m, x: ref.relu(
            ref.add(ref.layer(h := _first(m, x), m.c2), _over_pixels(ref.average(h, lambda t: t.mean((2, 3)))))
        ),
    ),
    Trap(
        "a constant added",
        lambda m, x: m.c2(m.relu(m.c1(x)) + MASK),
        lambda m, x: ref.layer(ref.shift(_first(m, x), MASK.numpy().ravel()), m.c2),
    ),
    Trap(
        "normalised in the model",
        lambda m, x: m.relu(m.c1((x - MEAN) / SPREAD)),
        lambda m, x: _first(m, ref.scale(ref.shift(x, -MEAN), 1 / SPREAD)),
    ),
    Trap(
        "a mask of constants",
        lambda m, x: m.c2(m.relu(m.c1(x)) * MASK),
        lambda m, x: ref.layer(ref.scale(_first(m, x), MASK.numpy().ravel()), m.c2),
    ),
    Trap(
        "negation and division",
        lambda m, x: m.relu(m.c2(-m.relu(m.c1(x)) / 0.5)),
        lambda m, x: ref.relu(ref.layer(ref.scale(_first(m, x), -2.0), m.c2)),
    ),
    Trap("dense block", _dense_block, _dense_block_reference, features=150),
    Trap(
        "in-place ReLU on a concatenation",
        _concatenated_in_place,
        lambda m, x: ref.relu(ref.join(h := ref.layer(x, m.c1), ref.layer(h, m.c2))),
        features=150,
    ),
    Trap("split and concatenated", _shuffled, _shuffled_reference, lambda: {"c3": nn.Conv2d(2, 2, 3, padding=1)}),
    Trap(
        "stacked and summed",
        lambda m, x: m.relu(torch.stack([m.c2(h := m.relu(m.c1(x))), h]).sum(0)),
        lambda m, x: ref.relu(
            ref.average(ref.join(ref.layer(h := _first(m, x), m.c2), h), lambda t: t.unflatten(1, (2, 3)).sum(1))
        ),
    ),
    Trap(
        "dense layer on channels last",
        _channels_last,
        lambda m, x: ref.relu(ref.layer(ref.move(_first(m, x), lambda t: t.permute(0, 2, 3, 1)), m.point)),
        lambda: {"point": nn.Linear(3, 4)},
        100,
    ),
    Trap(
        "padded before the first layer",
        lambda m, x: m.relu(m.layer(F.pad(x, (1, 0, 2, 0), value=0.5))),
        lambda m, x: ref.relu(ref.layer(ref.move(x, lambda t: F.pad(t, (1, 0, 2, 0), value=0.5)), m.layer)),
        lambda: {"layer": nn.Conv2d(2, 3, 3)},
        60,
    ),
    _padded_by("reflect"),
    _padded_by("circular"),
    _moved("pad", lambda t: F.pad(t, (1, 0, 0, 2)), 126),
    _moved("slice with a stride", lambda t: t[:, :, ::2, 1:], 36),
    _moved("nearest interpolation", lambda t: F.interpolate(t, scale_factor=2), 300),
    _moved("permute", lambda t: t.permute(0, 3, 1, 2).contiguous(), 75),
    _moved("roll", lambda t: t.roll(1, 2), 75),
    _moved("flip", lambda t: t.flip(3), 75),
    _moved("indexing", lambda t: t[:, [2, 0, 0]], 75),
    _moved("unbind and stack", lambda t: torch.stack(t.unbind(1)[::-1], 1), 75),
    _moved("beside constants", lambda t: torch.cat([t, torch.ones_like(t)], 1), 150),
    _moved("written into zeros", _written_into_zeros, 75),
    _moved("expand and reshape", lambda t: t.unsqueeze(1).expand(-1, 2, -1, -1, -1).reshape(len(t), -1), 150),
    Trap(
        "two-dimensional dropout in eval mode",
        lambda m, x: m.c2(m.drop(m.relu(m.c1(x)))),
        lambda m, x: ref.layer(_first(m, x), m.c2),
        lambda: {"drop": nn.Dropout2d(0.5)},
    ),
    _convolved("1x1 convolution", lambda: nn.Conv2d(3, 4, 1), 100),
    _convolved("grouped convolution", lambda: nn.Conv2d(3, 6, 3, padding=1, groups=3), 150),
    _convolved("dilated convolution", lambda: nn.Conv2d(3, 4, 3, padding=2, dilation=2), 100),
    _convolved("strided convolution", lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), 36),
    _convolved("convolution with an even kernel", lambda: nn.Conv2d(3, 4, 2, padding=1), 144),
    _convolved("same padding, even kernel", lambda: nn.Conv2d(3, 4, 4, padding="same"), 100),
    _convolved("convolution without bias", lambda: nn.Conv2d(3, 4, 3, bias=False), 36),
    _convolved(
        "transposed convolution", lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), 200
    ),
    _convolved("grouped transposed convolution", lambda: nn.ConvTranspose2d(3, 6, 2, groups=3, dilation=2), 294),
    _convolved("weight norm", lambda: weight_norm(nn.Conv2d(3, 4, 3)), 36),
    _convolved("weights pruned by a parametrisation", _pruned, 100),
    _convolved("spectral norm", lambda: spectral_norm(nn.Conv2d(3, 4, 3)), 36),
    _pooled("max pool", lambda t: F.max_pool2d(t, 2), 12),
    _pooled("max pool, overlapping and padded", lambda t: F.max_pool2d(t, 3, 2, 1), 27, size=9),
    _pooled("max pool, ceil mode", lambda t: F.max_pool2d(t, 2, ceil_mode=True), 27, size=4),
    _pooled("max pool, dilated", lambda t: F.max_pool2d(t, 2, 1, dilation=2), 27, refusal="dilated"),
    _pooled("adaptive max pool", lambda t: F.adaptive_max_pool2d(t, (2, 3)), 18),
    _pooled("max over an axis", lambda t: t.max(2).values, 15, refusal="max"),
    _pooled("amax", lambda t: t.amax((2, 3)), 3, shared=True, refusal="amax"),
    Trap(
        "max pool after ReLU",
        lambda m, x: m.c2(F.max_pool2d(m.relu(m.c1(x)), 2)),
        lambda m, x: ref.layer(ref.max_pool(_first(m, x), lambda t: F.max_pool2d(t, 2)), m.c2),
        features=12,
    ),
    _averaged("average pool", lambda t: F.avg_pool2d(t, 2), 12, seed=1),
    _averaged("average pool, padded", lambda t: F.avg_pool2d(t, 3, 2, 1), 27),
    _averaged("average pool, padding not counted", lambda t: F.avg_pool2d(t, 3, 2, 1, count_include_pad=False), 27),
    _averaged("average pool, ceil mode", lambda t: F.avg_pool2d(t, 2, ceil_mode=True), 27),
    _averaged("adaptive average pool", lambda t: F.adaptive_avg_pool2d(t, (2, 3)), 18),
    _averaged("bilinear interpolation", lambda t: F.interpolate(t, (7, 4), mode="bilinear"), 84),
    _averaged("bicubic interpolation", lambda t: F.interpolate(t, (7, 4), mode="bicubic"), 84),
    _averaged("unfold and fold", lambda t: F.fold(F.unfold(t, 3), (5, 5), 3), 75),
    _averaged_away("mean", lambda t: t.mean((2, 3))),
    _averaged_away("sum", lambda t: t.sum((2, 3))),
    _averaged_away("global average pool", lambda t: F.adaptive_avg_pool2d(t, 1)),
    _activated(
        "ReLU6, saturated, in place", lambda h: F.relu6(9 * h, inplace=True), lambda x: ref.relu(ref.scale(x, 9.0), 6.0)
    ),
    _keeps_zero("leaky_relu", lambda h: F.leaky_relu(h, 0.2), lambda h: np.where(h.real > 0, h, 0.2 * h)),
    Trap(
        "in-place LeakyReLU",
        lambda m, x: m.relu(m.c2(F.leaky_relu_(m.n1(m.c1(x)), 0.1))),
        lambda m, x: ref.relu(
            ref.layer(
                ref.activation(
                    ref.batch_norm(ref.layer(x, m.c1), m.n1), lambda h: np.where(h.real > 0, h, 0.1 * h), "leaky_relu"
                ),
                m.c2,
            )
        ),
    ),
    _keeps_zero("prelu", nn.PReLU(init=0.25).double(), lambda h: np.where(h.real > 0, h, 0.25 * h)),
    _keeps_zero("elu", F.elu, _elu),
    _keeps_zero(
        "selu", F.selu, lambda h: _elu(h, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)
    ),
    _keeps_zero("celu", F.celu, _elu),
    _keeps_zero("gelu", F.gelu, lambda h: h * (1 + erf(h / np.sqrt(2))) / 2),
    _keeps_zero("silu", F.silu, lambda h: h * _sigmoid(h)),
    _keeps_zero("mish", F.mish, lambda h: h * np.tanh(_softplus(h))),
    _keeps_zero("hardswish", F.hardswish, lambda h: h * _hardsigmoid(h)),
    _keeps_zero("tanh", torch.tanh, np.tanh),
    _keeps_zero("softsign", F.softsign, lambda h: np.where(h.real > 0, h / (1 + h), h / (1 - h))),
    _keeps_zero(
        "softshrink",
        lambda h: F.softshrink(h, 0.1),
        lambda h: np.where(h.real > 0.1, h - 0.1, np.where(h.real < -0.1, h + 0.1, 0)),
    ),
    _keeps_zero("hardshrink", lambda h: F.hardshrink(h, 0.1), lambda h: np.where(abs(h.real) > 0.1, h, 0)),
    _keeps_zero("tanhshrink", F.tanhshrink, lambda h: h - np.tanh(h)),
    _undefined("softplus", F.softplus, _softplus),
    _undefined("exp", torch.exp, np.exp),
    _undefined("abs", torch.abs, lambda h: np.where(h.real > 0, h, -h)),
    _undefined("pow", lambda h: h**2, lambda h: h**2),
    _undefined("clamp without zero", lambda h: h.clamp(0.05, 0.4), lambda h: _cut_off(h, 0.05, 0.4)),
    _undefined(
        "threshold that lifts zero", lambda h: F.threshold(h, 0.1, 0.3), lambda h: np.where(h.real > 0.1, h, 0.3)
    ),
    _cuts_off("hardtanh", F.hardtanh, -1, 1, 3.0),
    _cuts_off("hardtanh, in place", lambda h: F.hardtanh(h, -0.3, 0.2, True), -0.3, 0.2),
    _cuts_off("clamp on both sides of zero", lambda h: h.clamp(-0.3, 0.2), -0.3, 0.2),
    _cuts_off("clamp_ on both sides of zero", lambda h: h.clamp_(-0.3, 0.2), -0.3, 0.2),
    _cuts_off("clamp from above", lambda h: h.clamp(max=0.2), -np.inf, 0.2),
    _cuts_off("clamp_min below zero", lambda h: h.clamp_min(-0.2), -0.2, np.inf),
    _cuts_off(
        "maximum with what is below zero",
        lambda h: torch.maximum(torch.tensor(-0.2, dtype=torch.double), h),
        -0.2,
        np.inf,
    ),
    _cuts_off(
        "minimum with what is above zero", lambda h: torch.min(h, torch.tensor(0.2, dtype=torch.double)), -np.inf, 0.2
    ),
    _cuts_off("minimum with zero", lambda h: torch.minimum(h, torch.zeros(()).double()), -np.inf, 0),
    _activated(
        "threshold above zero",
        lambda h: F.threshold(h, 0.1, 0),
        lambda x: ref.activation(x, lambda h: np.where(h.real > 0.1, h, 0), "threshold"),
    ),
    _activated(
        "threshold below zero",
        lambda h: F.threshold(h, -0.1, -0.4),
        lambda x: ref.activation(x, lambda h: np.where(h.real > -0.1, h, -0.4), "threshold"),
    ),
    _only_gradient("sigmoid", torch.sigmoid, _sigmoid),
    _only_gradient("softmax", lambda h: h.softmax(-1), _softmax),
    _only_gradient("layer_norm", lambda h: F.layer_norm(h, (3, 5, 5)), lambda h: _normalised(h, 0, 1, 2)),
    _only_gradient("group_norm", lambda h: F.group_norm(h, 1), lambda h: _normalised(h, 0, 1, 2)),
    _only_gradient("instance_norm", F.instance_norm, lambda h: _normalised(h, 1, 2)),
    Trap("squeeze and excite", _se, _se_reference, lambda: {"down": nn.Linear(3, 2), "up": nn.Linear(2, 3)}),
    Trap(
        "squeeze and excite, hard",
        _se_conv,
        _se_conv_reference,
        lambda: {"down": nn.Conv2d(3, 2, 1), "up": nn.Conv2d(2, 3, 1)},
    ),
    Trap(
        "Hardswish by hand",
        lambda m, x: m.relu(m.c2((h := m.c1(x)) * F.relu6(h + 3) / 6)),
        lambda m, x: ref.relu(
            ref.layer(
                ref.scale(ref.gate(h := ref.layer(x, m.c1), ref.relu(ref.shift(h, 3.0), 6.0)), 1 / 6),
                m.c2,
            )
        ),
    ),
    Trap(
        "SiLU by hand",
        lambda m, x: m.relu(m.c2((h := m.c1(x)) * h.sigmoid())),
        lambda m, x: ref.relu(
            ref.layer(ref.gate(h := ref.layer(x, m.c1), ref.smooth(_sigmoid, h, name="sigmoid")), m.c2)
        ),
    ),
    Trap(
        "a gate, scaled",
        lambda m, x: (h := m.relu(m.c1(x))) * (torch.sigmoid(m.c2(h)) * 2),
        lambda m, x: _gated(m, x, lambda s: ref.scale(ref.smooth(_sigmoid, s, name="sigmoid"), 2.0)),
    ),
    Trap(
        "a gate by what has no rule",
        lambda m, x: (h := m.relu(m.c1(x))) * torch.sigmoid(torch.exp(m.c2(h))),
        lambda m, x: _gated(m, x, lambda s: ref.smooth(_sigmoid, ref.refused(np.exp, s, name="exp"), name="sigmoid")),
    ),
    Trap(
        "a gate by hardtanh",
        lambda m, x: (h := m.relu(m.c1(x))) * F.hardtanh(m.c2(h) + 0.3, 0.0, 0.5),
        lambda m, x: _gated(m, x, lambda s: ref.relu(ref.shift(s, 0.3), 0.5)),
    ),
    Trap(
        "a signal times itself",
        lambda m, x: (h := m.relu(m.c1(x))) * h,
        lambda m, x: ref.smooth(np.multiply, h := _first(m, x), h, name="mul"),
    ),
    Trap(
        "tanh behind a gate",
        lambda m, x: torch.sigmoid(m.c2(h := m.relu(m.c1(x)))) * torch.tanh(m.n1(h)),
        lambda m, x: ref.gate(
            ref.activation(ref.batch_norm(h := _first(m, x), m.n1), np.tanh, "tanh"),
            ref.smooth(_sigmoid, ref.layer(h, m.c2), name="sigmoid"),
        ),
    ),
    Trap("attention over pixels", _attended, _attended_reference, lambda: {"query": nn.Conv2d(3, 1, 1)}, 3),
    Trap("product of two signals", lambda m, x: (h := m.relu(m.c1(x))) * m.c2(h), _product_reference),
    Trap(
        "quotient of two signals",
        lambda m, x: (h := m.relu(m.c1(x))) / (h.sum((1, 2, 3), keepdim=True) + 1),
        lambda m, x: ref.smooth(lambda h: h / (h.sum() + 1), _first(m, x), name="div"),
    ),
    Trap(
        "product of two gates",
        lambda m, x: torch.sigmoid(m.c2(h := m.relu(m.c1(x)))) * torch.sigmoid(h),
        lambda m, x: ref.smooth(
            lambda g, h: _sigmoid(g) * _sigmoid(h), ref.layer(h := _first(m, x), m.c2), h, name="mul|sigmoid"
        ),
    ),
    Trap(
        "matmul of two signals",
        lambda m, x: (h := m.relu(m.c1(x)).flatten(2)) @ h.transpose(1, 2),
        lambda m, x: ref.smooth(lambda h: h @ h.T, ref.move(_first(m, x), lambda t: t.flatten(2)), name="matmul"),
        features=9,
    ),
    Trap(
        "maximum of two signals",
        lambda m, x: torch.maximum(h := m.relu(m.c1(x)), m.c2(h)),
        lambda m, x: ref.larger(h := _first(m, x), ref.layer(h, m.c2)),
    ),
    Trap(
        "minimum of two signals",
        lambda m, x: torch.minimum(h := m.relu(m.c1(x)), m.c2(h)),
        lambda m, x: ref.scale(
            ref.larger(ref.scale(h := _first(m, x), -1.0), ref.scale(ref.layer(h, m.c2), -1.0)), -1.0
        ),
    ),
    Trap(
        "maximum of the halves",
        lambda m, x: m.relu(torch.max(*m.wide(x).chunk(2, 1))),
        lambda m, x: ref.relu(ref.larger(ref.part(h := ref.layer(x, m.wide), 0, 2), ref.part(h, 2, 4))),
        lambda: {"wide": nn.Conv2d(2, 4, 3, padding=1)},
        50,
    ),
    Trap(
        "maximum of a signal and its tenth",
        lambda m, x: m.relu(m.c2(torch.maximum(h := m.c1(x), 0.1 * h))),
        lambda m, x: ref.relu(
            ref.layer(ref.refused(lambda h: np.where(h.real > 0, h, 0.1 * h), ref.layer(x, m.c1), name="maximum"), m.c2)
        ),
    ),
    Trap(
        "maximum of a signal and its ReLU6",
        lambda m, x: m.relu(m.c2(torch.maximum(h := m.c1(x), 0.5 * F.relu6(h)))),
        lambda m, x: ref.relu(
            ref.layer(ref.refused(lambda h: np.where(h.real > 0, h, 0), ref.layer(x, m.c1), name="maximum"), m.c2)
        ),
    ),
    Trap(
        "GLU",
        lambda m, x: m.relu(F.glu(m.wide(m.relu(m.c1(x))), 1)),
        _glu_reference,
        lambda: {"wide": nn.Conv2d(3, 4, 3, padding=1)},
        50,
    ),
    Trap(
        "GLU, a module",
        lambda m, x: m.relu(m.glu(m.wide(m.relu(m.c1(x))))),
        _glu_reference,
        lambda: {"wide": nn.Conv2d(3, 4, 3, padding=1), "glu": nn.GLU(1)},
        50,
    ),
    Trap(
        "addcmul with a constant",
        lambda m, x: m.relu(torch.addcmul(m.c2(h := m.relu(m.c1(x))), h, MASK, value=0.5)),
        lambda m, x: ref.relu(
            ref.add(ref.layer(h := _first(m, x), m.c2), ref.scale(ref.scale(h, MASK.numpy().ravel()), 0.5))
        ),
    ),
    Trap(
        "addcmul_ with a gate",
        lambda m, x: m.relu(m.c2(h := m.relu(m.c1(x))).addcmul_(h, torch.sigmoid(m.n1(h)))),
        lambda m, x: ref.relu(
            ref.add(
                ref.layer(h := _first(m, x), m.c2),
                ref.gate(h, ref.smooth(_sigmoid, ref.batch_norm(h, m.n1), name="sigmoid")),
            )
        ),
    ),
    Trap(
        "addcmul of two signals",
        lambda m, x: torch.addcmul(h := m.relu(m.c1(x)), h, m.c2(h)),
        lambda m, x: ref.add(h := _first(m, x), ref.smooth(np.multiply, h, ref.layer(h, m.c2), name="mul")),
    ),
    Trap(
        "instance norm by running statistics",
        lambda m, x: m.relu(m.i2(m.c2(m.relu(m.i1(m.c1(x)))))),
        lambda m, x: ref.relu(
            ref.batch_norm(ref.layer(ref.relu(ref.batch_norm(ref.layer(x, m.c1), m.i1)), m.c2), m.i2)
        ),
        lambda: {
            "i1": nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
            "i2": nn.InstanceNorm2d(3, track_running_stats=True),
        },
    ),
    Trap(
        "instance norm by running statistics, alone",
        lambda m, x: m.relu(m.c2(m.i1(m.relu(m.c1(x))))),
        lambda m, x: ref.relu(ref.layer(ref.batch_norm(_first(m, x), m.i1), m.c2)),
        lambda: {"i1": nn.InstanceNorm2d(3, affine=True, track_running_stats=True)},
    ),
    Trap(
        "local response norm",
        lambda m, x: m.relu(m.c2(m.norm(m.relu(m.c1(x))))),
        lambda m, x: ref.relu(ref.layer(ref.ResponseNorm(_first(m, x), 2, 0.9, 0.75, 1.0), m.c2)),
        lambda: {"norm": nn.LocalResponseNorm(2, alpha=0.9)},
    ),
    Trap(
        "local response norm of signed values",
        lambda m, x: m.relu(m.c2(F.local_response_norm(m.c1(x), 3, alpha=0.5, beta=0.6, k=2.0))),
        lambda m, x: ref.relu(ref.layer(ref.ResponseNorm(ref.layer(x, m.c1), 3, 0.5, 0.6, 2.0), m.c2)),
    ),
    Trap(
        "a gate of one number, in place",
        _gated_in_place,
        lambda m, x: _gated(
            m,
            x,
            lambda s: ref.move(
                ref.smooth(_sigmoid, ref.average(s, lambda t: t.mean((1, 2, 3), keepdim=True)), name="sigmoid"),
                lambda t: t.expand(-1, 3, 5, 5),
            ),
        ),
    ),
    Trap(
        "weights made from the image",
        _filtered_by_itself,
        lambda m, x: ref.smooth(_filtered, _first(m, x), name="conv2d"),
    ),
    Trap(
        "PReLU with a slope from the image",
        lambda m, x: torch.cat([F.prelu(h, h.mean().view(1)) for h in m.c1(x).split(1)]),
        lambda m, x: ref.refused(lambda h: np.where(h.real > 0, h, h.mean() * h), ref.layer(x, m.c1), name="prelu"),
    ),
    Trap("vision transformer", _vit, _vit_reference, _vit_modules, 4),
    Trap(
        "vision transformer by hand",
        _vit_by_hand,
        lambda m, x: _vit_reference(
            m, x, lambda t: ref.activation(t, lambda h: h * (1 + erf(h / np.sqrt(2))) / 2, "gelu")
        ),
        _vit_modules,
        4,
    ),
    Trap(
        "nn.MultiheadAttention",
        _multi_head,
        _multi_head_reference,
        lambda: {"patch": nn.Conv2d(2, 4, 2, stride=2), "attention": nn.MultiheadAttention(4, 2, batch_first=True)},
        16,
    ),
    Trap("nn.LSTM", _recurrent, _recurrent_reference, lambda: {"lstm": nn.LSTM(25, 4, batch_first=True)}, 4),
    Trap(
        "a frozen stem",
        lambda m, x: m.relu(m.c2(m.relu(m.stem(x)))),
        lambda m, x: ref.relu(ref.layer(ref.relu(ref.layer(x, m.stem)), m.c2)),
        lambda: {"stem": nn.Conv2d(2, 3, 3).requires_grad_(False)},
        27,
    ),
    Trap("a stem under no_grad", _cut, _cut_reference),
    Trap(
        "a compiled sub-module",
        lambda m, x: m.relu(m.c2(m.stem(x))),
        lambda m, x: ref.relu(ref.layer(ref.relu(ref.layer(x, m.stem._orig_mod[0])), m.c2)),
        lambda: {"stem": torch.compile(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True)))},
        27,
    ),
    Trap("one logit", lambda m, x: m.relu(m.c2(m.relu(m.c1(x)))), _plain, classes=1),
    Trap(
        "two outputs",
        lambda m, x: m.relu(m.c2(m.relu(m.c1(x)))),
        _plain,
        returns=lambda z: (2 * z, z),
        target=lambda output: output[1][:, 0],
    ),
    Trap(
        "a dict of outputs",
        lambda m, x: m.relu(m.c2(m.relu(m.c1(x)))),
        _plain,
        returns=lambda z: {"logits": z, "more": 2 * z},
    ),
]
AnyTrap = Trap | traps.Trap
ALL: list[AnyTrap] = [*traps.TRAPS, *traps.IN_DISGUISE, *traps.ESCAPES, *traps.OUTSIDE, *TRAPS]
