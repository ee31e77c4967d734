"""Which values of a file are black and white, where it has more than 8 bits; and what a user is told of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError

_SMALL = 0.3
"""Part of the range below which values are likely to be of another range; 14 bits in 16 fill a quarter."""
_MOSTLY = 0.9
"""Share of values beyond a stated range above which that range is likely to be a mistake; windows of CT leave less."""
_USUAL = (255, 1023, 4095, 16383, 65535)


class Levels(NamedTuple):
    """The range of a picture's values, in the units of its file.

    Attributes:
        black: the value that becomes pixel value 0.
        white: the value that becomes pixel value 255.
        least: the smallest value in the file.
        most: the largest.
        rule: where black and white come from: "stated", "file", "type", "customary" or "own" (the picture's own
            extremes).
        beyond: the share of its values below black or above white.
    """

    black: float
    white: float
    least: float
    most: float
    rule: str
    beyond: float = 0.0


def levels_of(
    values: NDArray[Any], stated: tuple[float, float] | None, told: tuple[float | int, float | int] | None = None
) -> Levels:
    """Black and white of a picture.

    Stated values go first, then those that the file tells. Without them integers of up to 16 bits have the range of
    their type; wider ones 0..65535 if they lie in it; floating-point values 0..1, or else 0..255, if they
    lie in it. All others have the picture's own range.

    Args:
        values: as the file has them.
        stated: what a user says.
        told: what the file says.

    Raises:
        InputError: some are not finite.
    """
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise InputError(
            f"{count} of its {values.size} values are not finite (NaN or infinity); replace them in the file, or fill "
            "them in Python and give explain a tensor"
        )
    least, most = float(values.min()), float(values.max())
    ends = told if stated is None else stated
    if ends is not None:
        black, white = float(ends[0]), float(ends[1])
        beyond = float(np.mean((values < black) | (values > white)))
        return Levels(black, white, least, most, "file" if stated is None else "stated", beyond)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        kind = np.iinfo(values.dtype)
        return Levels(float(kind.min), float(kind.max), least, most, "type")
    for black, white in [(0.0, 65535.0)] if values.dtype.kind in "iu" else [(0.0, 1.0), (0.0, 255.0)]:
        if black <= least <= most <= white:
            return Levels(black, white, least, most, "customary")
    return Levels(least, most, least, most, "own")


def scaled(values: NDArray[Any], levels: Levels) -> NDArray[np.float32]:
    """Values on the scale 0..255, with all their levels; what lies beyond black and white becomes these."""
    span = (levels.white - levels.black) or 1.0
    found = (values.astype(np.float64) - levels.black) * 255.0 / span
    return found.clip(0, 255).astype(np.float32)


def note(values: NDArray[Any], levels: Levels) -> str:
    """What was done to one picture."""
    kind = values.dtype.kind
    what = "Floating-point" if kind == "f" else f"{8 * values.dtype.itemsize}-bit"
    ends = f"{levels.black:g}..{levels.white:g}"
    if levels.rule == "customary" and kind == "f" and levels.white == 255:
        return "Floating-point values were taken as 0..255."
    how = {"own": f"their own range, {ends},", "stated": f"the stated range, {ends},"}.get(levels.rule, ends)
    said = f"{what} values were scaled from {how} to 0..255, without rounding."
    return said if levels.beyond == 0 else f"{said} {levels.beyond:.2%} of them lie beyond it and were set to its ends."


def warnings(levels: Sequence[Levels | None], cut: int = 0) -> list[str]:
    """What a user must know of some pictures, in sentences.

    Args:
        levels: of each picture, None where it has 8 bits.
        cut: how many pictures had more bits than could be read.
    """
    found = []
    known = [one for one in levels if one is not None]
    few = [one for one in known if one.rule != "own" and one.most > one.least and _share(one) < _SMALL]
    own = [one for one in known if one.rule == "own"]
    usual = [one for one in known if one.rule == "customary"]
    cropped = [one for one in known if one.beyond > _MOSTLY]
    if few:
        least, most = min(one.least for one in few), max(one.most for one in few)
        first = few[0]
        found.append(
            f"{_count(few, levels)} at most {max(map(_share, few)):.0%} of the range between black and white, so that "
            f"the model sees almost no contrast: the values reach from {least:g} to {most:g}, while {first.black:g} is "
            f"black and {first.white:g} white. State which values of the files are black and white, such as "
            f"{_option(least, most)}."
        )
    if own:
        least, most = min(one.least for one in own), max(one.most for one in own)
        which = "The image has" if len(levels) == 1 else f"{len(own)} of {len(levels)} images have"
        found.append(
            f"{which} values outside 0..1 and 0..255 (or 0..65535 where they are "
            f"integers), and each was scaled from its own range, so that brightness cannot be compared between images. "
            f"State what is black and white in all of them, such as {_option(least, most)}."
        )
    if len(whites := sorted({one.white for one in usual})) > 1:
        counts = " and ".join(f"{sum(one.white == white for one in usual)} lie in 0..{white:g}" for white in whites)
        least, most = min(one.least for one in usual), max(one.most for one in usual)
        found.append(
            f"Of {len(usual)} images {counts}, and each was scaled from that range, so that their brightness cannot be "
            f"compared. State what is black and white in all of them, such as {_option(least, most)}."
        )
    if cropped:
        first = cropped[0]
        least, most = min(one.least for one in cropped), max(one.most for one in cropped)
        part = f"{max(one.beyond for one in cropped):.0%} of the values"
        of = f"{part} of the image" if len(levels) == 1 else f"Up to {part} in {len(cropped)} of {len(levels)} images"
        found.append(
            f"{of} lie beyond the stated range {first.black:g}..{first.white:g} and became black or white: the values "
            f"reach from {least:g} to {most:g}. If that is not meant, state another range, such as "
            f"{_option(least, most)}."
        )
    if cut:
        found.append(
            f"{cut} of {len(levels)} images have more than 8 bits a value in a format of which only 8 can be read. "
            "Save them as PNG or TIFF to keep all."
        )
    return found


def _share(levels: Levels) -> float:
    """The part of the range between black and white that the values fill."""
    within = min(levels.most, levels.white) - max(levels.least, levels.black)
    return max(within, 0.0) / ((levels.white - levels.black) or 1.0)


def _count(some: Sequence[Levels], of: Sequence[Levels | None]) -> str:
    return "The image fills" if len(of) == 1 else f"{len(some)} of {len(of)} images fill"


def _option(least: float, most: float) -> str:
    """The likely range: that of a usual number of bits, or the values' own."""
    white = next((top for top in _USUAL if least >= 0 and 1 < most <= top and most == round(most)), None)
    low, high = (0, white) if white is not None else (least, most)
    ends = f"{low:.6g}, {high:.6g}"
    return f"--values {ends.replace(' ', '')} (values=({ends}) in Python, values = [{ends}] in a recipe)"
