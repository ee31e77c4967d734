"""One creature: every number that a picture is drawn from, and how these numbers are chosen."""

import cmath
import colorsys
import math
import random
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Complex128

from sightline.errors import InputError

Colour = tuple[int, int, int]
Outline = Complex128[np.ndarray, "_"]
"""Corners of a polygon; the real part runs to the right, the imaginary part down the picture."""
Part = Literal["ears", "tail"]
PARTS: tuple[Part, Part] = ("ears", "tail")
NullPaint = Literal["grey", "black"]
NULL_COLOURS: dict[NullPaint, Colour] = {"grey": (128, 128, 128), "black": (0, 0, 0)}
"""The byte that the encoding makes zero, and the zero of encodings that only divide."""


def _shape(*corners: tuple[int | float, int | float]) -> Outline:
    return np.array([complex(along, across) for along, across in corners])


# Every pentomino but one has area 5 and edge length 12, so neither tells two of them apart. Each stands on
# the middle of the edge by which it grows: the first number points away from the body.
_U = _shape((0, -1.5), (2, -1.5), (2, -0.5), (1, -0.5), (1, 0.5), (2, 0.5), (2, 1.5), (0, 1.5))
_PLUS = _shape(
    *((0, -0.5), (1, -0.5), (1, -1.5), (2, -1.5), (2, -0.5), (3, -0.5)),
    *((3, 0.5), (2, 0.5), (2, 1.5), (1, 1.5), (1, 0.5), (0, 0.5)),
)
_STRAIGHT = _shape((0, -0.5), (5, -0.5), (5, 0.5), (0, 0.5))
_ZIGZAG = _shape(
    *((0, -0.5), (1, -0.5), (1, 0.5), (2, 0.5), (2, 1.5), (3, 1.5)),
    *((3, 2.5), (1, 2.5), (1, 1.5), (0, 1.5)),
)
SHAPES: dict[Part, tuple[Outline, Outline]] = {"ears": (_U, _PLUS), "tail": (_STRAIGHT, _ZIGZAG)}
VARIANTS: dict[Part, tuple[str, str]] = {"ears": ("horned", "plus"), "tail": ("straight", "zigzag")}

_CELLS: dict[Part, tuple[float, float]] = {"ears": (0.07, 0.08), "tail": (0.06, 0.07)}
_SUNK = 0.5  # in cells: a part that only touched a round body would come off it at some angles
_CIRCLE: Outline = np.exp(2j * np.pi * np.arange(28) / 28)


@dataclass(frozen=True)
class Spot:
    """A soft shape of the background: an ellipse by its centre, half axes (as a complex number) and turn."""

    centre: complex
    axes: complex
    turn: float
    colour: Colour

    @property
    def outline(self) -> Outline:
        """The ellipse's corners, in picture sides."""
        return self.centre + cmath.exp(1j * self.turn) * ellipse(0j, self.axes)


@dataclass(frozen=True)
class Decoy:
    """A shape of the same families as the parts, lying off the body, where it decides nothing."""

    part: Part
    variant: int
    centre: complex
    cell: float
    turn: float
    colour: Colour

    @property
    def outline(self) -> Outline:
        """The decoy's corners, in picture sides."""
        shape = SHAPES[self.part][self.variant]
        outline: Outline = self.centre + self.cell * cmath.exp(1j * self.turn) * (shape - shape.mean())
        return outline


@dataclass(frozen=True)
class Creature:
    """The full parameter set of one picture; a twin is `dataclasses.replace(creature, ears=1 - creature.ears)`.

    Lengths and places are in picture sides, angles in radians, colours in bytes. `ears` and `tail` alone
    carry the class, and nothing else depends on them.

    Attributes:
        ears: Variant of the ears, 0 or 1 (`VARIANTS["ears"]`).
        tail: Variant of the tail, 0 or 1 (`VARIANTS["tail"]`).
        null: The null colour that both parts are painted in, if they are.
        centre: The middle of the body.
        scale: Half the length of the body.
        turn: How far the whole creature is turned.
        mirrored: Whether it looks to the left.
        roundness: Height of the body over its length.
        head: Middle of the head, in half body lengths from the middle of the body.
        head_radius: Radius of the head, in half body lengths.
        legs: Length of the legs, in half body lengths.
        places: Where on the rim of head and body the ears and the tail grow, as an angle.
        leans: How far the ears and the tail lean from the direction in which they grow.
        cells: Width of one cell of the ears' and of the tail's shape.
        colours: Colours of the ears and of the tail.
        coat: Colour of the body.
        marks: What is painted on the body, and in which colour.
        mark_colour: Colour of the marks.
        backdrop: Colour of the background.
        spots: Soft shapes of the background.
        decoys: Shapes like the parts, off the body.
        light: Change of brightness across the picture, as a vector; its length is the share per side.
        mottling: Strength of the coarse texture.
        grain: Standard deviation of the pixel noise, in bytes.
        noise_seed: Seed of texture and noise.
    """

    ears: int
    tail: int
    null: NullPaint | None
    centre: complex
    scale: float
    turn: float
    mirrored: bool
    roundness: float
    head: complex
    head_radius: float
    legs: float
    places: tuple[float, float]
    leans: tuple[float, float]
    cells: tuple[float, float]
    colours: tuple[Colour, Colour]
    coat: Colour
    marks: Literal["none", "spots", "bands"]
    mark_colour: Colour
    backdrop: Colour
    spots: tuple[Spot, ...]
    decoys: tuple[Decoy, ...]
    light: complex
    mottling: float
    grain: float
    noise_seed: int

    def __post_init__(self) -> None:
        if self.ears not in (0, 1) or self.tail not in (0, 1):
            raise InputError(f"A part has variants 0 and 1, but ears={self.ears} and tail={self.tail} were given.")

    def part(self, part: Part, variant: int) -> Outline:
        """The corners of one variant of a part, where this creature wears it, in picture sides."""
        index = PARTS.index(part)
        rim = cmath.exp(1j * self.places[index])
        on_head, on_body = self.head + self.head_radius * rim, complex(rim.real, self.roundness * rim.imag)
        foot = {"ears": on_head, "tail": on_body}[part]
        direction = rim * cmath.exp(1j * self.leans[index])
        return self.to_picture(foot + self.cells[index] / self.scale * direction * (SHAPES[part][variant] - _SUNK))

    def to_picture(self, outline: Outline) -> Outline:
        """Takes corners from the creature's own frame, in half body lengths, to picture sides."""
        turned = self.scale * cmath.exp(1j * self.turn) * outline
        return self.centre + (-turned.conj() if self.mirrored else turned)

    def body(self) -> list[tuple[Outline, Colour]]:
        """The creature without its parts, as polygons in picture sides with their colours, rear ones first."""
        belly, shade = _mix(self.coat, (255, 255, 255), 0.35), _mix(self.coat, (0, 0, 0), 0.25)
        limbs: list[tuple[Outline, Colour]] = []
        for x, colour in ((-0.62, shade), (0.38, shade), (-0.36, self.coat), (0.64, self.coat)):
            foot = self.roundness * math.sqrt(1 - x * x) + self.legs
            limbs.append((ellipse(complex(x, foot - 0.4), 0.15 + 0.4j), colour))
        torso = (ellipse(0j, complex(1, self.roundness)), self.coat)
        head = (ellipse(self.head, self.head_radius * (1 + 1j)), self.coat)
        eye, pupil = (self.head + self.head_radius * at for at in (0.3 - 0.05j, 0.42 - 0.02j))
        face: list[tuple[Outline, Colour]] = [
            (ellipse(self.head + self.head_radius * (0.72 + 0.45j), self.head_radius * (0.42 + 0.3j)), belly),
            (ellipse(eye, self.head_radius * (0.34 + 0.38j)), (255, 255, 255)),
            (ellipse(pupil, self.head_radius * (0.19 + 0.23j)), (15, 15, 25)),
        ]
        limbs = [*limbs[:2], torso, *self._marks(), *limbs[2:], head, *face]
        return [(self.to_picture(outline), colour) for outline, colour in limbs]

    def _marks(self) -> list[tuple[Outline, Colour]]:
        if self.marks == "none":
            return [(ellipse(0.4j * self.roundness, complex(0.7, 0.5 * self.roundness)), self.mark_colour)]
        if self.marks == "spots":
            places = (-0.55 - 0.25j, -0.15 + 0.3j, 0.1 - 0.45j)
            tall = self.roundness
            return [
                (ellipse(complex(z.real, tall * z.imag), complex(0.17, 0.22 * tall)), self.mark_colour) for z in places
            ]
        bands = []
        for x in (-0.7, -0.25, 0.2):
            left, middle, right = (self.roundness * math.sqrt(1 - t * t) for t in (x, x + 0.1, x + 0.2))
            top = _shape((x, -left), (x + 0.1, -middle), (x + 0.2, -right))
            bands.append((np.concatenate([top, top.conj()[::-1]]), self.mark_colour))
        return bands


def invent(ears: int, tail: int, rng: random.Random, null_share: float = 0.15) -> Creature:
    """Chooses everything but the variants of the parts, by the same draws whatever the variants are.

    Args:
        ears: Variant of the ears, 0 or 1.
        tail: Variant of the tail, 0 or 1.
        rng: The generator to draw from.
        null_share: Probability that the parts are painted in a null colour, grey or black alike.

    Returns:
        A creature that fits into its picture with either variant of each part.

    Raises:
        InputError: If a variant is neither 0 nor 1, or the share is not a probability.
    """
    if not 0 <= null_share <= 1:
        raise InputError(f"The share of null-painted pictures must lie in 0..1, but {null_share} was given.")
    null: NullPaint | None = rng.choice(("grey", "black")) if rng.random() < null_share else None
    backdrop, coat, colours = _colours(rng, null)
    scale = rng.uniform(0.15, 0.19)
    spots = tuple(
        Spot(
            centre=complex(rng.random(), rng.random()),
            axes=complex(rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.2)),
            turn=rng.uniform(0, math.pi),
            colour=_mix(backdrop, rng.choice(((0, 0, 0), (255, 255, 255))), rng.uniform(0.05, 0.25)),
        )
        for _ in range(rng.randint(2, 5))
    )
    creature = Creature(
        ears=ears,
        tail=tail,
        null=null,
        centre=0j,
        scale=scale,
        turn=rng.uniform(-0.5, 0.5),
        mirrored=rng.random() < 0.5,
        roundness=rng.uniform(0.55, 0.8),
        head=complex(rng.uniform(0.9, 1.1), rng.uniform(-0.75, -0.4)),
        head_radius=rng.uniform(0.52, 0.66),
        legs=rng.uniform(0.15, 0.4),
        places=(rng.uniform(-2.3, -1.0), math.pi + rng.uniform(-0.2, 0.6)),
        leans=(rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)),
        cells=(rng.uniform(*_CELLS["ears"]), rng.uniform(*_CELLS["tail"])),
        colours=colours,
        coat=coat,
        marks=rng.choice(("none", "spots", "bands")),
        mark_colour=_mix(coat, rng.choice(((0, 0, 0), (255, 255, 255))), rng.uniform(0.25, 0.45)),
        backdrop=backdrop,
        spots=spots,
        decoys=(),
        light=cmath.rect(rng.uniform(0, 0.5), rng.uniform(0, 2 * math.pi)),
        mottling=rng.uniform(0, 0.12),
        grain=rng.uniform(2, 8),
        noise_seed=rng.getrandbits(32),
    )
    return _placed(creature, rng)


def elsewhere(creature: Creature, rng: random.Random, null_share: float = 0.15) -> Creature:
    """Everything else swapped: a creature with the same variants of both parts and all the rest drawn anew."""
    return invent(creature.ears, creature.tail, rng, null_share)


def _placed(creature: Creature, rng: random.Random) -> Creature:
    """Puts a creature that was built around 0 into the picture, and decoys around it."""
    outlines = [outline for outline, _ in creature.body()]
    outlines += [creature.part(part, variant) for part in PARTS for variant in (0, 1)]
    corners = np.concatenate(outlines)
    centre = complex(_slide(corners.real, rng), _slide(corners.imag, rng))
    taken = corners + centre
    decoys: list[Decoy] = []
    for _ in range(rng.randint(1, 3)):
        part, variant = rng.choice(PARTS), rng.randrange(2)
        cell, turn = rng.uniform(*_CELLS[part]), rng.uniform(0, 2 * math.pi)
        worn = rng.random() < 0.5
        colour = rng.choice(creature.colours) if worn else _vivid(rng)
        while _apart(colour, creature.backdrop) < _CONTRAST:
            colour = _vivid(rng)
        reach = (2.6 if part == "tail" else 1.9) * cell
        tries = np.array([complex(rng.uniform(reach, 1 - reach), rng.uniform(reach, 1 - reach)) for _ in range(60)])
        free = np.abs(tries[:, None] - taken).min(axis=1) > reach + 0.04
        if free.any():
            decoys.append(Decoy(part, variant, complex(tries[free.argmax()]), cell, turn, colour))
            taken = np.concatenate([taken, decoys[-1].outline])
    return replace(creature, centre=centre, decoys=tuple(decoys))


def _slide(extent: np.ndarray, rng: random.Random) -> float:
    """A shift that keeps the extent inside the picture, or centres it where it is too long."""
    low, high = 0.01 - float(extent.min()), 0.99 - float(extent.max())
    return rng.uniform(low, high) if low < high else (low + high) / 2


_CONTRAST = 110.0


def _colours(rng: random.Random, null: NullPaint | None) -> tuple[Colour, Colour, tuple[Colour, Colour]]:
    """Colours of background, coat and parts that a person can tell apart where they meet."""
    while True:
        backdrop = _colour(rng, (0.05, 0.5), (0.2, 1.0))
        coat = _colour(rng, (0.25, 0.8), (0.35, 1.0))
        parts = (NULL_COLOURS[null],) * 2 if null else (_vivid(rng), _vivid(rng))
        if _apart(backdrop, coat) > _CONTRAST and all(
            _apart(part, other) > _CONTRAST for part in parts for other in (backdrop, coat)
        ):
            return backdrop, coat, (parts[0], parts[1])


def _vivid(rng: random.Random) -> Colour:
    return _colour(rng, (0.5, 1.0), (0.5, 1.0))


def _colour(rng: random.Random, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    return _bytes(*colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)))


def _mix(colour: Colour, other: Colour, share: float) -> Colour:
    return _bytes(*((a + share * (b - a)) / 255 for a, b in zip(colour, other, strict=True)))


def _bytes(red: float, green: float, blue: float) -> Colour:
    return round(255 * red), round(255 * green), round(255 * blue)


def _apart(colour: Colour, other: Colour) -> float:
    return math.dist(colour, other)


def ellipse(centre: complex, axes: complex) -> Outline:
    """Corners of an upright ellipse, its half axes given as a complex number."""
    return centre + (axes.real * _CIRCLE.real + 1j * axes.imag * _CIRCLE.imag)
