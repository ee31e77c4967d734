"""Similarities of maps against scipy, scikit-image and numpy, image by image, and what must not change them."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

import sightline as sl
from sightline.evaluation import _similarity as similarity
from sightline.evaluation._similarity import (
    MEASURES,
    Ranked,
    cosine,
    flip_spearman,
    flip_ssim,
    likeness,
    spearman,
    spearman_abs,
    ssim,
)

pytestmark = pytest.mark.usefixtures("one_thread")

RANKS = ("spearman", "spearman_abs")


@st.composite
def two_batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Maps of small whole numbers have ties, zeros and, now and then, no variation; others have no ties."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(3, 12)), draw(st.integers(3, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    few = hnp.arrays(np.float64, shape, elements=st.integers(-3, 3).map(float), fill=st.just(0.0))
    dense = rng.standard_normal(shape) + draw(st.sampled_from([0.0, 10.0, -1000.0]))
    return draw(st.one_of(few, st.just(dense))), draw(st.one_of(few, st.just(rng.standard_normal(shape))))


def by_scipy(first: np.ndarray, second: np.ndarray) -> float:
    constant = any(np.ptp(m) == 0 for m in (first, second))
    return np.nan if constant else spearmanr(first.ravel(), second.ravel()).statistic


def by_skimage(first: np.ndarray, second: np.ndarray) -> float:
    side = max(odd for odd in (1, 3, 5, 7) if odd <= min(first.shape))
    if side == 1 or any(np.ptp(m) == 0 for m in (first, second)):
        return np.nan
    first, second = (m / np.sqrt(np.mean(m**2)) for m in (first, second))
    return structural_similarity(first, second, win_size=side, data_range=max(np.ptp(first), np.ptp(second)))


def by_hand(first: np.ndarray, second: np.ndarray) -> float:
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return np.vdot(first, second) / lengths if lengths else np.nan


EXPECTED = {
    "spearman": by_scipy,
    "spearman_abs": lambda first, second: by_scipy(np.abs(first), np.abs(second)),
    "flip_spearman": lambda first, second: abs(by_scipy(first, second)),
    "ssim": by_skimage,
    "flip_ssim": lambda first, second: np.maximum(by_skimage(first, second), by_skimage(first, -second)),
    "cosine": by_hand,
}


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]


def assert_measured(name: str, first: np.ndarray, second: np.ndarray, atol: float = 1e-8) -> None:
    found = MEASURES[name](*tensors(first, second))
    assert found.dtype == torch.float64
    expected = [EXPECTED[name](*pair) for pair in zip(first.astype(float), second.astype(float), strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=atol)


def test_the_table_has_every_measure_in_order() -> None:
    assert list(MEASURES.items()) == list(
        {
            "spearman": spearman,
            "spearman_abs": spearman_abs,
            "flip_spearman": flip_spearman,
            "ssim": ssim,
            "flip_ssim": flip_ssim,
            "cosine": cosine,
        }.items()
    )


@pytest.mark.parametrize("name", EXPECTED)
@given(two_batches())
@settings(max_examples=60, deadline=None)
def test_small_maps_agree_with_the_references(name: str, maps: tuple[np.ndarray, np.ndarray]) -> None:
    assert_measured(name, *maps)


@pytest.mark.parametrize("name", EXPECTED)
def test_maps_of_a_classifier_s_size_agree_with_the_references(name: str) -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((3, 96, 61)).astype(np.float32)
    second = (first + rng.standard_normal(first.shape)).astype(np.float32)
    # Relevance after a ReLU: half zeros; and a single spike.
    first[1], second[1] = first[1].clip(0), second[1].clip(0)
    second[2] = 0
    second[2, 40, 30] = 5
    assert_measured(name, first, second)


@given(two_batches())
@settings(max_examples=60, deadline=None)
def test_all_at_once_is_each_by_itself(maps: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = tensors(*maps)
    found = likeness(Ranked(first), Ranked(second))
    assert list(found) == list(MEASURES)
    for name, values in found.items():
        own = MEASURES[name](first, second)
        # Where one map alone is empty, they are not alike; where both are, nothing is said.
        given = (first != 0, second != 0) if name == "cosine" else (first, second)
        given = (first.abs(), second.abs()) if name == "spearman_abs" else given
        empty = [[len(one.unique()) == 1 and not (name == "cosine" and one.any()) for one in maps] for maps in given]
        for i, (a, b) in enumerate(zip(*empty, strict=True)):
            if a != b and first[i].isfinite().all() and second[i].isfinite().all():
                own[i] = 0
        torch.testing.assert_close(values, own, rtol=0, atol=0, equal_nan=True)


def test_an_empty_map_is_unlike_one_that_is_not() -> None:
    map_, empty, broken = torch.rand(1, 9, 8), torch.zeros(1, 9, 8), torch.full((1, 9, 8), torch.nan)
    for one, other in ((map_, empty), (empty, map_)):
        assert {name: float(value) for name, value in likeness(Ranked(one), Ranked(other)).items()} == dict.fromkeys(
            MEASURES, 0.0
        )
    for one, other in ((empty, empty), (map_, broken), (broken, empty)):
        assert all(value.isnan().all() for value in likeness(Ranked(one), Ranked(other)).values())


def test_ranks_are_found_once() -> None:
    ranked = Ranked(torch.randn(2, 9, 8))
    assert ranked.ranks is ranked.ranks
    assert ranked.magnitude_ranks is ranked.magnitude_ranks


def test_tied_ranks_by_hand() -> None:
    first = torch.tensor([[[0.0, -0.0, 2.0], [0.0, 5.0, 2.0]]])
    second = torch.tensor([[[1.0, 3.0, 3.0], [2.0, 6.0, 0.0]]])
    # Average ranks less their mean 3.5: (-1.5, -1.5, 1, -1.5, 2.5, 1) and (-1.5, 1, 1, -0.5, 2.5, -2.5).
    assert spearman(first, second).tolist() == [pytest.approx(6.25 / (15 * 17) ** 0.5, abs=1e-15)]


@pytest.mark.parametrize("name", MEASURES)
@given(two_batches(), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_order_scale_and_batch_do_not_matter(
    name: str, maps: tuple[np.ndarray, np.ndarray], by: float, other: float
) -> None:
    measure, (first, second) = MEASURES[name], tensors(*maps)
    found = measure(first, second)
    close = {"rtol": 0, "atol": 1e-9, "equal_nan": True}
    torch.testing.assert_close(measure(second, first), found, **close)
    one_by_one = torch.cat([measure(a[None], b[None]) for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(one_by_one, found, rtol=0, atol=1e-12, equal_nan=True)
    # A factor of its own for each image.
    each = torch.linspace(1, 2, len(first), dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(measure(by * each * first, other / each * second), found, **close)


@pytest.mark.parametrize("name", MEASURES)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_a_map_is_like_itself_at_any_scale(name: str, seed: int, factor: float) -> None:
    # Half zeros.
    maps = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 9, 11)).clip(0))
    torch.testing.assert_close(MEASURES[name](maps, factor * maps), torch.ones(2).double(), rtol=0, atol=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_what_a_negative_is(seed: int) -> None:
    maps = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 9, 11)))
    for measure, expected in ((spearman, -1), (cosine, -1), (spearman_abs, 1), (flip_ssim, 1)):
        torch.testing.assert_close(
            measure(maps, -maps), torch.full((2,), float(expected)).double(), rtol=0, atol=1e-12, msg=measure.__name__
        )
    pairs = zip(maps.numpy(), -maps.numpy(), strict=True)
    np.testing.assert_allclose(ssim(maps, -maps).numpy(), [by_skimage(*pair) for pair in pairs], atol=1e-10)


@given(two_batches(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_only_ssim_knows_where_pixels_are(maps: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    first, second = tensors(*maps)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(first[0].numel()))
    shuffled = [m.flatten(1)[:, order].view_as(m) for m in (first, second)]
    for measure in (spearman, spearman_abs, cosine):
        torch.testing.assert_close(measure(*shuffled), measure(first, second), rtol=0, atol=1e-12, equal_nan=True)


@given(two_batches())
@settings(max_examples=40, deadline=None)
def test_ranks_survive_what_keeps_the_order(maps: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = tensors(*maps)
    bent = first.arcsinh() ** 3 + first.arcsinh()
    expected = spearman(first, second)
    assert torch.equal(spearman(bent, second).nan_to_num(9), expected.nan_to_num(9))
    assert torch.equal(spearman(first, second.exp() + 7).nan_to_num(9), expected.nan_to_num(9))
    # The bend is odd, so magnitudes keep their order too.
    found, kept = spearman_abs(bent, second), spearman_abs(first, second)
    assert torch.equal(found.nan_to_num(9), kept.nan_to_num(9))


@pytest.mark.parametrize("name", MEASURES)
def test_maps_without_anything_to_compare_have_no_number(name: str) -> None:
    torch.manual_seed(0)
    good = torch.randn(6, 9, 8)
    bad = good + 1
    bad[0], bad[1] = 0, -0.3
    bad[2, 4, 4], bad[3, 0, 0], bad[4, 8, 7] = torch.nan, torch.inf, -torch.inf
    missing = [True, name != "cosine", True, True, True, False]
    for pair in ((good, bad), (bad, good), (bad, bad)):
        assert MEASURES[name](*pair).isnan().tolist() == missing
    torch.testing.assert_close(MEASURES[name](good[5:], bad[5:]), MEASURES[name](good, bad)[5:], rtol=0, atol=1e-12)


def test_one_magnitude_has_ranks_only_with_its_signs() -> None:
    signs = torch.tensor([[[1.0, -1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, 1.0, 1.0]]])
    assert spearman(signs, signs).tolist() == [pytest.approx(1)]
    assert spearman_abs(signs, signs).isnan().all()


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_float32_at_its_limits(name: str, scale: float) -> None:
    rng = np.random.default_rng(1)
    plain = rng.standard_normal((2, 2, 12, 10)).astype(np.float32)
    first, second = tensors(*plain)
    found = MEASURES[name](first * scale, second / scale)
    expected = [EXPECTED[name](*pair) for pair in zip(*plain.astype(float), strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_float64_at_its_limits(name: str, scale: float) -> None:
    first, second = np.random.default_rng(1).standard_normal((2, 2, 12, 10))
    found = MEASURES[name](*tensors(first * scale, second / scale))
    np.testing.assert_allclose(found.numpy(), [EXPECTED[name](*pair) for pair in zip(first, second, strict=True)])


def test_small_variations_on_a_large_offset_keep_their_structure() -> None:
    """The means of all windows agree to many digits, so that l is 1, and s is that of the small variations."""
    first, second = np.random.default_rng(2).integers(-8, 9, (2, 1, 12, 12))
    # Where variances are differences of squares of such numbers, nothing is left of them.
    level = 2.0**28
    found = ssim(*tensors(first + level, second + level))
    windows = [
        np.lib.stride_tricks.sliding_window_view(m[0].astype(float), (7, 7)).reshape(-1, 49) for m in (first, second)
    ]
    c2 = (0.03 * max(np.ptp(first), np.ptp(second))) ** 2
    structure = [
        (2 * np.cov(a, b)[0, 1] + c2) / (a.var(ddof=1) + b.var(ddof=1) + c2) for a, b in zip(*windows, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), np.mean(structure), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 7), (3, 5), (4, 9), (5, 5), (6, 6), (7, 7), (8, 3)])
def test_tiny_images(name: str, shape: tuple[int, int]) -> None:
    assert_measured(name, *np.random.default_rng(3).standard_normal((2, 2, *shape)))


def test_one_pixel_has_a_sign_and_nothing_else() -> None:
    first, second = torch.tensor([[[2.0]], [[2.0]]]), torch.tensor([[[3.0]], [[-0.5]]])
    assert cosine(first, second).tolist() == [1, -1]
    assert all(measure(first, second).isnan().all() for name, measure in MEASURES.items() if name != "cosine")


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_only_that_of_what_comes_in(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 30, 30).to(dtype)
    found = MEASURES[name](first, second)
    wide = zip(first.double().numpy(), second.double().numpy(), strict=True)
    np.testing.assert_allclose(found.numpy(), [EXPECTED[name](*pair) for pair in wide], rtol=0, atol=1e-10)
    mixed = MEASURES[name](first, second.double())
    torch.testing.assert_close(mixed, found, rtol=0, atol=1e-12)


def test_no_maps_have_no_numbers() -> None:
    for measure in MEASURES.values():
        assert measure(torch.zeros(0, 8, 8), torch.zeros(0, 8, 8)).tolist() == []


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("first", "second"),
    [((2, 8, 8), (2, 8, 9)), ((2, 8, 8), (1, 8, 8)), ((8, 8), (8, 8)), ((1, 3, 8, 8), (1, 3, 8, 8))],
)
def test_other_shapes_are_refused(name: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    # Tests check annotations as they import, and would refuse first; a user's import does not.
    spec = importlib.util.spec_from_file_location("unchecked_similarity", similarity.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shapes = f"{re.escape(str(first))}.*{re.escape(str(second))}"
    with pytest.raises(sl.InputError, match=rf"\(batch, height, width\).*{shapes}"):
        module.MEASURES[name](torch.ones(first), torch.ones(second))
