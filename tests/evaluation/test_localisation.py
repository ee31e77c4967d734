"""Scores of maps against regions, by hand and by plain loops over pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sightline as sl
from sightline.auditing import relevance_mass
from sightline.evaluation._localisation import energy, pointing_game, rank_accuracy

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))


@st.composite
def problems(draw, least: int = -4):
    """Maps of small whole numbers, so that many are equal, and regions."""
    shape = draw(SHAPES)
    maps = draw(hnp.arrays(np.int64, shape, elements=st.integers(least, 4)))
    return maps, draw(hnp.arrays(bool, shape))


def tensors(maps: np.ndarray, regions: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(maps.astype(np.float64)), torch.from_numpy(regions)


def pointing_of(heatmap: np.ndarray, region: np.ndarray, radius: float) -> float:
    pixels = list(np.ndindex(*heatmap.shape))
    if len(set(heatmap.flat)) == 1:
        return math.nan
    tops = [p for p in pixels if heatmap[p] == heatmap.max()]
    return np.mean([any(region[p] and math.dist(p, top) < radius for p in pixels) for top in tops])


def rank_of(heatmap: np.ndarray, region: np.ndarray) -> float:
    if len(set(np.abs(heatmap).flat)) == 1 or not region.any():
        return math.nan
    count = int(region.sum())
    lowest = sorted(np.abs(heatmap).flat)[-count]
    inside = sum(bool(region[p]) for p in np.ndindex(*heatmap.shape) if abs(heatmap[p]) > lowest)
    equal = [bool(region[p]) for p in np.ndindex(*heatmap.shape) if abs(heatmap[p]) == lowest]
    places = count - int((np.abs(heatmap) > lowest).sum())
    return (inside + places * np.mean(equal)) / count


def energy_of(heatmap: np.ndarray, region: np.ndarray) -> float:
    positive = [(p, heatmap[p]) for p in np.ndindex(*heatmap.shape) if heatmap[p] > 0]
    return sum(v for p, v in positive if region[p]) / sum(v for _, v in positive) if positive else math.nan


@given(problems(), st.sampled_from([0.5, 1.0, 1.01, math.sqrt(2), 1.5, 2.0, 2.5, 9.0]))
@settings(max_examples=150, deadline=None)
def test_loops_over_pixels_give_the_same(problem: tuple[np.ndarray, np.ndarray], radius: float) -> None:
    maps, regions = problem
    pairs = list(zip(maps, regions, strict=True))
    heatmaps, masks = tensors(maps, regions)
    expected = [pointing_of(*pair, radius) for pair in pairs]
    np.testing.assert_allclose(pointing_game(heatmaps, masks, radius).numpy(), expected, rtol=1e-14)
    ranks = [rank_of(*pair) for pair in pairs]
    np.testing.assert_allclose(rank_accuracy(heatmaps, masks).numpy(), ranks, rtol=1e-14)
    np.testing.assert_allclose(energy(heatmaps, masks).numpy(), [energy_of(*pair) for pair in pairs], rtol=1e-14)


def test_the_radius_itself_is_out() -> None:
    heatmap, region = torch.zeros(1, 9, 9), torch.zeros(1, 9, 9, dtype=torch.bool)
    heatmap[0, 2, 1] = 1
    # 3 down and 4 across: 5 pixels away.
    region[0, 5, 5] = True
    assert [pointing_game(heatmap, region, radius).item() for radius in (4.9, 5.0, 5.001)] == [0, 0, 1]
    region[0, 3, 2] = True
    # In floating point the square of the root of 2 is more than 2.
    assert [pointing_game(heatmap, region, radius).item() for radius in (math.sqrt(2), 1.415)] == [0, 1]
    region[0, 2, 2] = True
    assert [pointing_game(heatmap, region, radius).item() for radius in (1.0, 1.001)] == [0, 1]
    region[0, 2, 1] = True
    assert pointing_game(heatmap, region, 1.0).item() == 1


def test_torchrays_tolerance_is_the_default() -> None:
    heatmap, regions = torch.zeros(2, 1, 40), torch.zeros(2, 1, 40, dtype=torch.bool)
    heatmap[:, 0, 10] = 1
    regions[0, 0, 24] = regions[1, 0, 25] = True
    assert pointing_game(heatmap, regions).tolist() == [1, 0]


def test_equal_pixels_count_alike() -> None:
    heatmap = torch.tensor([[[0.0, 7.0], [7.0, 1.0]]])
    one = torch.tensor([[[False, True], [False, False]]])
    # One of the two highest pixels hits each region; of one place, each of the two has half.
    for region in (one, one.flip(1, 2)):
        assert pointing_game(heatmap, region, 1.0).item() == rank_accuracy(heatmap, region).item() == 0.5
    # A map of which half is zero: two of the region's three places are its own, and the third is one of six zeros,
    # of which the region holds one.
    half = torch.tensor([[[3.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    region = torch.tensor([[[True, True, True, False], [False, False, False, False]]])
    torch.testing.assert_close(rank_accuracy(half, region), torch.tensor([(2 + 1 / 6) / 3]))


@given(problems())
@settings(max_examples=60, deadline=None)
def test_positions_decide_nothing(problem: tuple[np.ndarray, np.ndarray]) -> None:
    heatmaps, masks = tensors(*problem)
    turned = heatmaps.flip(1, 2), masks.flip(1, 2)
    for measure in (relevance_mass, rank_accuracy, energy, pointing_game):
        torch.testing.assert_close(measure(*turned), measure(heatmaps, masks), equal_nan=True, rtol=1e-12, atol=1e-12)


@given(problems())
@settings(max_examples=60, deadline=None)
def test_pixels_that_do_not_count_are_as_if_they_were_cut_off(problem: tuple[np.ndarray, np.ndarray]) -> None:
    heatmaps, masks = tensors(*problem)
    batch, height, _ = heatmaps.shape
    # A border on the right that is larger than all, and all of it called object.
    border = torch.full((batch, height, 2), 99.0, dtype=torch.float64)
    wide = torch.cat([heatmaps, border], 2), torch.cat([masks, border > 0], 2)
    counted = torch.cat([torch.ones_like(masks), border < 0], 2)
    for measure in (relevance_mass, rank_accuracy, energy, pointing_game):
        found = measure(*wide, counted=counted)
        torch.testing.assert_close(found, measure(heatmaps, masks), equal_nan=True, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("measure", [relevance_mass, rank_accuracy, energy, pointing_game])
def test_regions_that_are_no_truth_values_are_refused(measure) -> None:
    heatmaps = torch.rand(2, 3, 3)
    for regions in (torch.rand(2, 3, 3), torch.ones(2, 3, 3, dtype=torch.uint8)):
        with pytest.raises(sl.InputError, match="truth values"):
            measure(heatmaps, regions)
    with pytest.raises(sl.InputError, match=r"\(2, 3, 3\).*\(1, 3, 3\)"):
        measure(heatmaps, torch.ones(1, 3, 3, dtype=torch.bool))


def test_energy_and_ranks_by_hand() -> None:
    heatmap = torch.tensor([[[4.0, -9.0, 1.0], [3.0, 0.0, -2.0]]])
    region = torch.tensor([[[True, True, False], [False, True, False]]])
    # Positive are 4, 1 and 3, and of these 4 lies inside; the three largest magnitudes are 9, 4 and 3.
    assert energy(heatmap, region).item() == 0.5
    torch.testing.assert_close(rank_accuracy(heatmap, region), torch.tensor([2 / 3]))
    # A map that is its region wins whatever the outside's small change, the region's complement loses.
    assert rank_accuracy(region + 0.1 * heatmap.sign(), region).item() == 1
    assert energy(region.float(), region).item() == 1
    assert energy(region.float(), ~region).item() == rank_accuracy(region.float(), ~region).item() == 0


@given(problems())
@settings(max_examples=60, deadline=None)
def test_what_keeps_the_order_keeps_the_scores(problem: tuple[np.ndarray, np.ndarray]) -> None:
    heatmaps, masks = tensors(*problem)
    rising = (1.7 * heatmaps).exp() - 3
    np.testing.assert_array_equal(pointing_game(heatmaps, masks, 1.5), pointing_game(rising, masks, 1.5))
    # Of magnitudes, neither sign nor scale is seen.
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(13)[: heatmaps[0].numel()].view_as(heatmaps[0])
    np.testing.assert_array_equal(rank_accuracy(heatmaps, masks), rank_accuracy(signs * heatmaps**3, masks))
    # To scale a sum by a power of two rounds nothing.
    np.testing.assert_array_equal(energy(heatmaps, masks), energy(heatmaps / 1024, masks))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_maps_that_are_not_finite_have_no_score_and_leave_the_others_theirs(bad: float) -> None:
    heatmaps = torch.tensor([[[3.0, 1.0], [0.0, -1.0]]]).repeat(3, 1, 1)
    heatmaps[1, 1, 0] = bad
    regions = torch.tensor([[[True, False], [False, True]]]).expand(3, 2, 2)
    # By hand: 3 of 4; of 3 and one of the two 1, of which the region has one: 1.5 of 2.
    for found, value in (
        (energy(heatmaps, regions), 0.75),
        (rank_accuracy(heatmaps, regions), 0.75),
        (pointing_game(heatmaps, regions, 1.0), 1.0),
    ):
        torch.testing.assert_close(found, torch.tensor([value, math.nan, value]), equal_nan=True)


def test_maps_that_say_nothing_have_no_score() -> None:
    region = torch.tensor([[[True, False], [False, True]]])
    for value in (0.0, 2.0, -1.0):
        constant = torch.full((1, 2, 2), value)
        assert pointing_game(constant, region).isnan().all()
        assert rank_accuracy(constant, region).isnan().all()
        # A constant positive map does have a share: two pixels of four.
        np.testing.assert_array_equal(energy(constant, region), [0.5 if value > 0 else math.nan])
    signed = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    assert rank_accuracy(signed, region).isnan().all()
    assert pointing_game(signed, region, 1.0).item() == 1


def test_empty_regions() -> None:
    heatmap, empty = torch.tensor([[[3.0, 1.0], [0.0, -1.0]]]), torch.zeros(1, 2, 2, dtype=torch.bool)
    assert rank_accuracy(heatmap, empty).isnan().all()
    assert energy(heatmap, empty).item() == pointing_game(heatmap, empty).item() == 0


@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan])
def test_a_radius_that_nothing_is_within_is_refused(radius: float) -> None:
    with pytest.raises(sl.InputError, match="above 0 pixels"):
        pointing_game(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool), radius)


def test_relevance_mass_by_hand() -> None:
    maps = torch.tensor([[[1.0, -3.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]])
    regions = torch.tensor([[[True, True], [False, False]]] * 3)
    shares = relevance_mass(maps, regions)
    torch.testing.assert_close(shares, torch.tensor([0.5, torch.nan, 0.5]), equal_nan=True)
