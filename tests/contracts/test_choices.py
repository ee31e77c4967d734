"""The three choices of a method: every sampling, propagation and aggregation that the packages export."""

import inspect
import pickle
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import sightline as sl
from helpers.contract import Contract, Declared, Network, Question, pictures
from sightline import aggregation, propagation, sampling
from sightline.aggregation import CAM, FullGrad, InputSignal, InputTimesSignal, LayerSignal
from sightline.propagation import Propagation
from sightline.sampling import AdaptivePath, Expected, Image, Noise, Path, Sampling
from sightline.sampling._base import Points


class Choices(Contract):
    """Maps of a method that has the part as one of its choices."""

    def method(self, part: Any) -> sl.Method:
        raise NotImplementedError

    def answer(self, part: Any, question: Question) -> Tensor:
        images = question.images
        model = Network().eval().to(images.device, images.dtype)
        references = pictures(5)[3:].to(images.device, images.dtype)
        method = self.method(part)
        asked = {"target": 1, "seed": question.seed, "chunk": question.together, "references": references}
        found = sl.explain(model, images, [method], **asked)[method.name]
        assert found.dtype == images.dtype
        assert found.device == images.device
        return found


class TestSamplings(Choices):
    parts: ClassVar = {
        "Image": Declared(Image),
        "Noise": Declared(lambda: Noise(samples=4), random=True),
        "Path": Declared(lambda: Path(steps=5)),
        "AdaptivePath": Declared(lambda: AdaptivePath(tolerance=0.05), double=1e-3),
        "Expected": Declared(lambda: Expected(samples=4), random=True),
    }

    @staticmethod
    def registered() -> Iterable[str]:
        named = {name: getattr(sampling, name) for name in sampling.__all__}
        return (
            name for name, part in named.items()
            if inspect.isclass(part) and issubclass(part, Sampling) and not inspect.isabstract(part)
        )  # fmt: skip

    def method(self, part: Any) -> sl.Method:
        return sl.Method(sampling=part, aggregation=InputTimesSignal())


class TestPropagations(Choices):
    parts: ClassVar = {
        "GRADIENT": Declared(lambda: propagation.GRADIENT),
        "GUIDED_BACKPROP": Declared(lambda: propagation.GUIDED_BACKPROP),
        "DECONVNET": Declared(lambda: propagation.DECONVNET),
        "rect_grad": Declared(lambda: propagation.rect_grad(80.0)),
        "lrp_0": Declared(propagation.lrp_0),
        "lrp_epsilon": Declared(propagation.lrp_epsilon),
        "lrp_gamma": Declared(propagation.lrp_gamma),
        "lrp_alpha_beta": Declared(lambda: propagation.lrp_alpha_beta(2.0, 1.0)),
        "lrp_z_plus": Declared(propagation.lrp_z_plus),
        "lrp_w_squared": Declared(propagation.lrp_w_squared),
        "lrp_flat": Declared(propagation.lrp_flat),
        "epsilon_plus": Declared(propagation.epsilon_plus),
        "epsilon_alpha2_beta1": Declared(propagation.epsilon_alpha2_beta1),
        "epsilon_gamma_box": Declared(propagation.epsilon_gamma_box),
        "deep_taylor": Declared(propagation.deep_taylor),
        "excitation_backprop": Declared(propagation.excitation_backprop),
        "contrastive_excitation_backprop": Declared(propagation.contrastive_excitation_backprop),
    }

    @staticmethod
    def registered() -> Iterable[str]:
        for name in propagation.__all__:
            part = getattr(propagation, name)
            makes = inspect.signature(part).return_annotation if inspect.isfunction(part) else None
            if isinstance(part, Propagation) or makes in {Propagation, "Propagation"}:
                yield name

    def method(self, part: Any) -> sl.Method:
        return sl.Method(propagation=part)


class TestAggregations(Choices):
    parts: ClassVar = {
        "InputSignal": Declared(InputSignal),
        "InputTimesSignal": Declared(InputTimesSignal),
        "LayerSignal": Declared(lambda: LayerSignal("second")),
        "CAM": Declared(CAM),
        "FullGrad": Declared(FullGrad),
    }

    @staticmethod
    def registered() -> Iterable[str]:
        for name in aggregation.__all__:
            part = getattr(aggregation, name)
            if inspect.isclass(part) and hasattr(part, "reads") and callable(part) and name != "Aggregation":
                yield name

    def method(self, part: Any) -> sl.Method:
        return sl.Method(aggregation=part)


class Careless(Sampling):
    """Breaks the contract in every way: noise of the global generator, weighed by position, from a local function."""

    def __init__(self) -> None:
        self.own = lambda row: 1.0 + row

    @property
    def weights(self) -> tuple[float, ...]:
        return (1.0,)

    def points(self, images: Tensor, keys: Sequence[int], samples: Sequence[int | float]) -> Points:
        rows = torch.arange(len(images)).view(-1, 1, 1, 1)
        return Points(images + torch.rand_like(images), images.float() * self.own(rows))


@pytest.mark.parametrize(
    "broken",
    [
        "test_a_copy_gives_the_same_digits",
        "test_another_seed_matters_where_it_draws",
        "test_order_and_chunks_of_images_do_not_matter",
        "test_double_precision_agrees",
    ],
)
def test_the_contract_bites(broken: str) -> None:
    with pytest.raises((AssertionError, AttributeError, pickle.PicklingError, RuntimeError)):
        getattr(TestSamplings(), broken)(Declared(Careless))


def test_a_part_that_is_not_declared_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TestSamplings.parts, "Noise")
    with pytest.raises(AssertionError, match="TestSamplings: declare Noise"):
        TestSamplings().test_every_part_is_declared()
