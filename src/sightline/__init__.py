"""Sightline: saliency maps of image classifiers, computed right, tested, and sharpened until a person can read them.

A saliency method is three choices: at which inputs the network is asked (`sampling`), how the signal flows back
through each operation (`propagation`), and which tensors make the map (`aggregation`).
"""

from typing import TYPE_CHECKING, Any

import sightline._common.interrupt  # noqa: F401 - it acts when it is imported
from sightline.arrays import ImageBatch, load_images
from sightline.auditing import Audit, Randomisation, audit, from_callable
from sightline.errors import InputError, RefusalError, SightlineError
from sightline.explaining import (
    Checks,
    Conservation,
    Decomposition,
    Direction,
    Explanation,
    Pair,
    Unit,
    WholeBatch,
    explain,
)
from sightline.gad import GAD, Consistency, GADExplanation
from sightline.methods._catalogue import catalogue
from sightline.methods._method import Method
from sightline.models import ModelInfo, Preprocessing, load_model, model_info

if TYPE_CHECKING:
    from sightline.runs import Run, open_run, read_recipe, run

__version__ = "0.1.0"

__all__ = [
    "GAD",
    "Audit",
    "Checks",
    "Conservation",
    "Consistency",
    "Decomposition",
    "Direction",
    "Explanation",
    "GADExplanation",
    "ImageBatch",
    "InputError",
    "Method",
    "ModelInfo",
    "Pair",
    "Preprocessing",
    "Randomisation",
    "RefusalError",
    "Run",
    "SightlineError",
    "Unit",
    "WholeBatch",
    "audit",
    "catalogue",
    "explain",
    "from_callable",
    "load_images",
    "load_model",
    "model_info",
    "open_run",
    "read_recipe",
    "run",
]


def __getattr__(name: str) -> Any:
    # Runs need libraries of their own, which those who explain a few images do without.
    if name in {"Run", "open_run", "read_recipe", "run"}:
        try:
            from sightline import runs
        except ModuleNotFoundError as error:
            from sightline.errors import install

            raise InputError(f"Runs need {error.name}: {install('runs')}.") from error
        return getattr(runs, name)
    raise AttributeError(f"module 'sightline' has no attribute {name!r}")
