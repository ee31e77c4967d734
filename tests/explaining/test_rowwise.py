"""Target functions are asked in chunks; one that looks beyond an image's own row is given all of them, or refused.

The oracle is torch's autograd on the whole batch.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.sampling import AdaptivePath, Noise

LABELS = torch.tensor([0] * 10 + [1] * 6 + [3, 2] * 3)  # sorted as data sets are, 22 of them


class Net(nn.Module):
    def __init__(self, form: Callable[[Tensor], Any] = lambda z: z) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.form = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), form
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Any:
        self.rows.append(len(x))
        return self.form(self.head(self.conv(x).relu().mean((2, 3))))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(22, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def gradient(model: nn.Module, images: Tensor, function: Callable[[Any], Tensor]) -> Tensor:
    x = images.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(model(x)).sum(), x)
    return found


OWN_ROW: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "a logit": (lambda z: z, lambda o: o[:, 1]),
    "the largest": (lambda z: z, lambda o: o.amax(1)),
    "an entry of a dict": (lambda z: {"a": z, "b": z * 2}, lambda o: o["b"][:, 2]),
    "a part of a tuple": (lambda z: (z, (z * 3,)), lambda o: o[1][0][:, 2]),
    "a logit and a number": (lambda z: (z, 2.0), lambda o: o[0][:, 2] * o[1]),
}


@pytest.mark.parametrize("name", OWN_ROW)
def test_functions_of_their_own_row_are_asked_in_chunks(name: str, images: Tensor) -> None:
    form, function = OWN_ROW[name]
    model = Net(form).eval()
    expected = gradient(model, images, function)
    model.rows.clear()
    found = sl.explain(model, images, "gradient", function, memory=1)
    # Before its passes the model is asked, with three images, whether one has a part in what it says of another.
    assert sorted(set(model.rows)) == [1, 3]
    assert model.rows.count(3) == 1
    torch.testing.assert_close(found["gradient"], expected, rtol=1e-5, atol=1e-7)
    cut = sl.explain(model, images, "gradient", function, chunk=5)
    assert cut.checks.settings["rows_per_pass"]["image"] == [5, 5, 5, 5, 2]
    torch.testing.assert_close(cut["gradient"], expected, rtol=1e-5, atol=1e-7)
    positions = sl.explain(model, images, "gradient", lambda o, i: function(o), chunk=5)
    torch.testing.assert_close(positions["gradient"], expected, rtol=1e-5, atol=1e-7)


# For a number of images, the function of the batch, and the same as a function of each row and its position.
BY_PLACE: dict[str, tuple[Callable[[int], Callable[[Tensor], Tensor]], Callable[[Tensor, Tensor, int], Tensor]]] = {
    "as many labels as rows": (
        lambda n: lambda z: z.gather(1, LABELS[:n][: len(z), None])[:, 0],
        lambda z, i, n: _own(z, i),
    ),
    "one label for each image": (lambda n: lambda z: z.gather(1, LABELS[:n, None])[:, 0], lambda z, i, n: _own(z, i)),
    "indexed": (lambda n: lambda z: z[torch.arange(n), LABELS[:n]], lambda z, i, n: _own(z, i)),
    "weighted": (lambda n: lambda z: z[:, 0] * torch.arange(float(n)), lambda z, i, n: z[:, 0] * i),
    "weighted from the end": (
        lambda n: lambda z: z[:, 0] * torch.arange(len(z), 0.0, -1),
        lambda z, i, n: z[:, 0] * (n - i),
    ),
}


def _own(output: Tensor, images: Tensor) -> Tensor:
    return output.gather(1, LABELS[images, None])[:, 0]


@pytest.mark.parametrize("methods", [["gradient"], ["gradient", "smooth_grad"]], ids=["alone", "beside noise"])
@pytest.mark.parametrize("count", [22, 12])
@pytest.mark.parametrize("name", BY_PLACE)
def test_functions_that_go_by_place_see_all_images(name: str, count: int, methods: list[str], images: Tensor) -> None:
    make, own = BY_PLACE[name]
    model, some, function = Net().eval(), images[:count], make(count)
    found = sl.explain(model, some, methods, function)
    torch.testing.assert_close(found["gradient"], gradient(model, some, function), rtol=1e-5, atol=1e-7)
    assert found.checks.settings["rows_per_pass"]["image"] == [count]
    by_position = sl.explain(model, some, methods, lambda z, i: own(z, i, count), chunk=4)
    for method in methods:
        torch.testing.assert_close(found[method], by_position[method], rtol=1e-4, atol=1e-5)
    if "smooth_grad" in methods:
        assert set(found.checks.settings["rows_per_pass"]["noise"]) == {count}


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "less the mean": lambda z: z[:, 1] - z[:, 1].mean(),
    "less the mean, per class": lambda z: (z - z.mean(0))[:, 1],
    "a share of the batch": lambda z: z[:, 1].softmax(0),
    "its neighbour's": lambda z: z.roll(1, 0)[:, 1],
    "ranked": lambda z: z[:, 1] * z[:, 1].argsort().argsort(),
}


@pytest.mark.parametrize("chunk", [None, 5], ids=["", "in chunks"])
@pytest.mark.parametrize("name", MIXING)
def test_functions_that_mix_images_are_refused_unless_they_say_so(name: str, chunk: int | None, images: Tensor) -> None:
    model, function = Net().eval(), MIXING[name]
    with pytest.raises(sl.RefusalError, match=r"target function.*WholeBatch"):
        sl.explain(model, images, "gradient", function, chunk=chunk)
    with pytest.raises(sl.RefusalError, match="target function"):
        sl.explain(model, images, "gradient", lambda o, i: function(o), chunk=chunk)
    with pytest.raises(sl.RefusalError, match="target function"):
        sl.explain(model, images[:4], "gradient", function)
    found = sl.explain(model, images, "gradient", sl.WholeBatch(function))
    torch.testing.assert_close(found["gradient"], gradient(model, images, function), rtol=1e-4, atol=1e-7)


def test_a_cut_that_such_a_function_cannot_bear_is_refused(images: Tensor) -> None:
    model = Net().eval()
    for function in (sl.WholeBatch(lambda z: z[:, 0]), BY_PLACE["indexed"][0](22)):
        with pytest.raises(sl.InputError, match=r"chunk=5\b.*\b22\b.*\(output, images\)"):
            sl.explain(model, images, "gradient", function, chunk=5)
    method = sl.Method(AdaptivePath(), aggregation=sl.catalogue()["integrated_gradients"].aggregation, name="adaptive")
    with pytest.raises(sl.RefusalError, match="all images at once"):
        sl.explain(model, images, method, sl.WholeBatch(lambda z: z[:, 0]))
    found = sl.explain(model, images[:3], method, lambda z: z[:, 0])
    assert float(found.checks.completeness["adaptive"].abs().max()) < 0.05


def test_the_functions_own_errors_are_its_own(images: Tensor) -> None:
    model = Net().eval()
    with pytest.raises(ZeroDivisionError):
        sl.explain(model, images, "gradient", lambda z: z[:, 0] / (1 // 0))
    with pytest.raises(sl.RefusalError, match=r"shape \(22,\).*\(22, 4\)"):
        sl.explain(model, images, "gradient", lambda z: z)


def test_noise_in_chunks_gives_what_it_gives_as_a_whole(images: Tensor) -> None:
    model = Net().eval()
    method = sl.Method(Noise(3), name="noise")
    cut = sl.explain(model, images, method, lambda z: z[:, 1], chunk=7)["noise"]
    torch.testing.assert_close(cut, sl.explain(model, images, method, 1, chunk=66)["noise"], rtol=1e-4, atol=1e-6)
