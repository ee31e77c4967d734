"""The demo, and what it brings: the data set *Creatures* and a small residual network."""

from sightline.demo._demo import run_demo

__all__ = ["run_demo"]
