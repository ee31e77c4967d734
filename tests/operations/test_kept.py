"""Writes in place, views, constants that change, hooks: a relevance map is right there, or refused.

The oracle: in networks of linear operations, rectifiers and max-pooling, LRP-0 is the input times the gradient, which
torch computes. The gradient asked for together with relevance must be the gradient asked for alone.
"""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline as sl
from sightline.propagation import deep_taylor, lrp_0, lrp_gamma

Body = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self.c1, self.c2, self.b1 = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.fc, self.other = nn.Linear(60, 3), nn.Linear(60, 3)
        self.register_buffer("scratch", torch.ones(()))
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)

    def end(self, h: Tensor) -> Tensor:
        return self.fc(h.flatten(1))


def network(body: Body) -> Net:
    torch.manual_seed(0)
    net = Net(body).double().eval()
    net.b1.running_mean.normal_()
    return net


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _accumulated(m: Net, x: Tensor) -> Tensor:
    out, h = torch.zeros(len(x), 3, dtype=x.dtype), m.c1(x).relu().flatten(1)
    for head in (m.fc, m.other):
        out += head(h)
    return out


def _scaled_constant(m: Net, x: Tensor) -> Tensor:
    acc = torch.full((len(x), 3, 5, 4), 0.5, dtype=x.dtype)
    acc *= m.c1(x).relu()
    return m.end(acc)


def _then_convolved(m: Net, x: Tensor) -> Tensor:
    acc = torch.zeros(len(x), 3, 5, 4, dtype=x.dtype)
    acc += m.c1(x).relu()
    return m.end(m.c2(acc).relu())


def _through_a_view(m: Net, x: Tensor) -> Tensor:
    h, z = m.c1(x).relu(), torch.zeros(len(x), 3, 5, 4, dtype=x.dtype)
    z[:, :1].add_(h[:, :1])
    return m.end(m.c2(h).relu() + z)


def _one_image_at_a_time(m: Net, x: Tensor) -> Tensor:
    h, z = m.c1(x).relu(), torch.zeros(len(x), 3, 5, 4, dtype=x.dtype)
    for i in range(len(x)):
        z[i].add_(h[i])
    return m.end(m.c2(h).relu() + z)


def _growing_constant(m: Net, x: Tensor) -> Tensor:
    t, h = torch.zeros((), dtype=x.dtype), m.c1(x)
    for _ in range(2):
        h = m.c2(h + t).relu()
        t += 1
    return m.end(h)


def _scratch_weights(m: Net, x: Tensor) -> Tensor:
    w = m.c2.weight.detach().clone()
    h = F.conv2d(m.c1(x).relu(), w, padding=1)
    w.mul_(-0.5)
    return m.end(F.conv2d(h, w, padding=1).relu())


def _channel_into_channel(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    h[:, :1] += h[:, 1:2]
    return m.end(h.relu())


def _less_its_first_channel(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    h.sub_(h[:, :1].clone())
    return m.end(h.relu())


WRITES = {
    "heads accumulated in zeros": _accumulated,
    "a constant multiplied in place": _scaled_constant,
    "accumulated, then convolved": _then_convolved,
    "into a view of zeros": _through_a_view,
    "into zeros, image by image": _one_image_at_a_time,
    "a constant that grows": _growing_constant,
    "scratch weights": _scratch_weights,
    "channel added to channel": _channel_into_channel,
    "its first channel subtracted": _less_its_first_channel,
    "constant of the input's type": lambda m, x: m.end(m.c1(x - torch.tensor([0.5]).type_as(x)).relu()),
}


# torch itself cannot pull a gradient back through these.
UNTRAINABLE = {"scratch weights"}


@pytest.mark.parametrize("name", WRITES)
def test_lrp_0_is_the_input_times_the_gradient_or_refused(name: str, images: Tensor) -> None:
    model = network(WRITES[name])
    methods = ["input_x_gradient", "lrp_0", "lrp_epsilon_plus", "lrp_gamma"]
    if name in UNTRAINABLE:
        with pytest.raises(sl.RefusalError, match=r"writes.*in place"):
            sl.explain(model, images, methods, 1)
        return
    alone = sl.explain(model, images, "input_x_gradient", 1)["input_x_gradient"]
    joint = sl.explain(model, images, methods, 1)
    torch.testing.assert_close(joint["input_x_gradient"], alone, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(joint["lrp_0"], alone, rtol=1e-8, atol=1e-12)


def test_one_half_into_the_other(images: Tensor) -> None:
    """torch has no gradient for two views of one split of which one is written to; the rules need none."""

    def halves(m: Net, x: Tensor) -> Tensor:
        h = m.c1(x).relu()
        a, b = h[:, :1], h[:, 1:]
        b.add_(a)
        return m.end(h)

    def out_of_place(m: Net, x: Tensor) -> Tensor:
        h = m.c1(x).relu()
        return m.end(torch.cat([h[:, :1], h[:, 1:] + h[:, :1]], 1))

    for name in ("lrp_0", "lrp_epsilon_plus", "excitation_backprop"):
        expected = sl.explain(network(out_of_place), images, name, 1)[name]
        torch.testing.assert_close(sl.explain(network(halves), images, name, 1)[name], expected, rtol=1e-10, atol=1e-13)


def _stacked_by_hand(m: Net, x: Tensor) -> Tensor:
    z = torch.zeros(2, len(x), 3, 5, 4, dtype=x.dtype)
    z[0] = m.c1(x)
    return m.end(m.c2(z.amax(0)).relu())


def _copied_in(m: Net, x: Tensor) -> Tensor:
    z = torch.zeros(2, len(x), 3, 5, 4, dtype=x.dtype)
    z[0].copy_(m.c1(x))
    return m.end(m.c2(z.amax(0)).relu())


def _mask_through_its_view(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    k = torch.ones_like(h)
    v = k.view(-1, 60)
    with torch.no_grad():
        k.mul_(h > 0)
    return m.fc((h.flatten(1) * v).relu())


@pytest.mark.parametrize("body", [_stacked_by_hand, _copied_in, _mask_through_its_view])
def test_rectifiers_made_of_writes_are_refused(body: Body, images: Tensor) -> None:
    explanation = sl.explain(
        network(body), images, ["gradient", "guided_backprop", "deconvnet"], 1, on_refusal="record"
    )
    assert set(explanation.maps) == {"gradient"}


def _no_gate_any_more(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    g = F.hardsigmoid(m.c2(h))
    g[:, :1].add_(h[:, :1])
    return m.end(h * g)


def _relu6_as_activation(m: Net, x: Tensor) -> Tensor:
    h = F.relu6(m.c1(x))
    return m.end(h * m.c2(h))


@pytest.mark.parametrize("body", [_no_gate_any_more, _relu6_as_activation])
def test_what_is_no_gate_is_a_product(body: Body, images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match="product of two signals"):
        sl.explain(network(body), images, "lrp_epsilon_plus", 1)


def _channels_normalised_in_place(m: Net, x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0].mul_(0.5).add_(0.2)
    return m.end(m.c1(x).relu())


def _view_taken_before(m: Net, x: Tensor) -> Tensor:
    y = x.view(len(x), 2, 5, 4)
    x.mul_(0.5)
    return m.end(m.c1(y).relu())


@pytest.mark.parametrize("body", [_channels_normalised_in_place, _view_taken_before])
def test_the_box_is_refused_where_pixels_change_behind_its_back(body: Body, images: Tensor) -> None:
    method = sl.Method(propagation=deep_taylor(-4.0, 4.0), name="box")
    with pytest.raises(sl.RefusalError, match=r"pixels.*w_squared or flat"):
        sl.explain(network(body), images, method, 1)


def test_the_first_layer_is_the_first_whatever_it_is_written_into(images: Tensor) -> None:
    def written(m: Net, x: Tensor) -> Tensor:
        z = torch.zeros(len(x), 3, 5, 4, dtype=x.dtype)
        z[:, :].copy_(m.c1(x))
        return m.end(m.c2(z).relu())

    bare = sl.Method(propagation=lrp_0(first="gradient"), name="bare")
    explanation = sl.explain(network(written), images, ["gradient", bare], 1)
    torch.testing.assert_close(explanation["bare"], explanation["gradient"], rtol=1e-8, atol=1e-12)


def test_a_layer_that_feeds_a_batch_norm_and_a_skip_has_no_relevance_of_its_own(images: Tensor) -> None:
    def skipped(m: Net, x: Tensor) -> Tensor:
        h = m.c1(x)
        return m.end(m.b1(h).relu() + h)

    with pytest.raises(sl.RefusalError, match=r"lrp_0.*\bc1\b.*batch norm"):
        sl.explain(network(skipped), images, "lrp_0@c1", 1)


def test_what_is_kept_between_targets_is_kept_for_one_rule(images: Tensor) -> None:
    model = network(lambda m, x: m.end(m.c2(m.c1(x).relu()).relu()))
    rows = ["lrp_z_plus", "lrp_alpha1_beta0", sl.Method(propagation=lrp_gamma(5.0), name="b"), "lrp_gamma"]
    targets = [1, sl.Unit("c1", 0)]
    for found, target in zip(sl.explain(model, images, rows, targets=targets), targets, strict=True):
        alone = {name: sl.explain(model, images, row, target)[name] for row, name in zip(rows, found.maps, strict=True)}
        for name, expected in alone.items():
            torch.testing.assert_close(found[name], expected, rtol=1e-10, atol=1e-13, msg=name)


def test_a_target_that_writes_over_the_output_is_refused_among_others(images: Tensor) -> None:
    model = network(lambda m, x: m.end(m.c1(x).relu()))
    with pytest.raises(sl.InputError, match=r"target function.*output.*in place"):
        sl.explain(model, images, "gradient", targets=[lambda output: output.mul_(2)[:, 0], 1])


@pytest.mark.parametrize("name", ["excitation_backprop", "contrastive_excitation_backprop", "lrp_flat"])
def test_a_pair_is_refused_where_it_would_mean_the_same_both_ways(name: str, images: Tensor) -> None:
    model = network(lambda m, x: m.end(m.c1(x).relu()))
    with pytest.raises(sl.RefusalError, match=r"one class.*\bpair\b"):
        sl.explain(model, images, name, sl.Pair(0, 1))


def _hooked(m: Net, x: Tensor) -> Tensor:
    h = m.c1(x)
    h.register_hook(lambda signal: signal * 2)
    return m.end(h.relu())


def test_gradient_hooks_are_refused(images: Tensor) -> None:
    with pytest.raises(sl.RefusalError, match="gradient hook"):
        sl.explain(network(_hooked), images, "lrp_0", 1)
    model = network(lambda m, x: m.end(m.c1(x).relu()))
    handle = model.fc.register_full_backward_hook(lambda _m, given, _o: (2 * given[0],))
    with pytest.raises(sl.RefusalError, match=r"gradient hooks.*\bfc\b"):
        sl.explain(model, images, "guided_backprop", 1)
    handle.remove()
    sl.explain(model, images, "guided_backprop", 1)


def test_the_gradient_beside_relevance_is_torchs_to_the_bit(images: Tensor) -> None:
    model = network(lambda m, x: m.end((m.b1(m.c1(x)).relu() + m.c1(x)).relu())).float()
    alone = sl.explain(model, images.float(), "gradient", 1)
    assert torch.equal(sl.explain(model, images.float(), ["gradient", "lrp_0"], 1)["gradient"], alone["gradient"])


def test_a_buffer_that_the_model_updates_is_given_back_without_notes(images: Tensor) -> None:
    def updates(m: Net, x: Tensor) -> Tensor:
        h = m.end((m.c1(x) + m.scratch).relu())
        m.scratch.copy_(x.detach().std())
        return h

    model = network(updates)
    for _ in range(2):
        sl.explain(model, images, "guided_backprop", 1)
    assert not [name for name in vars(model.scratch) if name.startswith("_sightline")]


def test_directions_are_explained_by_rules_too(images: Tensor) -> None:
    model = network(lambda m, x: m.end(m.c1(x).relu()))
    direction = sl.Direction("c1", torch.tensor([1.0, -2.0, 0.5]))
    explanation = sl.explain(model, images, ["input_x_gradient", "lrp_0"], direction)
    torch.testing.assert_close(explanation["lrp_0"], explanation["input_x_gradient"], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("propagation", [lrp_0, "lrp_0", None])
def test_a_forgotten_call_is_told(propagation: object) -> None:
    with pytest.raises(Exception, match=r"called|propagation"):
        sl.Method(propagation=propagation)  # type: ignore[arg-type]


class Tokens(nn.Module):
    """An operation with a node of its own over tokens (batch, position, channel), written over, and a head."""

    def __init__(self, make: Callable[["Tokens", Tensor], Tensor], write: Callable[[Tensor], Tensor | None]) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 4, 2), nn.LazyLinear(3)
        self.linear, self.free, self.conv = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Conv1d(4, 4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.make, self.write = make, write

    def forward(self, x: Tensor) -> Tensor:
        made = self.make(self, self.stem(x).flatten(2))
        written = self.write(made)
        return self.head((made if written is None else written).relu().flatten(1))


def _dropped(_: Tensor) -> None:
    """For operations whose result the model does not take up."""


# Each takes channels first, (batch, channel, position). Many end in a view of what they computed.
NODES: dict[str, Callable[[Tokens, Tensor], Tensor]] = {
    "linear over transposed tokens": lambda m, h: m.linear(h.transpose(1, 2)),
    "linear without bias": lambda m, h: m.free(h.transpose(1, 2)),
    "linear over contiguous tokens": lambda m, h: m.linear(h.transpose(1, 2).contiguous()),
    "linear over four axes": lambda m, h: m.linear(h.transpose(1, 2).reshape(len(h), 3, 4, 4).transpose(1, 2)),
    "linear on rows": lambda m, h: m.linear(h.mean(2)),
    "matrix product": lambda m, h: h.transpose(1, 2) @ m.free.weight.detach().t(),
    "convolution in one dimension": lambda m, h: m.conv(h),
    "batch norm": lambda m, h: m.norm(h),
    "batch norm behind a convolution": lambda m, h: m.norm(m.conv(h)),
    "batch norm of transposed tokens": lambda m, h: m.norm(m.linear(h.transpose(1, 2)).transpose(1, 2)),
    "rectifier": lambda m, h: h.transpose(1, 2).relu(),
    "clamp": lambda m, h: h.transpose(1, 2).clamp(min=0),
    "leaky rectifier": lambda m, h: F.leaky_relu(h.transpose(1, 2), 0.1),
    "average pooling": lambda m, h: F.avg_pool1d(h, 2),
    "adaptive average pooling": lambda m, h: F.adaptive_avg_pool1d(h, 3),
    "max pooling": lambda m, h: F.max_pool1d(h, 2),
    "mean": lambda m, h: h.transpose(1, 2).mean(1, keepdim=True),
    "sum": lambda m, h: h.transpose(1, 2).sum(2),
    "resampling": lambda m, h: F.interpolate(h, size=5, mode="linear"),
    "add": lambda m, h: h + h.flip(2),
    "scaling": lambda m, h: h.transpose(1, 2) * 0.5,
}
OVERWRITES: dict[str, Callable[[Tensor], Tensor | None]] = {
    "relu_": lambda t: F.relu(t, inplace=True),
    "relu_ with its result dropped": lambda t: _dropped(t.relu_()),
    "clamp_": lambda t: t.clamp_(min=0),
    "leaky_relu_": lambda t: F.leaky_relu_(t, 0.2),
    "add_": lambda t: t.add_(0.25),
    "+=": lambda t: t.__iadd__(torch.full_like(t, 0.25)),
    "-=": lambda t: t.__isub__(torch.full_like(t, 0.25)),
    "+= itself": lambda t: t.__iadd__(t.flip(-1).clone()),
    "mul_": lambda t: t.mul_(2),
    "*=": lambda t: t.__imul__(torch.full_like(t, 2.0)),
    "div_": lambda t: t.div_(2),
    "one value": lambda t: t.__setitem__((slice(None), 0), 0.0),
    "a channel by itself": lambda t: t.__setitem__((slice(None), 0), t[:, -1] * 2),
    "a part of it": lambda t: _dropped(t[:, :1].mul_(3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("write", OVERWRITES)
@pytest.mark.parametrize("node", NODES)
def test_every_result_may_be_written_over(node: str, write: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model = Tokens(NODES[node], OVERWRITES[write]).double()
    model(images)
    model.eval()
    apart = copy.deepcopy(model)
    apart.make = lambda m, h: NODES[node](m, h).clone()
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(apart(x)[:, 1].sum(), x)
    methods = ["gradient", "lrp_0", "lrp_epsilon_plus", "guided_backprop"]
    try:
        found = sl.explain(model, images, methods, 1, on_refusal="record")
    except sl.RefusalError as error:
        # torch's own backward needs what is written over there, so the model cannot be trained as it stands.
        assert node in {"rectifier", "leaky rectifier"}
        assert "writes in place" in str(error)  # noqa: PT017
        return
    assert set(found.refused) <= {"guided_backprop"}
    torch.testing.assert_close(found["gradient"], gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found["lrp_0"], images * gradient, rtol=1e-7, atol=1e-11)


def test_a_model_that_fails_under_rules_alone_is_refused_for_these_alone(images: Tensor) -> None:
    def body(m: Net, x: Tensor) -> Tensor:
        h = m.c1(x)
        if "Ruled" in type(h.grad_fn).__name__:
            raise RuntimeError("only under rules")
        return m.end(h.relu())

    model = network(body)
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    found = sl.explain(model, images, ["gradient", "lrp_0", "guided_backprop"], 1, on_refusal="record")
    torch.testing.assert_close(found["gradient"], gradient, rtol=1e-12, atol=1e-14)
    assert set(found.refused) == {"lrp_0", "guided_backprop"}
    assert "only under rules" in found.refused["lrp_0"]
    with pytest.raises(sl.RefusalError, match="only under rules"):
        sl.explain(model, images, ["gradient", "lrp_0"], 1)
