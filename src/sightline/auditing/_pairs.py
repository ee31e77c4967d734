"""Which images an audit compares with each other: fixed random pairs, and groups of images that belong together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sightline._common.equality import Compared
from sightline._common.seeds import seed_of
from sightline._common.words import counted
from sightline.auditing._contrast import Numbers
from sightline.errors import InputError
from sightline.evaluation import Values


class Pairs(NamedTuple):
    """For each image another one.

    Attributes:
        partners: shape (image,): its number.
        known: shape (image,): false where there is none, and an image stands for itself.
        kept: shape (image,): whether the labels are as was asked: different, or the same.
    """

    partners: Numbers
    known: Numbers
    kept: Numbers


@dataclass(frozen=True, eq=False)
class Sample(Compared):
    """The images of an audit, and how they depend on each other.

    Attributes:
        names: what they are called.
        groups: shape (image,): numbers of groups that belong together; identical images are one group.
        contents: shape (image,): numbers of the images' contents, by which an image that is given twice counts once.
        others: for each another one, of another predicted class.
        alike: for each another one, of the same predicted class.
    """

    names: Sequence[str]
    groups: Numbers
    contents: Numbers
    others: Pairs
    alike: Pairs

    @classmethod
    def of(
        cls, names: Sequence[str], keys: Sequence[str], labels: Numbers, groups: Iterable[Any] | None, seed: int
    ) -> "Sample":
        """Pairs and groups of some images.

        Args:
            names: what they are called.
            keys: a key for each by its content.
            labels: the predicted class of each.
            groups: what each belongs to, such as a patient; by default only identical images belong together.
            seed: by which pairs are drawn.

        Raises:
            InputError: there is not one group for each image.
        """
        own = numbered(keys if groups is None else groups, len(keys))
        drawn = [seed_of(seed, "pair", key) for key in keys]
        contents = numbered(keys, len(keys))
        pairs = (paired(drawn, contents, own, labels, same=same) for same in (False, True))
        return cls(names, own, contents, *pairs)


def numbered(groups: Iterable[Any], count: int) -> Numbers:
    """The groups as numbers from 0.

    Raises:
        InputError: there is not one for each image, or one is missing.
    """
    if isinstance(groups, str):
        raise InputError(f"groups= takes what each image belongs to, in a list; got the text {groups!r}.")
    # Elements of tensors and arrays are compared by value only as plain numbers.
    given = list(groups.tolist() if hasattr(groups, "tolist") else groups)
    if len(given) != count:
        raise InputError(
            f"groups= takes what each image belongs to, one for each of {counted(count, 'image')}; got {len(given)}."
        )
    missing = [i for i, one in enumerate(given) if pd.isna(one) or one == ""]
    if missing:
        raise InputError(
            f"{counted(len(missing), 'image')} of {count} got no group, first image {missing[0]}. Give each what it "
            "belongs to; an image by itself gets a group of its own."
        )
    found, _ = pd.factorize(pd.Series(given, dtype=object))
    return np.asarray(found)


def paired(drawn: Sequence[int], contents: Numbers, groups: Numbers, labels: Numbers, *, same: bool) -> Pairs:
    """For each image another one, of another content and group, whose label is another, or the same.

    Each image is taken about equally often. Where no such image has such a label, it is any; where all belong to one
    group, one of that group. What is paired depends on `drawn`, and not on the order of the images.

    Args:
        drawn: for each image a random number of its own.
        contents: numbers of the images' contents.
        groups: numbers of the groups that belong together.
        labels: numbers of the labels.
        same: whether labels are to be the same.
    """
    count = len(drawn)
    order = np.array(sorted(range(count), key=lambda i: drawn[i]), dtype=int)
    rank = np.empty(count, dtype=int)
    rank[order] = np.arange(count)
    uses = np.zeros(count, dtype=int)
    partners, known, kept = np.arange(count), np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    for i in order:
        other = contents != contents[i]
        labelled = (labels == labels[i]) == same
        apart = other & (groups != groups[i])
        for wanted, fits in ((apart & labelled, True), (apart, False), (other & labelled, True), (other, False)):
            if wanted.any():
                # Of the least used, the next in the drawn order.
                costs: Values = np.where(wanted, uses * count + (rank - rank[i]) % count, np.inf)
                partners[i], known[i], kept[i] = int(costs.argmin()), True, fits
                uses[partners[i]] += 1
                break
    return Pairs(partners, known, kept)
