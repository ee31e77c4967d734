"""Curves against closed forms of a linear model, and against plain loops that occlude anew in every step."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline as sl
from sightline.evaluation._faithfulness import Curve, deletion, insertion, patch_flipping
from sightline.evaluation._occlusion import Fill, occlude

FILLS = [Fill.BLACK, Fill.MEAN, Fill.BLUR]
BLACK = torch.tensor([-1.0, 0.5], dtype=torch.float64)
WALKS = [deletion, insertion, partial(patch_flipping, patch=2)]


def linear(weights: torch.Tensor):
    return lambda images: (images * weights).flatten(1).sum(1)


def crooked(images: torch.Tensor) -> torch.Tensor:
    """A score in which pixels matter together, and differently at each place."""
    height, width = images.shape[2:]
    places = torch.arange(height * width, dtype=images.dtype).view(height, width)
    return (images * (places + 1).sin()).sum((1, 2, 3)).tanh() + images[:, 0, 0, 0] * images[:, -1, -1, -1]


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def distinct(seed: int, *shape: int) -> torch.Tensor:
    """Maps of the whole numbers around 0, each once, in an order by chance."""
    numbers = np.random.default_rng(seed).permuted(np.tile(np.arange(math.prod(shape[1:])), (shape[0], 1)), axis=1)
    return torch.from_numpy(numbers - 3.0).view(shape)


def groups_of(heatmap: np.ndarray, patch: int) -> list[list[list[tuple[int, int]]]]:
    """The patches of one map, each a list of pixels, from the highest mean down; those of equal means together."""
    height, width = heatmap.shape
    corners = [(i, j) for i in range(0, height, patch) for j in range(0, width, patch)]
    patches = [
        [(a, b) for a in range(i, min(i + patch, height)) for b in range(j, min(j + patch, width))] for i, j in corners
    ]
    means = [float(sum(heatmap[p] for p in one) / len(one)) for one in patches]
    return [[one for one, mean in zip(patches, means, strict=True) if mean == m] for m in sorted(set(means))[::-1]]


def walked(score, images, heatmaps, fill, patch: int, steps: int, *, back: bool) -> np.ndarray:
    """The curve of one image after the other, occluded anew, and straight lines between sets of equal patches."""
    columns = []
    for image, heatmap in zip(images, heatmaps.numpy(), strict=True):
        mask = torch.full((1, *heatmap.shape), back)
        counts, values = [0], [float(score(occlude(image[None], mask, fill, black=BLACK)))]
        for group in groups_of(heatmap, patch):
            for p in itertools.chain(*group):
                mask[0][p] = not back
            counts.append(counts[-1] + len(group))
            values.append(float(score(occlude(image[None], mask, fill, black=BLACK))))
        done = [math.floor(counts[-1] * step / steps) for step in range(steps + 1)]
        columns.append(np.interp(done, counts, values))
    return np.array(columns).T


def test_a_picture_by_hand() -> None:
    images = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
    heatmaps = torch.tensor([[[0.3, -9.0], [0.5, 0.1]]])
    score, black = linear(torch.ones(())), torch.zeros(1)
    # First 4 goes, then 1, then 8, then 2, whose map is the most negative.
    assert deletion(score, images, heatmaps, Fill.BLACK, 4, black=black).values[:, 0].tolist() == [15, 11, 10, 2, 0]
    assert insertion(score, images, heatmaps, Fill.BLACK, 4, black=black).values[:, 0].tolist() == [0, 4, 5, 13, 15]
    assert deletion(score, images, heatmaps, Fill.BLACK, 2, black=black).values[:, 0].tolist() == [15, 10, 0]
    # Of four pixels a third is one, two thirds are two.
    assert deletion(score, images, heatmaps, Fill.BLACK, 3, black=black).values[:, 0].tolist() == [15, 11, 10, 0]
    # With the mean, 15 / 4, in place of 4, of 1, ...; in single precision exact.
    mean = deletion(score, images, heatmaps, "mean", 4).values[:, 0].tolist()
    assert mean == [15, 14.75, 17.5, 13.25, 15]


def test_patches_by_hand() -> None:
    # Patches of two: one of four pixels, one of two on the right, one of two below and the corner.
    heatmaps = torch.tensor([[[9.0, 0.0, 2.0], [0.0, 0.0, 4.0], [-1.0, 7.0, 1.0]]])
    images = torch.tensor([[[[1.0, 1.0, 10.0], [1.0, 1.0, 10.0], [100.0, 100.0, 1000.0]]]])
    flip = partial(patch_flipping, linear(torch.ones(())), images, heatmaps, Fill.BLACK, black=torch.zeros(1))
    # Means 2.25, 3, 3 and 1: right and below, which are worth 20 and 200; the first; the corner.
    assert flip(patch=2, steps=4).values[:, 0].tolist() == [1224, 1114, 1004, 1000, 0]
    assert flip(patch=2, steps=2).values[:, 0].tolist() == [1224, 1004, 0]
    assert flip(patch=8, steps=1).values[:, 0].tolist() == [1224, 0]
    # The one patch is done with the last of the steps.
    assert flip(patch=8, steps=3).values[:, 0].tolist() == [1224, 1224, 1224, 0]


def test_equal_pixels_are_a_straight_line() -> None:
    images = torch.tensor([[[[8.0, 1.0], [2.0, 4.0]]], [[[8.0, 1.0], [2.0, 4.0]]]])
    # A constant map, and one of which all but one pixel are zero.
    heatmaps = torch.zeros(2, 2, 2)
    heatmaps[1, 1, 1] = 0.5
    calls = []

    def score(given: torch.Tensor) -> torch.Tensor:
        calls.append(given)
        return given.sum((1, 2, 3)) ** 2

    gone = deletion(score, images, heatmaps, Fill.BLACK, 4, black=torch.zeros(1))
    expected = torch.tensor([[225, 168.75, 112.5, 56.25, 0], [225, 121, 121 * 2 / 3, 121 / 3, 0]])
    torch.testing.assert_close(gone.values.T, expected)
    assert gone.area.tolist() == [112.5, pytest.approx((225 / 2 + 121 + 121) / 4)]
    # Three states of the second image, of which no step asks twice.
    assert len(calls) <= 5
    # Mirrored, all is mirrored.
    mirrored = deletion(score, images.flip(2, 3), heatmaps.flip(1, 2), Fill.BLACK, 4, black=torch.zeros(1))
    assert torch.equal(mirrored.values, gone.values)
    back = insertion(score, images, heatmaps, Fill.BLACK, 4, black=torch.zeros(1))
    assert back.values[:, 0].tolist() == [0, 56.25, 112.5, 168.75, 225]


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7])
def test_patches_of_a_constant_map_are_equal_also_where_they_are_cut(value: float) -> None:
    images, heatmaps = drawn(3, 1, 2, 11, 13).float(), torch.full((1, 11, 13), value)
    curve = patch_flipping(crooked, images, heatmaps, "mean", 4, 12)
    expected = torch.linspace(float(curve.values[0, 0]), float(curve.values[-1, 0]), 13)
    torch.testing.assert_close(curve.values[:, 0], expected)


def test_areas_by_hand() -> None:
    curve = Curve(torch.tensor([[4.0, 0.0], [2.0, 1.0], [1.0, 5.0]]))
    assert curve.area.tolist() == [2.25, 1.75]
    # (0 + 2 + 3) / 3 and (0 - 1 - 5) / 3.
    torch.testing.assert_close(curve.aopc, torch.tensor([5 / 3, -2.0]))
    straight = Curve(torch.linspace(1, 0, 21)[:, None])
    torch.testing.assert_close(straight.area, torch.tensor([0.5]))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_curves_of_a_linear_model_are_cumulative_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers, whose sums are exact in any order.
    images, weights = (torch.from_numpy(rng.integers(-9, 9, (3, 2, 4, 5)).astype(float)) for _ in range(2))
    heatmaps = distinct(seed, 3, 4, 5)
    black = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    lost = (weights * (images - black.view(2, 1, 1))).sum(1).flatten(1).numpy()
    places = np.argsort(-heatmaps.flatten(1).numpy(), axis=1)
    gone = np.take_along_axis(lost, places, 1).cumsum(1).T
    start = (weights * images).sum((1, 2, 3)).numpy()
    curve = deletion(linear(weights), images, heatmaps, Fill.BLACK, 20, black=black)
    np.testing.assert_array_equal(curve.values[0], start)
    np.testing.assert_array_equal(curve.values[1:], start - gone)
    back = insertion(linear(weights), images, heatmaps, Fill.BLACK, 20, black=black)
    np.testing.assert_array_equal(back.values[1:], start - lost.sum(1) + gone)
    # Summed by parts: a pixel at place i, from 0, is there for i + 1/2 of the 20 steps.
    there = (np.take_along_axis(lost, places, 1) * (np.arange(20) + 0.5)).sum(1) / 20
    np.testing.assert_allclose(curve.area, start - lost.sum(1) + there, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(curve.aopc, gone.sum(0) / 21, rtol=1e-12, atol=1e-12)


def test_no_order_deletes_faster_or_inserts_faster_than_the_contributions() -> None:
    image, weights = drawn(0, 1, 2, 3, 4), drawn(1, 1, 2, 3, 4)
    others = torch.cat([distinct(seed, 1, 3, 4) for seed in range(300)])
    best = (image * weights).sum(1)
    heatmaps = torch.cat([best, -best, others])
    images, black = image.expand(len(heatmaps), -1, -1, -1), torch.zeros(2)
    gone = deletion(linear(weights), images, heatmaps, Fill.BLACK, 12, black=black)
    back = insertion(linear(weights), images, heatmaps, Fill.BLACK, 12, black=black)
    assert (gone.values[:, :1] <= gone.values + 1e-12).all()
    assert (gone.area[0] < gone.area[1:]).all()
    assert (gone.area[1] > gone.area[2:]).all()
    assert (back.area[0] > back.area[1:]).all()
    assert (gone.aopc[0] > gone.aopc[1:]).all()


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("steps", [1, 4, 7, 35])
def test_one_fill_for_all_steps_is_occlusion_in_each(fill: Fill, steps: int) -> None:
    images, heatmaps = drawn(2, 2, 2, 5, 6), drawn(3, 2, 5, 6)
    heatmaps[0, 2:4, 1:4] = 0.25
    for walk, patch, back in (
        (deletion, 1, False),
        (insertion, 1, True),
        (partial(patch_flipping, patch=2), 2, False),
        (partial(patch_flipping, patch=4), 4, False),
    ):
        found = walk(crooked, images, heatmaps, fill, steps=steps, black=BLACK)
        expected = walked(crooked, images, heatmaps, fill, patch, steps, back=back)
        np.testing.assert_allclose(found.values, expected, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from(FILLS), st.sampled_from([1, 2, 3, 4, 6, 12]))
@settings(max_examples=40, deadline=None)
def test_insertion_is_deletion_of_the_reverse_from_its_end(seed: int, fill: Fill, steps: int) -> None:
    images, heatmaps = drawn(seed, 2, 2, 3, 4), distinct(seed, 2, 3, 4)
    back = insertion(crooked, images, heatmaps, fill, steps, black=BLACK)
    gone = deletion(crooked, images, -heatmaps, fill, steps, black=BLACK)
    assert torch.equal(back.values, gone.values.flip(0))


@given(st.integers(0, 2**32 - 1), st.sampled_from(FILLS))
@settings(max_examples=25, deadline=None)
def test_what_keeps_the_order_keeps_the_curve(seed: int, fill: Fill) -> None:
    images, heatmaps = drawn(seed, 2, 2, 3, 4), distinct(seed, 2, 3, 4) / 4
    for walk in (deletion, insertion):
        for rising in (heatmaps.exp(), heatmaps**3, 5 * heatmaps - 100):
            before, after = (walk(crooked, images, maps, fill, 5, black=BLACK) for maps in (heatmaps, rising))
            assert torch.equal(before.values, after.values)
    # Of patches the mean is ordered, which only straight lines keep.
    before, after = (patch_flipping(crooked, images, m, fill, 2, 3, black=BLACK) for m in (heatmaps, 8 * heatmaps - 64))
    assert torch.equal(before.values, after.values)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("walk", WALKS)
def test_a_batch_is_its_images_one_by_one(walk, fill: Fill) -> None:
    images, heatmaps = drawn(4, 3, 2, 5, 6), drawn(5, 3, 5, 6)
    together = walk(crooked, images, heatmaps, fill, steps=6, black=BLACK)
    alone = [walk(crooked, images[i : i + 1], heatmaps[i : i + 1], fill, steps=6, black=BLACK) for i in range(3)]
    torch.testing.assert_close(together.values, torch.cat([one.values for one in alone], 1))
    torch.testing.assert_close(together.area, torch.cat([one.area for one in alone]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("walk", WALKS)
def test_maps_that_are_not_finite_have_no_curve_and_leave_the_others_theirs(walk, bad: float) -> None:
    images, heatmaps = drawn(6, 3, 2, 4, 4), drawn(7, 3, 4, 4)
    expected = walk(crooked, images, heatmaps, Fill.MEAN, steps=4).values
    heatmaps[1, 2, 3] = bad
    found = walk(crooked, images, heatmaps, Fill.MEAN, steps=4)
    assert found.values[:, 1].isnan().all()
    assert torch.equal(found.values[:, [0, 2]], expected[:, [0, 2]])
    assert found.area.isnan().tolist() == found.aopc.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("walk", WALKS)
def test_the_model_is_asked_of_all_images_once_per_step_without_gradients(walk) -> None:
    weights = drawn(8, 3, 2, 4, 4).requires_grad_()
    images, asked = drawn(9, 3, 2, 4, 4), []

    def score(batch: torch.Tensor) -> torch.Tensor:
        asked.append(batch.clone())
        return linear(weights)(batch)

    before = images.clone()
    curve = walk(score, images.requires_grad_(), drawn(10, 3, 4, 4), Fill.MEAN, steps=4)
    assert torch.equal(images, before)
    assert not curve.values.requires_grad
    assert len(asked) == 5
    filled = before.mean((2, 3), keepdim=True).expand_as(before)
    start, end = (filled, before) if walk is insertion else (before, filled)
    assert torch.equal(asked[0], start)
    assert torch.equal(asked[-1], end)


@pytest.mark.parametrize("walk", WALKS)
def test_what_does_not_fit_is_refused(walk) -> None:
    images, heatmaps = torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5)
    score = linear(torch.ones(()))
    for pictures, maps in (
        (images, torch.zeros(2, 5, 4)),
        (images, heatmaps[:1]),
        (images, heatmaps[:, None]),
        (images[0], heatmaps),
        (images.byte(), heatmaps),
    ):
        with pytest.raises(sl.InputError, match="shape"):
            walk(score, pictures, maps, Fill.MEAN)
    with pytest.raises(sl.InputError, match=r"step.*\b0\b"):
        walk(score, images, heatmaps, Fill.MEAN, steps=0)
    with pytest.raises(sl.InputError, match=r"Inpainting.*step"):
        walk(score, images, heatmaps, "inpainting")
    with pytest.raises(sl.InputError, match=r"filled.*white"):
        walk(score, images, heatmaps, "white")
    with pytest.raises(sl.InputError, match="black="):
        walk(score, images, heatmaps, Fill.BLACK)
    with pytest.raises(sl.InputError, match=r"3 channels.*\(2,\)"):
        walk(score, images, heatmaps, Fill.BLACK, black=torch.zeros(2))
    with pytest.raises(sl.InputError, match=r"score.*2 image.*\(2, 3\)"):
        walk(lambda batch: batch.mean((2, 3)), images, heatmaps, Fill.MEAN)


def test_patches_without_a_side_are_refused() -> None:
    with pytest.raises(sl.InputError, match=r"patch.*pixel.*\b0\b"):
        patch_flipping(linear(torch.ones(())), torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2), Fill.MEAN, 0)
