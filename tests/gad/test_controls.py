"""Controls on request: copies with noise, copies tuned without distancing, single methods, one blur for all."""

import copy
import math

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

import sightline as sl
from sightline.gad import Consistency, Control
from sightline.gad._controls import STANDARD, as_controls
from sightline.gad._measuring import blurred


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(24) % 2


@pytest.fixture(scope="module")
def gad(data) -> sl.GAD:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2),
    )  # fmt: skip
    found = sl.GAD(model.eval(), (0, 1), (1, 2), rate=0.01, steps=8)
    found.fit(data, controls=["shuffled", "tuned"])
    return found


def test_noise_is_a_tenth_of_the_weights_and_the_same_each_time(gad: sl.GAD) -> None:
    first, second = (copy.deepcopy(one.network) for one in gad.networks.each("noise"))
    again, _ = (copy.deepcopy(one.network) for one in gad.networks.each("noise"))
    before, one, other, same = (n[3].weight.detach() for n in (gad.model, first, second, again))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    # 576 weights: the deviation of their noise is known to 3 %.
    assert float((one - before).std() / before.std()) == pytest.approx(0.1, rel=0.12)


def test_tuned_networks_are_trained_as_classifiers(gad: sl.GAD, data) -> None:
    def loss(network: nn.Module) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(network(data[0]), data[1]))

    first, second = (copy.deepcopy(one.network) for one in gad.networks.each("tuned"))
    assert max(loss(first), loss(second)) < loss(gad.model)
    assert not torch.equal(first[0].weight, second[0].weight)


def test_all_controls_are_measured(gad: sl.GAD, data) -> None:
    found = gad.evaluate(data[0], ["gradient"], Consistency(share=0.3), black=torch.zeros(3), controls="all")
    # Asked about the pair, GAD starts from the pair's map, and its controls are the threshold.
    wanted = set(Control) - {Control.PAIR, Control.PAIR_FREE}
    assert set(found.gains["control"]) == wanted
    matched = found.rows[found.rows["matched"] == "pixels"]
    assert set(matched["arm"]) == {control.value for control in wanted}
    usual = gad.evaluate(data[0][:2], ["gradient"], Consistency(share=0.3), black=torch.zeros(3))
    assert set(usual.gains["control"]) == {"shuffled", "threshold", "random"}


def test_a_single_method_is_that_of_the_pair(gad: sl.GAD, data) -> None:
    found = gad.explain_with_controls(data[0][:3], "gradient", controls=["hirescam"])
    expected = sl.explain(gad.model, data[0][:3], "hi_res_cam@middle", sl.Pair(0, 1))
    assert torch.equal(found.single["hirescam"][0].heatmap("hi_res_cam@middle"), expected.heatmap("hi_res_cam@middle"))
    assert found.copies == {}


def test_a_control_that_a_network_lacks_is_said(data) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)).eval()
    gad = sl.GAD(model, (0, 1), (1,), steps=1).fit(data, controls=False)
    found = gad.evaluate(data[0][:2], ["gradient"], black=torch.zeros(3), controls=["hirescam"])
    assert "middle" in found.refused["control hirescam"]
    with pytest.raises(sl.InputError, match=r"fit\(data, controls=\['tuned'\]\)"):
        gad.evaluate(data[0][:2], ["gradient"], black=torch.zeros(3), controls=["tuned"])
    with pytest.raises(sl.InputError, match=r"shuffled and tuned.*'noise'"):
        gad.fit(data, controls=["noise"])


def test_which_controls() -> None:
    assert as_controls(None) == STANDARD
    assert as_controls(["noise"]) == (*STANDARD, Control.NOISE)
    assert as_controls("all") == tuple(Control)
    with pytest.raises(sl.InputError, match=r"hirescam.*\bnone\b"):
        as_controls(["none"])


def test_blur_spreads_a_pixel_by_a_gaussian() -> None:
    maps = torch.zeros(2, 1, 21, 21)
    maps[1, 0, 10, 10] = 1.0
    found = blurred(maps, 1.5)
    assert torch.equal(found[0], maps[0])
    # Two pixels away exp(-4 / (2 * 1.5 ** 2)) of the peak, in each direction.
    for place in ((0, 10, 12), (0, 8, 10)):
        assert float(found[1][place] / found[1, 0, 10, 10]) == pytest.approx(math.exp(-4 / 4.5), rel=1e-5)
    assert torch.equal(blurred(maps, 0.0), maps)


def test_every_arm_is_blurred(gad: sl.GAD, data) -> None:
    found = gad.evaluate(data[0][:2], ["gradient"], Consistency(share=0.3), black=torch.zeros(3), blur=1.5)
    heatmap = sl.explain(gad.model, data[0][:2], "gradient", sl.Pair(0, 1)).heatmap("gradient")[0].numpy()
    soft = gaussian_filter(heatmap, 1.5)
    rows = found.rows[(found.rows["image"] == 0) & (found.rows["class"] == 1)].set_index("arm")
    assert rows.loc["original", "pixels"] == int((soft >= 0.3 * soft.max()).sum())
    with pytest.raises(sl.InputError, match=r"blur.*-1"):
        gad.evaluate(data[0][:2], ["gradient"], blur=-1, black=torch.zeros(3))
