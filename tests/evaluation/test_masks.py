"""Masks as people have them."""

import math

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.auditing import audit, relevance_mass
from sightline.evaluation._masks import as_masks

OBJECT = torch.zeros(2, 4, 5, dtype=torch.bool)
OBJECT[0, 1:3, 2:4] = OBJECT[1, 0] = True
RING = torch.zeros_like(OBJECT)
RING[:, 3] = True
SHAPE = (2, 4, 5)


@pytest.mark.parametrize(
    "given",
    [
        OBJECT,
        OBJECT.numpy(),
        OBJECT.tolist(),
        OBJECT[:, None],
        list(OBJECT),
        [one.numpy() for one in OBJECT],
        *(OBJECT.to(kind) for kind in (torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64)),
        *(OBJECT.numpy().astype(kind) for kind in ("uint16", "uint64", "int8", "float32")),
        OBJECT.int().tolist(),
        OBJECT.numpy()[:, ::-1][:, ::-1],
    ],
)
def test_truth_values_and_zero_and_one_of_any_type(given: object) -> None:
    found = as_masks(given, SHAPE)
    assert torch.equal(found.objects, OBJECT)
    assert found.counted.all()


def test_a_threshold_cuts_probabilities() -> None:
    shares = torch.where(OBJECT, 0.75, 0.25)
    assert torch.equal(as_masks(shares, SHAPE, threshold=0.5).objects, OBJECT)
    assert torch.equal(as_masks(shares, SHAPE, threshold=0.75).objects, OBJECT)
    assert as_masks(shares, SHAPE, threshold=0.2).objects.all()
    with pytest.raises(sl.InputError, match=r"threshold=0\.5"):
        as_masks(shares, SHAPE)
    for threshold in (0, -1, 1.5, math.nan):
        with pytest.raises(sl.InputError, match="threshold must be"):
            as_masks(shares, SHAPE, threshold=threshold)


@pytest.mark.parametrize(("void", "ignore"), [(255, 255), (255, [255]), (-1, np.int64(-1)), (2, (2, 255))])
def test_ignored_values_are_neither_object_nor_background(void: int, ignore: object) -> None:
    found = as_masks(torch.where(RING, void, OBJECT.int()), SHAPE, ignore=ignore)
    assert torch.equal(found.objects, OBJECT & ~RING)
    assert torch.equal(found.counted, ~RING)


def test_nan_is_ignored_where_that_is_said() -> None:
    holes = torch.where(RING, math.nan, 0.75 * OBJECT)
    found = as_masks(holes, SHAPE, threshold=0.5, ignore=math.nan)
    assert torch.equal(found.counted, ~RING)
    with pytest.raises(sl.InputError, match="nan"):
        as_masks(holes, SHAPE, threshold=0.5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.where(OBJECT, 1, 2), "got 1, 2"),
        (torch.where(RING, 255, OBJECT.int()), "255"),
        (255 * OBJECT.int(), "0, 255"),
        (torch.where(OBJECT, 1.0, torch.nan), "nan"),
        (torch.where(OBJECT, torch.inf, 0.0), "inf"),
        (-1 * OBJECT.int(), "-1"),
        (torch.arange(40).view(SHAPE), "40 values from 0 to 39"),
        (OBJECT[0], r"\(2, 4, 5\).*got \(4, 5\)"),
        (OBJECT.mT, r"got \(2, 5, 4\)"),
        (OBJECT[:1], r"got \(1, 4, 5\)"),
        (OBJECT[:, None].expand(2, 3, 4, 5), r"got \(2, 3, 4, 5\)"),
        ([OBJECT[0], OBJECT[1, :3]], "one size"),
        ([["cat"]], "numbers"),
        ("mask.png", "numbers"),
        (OBJECT.to(torch.complex64), "complex"),
        (None, "numbers"),
        (np.ma.masked_array(OBJECT.int().numpy(), mask=RING.numpy()), "masked array.*ignore="),
        ([np.ma.masked_array(one.int().numpy(), mask=~one.numpy()) for one in OBJECT], "masked array"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(given: object, said: str) -> None:
    with pytest.raises(sl.InputError, match=said):
        as_masks(given, SHAPE)


@pytest.mark.parametrize("ignore", ["255", [255, "void"], {255: 1}, True])
def test_ignore_is_numbers(ignore: object) -> None:
    with pytest.raises(sl.InputError, match="ignore must be"):
        as_masks(OBJECT, SHAPE, ignore=ignore)


def test_an_audit_leaves_ignored_pixels_out_of_its_scores() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(1, 4, 3, padding=1)
    model = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(80, 3)).eval()
    images = torch.rand(2, 1, 4, 5)
    given = torch.where(RING, 255, OBJECT.int())
    found = audit(model, images, ["gradient"], ["completeness"], masks=given.tolist(), ignore=255)
    scores = found.scores.query("test == 'localisation' and method == 'gradient'").set_index(["measure", "image"])
    maps = sl.explain(model, images, "gradient").heatmap("gradient").abs().double()
    for number in range(2):
        rest = maps[number] * ~RING[number]
        share = float((rest * OBJECT[number]).sum() / rest.sum())
        assert scores["value"]["relevance_mass", number] == pytest.approx(share)
        assert scores["value"]["area", number] == pytest.approx(int(OBJECT[number].sum()) / 15)
    plain = audit(model, images, ["gradient"], ["completeness"], masks=OBJECT)
    own = plain.scores.query("method == 'gradient' and measure == 'relevance_mass'")["value"]
    np.testing.assert_allclose(own, relevance_mass(maps, OBJECT))
    with pytest.raises(sl.InputError, match="got 0, 1, 255"):
        audit(model, images, ["gradient"], masks=given)
    with pytest.raises(sl.InputError, match="belong to masks="):
        audit(model, images, ["gradient"], ignore=255)


def test_images_without_an_object_have_no_scores() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 3))
    images, one = torch.rand(2, 1, 4, 5), OBJECT.clone()
    one[1] = False
    found = audit(model, images, ["saliency"], ["completeness"], masks=one)
    own = found.scores.query("test == 'localisation' and method == 'saliency'")
    assert sorted(own.query("image == 0")["measure"]) == sorted(own["measure"].unique())
    assert own.query("image == 1")["value"].isna().all()
    both = audit(model, images, ["saliency"], ["completeness"], masks=OBJECT).scores
    same = both.query("test == 'localisation' and method == 'saliency' and image == 0")
    np.testing.assert_array_equal(own.query("image == 0")["value"], same["value"])
    with pytest.raises(sl.InputError, match="None of the masks"):
        audit(model, images, ["saliency"], masks=OBJECT & False)


def test_masks_with_another_border_are_another_audit(tmp_path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 3)).eval()
    images = torch.rand(2, 1, 4, 5)
    audit(model, images, ["gradient"], ["completeness"], masks=OBJECT, folder=tmp_path)
    audit(model, images, ["gradient"], ["completeness"], masks=OBJECT.int().tolist(), folder=tmp_path)
    given = torch.where(RING, 255, OBJECT.int())
    with pytest.raises(sl.InputError, match="another audit"):
        audit(model, images, ["gradient"], ["completeness"], masks=given, ignore=255, folder=tmp_path)
