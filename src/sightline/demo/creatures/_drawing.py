"""From a creature's parameters to pixels and to the masks of what is where."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw

from sightline.demo.creatures._creature import PARTS, Creature, Outline, Part
from sightline.errors import InputError

Mask = Bool[np.ndarray, "height width"]
Pixels = UInt8[np.ndarray, "height width 3"]

_FINER = 4  # polygons are drawn this much larger and averaged down, for smooth edges


@dataclass(frozen=True)
class Picture:
    """A drawn creature and the truth about it.

    Attributes:
        pixels: The picture in bytes.
        ears: Every pixel that either variant of the ears touches: where ear twins may differ.
        tail: The same for the tail.
        body: The whole creature, its parts included.
    """

    pixels: Pixels
    ears: Mask
    tail: Mask
    body: Mask


def draw(creature: Creature, size: int = 64) -> Picture:
    """Draws a creature, with the masks of its parts and of itself.

    Args:
        creature: What to draw.
        size: Side of the square picture, in pixels.

    Returns:
        The picture and its masks.

    Raises:
        InputError: If the side is shorter than 16 pixels.
    """
    return Picture(paint(creature, size), *masks(creature, size))


def paint(creature: Creature, size: int = 64, without: Sequence[Part] = ()) -> Pixels:
    """The pixels of `draw` alone, on request without some of the parts."""
    check_size(size)
    canvas = Image.new("RGB", (size * _FINER,) * 2, creature.backdrop)
    brush = ImageDraw.Draw(canvas)
    for spot in creature.spots:
        _fill(brush, spot.outline, spot.colour, size)
    for outline, colour in creature.body():
        _fill(brush, outline, colour, size)
    flat = Image.new("L", canvas.size)
    stencil = ImageDraw.Draw(flat)
    shapes = [(decoy.outline, decoy.colour) for decoy in creature.decoys]
    shapes += [
        (creature.part(part, variant), colour)
        for part, variant, colour in zip(PARTS, (creature.ears, creature.tail), creature.colours, strict=True)
        if part not in without
    ]
    for outline, colour in shapes:
        _fill(brush, outline, colour, size)
        _fill(stencil, outline, 255, size)
    # Parts and decoys take neither light nor noise: so variants agree in mean colour, and null paint stays null.
    open_share = 1 - np.asarray(flat.reduce(_FINER), dtype=np.float32)[..., None] / 255
    shade, noise = _weather(creature, size)
    pixels = np.asarray(canvas.reduce(_FINER), dtype=np.float32)
    pixels = pixels * (1 + open_share * shade) + open_share * noise
    drawn: Pixels = np.rint(pixels.clip(0, 255)).astype(np.uint8)
    return drawn


def masks(creature: Creature, size: int = 64) -> tuple[Mask, Mask, Mask]:
    """The masks of `draw` alone: ears, tail and body."""
    check_size(size)
    ears, tail = (_touched([creature.part(part, 0), creature.part(part, 1)], size) for part in PARTS)
    return ears, tail, _touched([outline for outline, _ in creature.body()], size) | ears | tail


def support(creature: Creature, part: Part, size: int = 64) -> Mask:
    """Every pixel that the creature's own variant of a part touches."""
    check_size(size)
    return _touched([creature.part(part, getattr(creature, part))], size)


def check_size(size: int) -> None:
    """Refuses pictures too small to tell the shapes in."""
    if size < 16:
        raise InputError(f"A creature needs a picture of at least 16 pixels a side to be told, but {size} was given.")


def _fill(brush: ImageDraw.ImageDraw, outline: Outline, ink: int | tuple[int, int, int], size: int) -> None:
    corners = outline * (size * _FINER) - (0.5 + 0.5j)
    brush.polygon(corners.view(np.float64).tolist(), fill=ink)


def _touched(outlines: list[Outline], size: int) -> Mask:
    stencil = Image.new("L", (size * _FINER,) * 2)
    brush = ImageDraw.Draw(stencil)
    for outline in outlines:
        _fill(brush, outline, 255, size)
    return np.asarray(stencil.reduce(_FINER)) > 0


def _weather(
    creature: Creature, size: int
) -> tuple[Float32[np.ndarray, "height width 1"], Float32[np.ndarray, "height width 1"]]:
    """Relative brightness around 0 (light and coarse texture), and pixel noise in bytes."""
    rng = np.random.default_rng(creature.noise_seed)
    coarse = Image.fromarray(rng.standard_normal((6, 6), dtype=np.float32)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    across, down = _ramps(size)
    shade = creature.light.real * across + creature.light.imag * down + creature.mottling * np.asarray(coarse)
    noise = creature.grain * rng.standard_normal((size, size), dtype=np.float32)
    return shade[..., None].astype(np.float32), noise[..., None].astype(np.float32)


@lru_cache(maxsize=8)
def _ramps(size: int) -> tuple[Float32[np.ndarray, "1 width"], Float32[np.ndarray, "height 1"]]:
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    return ramp[None, :], ramp[:, None]
