"""Regions against exact geometry by hand and by brute force."""

import itertools
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sightline as sl
from sightline.evaluation._occlusion import Fill, occlude
from sightline.evaluation._regions import By, Important, complexity, hull_area, hulls, sensitivity

PICTURES = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def in_hull(pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """A grid point lies outside exactly when some line through two of the points has it alone on one side."""
    points = [tuple(map(int, p)) for p in np.argwhere(pixels)]

    def side(a, b, p):
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    spanned = any(side(a, b, c) != 0 for a, b, c in itertools.combinations(points, 3))
    if not spanned:
        return pixels, False
    edges = [(a, b) for a, b in itertools.permutations(points, 2) if all(side(a, b, p) >= 0 for p in points) and a != b]
    mask = np.zeros_like(pixels)
    for p in np.ndindex(*pixels.shape):
        mask[p] = all(side(a, b, p) >= 0 for a, b in edges)
    return mask, True


@given(PICTURES)
@settings(max_examples=150, deadline=None)
def test_a_hull_holds_exactly_the_pixels_that_no_edge_leaves_out(picture: np.ndarray) -> None:
    expected, spanned = in_hull(picture)
    found = hulls(torch.from_numpy(picture)[None])
    np.testing.assert_array_equal(found.masks[0].numpy(), expected)
    assert bool(found.degenerate[0]) is not spanned
    assert int(found.areas[0]) == expected.sum()
    if picture.any():
        assert hull_area(*np.nonzero(picture)) == expected.sum()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_areas_of_large_hulls_agree_with_their_masks(seed: int) -> None:
    picture = np.random.default_rng(seed).random((60, 90)) < 0.004
    found = hulls(torch.from_numpy(picture)[None])
    if not bool(found.degenerate[0]):
        assert hull_area(*np.nonzero(picture)) == int(found.areas[0])


def test_components_get_hulls_of_their_own() -> None:
    picture = torch.zeros(1, 9, 9, dtype=torch.bool)
    # A corner of three pixels, whose hull is itself, and the corners of a square, which do not touch.
    for p in [(0, 0), (0, 1), (1, 0), (5, 5), (5, 8), (8, 5), (8, 8)]:
        picture[0][p] = True
    whole, apart = hulls(picture), hulls(picture, per_component=True)
    # By hand: the hull of all runs from the corner piece to the square.
    np.testing.assert_array_equal(whole.masks[0].numpy(), in_hull(picture[0].numpy())[0])
    assert torch.equal(apart.masks, picture)
    assert not bool(apart.degenerate[0])
    touching = torch.zeros(1, 5, 5, dtype=torch.bool)
    for p in [(0, 0), (1, 1), (2, 2), (2, 0)]:
        touching[0][p] = True
    np.testing.assert_array_equal(hulls(touching, per_component=True).masks[0].numpy(), in_hull(touching[0].numpy())[0])


@given(PICTURES)
@settings(max_examples=60, deadline=None)
def test_each_component_by_brute_force(picture: np.ndarray) -> None:
    left, expected, any_spanned = {tuple(p) for p in np.argwhere(picture).tolist()}, np.zeros_like(picture), False
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            part.add((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            edge += near
        own = np.zeros_like(picture)
        own[tuple(np.array(list(part)).T)] = True
        hull, spanned = in_hull(own)
        expected |= hull
        any_spanned |= spanned
    found = hulls(torch.from_numpy(picture)[None], per_component=True)
    np.testing.assert_array_equal(found.masks[0].numpy(), expected)
    assert bool(found.degenerate[0]) is not any_spanned


def test_thousands_of_components_take_no_time() -> None:
    pixels = torch.rand(1, 512, 512, generator=torch.Generator().manual_seed(0)) > 0.98
    began = time.process_time()
    hulls(pixels, per_component=True)
    # A pass over the picture for each of its 4,800 components takes more than ten seconds.
    assert time.process_time() - began < 2


def test_the_three_rules_of_importance_by_hand() -> None:
    heatmap = torch.tensor([[[4.0, 2.0, 1.0], [1.0, -8.0, 0.0]]])
    assert Important(0.5)(heatmap).int().tolist() == [[[1, 1, 0], [0, 0, 0]]]
    assert Important(0.1)(heatmap).int().tolist() == [[[1, 1, 1], [1, 0, 0]]]
    # Half of six pixels are three; of the two ones neither is higher than the other.
    assert Important(0.5, By.RANK)(heatmap).int().tolist() == [[[1, 1, 1], [1, 0, 0]]]
    assert Important(0.3, By.RANK)(heatmap).int().tolist() == [[[1, 1, 0], [0, 0, 0]]]
    assert Important(1.0, By.RANK)(heatmap).int().tolist() == [[[1, 1, 1], [1, 0, 0]]]
    # The positive sum is 8: 4 is half of it, 6 three quarters, 7 seven eighths.
    assert Important(0.5, By.MASS)(heatmap).int().tolist() == [[[1, 0, 0], [0, 0, 0]]]
    assert Important(0.75, By.MASS)(heatmap).int().tolist() == [[[1, 1, 0], [0, 0, 0]]]
    assert Important(0.76, By.MASS)(heatmap).int().tolist() == [[[1, 1, 1], [1, 0, 0]]]
    assert Important(1.0, By.MASS)(heatmap).int().tolist() == [[[1, 1, 1], [1, 0, 0]]]


@pytest.mark.parametrize("by", list(By))
def test_a_map_without_a_positive_value_has_no_important_pixel(by: By) -> None:
    for value in (0.0, -1.0):
        assert not Important(0.5, by)(torch.full((2, 3, 3), value)).any()


@pytest.mark.parametrize("by", list(By))
def test_equal_pixels_are_all_important_or_none(by: By) -> None:
    maps = torch.randint(-2, 3, (40, 6, 6), generator=torch.Generator().manual_seed(0)).float()
    for share in (0.1, 0.5, 0.9, 1.0):
        chosen = Important(share, by)(maps)
        # Scaled by its minimum and maximum, a map may have important pixels that are negative.
        assert by is By.MINMAX or not (chosen & (maps <= 0)).any()
        for heatmap, own in zip(maps, chosen, strict=True):
            lowest = heatmap[own].min()
            assert torch.equal(own, heatmap >= lowest)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_shares_outside_their_range_are_refused(share: float) -> None:
    with pytest.raises(sl.InputError, match=f"share.*above 0.*1.*{share}"):
        Important(share)


def test_ratios_by_hand() -> None:
    areas, originals = torch.tensor([6, 4, 0]), torch.tensor([12, 4, 0])
    ratio = complexity(areas, originals)
    assert ratio[:2].tolist() == [0.5, 1.0]
    assert ratio[2].isnan()
    found = sensitivity(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 2.5, 2.0]), torch.tensor([4, 3, 0]))
    assert found[:2].tolist() == [0.5, 0.5]
    assert found[2].isnan()


def test_fills() -> None:
    torch.manual_seed(0)
    images, masks = torch.rand(2, 3, 12, 10, dtype=torch.float64), torch.zeros(2, 12, 10, dtype=torch.bool)
    masks[0, 2:5, 3:7] = True
    masks[1, 8:, :] = True
    outside = ~masks[:, None].expand_as(images)
    for fill in Fill:
        black = torch.tensor([-2.0, -1.0, -3.0])
        filled = occlude(images, masks, fill, black=black)
        assert torch.equal(filled[outside], images[outside])
        if fill is Fill.BLACK:
            assert torch.equal(filled[0, :, 3, 4], black.double())
        if fill is Fill.MEAN:
            torch.testing.assert_close(filled[1, :, 9, 9], images[1].mean((1, 2)))
    # Both continue what is around: a constant and, for the smoothest, a slope too.
    flat = torch.full((1, 1, 12, 10), 0.3, dtype=torch.float64)
    slope = torch.linspace(0, 1, 10, dtype=torch.float64).expand(1, 1, 12, 10).contiguous()
    for fill in (Fill.BLUR, Fill.INPAINTING):
        torch.testing.assert_close(occlude(flat, masks[:1], fill), flat)
    torch.testing.assert_close(occlude(slope, masks[:1], Fill.INPAINTING), slope, rtol=0, atol=1e-6)
    with pytest.raises(sl.InputError, match="black"):
        occlude(images, masks, Fill.BLACK)
