"""Which images are compared with each other: of other classes, contents and groups, and whatever the order of files."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline as sl
from sightline.auditing._pairs import Sample, numbered

SETS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=40)
"""Contents, with labels and groups that follow from them."""


def sample(contents: list[int], labels: list[int], groups: list[int] | None) -> Sample:
    keys = [f"key {one}" for one in contents]
    return Sample.of([str(i) for i in range(len(keys))], keys, np.array(labels), groups, 0)


@given(SETS)
@settings(max_examples=100, deadline=None)
def test_partners_are_other_images_of_other_groups_where_there_are_any(images: list[tuple[int, int, int]]) -> None:
    contents = [content for content, _, _ in images]
    labels = [{c: label for c, label, _ in images}[c] for c in contents]
    groups = [{c: group for c, _, group in images}[c] for c in contents]
    found = sample(contents, labels, groups)
    for paired, same in ((found.others, False), (found.alike, True)):
        for i, (j, known, kept) in enumerate(zip(paired.partners, paired.known, paired.kept, strict=True)):
            others = [k for k in range(len(images)) if contents[k] != contents[i]]
            apart = [k for k in others if groups[k] != groups[i]]
            best = [k for k in apart if (labels[k] == labels[i]) == same]
            assert known == bool(others)
            assert kept == (bool(best) or (not apart and any((labels[k] == labels[i]) == same for k in others)))
            assert j in (best or apart or others or [i])


@given(SETS, st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_files_changes_no_pair(images: list[tuple[int, int, int]], random: object) -> None:
    unique = list({content: (content, label) for content, label, _ in images}.values())
    found = sample([c for c, _ in unique], [one for _, one in unique], None)
    other = unique[:]
    random.shuffle(other)  # type: ignore[attr-defined]
    again = sample([c for c, _ in other], [one for _, one in other], None)
    for one, two in ((found.others, again.others), (found.alike, again.alike)):
        pairs = {unique[i][0]: unique[j][0] for i, j in enumerate(one.partners)}
        assert pairs == {other[i][0]: other[j][0] for i, j in enumerate(two.partners)}


def test_each_image_is_taken_about_equally_often() -> None:
    found = sample(list(range(60)), [0] * 20 + [1] * 20 + [2] * 20, None)
    assert np.bincount(found.others.partners, minlength=60).max() <= 2
    assert np.bincount(found.alike.partners, minlength=60).max() <= 2


def test_identical_images_are_one_group_and_never_a_pair() -> None:
    found = sample([1, 1, 2, 2, 3], [0, 0, 0, 0, 0], None)
    assert list(found.groups) == [0, 0, 1, 1, 2]
    contents = [1, 1, 2, 2, 3]
    assert all(contents[i] != contents[j] for i, j in enumerate(found.alike.partners))


def test_groups_are_names_or_numbers_one_for_each_image() -> None:
    assert list(numbered(["b", "a", "b"], 3)) == [0, 1, 0]
    assert list(numbered([7, 7, 2.5], 3)) == [0, 0, 1]
    for given_ in (torch.tensor([4, 4, 1]), np.array(["b", "b", "a"]), pd.Series(["b", "b", "a"]).astype("category")):
        assert list(numbered(given_, 3)) == [0, 0, 1]
    for given_, said in (
        (["a"], "got 1"),
        (["a", None, "b"], "no group, first image 1"),
        (["a", pd.NA, "b"], "no group, first image 1"),
        ("aab", "the text 'aab'"),
        ([1.0, float("nan"), 2], "1"),
    ):
        with pytest.raises(sl.InputError, match=said):
            numbered(given_, 3)
