"""What is given in place of a batch of images is answered with what makes one of it."""

import numpy as np
import pytest
import torch

from sightline import InputError
from sightline.arrays._encoded import as_images


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (np.zeros((1, 3, 8, 8)), "torch.from_numpy"),
        ("photos", "load_images"),
        ([torch.zeros(3, 8, 8)], "torch.stack"),
        (torch.zeros(3, 8, 8), r"image\[None\]"),
        (torch.zeros(1, 3, 2, 8, 8), "Volumes"),
    ],
)
def test_the_remedy_fits_what_was_given(given: object, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        as_images(given)
