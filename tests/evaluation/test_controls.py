"""Controls: maps that know nothing of the model."""

import torch

from sightline.auditing import centre_map, edge_map


def test_controls_know_nothing_but_the_picture() -> None:
    images = torch.zeros(1, 3, 9, 9)
    images[..., 5:] = 1
    edges = edge_map(images)[0]
    assert edges[:, 4:6].min() > 0
    assert edges[:, :4].max() == 0
    assert edges[:, 6:].max() == 0
    centre = centre_map(images)[0]
    assert centre.argmax() == 4 * 9 + 4
    torch.testing.assert_close(centre[0, 4], torch.exp(torch.tensor(-2.0)))
    torch.testing.assert_close(centre, centre.flip(0).T)
