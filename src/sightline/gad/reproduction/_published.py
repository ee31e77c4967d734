"""The figures of the paper's tables, to stand beside one's own.

Mazini Rodrigues et al. 2024, arXiv 2401.14434, tables 1 and 2: 512 images, alpha 2, 4, 6, 8.
"""

from typing import NamedTuple

from sightline.gad._paper import PAPER_METHODS


class Row(NamedTuple):
    """One row of both tables; methods in the order of `PAPER_METHODS`.

    Attributes:
        wins: for each method, on how many of 512 images the original's hull is the smaller one, and GAD's.
        rs: for each method, the mean RS x 100 of the supplementary region, and of GAD's.
    """

    wins: tuple[tuple[int, int], ...]
    rs: tuple[tuple[float, float], ...]


TABLES: dict[tuple[str, str, int], Row] = {
    ("cats_dogs", "vgg16", 1): Row(
        ((357, 155), (0, 512), (15, 490), (4, 427), (17, 480)),
        ((0.08, 0.13), (0.0029, 0.0056), (0.0052, 0.12), (0.11, 1.59), (0.01, 0.13)),
    ),
    ("cats_dogs", "vgg16", 2): Row(
        ((159, 348), (0, 512), (2, 494), (3, 428), (0, 486)),
        ((0.24, 0.25), (0.0029, 0.0062), (0.0051, 0.56), (0.15, 1.82), (0.0096, 0.49)),
    ),
    ("cats_dogs", "resnet18", 1): Row(
        ((122, 390), (0, 512), (2, 492), (10, 453), (7, 497)),
        ((0.06, 0.03), (0.0013, 0.0024), (0.0016, 0.07), (0.13, 0.51), (0.0016, 0.12)),
    ),
    ("cats_dogs", "resnet18", 2): Row(
        ((130, 380), (0, 512), (3, 490), (5, 460), (2, 488)),
        ((0.05, 0.07), (0.0012, 0.0024), (0.0016, 0.16), (0.1, 0.47), (0.002, 0.16)),
    ),
    ("cub", "vgg16", 1): Row(
        ((270, 240), (0, 511), (9, 488), (0, 450), (1, 500)),
        ((0.25, 0.2), (0.0027, 0.0056), (0.08, 0.54), (0.01, 1.28), (0.01, 0.55)),
    ),
    ("cub", "vgg16", 2): Row(
        ((301, 210), (0, 510), (10, 494), (0, 451), (0, 504)),
        ((0.15, 0.13), (0.003, 0.0068), (0.0092, 0.36), (0.01, 1.41), (0.0072, 0.38)),
    ),
    ("cub", "resnet18", 1): Row(
        ((153, 358), (0, 512), (1, 504), (0, 472), (0, 506)),
        ((0.11, 0.04), (0.002, 0.0048), (0.0045, 0.17), (0.01, 1.03), (0.0094, 0.29)),
    ),
    ("cub", "resnet18", 2): Row(
        ((174, 337), (0, 512), (2, 506), (0, 470), (0, 504)),
        ((0.05, 0.05), (0.0019, 0.0048), (0.0037, 0.16), (0.01, 1.04), (0.0026, 0.2)),
    ),
}
"""By data set, architecture and class."""


def published(dataset: str, architecture: str) -> dict[tuple[str, int], tuple[tuple[int, int], tuple[float, float]]]:
    """The paper's figures for each method and class: wins of original and GAD, RS of the rest and of GAD.

    Args:
        dataset: `cats_dogs` or `cub`.
        architecture: `vgg16` or `resnet18`; for others there are none.
    """
    return {
        (method, c): (row.wins[place], row.rs[place])
        for (data, network, c), row in TABLES.items()
        for place, method in enumerate(PAPER_METHODS)
        if (data, network) == (dataset, architecture)
    }
