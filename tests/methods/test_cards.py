"""What the catalogue says of a method before it is used: costs are counted, and what a card promises holds."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sightline as sl
from sightline.methods import card
from sightline.operations import kinds
from sightline.propagation import deep_taylor, epsilon_gamma_box

RANGED = {"lrp_epsilon_gamma_box": epsilon_gamma_box(-1.0, 1.0), "deep_taylor": deep_taylor(-1.0, 1.0)}
ROWS = {name: replace(row, propagation=RANGED.get(name, row.propagation)) for name, row in sl.catalogue().items()}
SAMPLED = [name for name, row in ROWS.items() if len(row.sampling.weights) > 1]
PLAIN = ["gradient", "input_x_gradient", "grad_cam", "grad_cam_positive", "grad_cam_plus_plus", "x_grad_cam"]
PLAIN += ["hi_res_cam", "layer_cam", "full_grad", "full_grad_positive", "full_grad_signed", "simple_full_grad"]


def _flops(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torchvision = pytest.importorskip("torchvision")

    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ROWS if name not in SAMPLED])
def test_the_cost_in_the_catalogue_is_what_is_counted(name: str, resnet: nn.Module, image: Tensor) -> None:
    forward = _flops(lambda: resnet(image))
    assert _flops(lambda: sl.explain(resnet, image, ROWS[name], 0)) / forward == pytest.approx(
        ROWS[name].cost, abs=0.006
    )


@pytest.mark.parametrize("name", SAMPLED)
def test_so_it_is_where_many_points_are_asked(name: str, resnet: nn.Module, image: Tensor) -> None:
    """Of the gradient, forward and backward do the same work at every size."""
    small = image[..., :64, :64]
    forward = _flops(lambda: resnet(small))
    counted = _flops(lambda: sl.explain(resnet, small, ROWS[name], 0, references=small)) / forward
    # What FullGrad adds up over channels counts too, and more so in small images.
    assert counted == pytest.approx(ROWS[name].cost, rel=0.006)


def test_twelve_methods_of_the_gradient_take_one_forward_and_one_backward(resnet: nn.Module, image: Tensor) -> None:
    forward = _flops(lambda: resnet(image))
    assert _flops(lambda: sl.explain(resnet, image, PLAIN, 0)) <= 2.1 * forward
    rectified = ["guided_backprop", "deconvnet", "rect_grad", "rect_grad_no_input"]
    assert _flops(lambda: sl.explain(resnet, image, PLAIN + rectified, 0)) <= 5.2 * forward


def test_methods_that_ask_at_the_same_inputs_share_their_passes(resnet: nn.Module, image: Tensor) -> None:
    small = image[..., :64, :64]
    names = ["smooth_grad", "smooth_grad_squared", "var_grad"]
    alone = _flops(lambda: sl.explain(resnet, small, names[0], 0))
    assert _flops(lambda: sl.explain(resnet, small, names, 0)) == alone


@pytest.mark.parametrize("name", ROWS)
def test_a_card_says_random_where_the_seed_matters_and_only_there(name: str) -> None:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    images = torch.rand(2, 3, 12, 12) * 2 - 1
    maps = [sl.explain(model, images, ROWS[name], 0, references=images, seed=seed)[name] for seed in (0, 0, 1)]
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2]) != card(ROWS[name]).determinism.startswith("drawn at random")


def test_a_card_names_what_the_method_refuses() -> None:
    scope = card(ROWS["guided_backprop"]).model_scope
    assert str(kinds.ACTIVATION) in scope
    with pytest.raises(sl.RefusalError, match="tanh"):
        sl.explain(
            nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.ReLU(), nn.Flatten()),
            torch.rand(1, 3, 4, 4),
            "guided_backprop",
        )
    assert "every model" in card(ROWS["gradient"]).model_scope
    assert "reference images" in card(ROWS["expected_gradients"]).model_scope


def test_a_card_tells_defaults_and_blindness() -> None:
    assert "samples = 25, sd = 0.15, reduction = variance" in card(ROWS["var_grad"]).hyper_parameters
    assert "steps = 50, start = 0.0" in card(ROWS["integrated_gradients"]).hyper_parameters
    blind = {name for name, row in ROWS.items() if "blind" in card(row).input_sensitivity}
    image = torch.rand(1, 3, 12, 12) / 2 + 0.4
    image[..., 4:8, 4:8] = 0
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(32 * 36, 4)).eval()
    for name, row in ROWS.items():
        at_input = not name.endswith("cam") and "grad_cam" not in name and "full_grad" not in name
        if not at_input or name == "expected_gradients":
            continue
        found = sl.explain(model, image, row, 0)[name][..., 4:8, 4:8]
        assert bool(found.any()) != (name in blind), name


def test_a_users_method_has_a_card_too() -> None:
    own = sl.Method(propagation=ROWS["lrp_epsilon"].propagation, name="mine")
    rows = dict(card(own).rows)
    assert "your own" in rows["source"]
    assert rows["cost"] == "not counted"
    assert "coincides" not in rows


def test_only_complete_maps_are_said_to_sum_to_something() -> None:
    from sightline.aggregation import FullGrad, Sign
    from sightline.methods import card
    from sightline.sampling import Path

    known = sl.catalogue()
    for row in [
        *known.values(),
        sl.Method(Path()),
        sl.Method(aggregation=FullGrad(Sign.ABSOLUTE, rescale=False)),
    ]:
        said = "sums to it" in card(row).semantic_directness
        assert said is (row.complete or row.name in {"expected_gradients", "gradient_shap"}), row.name
    assert "the checks list" in card(known["full_grad_signed"]).semantic_directness


@pytest.mark.parametrize("name", ROWS)
def test_a_card_promises_nothing_for_later_and_names_the_patents_on_relevance(name: str) -> None:
    text = "\n".join(f"{heading}: {said}" for heading, said in card(ROWS[name]).rows)
    assert "not measured" not in text
    concerned = name.startswith(("lrp_", "deep_taylor")) or "excitation_backprop" in name
    assert ("EP 3271863 B1" in text) == concerned
    assert ("no legal advice" in text) == concerned


def test_a_method_of_one_s_own_that_multiplies_by_relevance_names_them_too() -> None:
    mine = sl.Method(
        name="mine", aggregation=sl.catalogue()["grad_cam"].aggregation, times=sl.catalogue()["lrp_epsilon"]
    )
    assert "patents" in dict(card(mine).rows)
