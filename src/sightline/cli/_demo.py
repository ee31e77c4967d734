"""The command `sightline demo`."""

from sightline.cli._console import console
from sightline.demo import run_demo
from sightline.options import DemoOptions


def demo(asked: DemoOptions) -> None:
    """The whole story on drawn images."""
    run_demo(asked.out, asked.seed, console)
