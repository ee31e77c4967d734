"""Pictures on figures: averaged when shrunk, unchanged when enlarged, in colours that are explained."""

import io
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor, nn

import sightline as sl
from sightline.models import ModelInfo, Preprocessing
from sightline.rendering import _gad_figures as figures
from sightline.rendering._figure import PaperFigure
from sightline.rendering._picture import draw_map, place_picture, resampled, scale_of

SIDE = 512
EVERY = 7
LINES = len(range(0, SIDE, EVERY))


def lines() -> np.ndarray:
    values = np.zeros((SIDE, SIDE))
    values[::EVERY] = 1
    return values


def drawn(figure: PaperFigure, axes: Axes, dpi: float) -> np.ndarray:
    """The pixels of some axes of a figure that is written as a PNG, 0 to 1; its frame is left out."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    pixels = np.asarray(Image.open(buffer).convert("RGB")) / 255
    box = axes.get_position()
    height, width = pixels.shape[:2]
    top, bottom, left, right = (1 - box.y1) * height, (1 - box.y0) * height, box.x0 * width, box.x1 * width
    return pixels[round(top) : round(bottom), round(left) : round(right)]


def bare(inches: float) -> tuple[PaperFigure, Axes]:
    figure = PaperFigure(figsize=(inches, inches))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


@pytest.mark.parametrize("count", [1, 13, 64, 211, 256, 500, 700])
def test_each_row_of_a_shrunk_map_is_the_integral_over_its_place(count: int) -> None:
    """The lines as a step function, integrated in whole fractions."""
    expected = []
    for row in range(count):
        low, high = Fraction(row * SIDE, count), Fraction((row + 1) * SIDE, count)
        marked = sum(
            max(min(high, Fraction(n + 1)) - max(low, Fraction(n)), Fraction(0)) for n in range(0, SIDE, EVERY)
        )
        expected.append(float(marked / (high - low)))
    found = resampled(lines(), count, 3)
    np.testing.assert_allclose(found, np.repeat(np.array(expected)[:, None], 3, 1), atol=1e-12)
    assert found.mean() == pytest.approx(LINES / SIDE, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 128, 256])
def test_a_checkerboard_becomes_its_mean(count: int) -> None:
    board = np.indices((SIDE, SIDE)).sum(0) % 2 * 2.0 - 1
    np.testing.assert_array_equal(resampled(board, count, count), np.zeros((count, count)))
    np.testing.assert_array_equal(resampled(3 + board, count, count), np.full((count, count), 3.0))


def test_an_enlarged_map_keeps_its_pixels() -> None:
    few = np.array([[5.0, 6.0, 7.0]])
    np.testing.assert_array_equal(resampled(few, 2, 6), [[5, 5, 6, 6, 7, 7]] * 2)
    # Of four pixels the borders lie at 4/3 and 8/3: a third of the second is of the first value.
    np.testing.assert_allclose(resampled(few, 1, 4), [[5, 5 / 3 + 12 / 3, 12 / 3 + 7 / 3, 7]])


@pytest.mark.parametrize("dpi", [37, 60, 110, 173, 256, 300])
@pytest.mark.parametrize("signed", [True, False])
def test_lines_drawn_at_any_size_have_their_mean_and_no_beat(dpi: int, signed: bool) -> None:
    figure, axes = bare(1.92)
    draw_map(axes, lines(), np.ones((SIDE, SIDE, 3)), signed=signed, overlay=0.0)
    pixels = drawn(figure, axes, dpi)
    darkness = (1 - pixels.mean(2)).mean(1)
    # The whole of it is as dark as the same map at full size, by eight bits.
    one = bare(1.0)
    draw_map(one[1], np.ones((4, 4)), np.ones((4, 4, 3)), signed=signed, overlay=0.0)
    full = 1 - drawn(*one, 20).mean()
    assert darkness.mean() == pytest.approx(full * LINES / SIDE, abs=2 / 255)
    # A beat is a run of rows that is darker than another: averages over four lines stay within what half a line adds.
    if dpi > 100:
        run = round(4 * EVERY * len(darkness) / SIDE)
        means = np.convolve(darkness, np.ones(run) / run, "valid")
        assert np.ptp(means) < 0.6 * full * max(1.0, len(darkness) / SIDE) / run


@pytest.mark.parametrize("dpi", [40, 110])
def test_a_signed_checkerboard_is_white_and_a_value_that_is_missing_is_seen(dpi: int) -> None:
    figure, axes = bare(1.92)
    board = np.indices((SIDE, SIDE)).sum(0) % 2 * 2.0 - 1
    draw_map(axes, np.kron(board[:256, :256], np.ones((1, 2))), np.ones((256, SIDE, 3)), signed=True, overlay=0.0)
    shown = drawn(figure, axes, dpi)
    # Neighbours that cover a different share of a square leave a trace of it.
    assert shown.mean() > 0.97
    missing = np.zeros((SIDE, SIDE))
    missing[:256] = np.nan
    figure, axes = bare(1.92)
    draw_map(axes, missing, np.ones((SIDE, SIDE, 3)), signed=True, overlay=0.0)
    red, green, blue = np.moveaxis(drawn(figure, axes, dpi)[: round(0.9 * dpi)], 2, 0)
    assert (green > red + 0.3).all()
    assert (green > blue + 0.3).all()


def test_photographs_and_masks_are_averaged_too() -> None:
    stripes = np.zeros((300, 300, 3))
    stripes[::3] = 1
    figure, axes = bare(1.0)
    place_picture(axes, stripes)
    np.testing.assert_allclose(drawn(figure, axes, 100), 1 / 3, atol=1 / 255)


class Weights(nn.Module):
    """A linear network with given weights."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.flatten(1).T


@pytest.fixture(scope="module")
def explanation() -> sl.Explanation:
    weight = torch.zeros(2, 1, SIDE, SIDE)
    weight[:, :, ::EVERY] = 1
    weight[1, :, 3::EVERY] = -1
    return sl.explain(Weights(weight), torch.rand(3, 1, SIDE, SIDE), "gradient", [0, 1, 1])


def test_the_montage_and_its_file_have_no_stripes_that_the_map_lacks(
    explanation: sl.Explanation, tmp_path: Path
) -> None:
    explanation.subset([0]).save(tmp_path)
    figure = explanation.subset([0]).show()
    pixels = np.asarray(Image.open(tmp_path / "montage.png").convert("RGB")) / 255
    box, (height, width) = figure.axes[1].get_position(), pixels.shape[:2]
    tile = pixels[
        round((1 - box.y1) * height) + 2 : round((1 - box.y0) * height) - 2, round((box.x0 + box.x1) / 2 * width)
    ]
    colour = tile.max(1) - tile.min(1)
    run = 26  # rows of 211: nine lines of 512 / 7
    means = np.convolve(colour, np.ones(run) / run, "valid")
    assert np.ptp(means) < 0.1 * means.mean()


def test_pictures_in_a_pdf_have_300_dpi(explanation: sl.Explanation, tmp_path: Path) -> None:
    explanation.show([0]).savefig(tmp_path / "figure.pdf")
    widths = {int(found) for found in re.findall(rb"/Width (\d+)", (tmp_path / "figure.pdf").read_bytes())}
    # A tile is 1.92 inches wide.
    assert {575, 576, 577} & widths
    explanation.show([0]).savefig(tmp_path / "small.pdf", dpi=50)
    small = {int(found) for found in re.findall(rb"/Width (\d+)", (tmp_path / "small.pdf").read_bytes())}
    assert {95, 96, 97} & small


def test_show_takes_images_a_size_and_how_much_of_the_picture_shows(explanation: sl.Explanation) -> None:
    figure = explanation.show([2, 0], tile=3.0, overlay=0)
    assert [axes.get_xlabel().split("\n")[0] for axes in figure.axes if axes.get_xlabel()] == ["image 2", "image 0"]
    box = figure.axes[0].get_position()
    assert box.width * figure.get_figwidth() == pytest.approx(3 - 0.08)
    # Row 1 is zero: white without a picture, its grey with one.
    assert figure.axes[1].images[0].get_array()[1].min() == 1
    grey = explanation.display[2][1].mean(-1)
    for overlay in (0.25, 1.0):
        shown = explanation.show([2], overlay=overlay).axes[1].images[0].get_array()[1]
        np.testing.assert_allclose(shown, np.repeat(1 - overlay * (1 - grey)[:, None], 3, 1), atol=1e-6)
    for wrong in ({"images": [3]}, {"images": []}, {"overlay": 1.5}, {"tile": 0.0}):
        with pytest.raises(sl.InputError, match="got"):
            explanation.show(**wrong)


def test_an_overlay_has_a_pixel_for_each_of_the_picture_s(explanation: sl.Explanation, tmp_path: Path) -> None:
    explanation.overlay("gradient", 1).save(tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as file:
        pixels = np.asarray(file).astype(float)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert (pixels[0, :, 0] > pixels[0, :, 2] + 60).all()  # for: red
    assert (pixels[3, :, 2] > pixels[3, :, 0] + 60).all()  # against: blue
    grey = 255 * (1 - 0.4 * (1 - explanation.display[1][1].mean(-1)))
    np.testing.assert_allclose(pixels[1], np.repeat(grey[:, None], 3, 1), atol=1)
    with pytest.raises(sl.InputError, match="numbers from 0 to 2"):
        explanation.overlay("gradient", 3)


def test_figures_of_gad_have_a_legend_and_panels_of_one_size() -> None:
    model = Weights(torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)))
    images = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    gad = sl.GAD(model, (0, 1), (2,), steps=2, batch_size=8, rate=1e-3).fit(
        (images, torch.arange(8) % 2), controls=False
    )
    found = gad.explain_each(images[:2], ["input_x_gradient"])
    made = {
        "evidence for": [
            figures.original_maps(found, "input_x_gradient", ("cat", "dog")),
            figures.per_alpha(found, "input_x_gradient", 0, ("cat", "dog")),
            figures.side_by_side({"": found[0]}),
        ],
        "hull": [
            figures.hull_figure(found[0], "input_x_gradient"),
            figures.visual_clues({"": figures.Clues(found, [0, 1])}, (0, 1), ("cat", "dog"), 1),
        ],
    }
    for said, drawings in made.items():
        for figure in drawings:
            texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
            assert any(said in text for text in texts)
            figure.draw_without_rendering()
            sizes = {tuple(np.round(axes.get_window_extent().size, 3)) for axes in figure.axes}
            assert len(sizes) == 1
            # Nothing that is drawn on a picture makes room for itself around it.
            assert {axes.get_xlim() for axes in figure.axes} == {(-0.5, 11.5)}


def test_a_picture_stretched_for_want_of_an_encoding_says_so(explanation: sl.Explanation) -> None:
    assert "stretched" in explanation.manifest()["images"][0]["notes"][0]
    assert any("stretched" in text.get_text() for text in explanation.show([0]).texts)
    model = Weights(torch.zeros(2, 1, 12, 12))
    model.sightline_info = ModelInfo(
        spec="test", preprocessing=Preprocessing(size=(12, 12), mean=(0.0,), std=(1.0,), channels=1)
    )
    known = sl.explain(model, torch.rand(1, 1, 12, 12), "gradient", 0)
    assert "notes" not in known.manifest()["images"][0]
    assert not any("stretched" in text.get_text() for text in known.show().texts)


@pytest.mark.parametrize(
    ("marked", "end"),
    [
        # Of 100 pixels the 98th percentile is the 99th in order, counted from the least.
        (1, 5.0),
        (2, 4.0),
        (3, 4.0),
        (0, 1.0),
    ],
)
def test_colours_of_a_map_that_is_nearly_all_zero_end_at_a_value_of_it(marked: int, end: float) -> None:
    values = np.zeros(100)
    values[:marked] = [5.0, -4.0, 3.0][:marked]
    assert scale_of(values.reshape(10, 10)) == end
