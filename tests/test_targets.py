"""What is explained: functions that pick by an index, and classes as numpy and torch give them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sightline as sl

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
