"""Parallel branches of one input are one layer to relevance: the map of the same network folded by hand."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline as sl
from helpers.zoo import settle
from sightline.propagation import deep_taylor, epsilon_gamma_box, lrp_epsilon, lrp_z_plus

C = 4
RELEVANCE = [
    sl.Method(propagation=RANGED[name], name=name) if name in (RANGED := {
        "lrp_epsilon_gamma_box": epsilon_gamma_box(-9.0, 9.0), "deep_taylor": deep_taylor(-9.0, 9.0)
    }) else name
    for name, row in sl.catalogue().items()
    if row.propagation.relevance
]  # fmt: skip
OTHERS = ["gradient", "guided_backprop", "rect_grad", "rect_grad_prr"]


class Layers(nn.Module):
    """Layers for a body to use; each convolution has a batch norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.c3, self.d3 = nn.Conv2d(C, C, 3, padding=1, bias=False), nn.Conv2d(C, C, 3, padding=1)
        self.c1, self.c5 = nn.Conv2d(C, C, 1), nn.Conv2d(C, C, 5, padding=2)
        self.wide, self.high = nn.Conv2d(C, C, (1, 3), padding=(0, 1)), nn.Conv2d(C, C, (3, 1), padding=(1, 0))
        self.dilated = nn.Conv2d(C, C, 3, padding=2, dilation=2)
        self.own, self.own1 = nn.Conv2d(C, C, 3, padding=1, groups=C), nn.Conv2d(C, C, 1, groups=C)
        self.pairs = nn.Conv2d(C, C, 3, padding=1, groups=2)
        self.s3, self.s1 = nn.Conv2d(C, 6, 3, 2, 1), nn.Conv2d(C, 6, 1, 2)
        for number in range(6):
            setattr(self, f"n{number}", nn.BatchNorm2d(C))
        self.gamma = nn.Parameter(torch.randn(C, 1, 1))
        settle(self)


def _one_by_one(m: Layers, x: Tensor) -> Tensor:
    out = 0
    for conv, norm in ((m.c3, m.n0), (m.d3, m.n1), (m.c1, m.n2)):
        out += norm(conv(x))
    return out


def _in_place(m: Layers, x: Tensor) -> Tensor:
    identity = m.n2(x)
    x = m.n1(m.c1(x)) + m.n0(m.c3(x))
    x += identity
    return x


def _split_use(m: Layers, x: Tensor) -> Tensor:
    return m.n5(m.n0(m.c3(x)) + (m.n1(m.c1(x)) - m.n2(x)))


Body = Callable[[Layers, Tensor], Tensor]
# Each with the convolution that it amounts to: kernel, padding, and other settings.
BODIES: dict[str, tuple[Body, dict[str, object]]] = {
    "RepVGG": (_in_place, {"kernel_size": 3, "padding": 1}),
    "MobileOne": (_one_by_one, {"kernel_size": 3, "padding": 1}),
    "Python's sum": (lambda m, x: sum([m.d3(x), m.c1(x), m.n0(x)]), {"kernel_size": 3, "padding": 1}),
    "torch.add with alpha": (
        lambda m, x: torch.add(m.d3(x), m.n0(m.c1(x)), alpha=-0.7), {"kernel_size": 3, "padding": 1}
    ),
    "depthwise": (
        lambda m, x: m.n0(m.own(x)) + m.n1(m.own1(x)) + m.n2(x), {"kernel_size": 3, "padding": 1, "groups": C}
    ),
    "groups of several sizes": (
        lambda m, x: m.own(x) + m.pairs(x) + m.n0(x), {"kernel_size": 3, "padding": 1, "groups": 2}
    ),
    "dense and depthwise": (lambda m, x: m.c3(x) + m.own(x), {"kernel_size": 3, "padding": 1}),
    "kernels of 5 and 3": (lambda m, x: m.c5(x) + m.d3(x) + m.c1(x), {"kernel_size": 5, "padding": 2}),
    "rows and columns": (lambda m, x: m.wide(x) + m.high(x) + m.d3(x), {"kernel_size": 3, "padding": 1}),
    "dilated": (lambda m, x: m.dilated(x) + m.c1(x), {"kernel_size": 3, "padding": 2, "dilation": 2}),
    "dilated and not": (lambda m, x: m.dilated(x) + m.d3(x), {"kernel_size": 5, "padding": 2}),
    "stride 2": (lambda m, x: m.s3(x) + m.s1(x), {"kernel_size": 3, "padding": 1, "stride": 2}),
    "scaled": (lambda m, x: m.gamma * (m.n0(m.own(x)) - m.n1(x)) + m.d3(x) / 2, {"kernel_size": 3, "padding": 1}),
    "nested, then a batch norm": (_split_use, {"kernel_size": 3, "padding": 1}),
    "two batch norms of one convolution": (
        lambda m, x: m.n0(h := m.d3(x)) + m.n1(h), {"kernel_size": 3, "padding": 1}
    ),
    "RepViT": (lambda m, x: m.n5(m.n0(m.own(x)) + m.own1(x) + x), {"kernel_size": 3, "padding": 1, "groups": C}),
    "FastViT": (
        lambda m, x: x + m.gamma * (m.n0(m.own(x)) + m.n2(x) - m.n1(x)), {"kernel_size": 3, "padding": 1, "groups": C}
    ),
    "the input first": (lambda m, x: x + m.d3(x) - m.c1(x), {"kernel_size": 3, "padding": 1}),
    "the input in the middle": (lambda m, x: m.d3(x) + x - 0.5 * m.c1(x), {"kernel_size": 3, "padding": 1}),
    "dropout on a branch": (
        lambda m, x: F.dropout(m.n0(m.c3(x)), 0.5, m.training) + m.n1(x), {"kernel_size": 3, "padding": 1}
    ),
}  # fmt: skip


def folded(body: Callable[[Tensor], Tensor], settings: dict[str, object]) -> nn.Conv2d:
    """The convolution that a body amounts to, read off what it makes of a single lit pixel, and of none."""
    nothing = body(torch.zeros(1, C, 24, 24, dtype=torch.float64))
    conv = nn.Conv2d(C, nothing.shape[1], **settings).double()
    at, stride, gap, pad = 4, conv.stride[0], conv.dilation[0], conv.padding[0]
    conv.bias.data = nothing[0, :, at, at].clone()
    inside = C // conv.groups
    for row, column, channel in product(range(conv.kernel_size[0]), range(conv.kernel_size[1]), range(C)):
        lit = torch.zeros(1, C, 24, 24, dtype=torch.float64)
        lit[0, channel, at * stride + row * gap - pad, at * stride + column * gap - pad] = 1.0
        seen = (body(lit) - nothing)[0, :, at, at]
        mine = torch.arange(len(seen)) // (len(seen) // conv.groups) == channel // inside
        conv.weight.data[mine, channel % inside, row, column] = seen[mine]
        assert not seen[~mine].any()
    return conv


class Net(nn.Module):
    def __init__(self, layers: Layers, body: Callable[[Tensor], Tensor], *, first: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers, self.body, self.first = layers, body, first
        self.stem, self.after, self.head = nn.Conv2d(C, C, 3, padding=1), nn.LazyConv2d(5, 3), nn.Linear(5, 3)
        # So that no rule is left without anything to share.
        self.head.weight.data.abs_()
        nn.init.ones_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else F.relu(self.stem(x))
        return self.head(F.relu(self.after(F.relu(self.body(x)))).mean((2, 3)))


IMAGES = torch.randn(3, C, 9, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("first", [False, True], ids=["behind a layer", "first"])
@pytest.mark.parametrize("name", BODIES)
@torch.no_grad()
def test_every_rule_gives_the_map_of_the_folded_network(name: str, first: bool) -> None:
    body, settings = BODIES[name]
    layers = Layers().double().eval()
    network = Net(layers, lambda x: body(layers, x), first=first).double()
    network(IMAGES)
    network.eval()
    by_hand = Net(layers, folded(lambda x: body(layers, x), settings), first=first).double()
    by_hand(IMAGES)
    by_hand.load_state_dict(network.state_dict(), strict=False)
    by_hand.eval()
    torch.testing.assert_close(network(IMAGES), by_hand(IMAGES), rtol=1e-12, atol=1e-12)
    with torch.enable_grad():
        found = sl.explain(network, IMAGES, [*RELEVANCE, *OTHERS], 1)
        expected = sl.explain(by_hand, IMAGES, [*RELEVANCE, *OTHERS], 1)
    for method, by_folding in expected.maps.items():
        if method == "rect_grad_prr":  # its padding trick acts on every convolution by itself
            continue
        difference = float((found[method] - by_folding).abs().max() / by_folding.abs().max())
        assert difference < 1e-10, f"{method}: {difference:.1e}"


def test_a_batch_norm_behind_a_layer_is_a_branch_where_its_input_is_the_others() -> None:
    """RepGhost without an activation between: conv -> BN -> (depthwise conv + BN), one layer after another."""
    layers = Layers().double().eval()
    stem = nn.Conv2d(C, C, 3).double()

    def model(x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        return F.relu(inner(layers.n3(stem(x)))).mean((2, 3))

    def branches(x: Tensor) -> Tensor:
        return layers.own(x) + layers.n0(x)

    with torch.no_grad():
        conv = folded(branches, {"kernel_size": 3, "padding": 1, "groups": C})
    found = sl.explain(lambda x: model(x, branches), IMAGES, RELEVANCE, 1)
    expected = sl.explain(lambda x: model(x, conv), IMAGES, RELEVANCE, 1)
    for method, by_folding in expected.maps.items():
        torch.testing.assert_close(found[method], by_folding, rtol=1e-9, atol=1e-11, msg=method)


def test_dense_branches() -> None:
    torch.manual_seed(3)
    first, second, norm = nn.Linear(8, 8).double(), nn.Linear(8, 8, bias=False).double(), nn.BatchNorm1d(8)
    norms = nn.ModuleList([norm, nn.BatchNorm1d(8)]).double()
    settle(norms)
    norms.eval()
    head, whole = nn.Linear(8, 3).double(), nn.Linear(8, 8).double()
    images = torch.randn(4, 2, 2, 2, dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        x = x.flatten(1)
        return head(F.relu(norms[0](first(x)) + second(x) + norms[1](x)))

    scale, shift = ((m.weight / (m.running_var + m.eps).sqrt()).detach() for m in norms), None
    one, two = scale
    shift = norms[0].bias - norms[0].running_mean * one + norms[1].bias - norms[1].running_mean * two + one * first.bias
    whole.weight.data = (one[:, None] * first.weight + second.weight + torch.diag(two)).detach()
    whole.bias.data = shift.detach()
    found = sl.explain(model, images, RELEVANCE, 1)
    expected = sl.explain(lambda x: head(F.relu(whole(x.flatten(1)))), images, RELEVANCE, 1)
    for method, by_folding in expected.maps.items():
        torch.testing.assert_close(found[method], by_folding, rtol=1e-9, atol=1e-11, msg=method)


def test_a_residual_skip_is_no_branch() -> None:
    """x + W x: the sum is shared in proportion, and the layer takes its part by its own rule."""
    torch.manual_seed(4)
    layer = nn.Linear(6, 6, bias=False).double()
    images = torch.rand(2, 1, 2, 3, dtype=torch.float64)
    made = sl.Method(propagation=lrp_epsilon(0.0), name="zero"), sl.Method(propagation=lrp_z_plus(0.0), name="plus")

    def model(x: Tensor) -> Tensor:
        x = x.flatten(1)
        return x + layer(x)

    found = sl.explain(model, images, list(made), 0)
    x = images.flatten(1)
    relevance = torch.zeros(2, 6, dtype=torch.float64)
    h = (x @ layer.weight.t()).detach()
    relevance[:, 0] = (x + h)[:, 0]
    inner = relevance * h / (x + h)
    positive = (layer.weight * x[:, None]).clamp(min=0).detach()
    expected = relevance * x / (x + h) + (positive / positive.sum(2, keepdim=True) * inner[..., None]).sum(1)
    torch.testing.assert_close(found["plus"].flatten(1), expected)


def test_a_branch_that_feeds_something_else_too_gets_that_signal() -> None:
    """Under LRP-0 all relevance is the input times the gradient, whichever way it takes."""
    layers = Layers().double().eval()

    def model(x: Tensor) -> Tensor:
        h = layers.n0(layers.c3(x))
        return (F.relu(h + layers.n1(x)) + F.relu(h)).mean((2, 3))

    found = sl.explain(model, IMAGES, ["lrp_0", "input_x_gradient"], 1)
    torch.testing.assert_close(found["lrp_0"], found["input_x_gradient"], rtol=1e-9, atol=1e-12)


def test_an_input_written_over_before_the_sum_is_refused() -> None:
    layers = Layers().double().eval()

    def model(x: Tensor) -> Tensor:
        x = 1.0 * x
        first, second = layers.d3(x), layers.c1(x)
        x.mul_(0.0)
        return (first + second).mean((2, 3))

    with pytest.raises(sl.RefusalError, match="in place"):
        sl.explain(model, IMAGES, "lrp_epsilon", 0)


def test_an_input_written_over_by_the_sum_is_refused() -> None:
    layers = Layers().double().eval()

    def model(x: Tensor) -> Tensor:
        x = layers.c5(x)
        x += layers.d3(x) + layers.c1(x)
        return x.mean((2, 3))

    with pytest.raises(sl.RefusalError, match="in place"):
        sl.explain(model, IMAGES, "lrp_epsilon", 0)


def test_relevance_at_a_branch_is_refused_by_name() -> None:
    layers = Layers().double().eval()
    network = Net(layers, lambda x: layers.d3(x) + layers.c1(x), first=False).double()
    network(IMAGES)
    with pytest.raises(sl.RefusalError, match=r"layers\.c1.*sum"):
        sl.explain(network.eval(), IMAGES, sl.catalogue()["lrp_epsilon"].at("layers.c1"), 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["repvgg_a0", "mobileone_s0", "repghostnet_050", "ghostnetv3_050", "fastvit_t8", "repvit_m0_9"]
)
def test_timms_networks_are_as_timm_folds_them(name: str) -> None:
    timm = pytest.importorskip("timm")
    from timm.utils.model import reparameterize_model

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        model = timm.create_model(name).eval()
        if name.startswith("repvit"):
            # A batch norm before a layer is no branch of it; timm folds its two heads, relevance does not.
            model.head = nn.Linear(model.num_features, 10)
        settle(model)
        by_timm = reparameterize_model(model)
    finally:
        torch.set_default_dtype(torch.float32)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    rows = ["lrp_epsilon", "lrp_z_plus", "lrp_epsilon_plus"]
    found, expected = (sl.explain(one, images, rows, 1) for one in (model, by_timm))
    for method, by_folding in expected.maps.items():
        assert float((found[method] - by_folding).abs().max()) < 1e-8 * float(by_folding.abs().max()), method
