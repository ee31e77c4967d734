"""What an audit will be able to decide, and how long it will take, before it is made."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from sightline._common.words import counted
from sightline.auditing._contrast import LEVEL

IMAGE_SPREAD, NETWORK_SPREAD = 0.25, 0.13
"""Standard deviations of a verdict's figure between images and between random networks that are to be expected: about
the upper quartiles over 18 methods on ResNet-20 (benchmarks/RESULTS.md); methods whose maps of different images are
alike have several times as much."""
DISTANCES = (0.3, 0.2, 0.1, 0.05)
_MOST = 20_000


@dataclass(frozen=True)
class Forecast:
    """What to expect of an audit.

    Attributes:
        images: how many there are.
        networks: random networks that will be asked.
        verdicts: how many verdicts will be corrected for their number.
        seconds: how long it will take here, from the time of its first images; results that randomised networks share
            make it shorter, and what asks for more than maps (convergence, faithfulness) is not counted.
    """

    images: int
    networks: int
    verdicts: int
    seconds: float

    @property
    def table(self) -> pd.DataFrame:
        """For each distance of a figure from its bound, the images and the random networks that a verdict needs.

        `images` decide a test of the trained network, `networks` together with the given images one of random networks;
        both after Holm's correction in its first and strictest step.
        """
        rows = [
            {
                "distance from the bound": distance,
                "images": needed(distance, IMAGE_SPREAD, self.verdicts),
                "networks": needed(distance, NETWORK_SPREAD, self.verdicts, IMAGE_SPREAD**2 / self.images),
            }
            for distance in DISTANCES
        ]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        asked = f", {counted(self.networks, 'random network')}" if self.networks else ""
        lines = [
            f"{counted(self.images, 'image')}{asked}, up to {counted(self.verdicts, 'verdict')}: about "
            f"{_time(self.seconds)}.",
            "What a verdict needs, by how far its figure lies from the bound, at standard deviations of "
            f"{IMAGE_SPREAD:g} between images and {NETWORK_SPREAD:g} between random networks:",
        ]
        for row in self.table.to_dict("records"):
            line = f"  {row['distance from the bound']:g}: {row['images']} images"
            if self.networks:
                number = "no number of" if row["networks"] < 0 else row["networks"]
                line += f"; of random weights, {number} networks with these {self.images} images"
            lines.append(line)
        return "\n".join(lines)


def needed(distance: float, spread: float, verdicts: int, further: float = 0.0) -> int:
    """The smallest number of draws by which a distance is significant; -1 where none suffices.

    distance >= t_(1 - level / (2 m), n - 1) sqrt(spread^2 / n + further), with m verdicts.

    Args:
        distance: of the figure from its bound.
        spread: the standard deviation of a draw.
        verdicts: for how many verdicts it is corrected.
        further: a variance that more draws leave as it is.
    """
    counts = np.arange(2, _MOST)
    half = student.isf(LEVEL / (2 * max(verdicts, 1)), counts - 1) * np.sqrt(spread**2 / counts + further)
    enough = half <= distance
    return int(counts[enough.argmax()]) if enough.any() else -1


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
