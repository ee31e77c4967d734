"""Where the cells of a map are drawn, against interpolation point by point and models that move their images."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sightline as sl
from sightline.aggregation import Placement, resized


def placement(size: int, cells: int, step: float, first: float, seen: tuple[float, float] | None = None) -> Placement:
    """The same along both axes."""
    ends = (-0.5, size - 0.5) if seen is None else seen
    return Placement((size,) * 2, (cells,) * 2, (step,) * 2, (first,) * 2, (first,) * 2, (ends,) * 2)


@given(st.integers(1, 20), st.integers(2, 6), st.sampled_from([1.0, 2.0, 3.5, -2.0]), st.floats(-5, 5))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_between_centres_it_is_linear(size: int, cells: int, step: float, first: float) -> None:
    """As numpy interpolates along each axis, with the outermost cells reaching on."""
    values = torch.randn(1, 1, cells, cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = placement(size, cells, step, first).draw(values)[0, 0].numpy()
    centres = first + step * np.arange(cells)
    order = np.argsort(centres)
    along = np.stack(
        [np.interp(np.arange(size), centres[order], column[order]) for column in values[0, 0].numpy().T], 1
    )
    expected = np.stack([np.interp(np.arange(size), centres[order], row[order]) for row in along])
    np.testing.assert_allclose(drawn, expected, atol=1e-9)


@pytest.mark.parametrize(("size", "cells"), [(12, 3), (12, 4), (7, 7), (9, 2)])
def test_an_even_grid_is_torchs_interpolation(size: int, cells: int) -> None:
    values = torch.randn(2, 1, cells, cells)
    even = placement(size, cells, size / cells, (size / cells - 1) / 2)
    assert even.covers_evenly()
    assert torch.equal(even.draw(values), resized(values, (size, size)))


def test_finer_cells_are_averaged() -> None:
    """Two cells to a pixel, as behind an upsampling in the model."""
    fine = Placement((2, 2), (4, 4), (0.5, 0.5), (-0.25, -0.25), (-0.25, -0.25), ((-0.5, 1.5),) * 2)
    moved = Placement((2, 2), (4, 4), (0.5, 0.5), (-0.75, -0.25), (-0.75, -0.25), ((-0.5, 1.5),) * 2)
    values = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(fine.draw(values), F.avg_pool2d(values, 2))
    # Half a pixel up: rows 1 to 2 and, of the last pixel, row 3 alone.
    torch.testing.assert_close(moved.draw(values)[0, 0, 0], F.avg_pool2d(values[:, :, 1:3], 2)[0, 0, 0])
    torch.testing.assert_close(moved.draw(values)[0, 0, 1], F.avg_pool2d(values[:, :, 3:], (1, 2))[0, 0, 0])


def test_sums_are_kept_also_of_what_lies_beyond_the_image() -> None:
    values = torch.randn(3, 1, 5, 5, dtype=torch.float64)
    spread = placement(8, 5, 3.0, -4.0).spread_over(values)
    torch.testing.assert_close(spread.sum((2, 3)), values.sum((2, 3)))


def test_where_branches_disagree_the_middle_is_drawn_and_the_interval_told() -> None:
    one = Placement((8, 8), (4, 4), (2.0, 2.0), (0.0, 0.5), (0.5, 0.5), ((-0.5, 7.5),) * 2)
    assert one.spread == 0.5
    assert "0 to 0.5" in one.describe()
    assert Placement.from_record(one.record()) == one


class Summed(nn.Module):
    """A class score that is the sum of one map: Grad-CAM is that map."""

    def __init__(self, *layers: nn.Module, before=lambda x: x) -> None:
        super().__init__()
        self.layers, self.before = nn.Sequential(*layers), before
        for weights in self.parameters():
            nn.init.ones_(weights)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.layers(self.before(x))).mean((2, 3))
        return torch.cat([z, 2 * z], 1) @ torch.eye(2)


def patches(size: int = 4, **settings: int) -> nn.Conv2d:
    return nn.Conv2d(1, 1, size, stride=size, bias=False, **settings)


SQUARE = {
    "padded to a square": lambda x: F.pad(x, (0, 0, 0, x.shape[3] - x.shape[2])),
    "letterboxed": lambda x: F.pad(x, (0, 0, (x.shape[3] - x.shape[2]) // 2, (x.shape[3] - x.shape[2]) // 2)),
    "cropped": lambda x: x[:, :, 8:, 16:],
    "flipped": lambda x: x.flip(3),
    "flipped and padded": lambda x: F.pad(x.flip((2, 3)), (4, 0, 8, 0)),
    "rolled": lambda x: x.roll((8, -12), (2, 3)),
    "resized": lambda x: F.interpolate(x, (64, 96), mode="bilinear"),
    "transposed": lambda x: x.transpose(2, 3),
    "folded into windows": lambda x: x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 1, 2, 4, 3, 5).reshape(x.shape),
}


def middle(heatmap: Tensor) -> list[float]:
    """The centre of gravity, in pixels from the corner of the image."""
    axes = [torch.arange(n) + 0.5 for n in heatmap.shape]
    return [float((heatmap.sum(1 - i) * at).sum() / heatmap.sum()) for i, at in enumerate(axes)]


@pytest.mark.parametrize("name", SQUARE)
@pytest.mark.parametrize("method", ["grad_cam", "guided_grad_cam", "full_grad_positive", "full_grad_signed"])
def test_maps_lie_where_the_evidence_does(name: str, method: str) -> None:
    """One bright patch: each map's middle is that patch's, whatever the model does to the image first."""
    model = Summed(patches(), before=SQUARE[name]).eval()
    image = torch.zeros(1, 1, 32, 64)
    image[..., 16:24, 40:48] = 1
    found = sl.explain(model, image, method, target=1)
    assert middle(found.heatmap(method)[0].clamp(min=0)) == pytest.approx([20, 44], abs=1e-3)


def test_a_convolution_without_padding_begins_within_the_image() -> None:
    """Two of width 9: the first cell looks at pixels 0 to 16, and so lies at pixel 8."""
    model = Summed(nn.Conv2d(1, 1, 9, bias=False), nn.ReLU(), nn.Conv2d(1, 1, 9, bias=False)).eval()
    image = torch.zeros(1, 1, 48, 48)
    image[..., 24, 24] = 1
    found = sl.explain(model, image, "grad_cam", target=1)
    where = found.placements["grad_cam"]
    assert (where.cells, where.steps, where.low, where.high) == ((32, 32), (1, 1), (8, 8), (8, 8))
    assert middle(found.heatmap("grad_cam")[0]) == pytest.approx([24.5, 24.5], abs=1e-4)
    assert any("(8, 8)" in step for step in found.heatmap_steps("grad_cam"))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_an_unseen_stem_is_told() -> None:
    stem = [torch.jit.script(patches()), nn.ReLU(), nn.Conv2d(1, 2, 1), nn.ReLU()]
    model = nn.Sequential(*stem, nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    found = sl.explain(model, torch.rand(1, 1, 32, 64), "grad_cam", target=1)
    assert not found.placements["grad_cam"].is_known
    assert any("grad_cam" in note and "not known" in note for note in found.checks.notes)
    record = found.placements["grad_cam"].record()
    assert record["low"] == [None, None]
    assert Placement.from_record(record) == found.placements["grad_cam"]


def test_branches_far_apart_are_told() -> None:
    model = Summed(patches(), before=lambda x: x + F.pad(x, (8, 0))[..., :-8]).eval()
    found = sl.explain(model, torch.rand(1, 1, 32, 64), "grad_cam", target=1)
    assert (found.placements["grad_cam"].low[1], found.placements["grad_cam"].high[1]) == (1.5 - 8, 1.5)
    assert any("grad_cam" in note and "8 pixels" in note for note in found.checks.notes)


def test_what_is_cropped_away_is_left_blank() -> None:
    model = Summed(patches(), before=lambda x: x[:, :, 8:24, 16:48]).eval()
    found = sl.explain(model, torch.rand(1, 1, 32, 64), "grad_cam", target=1).heatmap("grad_cam")[0]
    assert found[8:24, 16:48].min() > 0
    assert found.count_nonzero() == 16 * 32


def test_the_manifest_and_the_page_place_maps_alike(tmp_path) -> None:
    import json

    from sightline.rendering._gallery import Gallery

    model = Summed(patches(), before=SQUARE["letterboxed"]).eval()
    image = torch.zeros(1, 1, 32, 64)
    image[..., 16:24, 40:48] = 1
    found = sl.explain(model, image, "grad_cam", target=1)
    found.save(tmp_path)
    record = json.loads((tmp_path / "manifest.json").read_text())["methods"]["grad_cam"]["placement"]
    assert Placement.from_record(record) == found.placements["grad_cam"]
    assert record["low"] == [1.5 - 16, 1.5]
    gallery = Gallery()
    gallery.add(tmp_path)
    torch.testing.assert_close(gallery.sets[0].heatmaps[0], found.heatmap("grad_cam")[0])


def test_stretched_maps_of_the_paper_stay_where_they_cover_the_image() -> None:
    """Ordinary networks lie within half a cell of an even stretch, which FullGrad's paper takes."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()  # fmt: skip
    found = sl.explain(model, torch.rand(1, 3, 32, 32), "grad_cam", target=1)
    where = found.placements["grad_cam"]
    assert (where.steps, where.low) == ((4, 4), (0, 0))
    assert where.covers_evenly(tolerance=0.5)
    assert not where.covers_evenly()
    # The cells' centres are at pixels 0, 4, 8 ...: there the heatmap has the map's own values.
    torch.testing.assert_close(found.heatmap("grad_cam")[0, ::4, ::4], found["grad_cam"][0, 0])
    assert math.isclose(where.spread, 0)
