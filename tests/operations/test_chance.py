"""Chance in a forward: refused where it reaches what is explained, from whichever generator, and nowhere else.

The oracle is the network itself: what is refused says something else when called often enough, what is not has the
gradient that torch gives of it.
"""

import pickle
import random
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sightline as sl
from sightline.models._asking import ask

Body = Callable[["Drawing", Tensor], Tensor]


class Drawing(nn.Module):
    def __init__(self, body: Body, rate: float = 0.5) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.lstm = nn.LSTM(8, 8, num_layers=2, dropout=0.5, batch_first=True)
        self.gain = nn.Parameter(torch.zeros(8))
        self.own, self.legacy = torch.Generator(), np.random.RandomState(0)
        self.modern, self.pythons = np.random.default_rng(0), random.Random(0)
        self.body, self.rate = body, rate

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self, self.conv(x).relu().mean((2, 3))))


def made(body: Body, rate: float = 0.5) -> Drawing:
    torch.manual_seed(0)
    return Drawing(body, rate).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def _forked(m: Drawing, h: Tensor) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.seed()
        return h * (torch.rand(h.shape) > m.rate)


def _skipped(draw: Callable[[Drawing], float]) -> Body:
    """One number decides whether the whole batch is halved, as in stochastic depth by batch."""
    return lambda m, h: h / 2 if draw(m) < m.rate else h


def _fractional(m: Drawing, h: Tensor) -> Tensor:
    wide = h[:, :, None, None] * torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    return F.fractional_max_pool2d(wide, 2, output_size=7).mean((2, 3))


ACCIDENTS: dict[str, Body] = {
    "rand": lambda m, h: h * (torch.rand(h.shape) > m.rate),
    "rand_like": lambda m, h: h * (torch.rand_like(h) > m.rate),
    "randn": lambda m, h: h + torch.randn(h.shape[1]),
    "randn_like": lambda m, h: h + torch.randn_like(h),
    "randint": lambda m, h: h * torch.randint(0, 2, h.shape),
    "randint_like": lambda m, h: h * torch.randint_like(h, 2),
    "randperm": lambda m, h: h[:, torch.randperm(8)],
    "bernoulli": lambda m, h: h * torch.bernoulli(torch.full_like(h, 0.5)),
    "bernoulli_": lambda m, h: h * torch.empty_like(h).bernoulli_(0.5),
    "multinomial": lambda m, h: h[:, torch.multinomial(torch.ones(8), 3)].repeat(1, 3)[:, :8],
    "normal": lambda m, h: h + torch.normal(0.0, 1.0, h.shape),
    "uniform_": lambda m, h: h + torch.empty_like(h).uniform_(),
    "normal_": lambda m, h: h + torch.empty_like(h).normal_(),
    "exponential_": lambda m, h: h + torch.empty_like(h).exponential_(),
    "geometric_": lambda m, h: h + torch.empty_like(h).geometric_(0.5),
    "cauchy_": lambda m, h: h + torch.empty_like(h).cauchy_(),
    "log_normal_": lambda m, h: h + torch.empty_like(h).log_normal_(),
    "random_": lambda m, h: h + torch.empty_like(h).random_(0, 5),
    "poisson": lambda m, h: torch.poisson(h.detach() * 10) + h,
    "dropout": lambda m, h: F.dropout(h, 0.5, training=True),
    "alpha dropout": lambda m, h: F.alpha_dropout(h, 0.5, training=True),
    "feature dropout": lambda m, h: F.dropout2d(h[:, :, None, None], 0.5, training=True).flatten(1),
    "rrelu": lambda m, h: F.rrelu(-h, training=True),
    "gumbel softmax": lambda m, h: h * F.gumbel_softmax(h),
    "fractional max pooling": _fractional,
    "attention with dropout": lambda m, h: F.scaled_dot_product_attention(
        z := h.view(-1, 4, 2), z, z, dropout_p=0.5
    ).flatten(1),
    "torch.distributions": lambda m, h: h + torch.distributions.Normal(0.0, 1.0).sample(h.shape),
    "a Bernoulli distribution": lambda m, h: h * torch.distributions.Bernoulli(0.5).sample(h.shape),
    "a Gamma distribution": lambda m, h: h + torch.distributions.Gamma(1.0, 1.0).sample(h.shape),
    "own generator": lambda m, h: h * (torch.rand(h.shape, generator=m.own) > m.rate),
    "own generator, in place": lambda m, h: h + torch.empty_like(h).normal_(generator=m.own),
    "fork_rng": _forked,
    "scripted": lambda m, h: _scripted(h),
    "numpy": lambda m, h: h * torch.from_numpy(np.random.rand(*h.shape) > m.rate),  # noqa: NPY002
    "numpy's own generator": lambda m, h: h * torch.from_numpy(m.modern.random(tuple(h.shape)) > m.rate),
    "a rare dropped layer": _skipped(lambda m: float(torch.rand(1)) * 5),
    "a rarer dropped layer": _skipped(lambda m: float(torch.rand(1)) * 25),
    "a rare dropped layer, own generator": _skipped(lambda m: float(torch.rand(1, generator=m.own)) * 5),
    "a rare mask": lambda m, h: h * torch.empty(1).bernoulli_(0.95),
    "python": _skipped(lambda m: random.random()),
    "python's own generator": _skipped(lambda m: m.pythons.random()),
    "numpy's legacy generator": _skipped(lambda m: m.legacy.rand()),
}
# Their gradient is drawn, their value is not.
SLOPES: dict[str, Body] = {
    "torch": lambda m, h: _straight_through(h, torch.rand(h.shape) > m.rate),
    "own generator": lambda m, h: _straight_through(h, torch.rand(h.shape, generator=m.own)),
    "numpy": lambda m, h: _straight_through(h, torch.from_numpy(m.modern.random(tuple(h.shape)))),
}


def _straight_through(h: Tensor, share: Tensor) -> Tensor:
    """Its value is h, its gradient a share of h's."""
    return h * share.to(h) + (h - h * share.to(h)).detach()


def _scripted(h: Tensor) -> Tensor:
    def noisy(h: Tensor) -> Tensor:
        return h * (torch.rand_like(h) > 0.5)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(noisy)(h)


def _seeded(m: Drawing, h: Tensor) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return h * (torch.rand(h.shape[1]) > m.rate)


def _numpy_seeded(m: Drawing, h: Tensor) -> Tensor:
    return h * torch.from_numpy(np.random.default_rng(0).random(8) > m.rate)


def _seeded_as_a_whole(m: Drawing, h: Tensor) -> Tensor:
    torch.manual_seed(3)
    return h + torch.randn(8)


# Networks that draw, and say the same each time.
HARMLESS: dict[str, Body] = {
    "dropout of nothing": lambda m, h: F.dropout(h, 0.0, training=True),
    "dropout of everything": lambda m, h: h + F.dropout(h, 1.0, training=True),
    "a layer that is never dropped": _skipped(lambda m: float(torch.rand(1)) + m.rate),
    "stochastic depth of nothing": lambda m, h: h + h * torch.empty(len(h), 1).bernoulli_(1.0),
    "noise times nothing": lambda m, h: h + 0 * torch.randn_like(h),
    "dropout on a branch of gain 0": lambda m, h: h + m.gain * F.dropout(h, 0.5, training=True),
    "a draw that nobody uses": lambda m, h: (torch.rand(3), h)[1],
    "a permutation and its inverse": lambda m, h: h[:, p := torch.randperm(8)][:, p.argsort()],
    "seeded within": _seeded,
    "own generator seeded within": lambda m, h: h + torch.randn(8, generator=m.own.manual_seed(0)),
    "seeded for the process": _seeded_as_a_whole,
    "numpy seeded within": _numpy_seeded,
    "attention without dropout": lambda m, h: F.scaled_dot_product_attention(z := h.view(-1, 4, 2), z, z).flatten(1),
    "numpy, unused": lambda m, h: (np.random.rand(), h)[1],  # noqa: NPY002
}


@pytest.mark.parametrize("name", ACCIDENTS)
def test_what_changes_from_call_to_call_is_refused(name: str, images: Tensor) -> None:
    model = made(ACCIDENTS[name])
    with torch.no_grad():
        said = [model(images[:1]) for _ in range(200)]
    assert not all(torch.equal(said[0], other) for other in said)
    with pytest.raises(sl.RefusalError, match=r"random numbers"):
        sl.explain(model, images, "gradient", 1)
    with pytest.raises(sl.RefusalError, match=r"random numbers"):
        ask(model, images, 2)


@pytest.mark.parametrize("name", SLOPES)
def test_a_gradient_that_changes_from_call_to_call_is_refused(name: str, images: Tensor) -> None:
    model = made(SLOPES[name])
    with pytest.raises(sl.RefusalError, match=r"random numbers"):
        sl.explain(model, images, "gradient", 1)
    ask(model, images, 2)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_draw_that_changes_nothing_is_no_reason_to_refuse(name: str, images: Tensor) -> None:
    model = made(HARMLESS[name])
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    for _ in range(2):
        torch.testing.assert_close(sl.explain(model, images, "gradient", 1)["gradient"], gradient)


def test_the_draw_is_named_with_its_place(images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(192, 4), nn.Dropout(0.5)))
    with pytest.raises(sl.RefusalError, match=r"dropout in 1\.1.*model\.eval"):
        sl.explain(model, images, "gradient", 1)
    noisy = made(lambda m, h: h + torch.distributions.Normal(0.0, 1.0).sample(h.shape))
    with pytest.raises(sl.RefusalError, match=r"normal") as caught:
        sl.explain(noisy, images, "gradient", 1)
    assert "model.eval" not in str(caught.value)


def test_a_switch_that_is_turned_on_later_is_noticed(images: Tensor) -> None:
    model = made(lambda m, h: F.dropout(h, m.rate, training=True), rate=0.0)
    sl.explain(model, images, "gradient", 1)
    model.rate = 0.5
    with pytest.raises(sl.RefusalError, match="dropout"):
        sl.explain(model, images, "gradient", 1)
    plain = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 4)).eval()
    sl.explain(plain, images, "gradient", 1)
    with pytest.raises(sl.RefusalError, match=r"dropout in 1\b"):
        sl.explain(plain.train(), images, "gradient", 1)


def test_what_is_not_explained_may_change(images: Tensor) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(192, 4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            z = self.fc(x.flatten(1))
            return {"logits": z, "noisy": z + torch.randn_like(z)}

    model = Two().eval()
    found = sl.explain(model, images, "gradient", 1)["gradient"]
    torch.testing.assert_close(found, model.fc.weight[1].detach().view(1, 3, 8, 8).expand_as(found))
    sl.explain(model, images, "gradient", lambda out, i: out["logits"][:, 1])
    with pytest.raises(sl.RefusalError, match="random numbers"):
        sl.explain(model, images, "gradient", lambda out, i: out["noisy"][:, 1])


def test_generators_stay_where_they_are(images: Tensor) -> None:
    """A network that draws moves torch's generator as often as it is called by the passes, and no further."""
    model = made(lambda m, h: h + 0 * torch.rand(1, generator=m.own) + 0 * torch.rand(1))
    for times in (1, 2):
        torch.manual_seed(7)
        model.own.manual_seed(7)
        # Python's own generator is drawn from by the run-time check of annotations that tests have.
        numpy = pickle.dumps(np.random.get_state(legacy=False))  # noqa: NPY002
        sl.explain(model, images, "gradient", 1, chunk=2 // times)
        found = torch.rand(1), torch.rand(1, generator=model.own)
        assert numpy == pickle.dumps(np.random.get_state(legacy=False))  # noqa: NPY002
        torch.manual_seed(7)
        model.own.manual_seed(7)
        for _ in range(times):
            model(images)
        assert found == (torch.rand(1), torch.rand(1, generator=model.own))


def test_another_threads_draws_are_not_the_models(images: Tensor) -> None:
    model, stop = made(lambda m, h: h), threading.Event()

    def draw() -> None:
        while not stop.is_set():
            torch.rand(100), np.random.rand(100), random.random()  # noqa: NPY002

    other = threading.Thread(target=draw)
    other.start()
    try:
        for _ in range(5):
            sl.explain(made(lambda m, h: h), images, "gradient", 1)
            sl.explain(model, images, "gradient", 1)
    finally:
        stop.set()
        other.join()


def test_it_is_asked_once_and_out_of_every_count(images: Tensor) -> None:
    calls = []

    class Counted(Drawing):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return super().forward(x)

    model = Counted(lambda m, h: h).eval()
    with FlopCounterMode(display=False) as once:
        model(images)
    calls.clear()
    for _ in range(2):
        with FlopCounterMode(display=False) as counted:
            sl.explain(model, images, "gradient", 1)
        # One forward, one backward to the input.
        assert counted.get_total_flops() == 2 * once.get_total_flops()
    # Chance is asked with one image, other images with two together and one by one; then come the passes.
    assert calls == [1, 1, 2, 1, 1, 2, 2]
    sl.explain(model, torch.rand(2, 3, 9, 9), "gradient", 1)
    assert calls == [*[1, 1, 2, 1, 1, 2, 2], *[1, 1, 2, 1, 1, 2]]
