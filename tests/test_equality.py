"""Settings and results are equal by value, and come through pickle and copy so, also into another process."""

import copy
import multiprocessing
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sightline as sl
from sightline._common.equality import same
from sightline.aggregation import CAM, InputTimesSignal, LayerSignal, Pooling
from sightline.errors import InputError
from sightline.operations import KINDS, kinds
from sightline.propagation import (
    DECONVNET,
    GRADIENT,
    GUIDED_BACKPROP,
    Propagation,
    contrastive_excitation_backprop,
    deep_taylor,
    epsilon_alpha2_beta1,
    epsilon_gamma_box,
    epsilon_plus,
    excitation_backprop,
    lrp_0,
    lrp_alpha_beta,
    lrp_epsilon,
    lrp_flat,
    lrp_gamma,
    lrp_w_squared,
    lrp_z_plus,
    rect_grad,
)
from sightline.sampling import AdaptivePath, Expected, Image, Noise, Path

FACTORIES = [
    lrp_0, lrp_epsilon, lrp_gamma, lrp_z_plus, lrp_w_squared, lrp_flat, epsilon_plus, epsilon_alpha2_beta1,
    epsilon_gamma_box, deep_taylor, excitation_backprop, contrastive_excitation_backprop, rect_grad,
]  # fmt: skip
LOW, HIGH = torch.tensor([-2.0, -1.5, -1.0]), torch.tensor([2.0, 2.5, 3.0])
PROPAGATIONS = {
    **{make.__name__: make for make in FACTORIES},
    "lrp_alpha_beta": lambda: lrp_alpha_beta(2, 1),
    "gradient": lambda: GRADIENT,
    "guided_backprop": lambda: GUIDED_BACKPROP,
    "deconvnet": lambda: DECONVNET,
    "with a setting": lambda: lrp_epsilon(0.25, first="flat"),
    "with tensors": lambda: deep_taylor(LOW.clone(), HIGH.clone()),
    "with arrays": lambda: epsilon_gamma_box(LOW.numpy().copy(), HIGH.numpy().copy()),
    "with lists": lambda: epsilon_gamma_box(LOW.tolist(), HIGH.tolist(), gamma=0.5),
    "with flags": lambda: rect_grad(90, padding_trick=True),
    "without the input": lambda: sl.Method(propagation=lrp_gamma(0.5)).without_input.propagation,
}
SAMPLINGS = {
    "image": Image,
    "noise": lambda: Noise(samples=3, sd=0.1),
    "path": lambda: Path(steps=3),
    "path from a name": lambda: Path(start="black"),
    "path from a tensor": lambda: Path(start=torch.ones(3, 1, 1)),
    "path from several": lambda: Path(start=(0.0, torch.ones(3, 1, 1))),
    "adaptive path": lambda: AdaptivePath(start=torch.ones(3, 1, 1)),
    "expected": lambda: Expected(samples=2, references=torch.ones(2, 3, 4, 4)),
}


def _positive(signal: Tensor, _: object) -> Tensor:
    return signal.clamp(min=0)


@pytest.mark.parametrize("name", [*PROPAGATIONS, *SAMPLINGS])
def test_equal_settings_are_equal_also_when_copied(name: str) -> None:
    make = {**PROPAGATIONS, **SAMPLINGS}[name]
    one = make()
    for other in (make(), pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one)):  # noqa: S301
        assert one == other
        assert hash(one) == hash(other)
        assert all(one != another() for key, another in {**PROPAGATIONS, **SAMPLINGS}.items() if key != name)
    if name in {"gradient", "guided_backprop", "deconvnet"}:
        assert pickle.loads(pickle.dumps(one)) is one  # noqa: S301


def test_other_settings_are_not_equal() -> None:
    assert lrp_epsilon(0.1) != lrp_epsilon(0.2)
    assert lrp_epsilon(1) == lrp_epsilon(1.0)
    assert deep_taylor(LOW, HIGH) != deep_taylor(LOW, HIGH + 1)
    assert Path(start=torch.ones(3, 1, 1)) != Path(start=torch.zeros(3, 1, 1))
    assert Path(start=torch.ones(3, 1, 1)) != Path(start=torch.ones(1, 1, 1))
    assert replace(lrp_epsilon(), conserves=False) != lrp_epsilon()
    with pytest.raises(InputError, match="True"):
        lrp_epsilon(True)
    with pytest.raises(InputError, match=r"lrp_z_plus.*epsilon"):
        lrp_z_plus({})


def test_a_setting_that_is_changed_afterwards_changes_nothing() -> None:
    low = LOW.clone()
    before = deep_taylor(low, HIGH)
    low.sub_(1)
    assert before == deep_taylor(LOW, HIGH)
    assert before != deep_taylor(low, HIGH)


def test_a_propagation_of_ones_own_is_equal_by_its_rules() -> None:
    made = [Propagation("mine", {kinds.RECTIFIER: _positive}, frozenset(KINDS)) for _ in range(2)]
    assert made[0] == made[1] == pickle.loads(pickle.dumps(made[0])) == copy.deepcopy(made[0])  # noqa: S301
    assert len({*made}) == 1
    assert made[0] != replace(made[0], name="other")


@pytest.mark.parametrize("name", sl.catalogue())
def test_every_method_of_the_catalogue_is_copied(name: str) -> None:
    method = sl.catalogue()[name]
    for other in (pickle.loads(pickle.dumps(method)), copy.deepcopy(method)):  # noqa: S301
        assert method == other
        assert hash(method) == hash(other)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()  # fmt: skip


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def _flops(methods: list[sl.Method], images: Tensor) -> int:
    network = model()
    with FlopCounterMode(display=False) as counted:
        sl.explain(network, images, methods, 0)
    return counted.get_total_flops()


@pytest.mark.parametrize("name", ["deep_taylor", "with tensors", "with lists", "path from a tensor"])
def test_equal_methods_share_their_passes(name: str, images: Tensor) -> None:
    def method(label: str) -> sl.Method:
        if name in PROPAGATIONS:
            given = deep_taylor(0.0, 1.0) if name == "deep_taylor" else PROPAGATIONS[name]()
            return sl.Method(propagation=given, name=label)
        return sl.Method(SAMPLINGS[name](), GRADIENT, InputTimesSignal(), name=label)

    one, other = method("one"), method("other")
    copied = replace(pickle.loads(pickle.dumps(one)), name="copied")  # noqa: S301
    assert _flops([one, other, copied], images) == _flops([one], images)


def test_results_are_copied_and_stay_equal(images: Tensor) -> None:
    network = model()
    explanation = sl.explain(network, images, ["gradient", "lrp_epsilon", "integrated_gradients", "full_grad"], 1)
    audit = sl.audit(network, images.repeat(2, 1, 1, 1), ["gradient"], ["completeness", "stability"])
    gad = sl.GAD(network, (0, 1), (1,), steps=1).fit((images, torch.arange(2)), controls=False)
    stacked = gad.explain(images, "gradient")
    for one in (explanation, audit, stacked, sl.Preprocessing()):
        for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):  # noqa: S301
            assert one == other
    changed = replace(explanation, values=explanation.values + 1)
    assert explanation != changed
    other_names = replace(audit.sample, names=["other"] * 4)
    assert audit != replace(audit, sample=other_names)


def test_sameness_reaches_into_what_is_held() -> None:
    nan = float("nan")
    assert same({"a": [torch.tensor([nan, 1.0])], "b": (nan,)}, {"a": [torch.tensor([nan, 1.0])], "b": (nan,)})
    assert not same({"a": torch.ones(2)}, {"a": torch.ones(3)})
    assert not same(torch.ones(2), torch.ones(2).double())
    assert not same(np.ones(2), torch.ones(2))
    assert same(np.array(["a"]), np.array(["a"]))


@pytest.mark.slow
def test_another_process_explains_with_the_same_method(images: Tensor) -> None:
    network, methods = model(), [sl.catalogue()["lrp_epsilon_plus"], sl.Method(aggregation=CAM(Pooling.NONE))]
    here = sl.explain(network, images, methods, 1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(sl.explain, (network, images, methods, 1))
    assert {name: torch.equal(there[name], here[name]) for name in here.maps} == dict.fromkeys(here.maps, True)
    assert there.methods == here.methods
    assert LayerSignal("0") == pickle.loads(pickle.dumps(LayerSignal("0")))  # noqa: S301
    assert {one.name for one in fields(there)} == {one.name for one in fields(here)}
