"""Creatures: drawn pictures in which the parts that decide the class are known, to test maps against.

A creature has ears (two horns, or a plus) and a tail (straight, or a zigzag), and these two choices are its
class. The two variants of a part are pentominoes of the same area, colour and edge length, so only their shape
tells them apart; decoys of the same shapes lie off the body, so the shape counts only where it is worn.
"""

from sightline.demo.creatures._creature import PARTS, Creature, Part, elsewhere, invent
from sightline.demo.creatures._dataset import CLASS_NAMES, DECIDING, Creatures, Grid, Task, encode
from sightline.demo.creatures._drawing import Picture, draw
from sightline.demo.creatures._twins import passes_twin_test

__all__ = [
    "CLASS_NAMES",
    "DECIDING",
    "PARTS",
    "Creature",
    "Creatures",
    "Grid",
    "Part",
    "Picture",
    "Task",
    "draw",
    "elsewhere",
    "encode",
    "invent",
    "passes_twin_test",
]
