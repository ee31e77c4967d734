"""What is explained: functions that pick by an index, and classes as numpy and torch give them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.explaining import Explained, Target, as_target

RULED = ["gradient", "grad_cam", "guided_backprop", "rect_grad", "lrp_0", "lrp_epsilon_plus", "lrp_flat", "full_grad"]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 5),
    )  # fmt: skip
    # So that not all images are of one class.
    model[-1].weight.data *= 20
    return model.double().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 3, 10, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.arange(
        1, 7
    ).view(-1, 1, 1, 1)


def _rows(output: Tensor) -> Tensor:
    return torch.arange(len(output))


BY_INDEX: dict[str, Callable[[Tensor], Tensor]] = {
    "gather": lambda o: o.gather(1, o.argmax(1, keepdim=True)).squeeze(1),
    "two indices": lambda o: o[_rows(o), o.argmax(1)],
    "a range and an index": lambda o: o[range(len(o)), o.argmax(1)],
    "take_along_dim": lambda o: torch.take_along_dim(o, o.argmax(1, keepdim=True), 1)[:, 0],
    "index_select": lambda o: torch.cat([o[i : i + 1].index_select(1, o[i].argmax()[None])[0] for i in range(len(o))]),
    "one by one": lambda o: torch.stack([o[i, c] for i, c in enumerate(o.argmax(1))]),
    "numbers of no axis": lambda o: torch.stack([o[i, o[i].argmax()] for i in range(len(o))]),
    "topk's indices": lambda o: o.gather(1, o.topk(2).indices[:, :1])[:, 0],
    "topk's values": lambda o: o.topk(2).values[:, 0],
    "sorted": lambda o: o.sort(1, descending=True).values[:, 0],
    "sorted indices": lambda o: o.gather(1, o.argsort(1)[:, -1:]).flatten(),
    "max": lambda o: o.max(1).values,
    "max's indices": lambda o: o.gather(1, o.max(1).indices[:, None])[:, 0],
    "of probabilities": lambda o: o.gather(1, o.softmax(1).argmax(1, keepdim=True))[:, 0],
    "smallest of the negative": lambda o: -(-o).min(1).values,
}


@pytest.mark.parametrize("pick", BY_INDEX.values(), ids=BY_INDEX)
def test_an_index_of_what_is_explained_is_no_factor(
    pick: Callable[[Tensor], Tensor], model: nn.Module, images: Tensor
) -> None:
    with torch.no_grad():
        classes = model(images).argmax(1).tolist()
    assert len(set(classes)) > 1
    right = sl.explain(model, images, RULED, classes)
    found = sl.explain(model, images, RULED, target=lambda output: pick(output))
    for name in RULED:
        torch.testing.assert_close(found[name], right[name], rtol=1e-12, atol=1e-14, msg=name)


AS_FACTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "a mask": lambda o: (o * (o > 0)).sum(1),
    "a mask of whole numbers": lambda o: (o * (o > 0).long()).sum(1),
    "a mask as index": lambda o: torch.stack([row[row > row.mean()].sum() for row in o]),
    "bytes, which are a mask": lambda o: torch.stack([row[(row > 0).bool()].sum() for row in o]),
    "a mask of an index": lambda o: (o * (o.argmax(1, keepdim=True) == torch.arange(5))).sum(1),
    "numbers that left torch": lambda o: o[:, 0] * float(o.argmax()),
}


@pytest.mark.parametrize("choose", AS_FACTORS.values(), ids=AS_FACTORS)
def test_what_is_more_than_an_index_stays_a_factor(
    choose: Callable[[Tensor], Tensor], model: nn.Module, images: Tensor
) -> None:
    for method in ("guided_backprop", "lrp_0", "full_grad"):
        with pytest.raises(sl.RefusalError):
            sl.explain(model, images, method, target=lambda output: choose(output))


def test_an_index_inside_the_network_is_a_factor(images: Tensor) -> None:
    class Picks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.conv(x).relu().mean((2, 3))
            return self.head(h.gather(1, h.argsort(1)))

    with pytest.raises(sl.RefusalError, match=r"gather with a factor"):
        sl.explain(Picks().double().eval(), images, "lrp_0", 1)


CLASSES: dict[str, Callable[[list[int]], object]] = {
    "a list": list,
    "a tuple": tuple,
    "an array": np.array,
    **{name: lambda c, name=name: np.array(c, dtype=name) for name in ("int8", "uint8", "int16", "uint16", "uint64")},
    "an array of objects": lambda c: np.array(c, dtype=object),
    "a list of numpy's": lambda c: list(np.array(c)),
    "a list of small ones": lambda c: [np.uint8(i) for i in c],
    "a tensor": torch.tensor,
    "a tensor of int32": lambda c: torch.tensor(c, dtype=torch.int32),
    "a list of tensors": lambda c: list(torch.tensor(c)),
    "a list of arrays without an axis": lambda c: [np.array(i) for i in c],
    "mixed": lambda c: [c[0], np.int64(c[1]), torch.tensor(c[2]), *c[3:]],
}


@pytest.mark.parametrize("given", CLASSES.values(), ids=CLASSES)
def test_classes_are_whole_numbers_of_any_library(
    given: Callable[[list[int]], object], model: nn.Module, images: Tensor
) -> None:
    classes, others = [0, 1, 4, 2, 0, 3], [1, 0, 0, 3, 4, 2]
    right = sl.explain(model, images, "gradient", classes)
    found = sl.explain(model, images, "gradient", given(classes))
    assert torch.equal(found["gradient"], right["gradient"])
    assert found.targets == right.targets
    pair = sl.Pair(given(classes), given(others))
    found = sl.explain(model, images, "gradient", pair)
    second = sl.explain(model, images, "gradient", others)
    torch.testing.assert_close(found["gradient"], right["gradient"] - second["gradient"], rtol=1e-10, atol=1e-12)
    assert found.targets[2] == "class 4 rather than class 0"
    assert pair == sl.Pair(classes, others)
    assert hash(pair) == hash(sl.Pair(classes, others))


@pytest.mark.parametrize("one", [2, np.int64(2), np.uint8(2), np.array(2), torch.tensor(2)])
def test_one_class_is_a_whole_number_of_any_library(one: object, model: nn.Module, images: Tensor) -> None:
    right = sl.explain(model, images, "gradient", 2)["gradient"]
    assert torch.equal(sl.explain(model, images, "gradient", one)["gradient"], right)
    each = sl.explain(model, images, "gradient", targets=[one, sl.Pair(one, 1)])
    assert torch.equal(each[0]["gradient"], right)
    first = sl.explain(model, images, "gradient", 1)["gradient"]
    torch.testing.assert_close(each[1]["gradient"], right - first, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (True, "bool"), ([True] * 6, "bool"), (np.bool_(1), "bool"), (np.ones(6, dtype=bool), "bool"),
        (torch.ones(6, dtype=torch.bool), "bool"), (1.0, "float"), ([0.0] * 6, "float"), (np.float32(1), "float32"),
        (np.zeros(6), "float64"), (list(np.zeros(6)), "float64"), (torch.zeros(6), "float32"),
        (np.zeros((6, 1), dtype=int), r"\(6, 1\)"), (torch.zeros(6, 1, dtype=torch.long), r"\(6, 1\)"),
        ([0, 1, 2.5, 0, 0, 0], "float"), ([None] * 6, "NoneType"), ([[0], [1], [2]], "list"),
    ],
)  # fmt: skip
def test_other_numbers_are_refused_by_their_type(wrong: object, named: str) -> None:
    with pytest.raises(sl.InputError, match=rf"integers.*{named}"):
        as_target(wrong, 6)
    pair = object.__new__(sl.Pair)  # past the check of types that tests make
    object.__setattr__(pair, "first", wrong)
    object.__setattr__(pair, "second", 1)
    with pytest.raises(sl.InputError, match=rf"pair.*integers.*{named}"):
        pair.__post_init__()


@pytest.mark.parametrize(
    ("first", "second"), [([0, 1], [0, 2]), (np.array([0, 1]), [1]), (np.array([0, 1]), 2), (0, 0), (-1, 0)]
)
def test_a_pair_is_of_two_classes(first: object, second: object) -> None:
    with pytest.raises(sl.InputError, match="pair"):
        sl.Pair(first, second)


def test_a_pair_of_arrays_needs_one_pair_for_each_image(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(sl.InputError, match=r"6 image.*2 class"):
        sl.explain(model, images, "gradient", sl.Pair(np.array([0, 1]), np.array([1, 0])))


@pytest.mark.parametrize("classes", [np.unique, torch.unique, lambda y: tuple(np.unique(y)), lambda y: list(set(y))])
def test_gads_classes_may_be_those_of_the_labels(
    classes: Callable[..., object], model: nn.Module, images: Tensor
) -> None:
    labels = np.array([3, 1] * 3)
    given = torch.tensor(labels) if classes is torch.unique else labels
    gad = sl.GAD(model, classes(given), alphas=(2,), steps=1)
    assert sorted(gad.classes) == [1, 3]
    assert all(type(number) is int for number in gad.classes)


@pytest.mark.parametrize("classes", [(0, 0), (0, 1, 2), (0, -1), (0.0, 1.0), np.array([0.0, 1.0]), (True, 0), "01", 3])
def test_gads_classes_are_two_outputs(classes: object, model: nn.Module) -> None:
    with pytest.raises(sl.InputError, match="two different outputs"):
        sl.GAD(model, classes, alphas=(2,), steps=1)


class Above(Target):
    """How far the score of the first class lies above a number: a target of one's own has two methods."""

    def __init__(self, number: float) -> None:
        self.number = number

    def values(self, output: Tensor, results: object, images: Tensor) -> Tensor:
        return output[:, 0] - self.number

    def explained(self, image: int) -> Explained:
        return Explained(0, remark=f"above {self.number}")


def test_a_target_of_one_s_own() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(weight)
    found = sl.explain(model, torch.tensor([[1.0, 1.0], [2.0, 0.0]]).view(2, 2, 1, 1), "gradient", Above(0.5))
    assert found.values.tolist() == [2.5, 1.5]
    assert torch.equal(found["gradient"].flatten(1), weight[:1].expand(2, 2))
    assert found.targets == ["class 0, above 0.5"] * 2
