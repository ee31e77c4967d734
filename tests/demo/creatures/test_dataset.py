"""The Creatures: what must differ between twins, what must not, and that a network can begin to learn them."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from scipy.stats import binom
from skimage.measure import label as regions
from skimage.measure import perimeter

from sightline.demo._small_resnet import SmallResNet, train_on
from sightline.demo.creatures import CLASS_NAMES, DECIDING, PARTS, Creatures, draw, encode, invent, passes_twin_test
from sightline.demo.creatures._creature import NULL_COLOURS
from sightline.demo.creatures._drawing import paint, support
from sightline.errors import InputError


@pytest.fixture(scope="module")
def some():
    return Creatures(120, seed=3)


def beats_chance(hits, count, chance):
    return hits > binom.ppf(0.999, count, chance)


@pytest.mark.parametrize("part", PARTS)
def test_variants_match_in_area_and_edge_length(some, part):
    # Fine pictures, because at 64 pixels the measure of an edge depends on how it meets the pixel raster.
    sizes = {0: [], 1: []}
    for creature in some.creatures[:60]:
        for variant in (0, 1):
            mask = support(replace(creature, **{part: variant}), part, size=256)
            sizes[variant].append((mask.sum(), perimeter(mask)))
    area, edge = (np.mean(sizes[1], axis=0) / np.mean(sizes[0], axis=0)).tolist()
    assert area == pytest.approx(1, abs=0.03)
    assert edge == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("part", PARTS)
def test_variants_match_in_mean_colour(some, part):
    for creature in some.creatures[:40]:
        wearers = [replace(creature, **{part: variant}) for variant in (0, 1)]
        # Within the edge, which shares its pixels with whatever lies behind.
        inner = [binary_erosion(support(wearer, part, 128), np.ones((3, 3)), 2) for wearer in wearers]
        means = [paint(wearer, 128)[mask].mean(axis=0) for wearer, mask in zip(wearers, inner, strict=True)]
        assert np.array_equal(*means)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_one_region_inside_the_picture_and_joined_to_the_body(some, part):
    for creature in some.creatures:
        picture = draw(creature)
        union = getattr(picture, part)
        assert regions(union, connectivity=1).max() == 1
        for variant in (0, 1):
            assert regions(support(replace(creature, **{part: variant}), part)).max() == 1
        assert (picture.body & union).sum() == union.sum()
    assert (some.part_masks("ears") & some.part_masks("tail")).float().mean() < 0.001


def test_the_creature_is_one_region(some):
    assert all(regions(draw(creature).body).max() == 1 for creature in some.creatures)


@pytest.mark.parametrize("part", PARTS)
def test_twins_differ_inside_the_part_only(some, part):
    twins = some.twins(part)
    differs = (some.pixels != twins.pixels).any(dim=3)
    assert not (differs & ~some.part_masks(part)).any()
    assert differs.flatten(1).any(dim=1).all()
    assert torch.equal(some.part_masks(part), twins.part_masks(part))
    assert torch.equal(some.creature_masks, twins.creature_masks)
    assert (some.labels ^ twins.labels == (2 if part == "ears" else 1)).all()


def test_nothing_is_left_of_the_parts_when_they_are_painted_over(some):
    assert torch.equal(some.without_parts(), some.twins("ears").twins("tail").without_parts())
    ears = Creatures(8, seed=3, task="ears")
    assert torch.equal(ears.without_parts(), ears.twins("ears").without_parts())
    assert not torch.equal(ears.without_parts(), ears.twins("tail").without_parts())


def test_elsewhere_keeps_the_kept_variants_and_nothing_else(some):
    other = some.elsewhere(1, keep=("ears",))
    for old, new in zip(some.creatures, other.creatures, strict=True):
        assert (new.ears, new.tail) == (old.ears, 1 - old.tail)
        assert new.centre != old.centre
        assert new.noise_seed != old.noise_seed
    assert torch.equal(some.elsewhere(1).labels, some.labels)
    assert some.elsewhere(1).creatures != some.elsewhere(2).creatures


@pytest.mark.slow
def test_simple_statistics_do_not_tell_the_class():
    creatures = Creatures(600, seed=5)
    pixels, body = creatures.pixels.double(), creatures.creature_masks[..., None].double()
    colour = [(pixels * m).sum((1, 2)) / m.sum((1, 2)) for m in (torch.ones_like(body), body, 1 - body)]
    spread = pixels.flatten(1, 2).std(dim=1)
    area, turn = body.mean((1, 2)), torch.tensor([[c.turn, c.mirrored, len(c.decoys)] for c in creatures.creatures])
    features = torch.cat([*colour, spread, area, turn], dim=1)
    features = (features - features.mean(0)) / features.std(0)
    half = len(creatures) // 2
    centroids = torch.stack([features[:half][creatures.labels[:half] == k].mean(0) for k in range(4)])
    nearest = torch.cdist(features[half:], centroids).argmin(dim=1)
    assert not beats_chance((nearest == creatures.labels[half:]).sum().item(), half, 1 / 4)
    targets = torch.nn.functional.one_hot(creatures.labels).double()
    fit = torch.linalg.lstsq(features[:half], targets[:half] - 0.25).solution
    linear = (features[half:] @ fit).argmax(dim=1)
    assert not beats_chance((linear == creatures.labels[half:]).sum().item(), half, 1 / 4)


def test_everything_but_the_variants_is_drawn_alike_for_every_class():
    drawn = [invent(ears, tail, random.Random("7")) for ears in (0, 1) for tail in (0, 1)]
    assert len({replace(creature, ears=0, tail=0) for creature in drawn}) == 1


def test_a_picture_depends_on_its_seed_and_index_alone():
    few, many = Creatures(6, seed=11), Creatures(23, seed=11)
    assert torch.equal(few.pixels, many.pixels[:6])
    assert torch.equal(few.labels, many.labels[:6])
    assert torch.equal(Creatures(6, seed=11).images, few.images)
    assert not torch.equal(Creatures(6, seed=12).pixels, few.pixels)
    assert torch.equal(Creatures(6, seed=11, task="tail", shuffled_labels=True).pixels, few.pixels)
    assert torch.equal(
        Creatures(6, 11, shuffled_labels=True).labels, Creatures(23, 11, shuffled_labels=True).labels[:6]
    )


@pytest.mark.slow
@pytest.mark.parametrize("task", DECIDING)
@pytest.mark.parametrize("shuffled", [False, True])
def test_labels_are_balanced(task, shuffled):
    creatures = Creatures(400, seed=2, task=task, shuffled_labels=shuffled)
    counts = torch.bincount(creatures.labels).tolist()
    assert counts == [400 // len(CLASS_NAMES[task])] * len(CLASS_NAMES[task])
    if shuffled:
        agreement = (creatures.labels == Creatures(400, seed=2, task=task).labels).sum().item()
        assert not beats_chance(agreement, 400, 1 / len(CLASS_NAMES[task]))


def test_null_paint_is_the_encoding_s_zero():
    null = Creatures(40, seed=1, null_share=1.0)
    assert {creature.null for creature in null.creatures} == {"grey", "black"}
    assert {creature.null for creature in Creatures(10, seed=1, null_share=0.0).creatures} == {None}
    share = np.mean([creature.null is not None for creature in Creatures(1000, seed=1).creatures])
    assert share == pytest.approx(0.15, abs=0.04)
    grey = torch.tensor(NULL_COLOURS["grey"], dtype=torch.uint8).reshape(1, 1, 1, 3)
    assert encode(grey).abs().max() == 0
    for creature, image in zip(null.creatures, null.images, strict=True):
        painted = image[:, torch.from_numpy(support(creature, "tail"))]
        if creature.null == "grey":
            assert (painted == 0).all(0).float().mean() > 0.4


@pytest.mark.slow
def test_nearly_every_picture_has_decoys():
    """Without them, a shape would count wherever it lies."""
    counts = [len(creature.decoys) for creature in Creatures(1000, seed=1).creatures]
    assert np.mean(np.array(counts) > 0) > 0.95
    assert max(counts) == 3


def test_masks_nest_and_the_ring_lies_around(some):
    assert not (some.deciding & some.ring).any()
    assert not (some.deciding & ~some.creature_masks).any()
    assert some.ring.flatten(1).any(dim=1).all()
    ears = Creatures(120, seed=3, task="ears")
    assert torch.equal(ears.deciding, some.part_masks("ears"))


@pytest.mark.parametrize("task", DECIDING)
def test_a_grid_shows_every_class_under_its_own_mask(task):
    creatures = Creatures(16, seed=4, task=task)
    grid = creatures.grid(1)
    assert grid.image.shape == (3, 128, 128)
    assert grid.cells.sum(0).eq(1).all()
    assert not (grid.deciding & ~grid.creature_masks).any()
    assert not (grid.creature_masks & ~grid.cells).any()
    corners = [(slice(a, a + 64), slice(b, b + 64)) for a in (0, 64) for b in (0, 64)]
    for down, across in corners:
        shown = (creatures.pixels == grid.pixels[down, across]).flatten(1).all(dim=1).nonzero().item()
        kind = creatures.labels[shown]
        assert grid.cells[kind, down, across].all()
        assert torch.equal(grid.deciding[kind, down, across], creatures.deciding[shown])
    with pytest.raises(InputError, match="further creatures"):
        creatures.grid(4)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"size": 8}, {"task": "legs"}, {"null_share": 1.5}])
def test_wrong_arguments_are_refused(wrong):
    # beartype stands before the library's own check wherever the type alone is wrong.
    with pytest.raises(Exception, match=r"creature|legs|share"):
        Creatures(**{"count": 4, "seed": 0, **wrong})


def test_any_size_draws_the_same_creature(some):
    small, large = draw(some.creatures[0], 32), draw(some.creatures[0], 128)
    assert small.pixels.shape == (32, 32, 3)
    touched = large.body.reshape(32, 4, 32, 4).any(axis=(1, 3))
    assert (touched == small.body).mean() > 0.98


class Oracle(torch.nn.Module):
    """Knows the labels by the bytes of the pictures."""

    def __init__(self, *sets, blind=False):
        super().__init__()
        self.known = {
            image.numpy().tobytes(): k for s in sets for image, k in zip(s.images, s.labels.tolist(), strict=True)
        }
        self.blind = blind

    def forward(self, x):
        labels = [0 if self.blind else self.known[image.numpy().tobytes()] for image in x.contiguous()]
        return torch.nn.functional.one_hot(torch.tensor(labels), 4).float()


def test_twin_test_passes_who_knows_and_fails_who_does_not():
    creatures = Creatures(12, seed=9)
    sets = [creatures, *(creatures.twins(p) for p in PARTS), *(creatures.elsewhere(0, keep=(p,)) for p in PARTS)]
    assert passes_twin_test(Oracle(*sets), creatures).all()
    assert not passes_twin_test(Oracle(blind=True), creatures).any()
    with pytest.raises(InputError, match="2 classes"):
        passes_twin_test(SmallResNet(4).eval(), Creatures(4, seed=0, task="ears"))


def test_training_learns_repeats_and_leaves_the_global_generator_alone():
    creatures = Creatures(48, seed=0, size=32)
    losses = []
    before = torch.random.get_rng_state()
    model = train_on(creatures, epochs=16, seed=1, width=8, batch=24, progress=lambda *step: losses.append(step[2]))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(losses) == 32
    assert np.mean(losses[-5:]) < 0.9 < np.log(4) < losses[0] + 0.3
    assert not model.training
    again = train_on(creatures, epochs=1, seed=1, width=8, batch=24)
    twice = train_on(creatures, epochs=1, seed=1, width=8, batch=24)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), twice.parameters(), strict=True))
    with pytest.raises(InputError, match=r"one epoch.*two pictures.*0"):
        train_on(creatures, epochs=0)
