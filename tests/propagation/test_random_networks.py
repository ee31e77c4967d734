"""Random small networks, built as torch code and as a graph of matrices: every method must agree, or be refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf
from torch import Tensor, nn

import sightline as sl
from helpers import outcomes, zoo
from helpers import reference as ref

pytestmark = pytest.mark.usefixtures("one_thread")
AGREEMENT = 1e-8
Draw = Callable[[st.SearchStrategy], object]


@dataclass
class Block:
    """A piece of a network, once as code and once as a graph, and the modules it uses."""

    run: Callable[[Tensor], Tensor]
    graph: Callable[[ref.Node], ref.Node]
    modules: tuple[nn.Module, ...] = ()


class Network(nn.Module):
    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.blocks = blocks
        self.used = nn.ModuleList(module for block in blocks for module in block.modules)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block.run(x)
        return x

    def graph(self, x: ref.Node) -> ref.Node:
        for block in self.blocks:
            x = block.graph(x)
        return x


def chain(*blocks: Block) -> Block:
    def run(x: Tensor) -> Tensor:
        for block in blocks:
            x = block.run(x)
        return x

    def graph(x: ref.Node) -> ref.Node:
        for block in blocks:
            x = block.graph(x)
        return x

    return Block(run, graph, tuple(module for block in blocks for module in block.modules))


def layer(module: nn.Module) -> Block:
    return Block(module, lambda x: ref.layer(x, module), (module,))


def batch_norm(module: nn.Module) -> Block:
    return Block(module, lambda x: ref.batch_norm(x, module), (module,))


def move(function: Callable[[Tensor], Tensor]) -> Block:
    return Block(function, lambda x: ref.move(x, function))


RELU = Block(F.relu, ref.relu)
ACTIVATIONS = {
    "relu": RELU,
    "relu in place": Block(F.relu_, ref.relu),
    "relu6": Block(lambda x: F.relu6(9 * x), lambda x: ref.relu(ref.scale(x, 9.0), 6.0)),
    "clamp": Block(lambda x: x.clamp(min=0), ref.relu),
    "leaky_relu": Block(
        F.leaky_relu, lambda x: ref.activation(x, lambda h: np.where(h.real > 0, h, 0.01 * h), "leaky_relu")
    ),
    "gelu": Block(F.gelu, lambda x: ref.activation(x, lambda h: h * (1 + erf(h / np.sqrt(2))) / 2, "gelu")),
    "silu": Block(F.silu, lambda x: ref.activation(x, lambda h: h / (1 + np.exp(-h)), "silu")),
    "none": Block(lambda x: x, lambda x: x),
}
POOLS = {
    "max": Block(lambda x: F.max_pool2d(x, 2, 1), lambda x: ref.max_pool(x, lambda t: F.max_pool2d(t, 2, 1))),
    "max ceil": Block(
        lambda x: F.max_pool2d(x, 2, ceil_mode=True),
        lambda x: ref.max_pool(x, lambda t: F.max_pool2d(t, 2, ceil_mode=True), size=4),
    ),
    "average": Block(lambda x: F.avg_pool2d(x, 2, 1), lambda x: ref.average(x, lambda t: F.avg_pool2d(t, 2, 1))),
    "average padded": Block(
        lambda x: F.avg_pool2d(x, 3, 2, 1), lambda x: ref.average(x, lambda t: F.avg_pool2d(t, 3, 2, 1))
    ),
    "adaptive": Block(
        lambda x: F.adaptive_avg_pool2d(x, 2), lambda x: ref.average(x, lambda t: F.adaptive_avg_pool2d(t, 2))
    ),
}
MOVES = {
    "slice": move(lambda x: x[:, :, 1:]),
    "pad": move(lambda x: F.pad(x, (1, 0, 0, 1))),
    "upsample": move(lambda x: F.interpolate(x, size=(4, 4))),
    "transpose": move(lambda x: x.transpose(2, 3)),
}


def draw_convolution(draw: Draw, shape: Sequence[int], *, same: bool, bias: bool, reaching: bool) -> nn.Module:
    """A convolution; `same` keeps channels and size, `reaching` leaves no unit in the padding without an input."""
    channels, *size = shape
    if same:
        kernel, dilation = draw(st.sampled_from([(1, 1), (3, 1), (3, 2)]))
        return nn.Conv2d(channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=bias)
    if draw(st.integers(0, 4)) == 0:
        return nn.ConvTranspose2d(channels, 2, 2, stride=draw(st.integers(1, 2)), bias=bias)
    groups = channels if draw(st.booleans()) else 1
    kernel = draw(st.integers(1, min(3, *size)))
    return nn.Conv2d(
        channels,
        draw(st.integers(1, 2)) * channels,
        kernel,
        stride=draw(st.integers(1, 2)),
        padding=draw(st.integers(0, kernel - 1) if reaching else st.integers(1, 2)),
        groups=groups,
        bias=bias,
    )


def draw_weighted(draw: Draw, shape: Sequence[int], *, same: bool = False) -> Block:
    module = draw_convolution(draw, shape, same=same, bias=draw(st.booleans()), reaching=False)
    if draw(st.booleans()):
        return chain(layer(module), batch_norm(nn.BatchNorm2d(module.out_channels)))
    return layer(module)


def gated(block: Block, channels: int) -> Block:
    down, up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def run(x: Tensor) -> Tensor:
        x = block.run(x)
        return x * torch.sigmoid(up(F.relu(down(x.mean((2, 3), keepdim=True)))))

    def graph(x: ref.Node) -> ref.Node:
        x = block.graph(x)
        mean = ref.average(x, lambda t: t.mean((2, 3), keepdim=True))
        weights = ref.smooth(
            lambda h: 1 / (1 + np.exp(-h)), ref.layer(ref.relu(ref.layer(mean, down)), up), name="sigmoid"
        )
        return ref.gate(x, ref.move(weights, lambda t: t.expand(-1, -1, *x.shape[1:])))

    return Block(run, graph, (*block.modules, down, up))


def residual(block: Block) -> Block:
    def run(x: Tensor) -> Tensor:
        out = block.run(x)
        out += x
        return out

    return Block(run, lambda x: ref.add(block.graph(x), x), block.modules)


def concatenated(block: Block) -> Block:
    return Block(lambda x: torch.cat([x, block.run(x)], 1), lambda x: ref.join(x, block.graph(x)), block.modules)


@st.composite
def networks(draw: Draw, *, only_relu: bool = False) -> tuple[Network, Tensor]:
    """A network that starts with a weighted layer, for which a box is defined, and two images."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    channels = draw(st.integers(1, 2))
    activations = st.sampled_from(["relu", "relu in place", "clamp"] if only_relu else list(ACTIVATIONS))
    images = torch.randn(2, channels, 4, 5, dtype=torch.float64).clamp(outcomes.LOW, outcomes.HIGH)
    blocks: list[Block] = []
    before = draw(st.sampled_from(["nothing", "BatchNorm", "pad", "slice", "normalise"]))
    if before == "BatchNorm":
        blocks.append(batch_norm(nn.BatchNorm2d(channels)))
    elif before == "normalise":
        blocks.append(Block(lambda x: (x - 0.3) / 0.5, lambda x: ref.scale(ref.shift(x, -0.3), 2.0)))
    elif before != "nothing":
        blocks.append(MOVES[before])
    blocks += [draw_weighted(draw, shape_after(blocks, images)), ACTIVATIONS[draw(activations)]]
    kinds = ["weighted", "pool", "residual", "concatenated", "move", "BatchNorm"] + ["gate"] * (not only_relu)
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=3)):
        shape = channels, *size = shape_after(blocks, images)
        if kind == "weighted":
            blocks += [draw_weighted(draw, shape), ACTIVATIONS[draw(activations)]]
        elif kind == "pool" and min(size) >= 2:
            blocks.append(POOLS[draw(st.sampled_from(list(POOLS)))])
        elif kind in ("residual", "concatenated"):
            inner = [draw_weighted(draw, shape, same=True), ACTIVATIONS[draw(activations)]]
            blocks.append((residual if kind == "residual" else concatenated)(chain(*inner)))
        elif kind == "gate":
            blocks.append(gated(draw_weighted(draw, shape, same=True), channels))
        elif kind == "move" and min(size) >= 2:
            blocks.append(MOVES[draw(st.sampled_from(list(MOVES)))])
        elif kind == "BatchNorm":
            blocks += [batch_norm(nn.BatchNorm2d(channels)), ACTIVATIONS[draw(activations)]]
    blocks.append(move(lambda x: x.flatten(1)) if draw(st.booleans()) else average_pixels())
    (features,) = shape_after(blocks, images)
    if draw(st.booleans()):
        blocks += [layer(nn.Linear(features, 4)), *([batch_norm(nn.BatchNorm1d(4))] * draw(st.integers(0, 1)))]
        blocks.append(ACTIVATIONS[draw(activations)])
        features = 4
    blocks.append(layer(nn.Linear(features, 3)))
    network = Network(blocks)
    zoo.settle(network)
    return network.double().eval(), images


def average_pixels() -> Block:
    return Block(lambda x: x.mean((2, 3)), lambda x: ref.average(x, lambda t: t.mean((2, 3))))


def shape_after(blocks: list[Block], images: Tensor) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(Network(blocks).double().eval()(images).shape[1:])


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(networks())
def test_every_method_agrees_with_the_reference(drawn: tuple[Network, Tensor]) -> None:
    assert_every_method_agrees(*drawn)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(networks())
def test_every_method_agrees_on_a_few_networks(drawn: tuple[Network, Tensor]) -> None:
    assert_every_method_agrees(*drawn)


@pytest.mark.study
@settings(max_examples=10_000, deadline=None)
@given(networks())
def test_every_method_agrees_on_many_networks(drawn: tuple[Network, Tensor]) -> None:
    """Other networks each time."""
    assert_every_method_agrees(*drawn)


def assert_every_method_agrees(network: Network, images: Tensor) -> None:
    graphs = [(network.graph(start), start) for start in map(ref.image, images)]
    target = [int(np.argmax(scores.value)) for scores, _ in graphs]
    explanation = sl.explain(network, images, list(outcomes.methods().values()), target, on_refusal="record")
    np.testing.assert_allclose(
        explanation.values, [z.value[label] for (z, _), label in zip(graphs, target, strict=True)], rtol=1e-10
    )
    for name, method in outcomes.REFERENCE.items():
        values = [ref.pick(scores, label) for (scores, _), label in zip(graphs, target, strict=True)]
        if ref.objections(values[0], method):
            assert name in explanation.refused, name
            continue
        assert name not in explanation.refused, explanation.refused[name]
        for z, (_, start), found in zip(values, graphs, explanation[name], strict=True):
            expected = ref.explain(z, start, method)
            np.testing.assert_allclose(
                found.flatten().numpy(),
                expected,
                rtol=0,
                # Where the map is nothing because large flows cancel, what is left is their rounding.
                atol=AGREEMENT * np.abs(expected).max() + 1e-11 * max(abs(float(z.value.sum())), 1.0),
                err_msg=name,
            )


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(networks(only_relu=True))
def test_lrp_0_is_the_gradient_times_the_input(drawn: tuple[Network, Tensor]) -> None:
    """On piecewise linear networks, constants added to the input and lone BatchNorms with their shifts included."""
    network, images = drawn
    explanation = sl.explain(network, images, ["lrp_0", "input_x_gradient"], 1)
    expected = explanation["input_x_gradient"]
    torch.testing.assert_close(
        explanation["lrp_0"], expected, rtol=0, atol=AGREEMENT * float(expected.abs().max()) + 1e-300
    )


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_relevance_is_conserved_without_biases(data: st.DataObject) -> None:
    """Every relevance that arrives leaves, but for the stabiliser's share: e / (sum of a unit's contributions).

    The weights are large, so that this share is small beside any sum of contributions or of squared weights; what flat
    divides by is a count, of which the stabiliser takes a millionth in each layer.
    """
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    images = torch.rand(2, 2, 6, 6, dtype=torch.float64) + 0.1
    blocks: list[Block] = []
    depth, flat = data.draw(st.integers(1, 3)), move(lambda x: x.flatten(1))
    for _ in range(depth):
        shape = shape_after(blocks, images)
        blocks += [layer(draw_convolution(data.draw, shape, same=False, bias=False, reaching=True)), RELU]
        shape = shape_after(blocks, images)
        after = data.draw(st.sampled_from(["nothing", "pool", "transpose", "residual"]))
        if after == "pool" and min(shape[1:]) >= 2:
            blocks.append(POOLS[data.draw(st.sampled_from(list(POOLS)))])
        elif after == "transpose":
            blocks.append(MOVES[after])
        elif after == "residual":
            inner = draw_convolution(data.draw, shape, same=True, bias=False, reaching=True)
            blocks.append(residual(chain(layer(inner), RELU)))
    head = nn.Linear(*shape_after([*blocks, flat], images), 2, bias=False)
    network = Network([*blocks, flat, layer(head)]).double().eval()
    with torch.no_grad():
        for module in network.used:
            module.weight *= 1e4
        # Of a score to which nothing contributes positively, the positive part has nothing to share.
        head.weight.abs_()
    names = ["lrp_w_squared", "lrp_flat", "lrp_alpha1_beta0", "lrp_z_plus"]
    explanation = sl.explain(network, images, names, [0, 1])
    for name in names:
        torch.testing.assert_close(
            explanation[name].flatten(1).sum(1),
            explanation.values,
            rtol=1e-6 * (len(network.used) + 1),
            atol=0,
            msg=name,
        )
