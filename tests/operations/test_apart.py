"""Models whose rows depend on each other are refused, whatever the operation; others are not."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline as sl


class Net(nn.Module):
    """Features, then what a case makes of them, then scores."""

    def __init__(self, between) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head, self.between = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), between

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x)).mean((2, 3))
        return self.head(torch.relu(self.between(h)))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(1))


MIXING = {
    "centred": (lambda h: h - h.mean(0, keepdim=True), "mean"),
    "scaled by the largest of all": (lambda h: h / h.max(), "max"),
    "against the next image": (lambda h: h - 0.5 * h.roll(1, 0), "sub"),
    "against the first image": (lambda h: h - 0.9 * h[:1], "sub"),
    "normalised along the batch": (lambda h: F.normalize(h, dim=0), "normalize"),
    "attention among images": (lambda h: F.scaled_dot_product_attention(h[None], h[None], h[None])[0], "attention"),
    "all pairs": (lambda h: (h @ h.T).softmax(1) @ h, "matmul"),
    "a running sum": (lambda h: h.cumsum(0), "cumsum"),
    "sorted images": (lambda h: h.sort(0).values, ""),
    "distances to all": (lambda h: torch.cdist(h, h).mean(1, keepdim=True) + h, ""),
    "a mixture outside the graph": (lambda h: h - h.detach().mean(0), "mean"),
    "a mixture through Python": (lambda h: h / float(h.sum()), ""),
    "the order of images": (lambda h: h.flip(0), ""),
}


@pytest.mark.parametrize("name", MIXING)
def test_images_that_are_mixed_are_refused(name: str, images: Tensor) -> None:
    between, operation = MIXING[name]
    for methods in ("gradient", ["grad_cam"]):
        with pytest.raises(sl.RefusalError, match=rf"batch.*{operation}"):
            sl.explain(Net(between).eval(), images, methods, 1)


def test_images_that_are_alike_hide_nothing(images: Tensor) -> None:
    """The mean of equal images is each of them."""
    model = Net(lambda h: h - 0.9 * h.mean(0, keepdim=True)).eval()
    with pytest.raises(sl.RefusalError, match=r"batch.*mean"):
        sl.explain(model, torch.cat([images[:1], images[:1], images[1:]]), "gradient", 1)


def test_samples_of_one_image_are_mixed_too(images: Tensor) -> None:
    model = Net(MIXING["centred"][0]).eval()
    with pytest.raises(sl.RefusalError, match=r"batch.*mean"):
        sl.explain(model, images[:1], "smooth_grad", 1)


APART = {
    "each by itself": lambda h: h - h.mean(1, keepdim=True),
    "one by one": lambda h: torch.stack([row / row.max() for row in h]),
    "the same images twice": lambda h: (lambda two: two[: len(h)] + two[len(h) :])(torch.cat([h, 2 * h])),
    "a mixture that is not used": lambda h: h + 0 * h.mean(0),
    "a check on all values": lambda h: h if bool((h.max() > -1).all()) else -h,
    "a grouped product": lambda h: F.conv1d(h.reshape(1, -1, 1), torch.ones(h.numel(), 1, 1), groups=h.numel()).view_as(
        h
    ),
}


@pytest.mark.parametrize("name", APART)
def test_images_that_are_kept_apart_are_explained(name: str, images: Tensor) -> None:
    model = Net(APART[name]).eval()
    inputs = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(inputs)[:, 1].sum(), inputs)
    torch.testing.assert_close(sl.explain(model, images, "gradient", 1)["gradient"], expected)


def test_values_of_few_digits_are_no_mixture(images: Tensor) -> None:
    """Random networks of many small layers end in numbers below the smallest normal one."""
    model = Net(lambda h: h).eval()
    with torch.no_grad():
        model.head.weight.mul_(1e-42)
        model.head.bias.zero_()
    assert sl.explain(model, images, "gradient", 1, on_refusal="record").maps


def test_rounding_of_a_difference_next_to_nothing_is_no_mixture(images: Tensor) -> None:
    """Scores near 1000 that rounding changes by 1e-4 with the batch; two of the first image's scores are equal."""

    class Rounded(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.tensor([0.0, 1e-4 * len(x), 0.0, 0.0])

    model = Rounded(lambda h: h).eval()
    with torch.no_grad():
        model.head.weight.mul_(3000)
        scores = model(images[:1])[0]
        model.head.bias[2] += scores[1] - scores[2]
        values = model(images)
    assert abs(values[0, 1] - values[0, 2]) < 1e-3 < 1e3 * abs(values[1, 1] - values[1, 2])
    assert sl.explain(model, images, "gradient", sl.Pair(1, 2))["gradient"].any()


def test_it_is_asked_once_and_not_counted(images: Tensor) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    calls = []
    model = Net(lambda h: h).eval()
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    counts = []
    for _ in range(2):
        calls.clear()
        with FlopCounterMode(display=False) as counter:
            sl.explain(model, images, "gradient", 1)
        counts.append((len(calls), counter.get_total_flops()))
    assert counts[1][0] == 1 < counts[0][0]
    assert counts[0][1] == counts[1][1]


def test_a_model_that_takes_one_size_of_batch_is_left_to_its_passes(images: Tensor) -> None:
    model = Net(lambda h: h.view(4, 8)).eval()
    assert sl.explain(model, images, "gradient", 1)["gradient"].any()
