"""Whether a map's order is the model's: what its score does as pixels are taken away or put back, highest first.

Maps are used as they are, neither normalised nor made positive: what is most negative comes last. A map has no order
among equal pixels, so a curve is a straight line from the score before all of them are replaced to the score after, as
ties are drawn in a ROC curve; that of a constant map is one line. Areas depend on the fill and on the number of steps,
so only curves of the same fill and steps compare.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sightline._common.words import counted
from sightline.errors import InputError
from sightline.evaluation._occlusion import Fill, as_fill, occlude
from sightline.evaluation._regions import places


@dataclass(frozen=True)
class Curve:
    """What a model says of some images, step by step.

    Attributes:
        values: shape (step, batch): the score after each step, in the score's units; the first with nothing done. NaN
            throughout for an image whose map is not finite.
    """

    values: Float[Tensor, "step batch"]

    @property
    def area(self) -> Float[Tensor, " batch"]:
        """The area under the curve, from 0 to 1 along the steps: the mean of the values, half weight at both ends.

        Petsiuk et al. 2018 (RISE), arXiv 1806.07421, section 4. In the score's units; low is good for deletion, high
        for insertion.
        """
        area = torch.trapezoid(self.values.double(), dim=0) / (len(self.values) - 1)
        return area.to(self.values.dtype)

    @property
    def aopc(self) -> Float[Tensor, " batch"]:
        """The area over the curve: the mean over k = 0 ... L of (value 0 - value k), the first, 0, included.

        Samek et al. 2017, arXiv 1509.06321, equation 12. In the score's units; high is good for deletion and patch
        flipping.
        """
        wide = self.values.double()
        return (wide[0] - wide).mean(0).to(self.values.dtype)


def deletion(
    score: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    fill: Fill | str,
    steps: int = 20,
    *,
    black: Tensor | None = None,
) -> Curve:
    """The score as pixels are replaced, highest first: after step k of n the highest floor(k / n * pixels).

    Petsiuk et al. 2018 (RISE), arXiv 1806.07421, section 4.

    Args:
        score: what is asked of the model, from images (batch, channel, height, width) to (batch,), such as the
            probability or the logit of each image's explained class. It is called with all images in their order,
            without gradients: once with nothing done and once after each step, twice where a step ends among equal
            pixels.
        images: shape (batch, channel, height, width): encoded images.
        heatmaps: shape (batch, height, width).
        fill: what pixels are replaced by, computed once for the whole image; not inpainting.
        steps: how many; with more than there are pixels, some change nothing.
        black: a black pixel as the model sees it, one value per channel; needed for `Fill.BLACK`.

    Raises:
        InputError: shapes do not fit, there is no such fill, or it is inpainting, or black is needed and not known, or
            there are no steps.
    """
    filled = _filled(images, heatmaps, fill, steps, black)
    return curve(score, _replaced(images, filled), heatmaps.to(images.device), steps=steps)


def insertion(
    score: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    fill: Fill | str,
    steps: int = 20,
    *,
    black: Tensor | None = None,
) -> Curve:
    """The score as pixels are put back into a filled image, highest first; arguments and errors as of `deletion`.

    Petsiuk et al. 2018 (RISE), arXiv 1806.07421, section 4, where the fill is a blur.
    """
    filled = _filled(images, heatmaps, fill, steps, black)
    return curve(score, _replaced(filled, images), heatmaps.to(images.device), steps=steps)


def patch_flipping(
    score: Callable[[Tensor], Tensor],
    images: Tensor,
    heatmaps: Tensor,
    fill: Fill | str,
    patch: int = 8,
    steps: int = 20,
    *,
    black: Tensor | None = None,
) -> Curve:
    """The score as square patches are replaced, that with the highest mean first; else as `deletion`.

    Region perturbation of Samek et al. 2017, arXiv 1509.06321; the paper replaces one patch per step by
    uniform noise, here each step takes an equal share of the patches and nothing is drawn.

    Args:
        score: as of `deletion`.
        images: as of `deletion`.
        heatmaps: as of `deletion`.
        fill: as of `deletion`.
        patch: the side of a patch in pixels. The grid starts at the top left, so that the last ones may be smaller.
        steps: as of `deletion`.
        black: as of `deletion`.

    Raises:
        InputError: as of `deletion`; or patches have no side.
    """
    if patch < 1:
        raise InputError(f"A patch has a side of at least one pixel; got {patch}.")
    filled = _filled(images, heatmaps, fill, steps, black)
    return curve(score, _replaced(images, filled), heatmaps.to(images.device), patch, steps)


def _filled(images: Tensor, heatmaps: Tensor, fill: Fill | str, steps: int, black: Tensor | None) -> Tensor:
    """The images filled throughout, where everything fits."""
    if images.dim() != 4 or not images.is_floating_point():
        raise InputError(
            "Images are floating point, of shape (batch, channel, height, width); got "
            f"{images.dtype}, {tuple(images.shape)}."
        )
    batch, channels, height, width = images.shape
    if heatmaps.shape != (batch, height, width):
        raise InputError(
            f"There is one map per image, of its height and width: shape {(batch, height, width)}; got "
            f"{tuple(heatmaps.shape)}."
        )
    if black is not None and black.shape != (channels,):
        raise InputError(f"A black pixel has a value for each of the {channels} channels; got {tuple(black.shape)}.")
    if steps < 1:
        raise InputError(f"A curve has at least one step; got {steps}.")
    if as_fill(fill) is Fill.INPAINTING:
        raise InputError(
            "Inpainting continues what is left of an image, so what it puts at a pixel would change in every step, and "
            'an image without any left has no inpainting. Take another fill: "black", "mean", "blur".'
        )
    everywhere = torch.ones_like(images[:, 0], dtype=torch.bool)
    return occlude(images.detach(), everywhere, fill, black=black)


def _replaced(start: Tensor, end: Tensor) -> Callable[[Tensor], Tensor]:
    """Images with some pixels taken from others."""
    return lambda chosen: torch.where(chosen[:, None], end, start)


def curve(
    score: Callable[[Tensor], Tensor],
    state: Callable[[Tensor], Tensor],
    heatmaps: Float[Tensor, "batch height width"],
    patch: int = 1,
    steps: int = 20,
) -> Curve:
    """The score as pixels are treated in a map's order: after step k of n the highest floor(k / n * pixels) of them.

    Args:
        score: from images to one number for each, shape (batch,); see `deletion`.
        state: from pixels that are done, truth values of the maps' shape, to the images in that state, such as images
            in which these pixels are imputed from the others.
        heatmaps: shape (batch, height, width).
        patch: the side of square patches that are treated together, that with the highest mean first.
        steps: how many.

    Raises:
        InputError: the score is no number for each image.

    Example:
        curve(score, lambda done: images * ~done[:, None], heatmaps)  # deletion with zeros
    """
    height, width = heatmaps.shape[1:]
    means = avg_pool2d(heatmaps.detach().double()[:, None], patch, ceil_mode=True)[:, 0]
    # Averages over parts of other sizes round otherwise, also where all values are equal.
    flat = means.to(heatmaps.dtype).flatten(1).nan_to_num(nan=0)
    place, count = places(flat), flat.shape[1]

    def pixels(chosen: Tensor) -> Tensor:
        wide = chosen.view_as(means).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
        return wide[:, :height, :width]

    known: list[tuple[Tensor, Tensor]] = []

    def scored(chosen: Tensor) -> Tensor:
        for before, values in known:
            if torch.equal(before, chosen):
                return values
        values = score(state(pixels(chosen)))
        if values.shape != (len(heatmaps),):
            raise InputError(
                f"The score gives one number for each image, and there are {counted(len(heatmaps), 'image')}; got "
                f"shape {tuple(values.shape)}. Choose the explained class of each."
            )
        known.append((chosen, values))
        # A step is about the same pixels as the one before at most.
        del known[:-2]
        return values

    found = []
    with torch.no_grad():
        for step in range(steps + 1):
            done = count * step // steps
            whole, begun = place.through <= done, place.above < done
            values = scored(whole)
            if not torch.equal(whole, begun):
                # At most one set of equal pixels of an image is begun and not done.
                divided = begun & ~whole
                shares = (done - place.above).double() / (place.through - place.above)
                share = torch.where(divided, shares, 0).amax(1)
                values = torch.where(share > 0, torch.lerp(values, scored(begun), share.to(values)), values)
            found.append(values)
        finite = heatmaps.isfinite().flatten(1).all(1)
        values = torch.stack(found)
        return Curve(torch.where(finite.to(values.device), values, torch.nan))
