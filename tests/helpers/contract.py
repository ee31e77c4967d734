"""What every part of a kind keeps, whatever it computes: tested from one declaration for each part.

A kind of parts is a subclass of `Contract` in tests/contracts/: which parts are registered, what is declared of each,
and how an answer for each image is had from one. A part that is registered and not declared fails by its name.
"""

import copy
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from sightline import InputError, Preprocessing

ENCODING = Preprocessing(size=(8, 8), resize=None, mean=(0.5,) * 3, std=(0.25,) * 3)


@dataclass(frozen=True)
class Declared:
    """One part.

    Attributes:
        make: makes it anew.
        random: whether it draws, so that another seed gives another answer.
        double: how far its answer in single precision, or on another device, may be from that in double precision, as a
            share of the largest.
        slow: whether answering takes it seconds.
    """

    make: Callable[[], Any]
    random: bool = False
    double: float = 1e-4
    slow: bool = False


@dataclass(frozen=True)
class Question:
    """What is put to a part: images and how they are worked on."""

    images: Tensor
    seed: int = 0
    together: int | None = None


class Network(nn.Module):
    """Two convolutions, pooling and a linear layer, without biases that would keep relevance from an image."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
            self.last = nn.Linear(6, 3)
        self.preprocessing = ENCODING

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.second(torch.max_pool2d(torch.relu(self.first(images)), 2)))
        return self.last(hidden.mean((2, 3)))


def pictures(count: int = 3) -> Tensor:
    """Encoded images between black and white, of different colours."""
    draw = torch.Generator().manual_seed(5)
    texture, colour = torch.rand(count, 3, 8, 8, generator=draw), torch.rand(count, 3, 1, 1, generator=draw)
    return (0.6 * texture + 0.4 * colour - 0.5) / 0.25


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference as a share of the largest value; of two answers that say nothing anywhere, 0."""
    assert one.shape == other.shape
    assert torch.equal(one.isnan(), other.isnan())
    one, other = one.double().nan_to_num(), other.double().nan_to_num()
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))


class Contract(ABC):
    """Tests of each part that a subclass declares."""

    parts: ClassVar[dict[str, Declared]]
    count = 3
    """How many images it takes."""
    together = 1
    """How many of them go together where chunks are compared."""
    _known: ClassVar[dict[tuple[type, Declared], Tensor]] = {}

    @staticmethod
    @abstractmethod
    def registered() -> Iterable[str]:
        """The names of all parts of this kind."""

    @abstractmethod
    def answer(self, part: Any, question: Question) -> Tensor:
        """What a part makes of images, with one row for each."""

    def first_answer(self, part: Declared) -> Tensor:
        """Its answer to the question that all others are compared with, which is asked once."""
        key = type(self), part
        if key not in self._known:
            self._known[key] = self.answer(part.make(), Question(pictures(self.count)))
        return self._known[key]

    def test_every_part_is_declared(self) -> None:
        missing = sorted(set(self.registered()) - self.parts.keys())
        assert not missing, f"{type(self).__name__}: declare {', '.join(missing)}, so that the contract is tested"
        assert not self.parts.keys() - set(self.registered()), f"{type(self).__name__}: declared, but no longer there"

    def test_it_answers_for_each_image(self, part: Declared) -> None:
        found = self.first_answer(part)
        assert len(found) == self.count
        assert found.isfinite().any()
        assert distance(found, found.flip(0)) > 1e-3, "the answer does not depend on the image"

    def test_a_copy_gives_the_same_digits(self, part: Declared) -> None:
        made = part.make()
        assert copy.deepcopy(made) == made == part.make()
        copied = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
        assert copied == made
        first = self.first_answer(part)
        torch.manual_seed(99)
        state = torch.get_rng_state()
        again = self.answer(copied, Question(pictures(self.count)))
        assert torch.equal(first.nan_to_num(), again.nan_to_num())
        assert torch.equal(state, torch.get_rng_state()), "the global generator was used"

    def test_another_seed_matters_where_it_draws(self, part: Declared) -> None:
        other = self.answer(part.make(), Question(pictures(self.count), seed=1))
        assert (distance(self.first_answer(part), other) > 1e-3) is part.random

    def test_order_and_chunks_of_images_do_not_matter(self, part: Declared) -> None:
        order = [2, 0, 1, *range(3, self.count)]
        turned = self.answer(part.make(), Question(pictures(self.count)[order], together=self.together))
        assert distance(self.first_answer(part)[order], turned) < 1e-5

    def test_double_precision_agrees(self, part: Declared) -> None:
        found = self.first_answer(part)
        assert distance(self.answer(part.make(), Question(pictures(self.count).double())), found) < part.double

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_values_that_are_not_finite_are_refused(self, part: Declared, bad: float) -> None:
        images = pictures(self.count)
        images[1, 0, 3, 3] = bad
        with pytest.raises(InputError, match=r"not finite.*first 1\b"):
            self.answer(part.make(), Question(images))

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_another_device_agrees(self, part: Declared) -> None:
        found = self.answer(part.make(), Question(pictures(self.count).double()))
        there = self.answer(part.make(), Question(pictures(self.count).double().cuda()))
        assert distance(found, there.cpu()) < part.double
