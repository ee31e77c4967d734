"""Sightline: saliency maps of image classifiers, computed right, tested, and sharpened until a person can read them.

A saliency method is three choices: at which inputs the network is asked (`sampling`), how the signal flows back
through each operation (`propagation`), and which tensors make the map (`aggregation`).
"""

import importlib
from typing import TYPE_CHECKING

import sightline._common.interrupt  # noqa: F401 - it acts when it is imported
from sightline._common.version import __version__ as __version__

if TYPE_CHECKING:
    from sightline.arrays import ImageBatch, load_images
    from sightline.auditing import Audit, Question, Randomisation, audit, from_callable
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
    from sightline.methods import Method, catalogue
    from sightline.models import ModelInfo, Preprocessing, load_model, model_info
    from sightline.runs import Run, open_run, read_recipe, run

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
    "Question",
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

_HOMES = {
    "arrays": ("ImageBatch", "load_images"),
    "auditing": ("Audit", "Question", "Randomisation", "audit", "from_callable"),
    "errors": ("InputError", "RefusalError", "SightlineError"),
    "explaining": (
        "Checks",
        "Conservation",
        "Decomposition",
        "Direction",
        "Explanation",
        "Pair",
        "Unit",
        "WholeBatch",
        "explain",
    ),
    "gad": ("GAD", "Consistency", "GADExplanation"),
    "methods": ("Method", "catalogue"),
    "models": ("ModelInfo", "Preprocessing", "load_model", "model_info"),
    "runs": ("Run", "open_run", "read_recipe", "run"),
}
_HOME = {name: f"sightline.{home}" for home, names in _HOMES.items() for name in names}
_PACKAGES = (
    "aggregation",
    "arrays",
    "auditing",
    "evaluation",
    "explaining",
    "gad",
    "models",
    "propagation",
    "sampling",
    "study",
)

if not TYPE_CHECKING:
    # A name is imported when it is first used, so that `import sightline` and `sightline --help` cost nothing, and
    # those who explain images need not wait for the libraries of audits.
    def __getattr__(name: str) -> object:
        if name in _PACKAGES:
            return importlib.import_module(f"sightline.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'sightline' has no attribute {name!r}")
        try:
            home = importlib.import_module(_HOME[name])
        except ModuleNotFoundError as error:
            if _HOME[name] != "sightline.runs" or (error.name or "").startswith("sightline"):
                raise
            from sightline.errors import InputError, install

            raise InputError(f"Runs need {error.name}: {install('runs')}.") from error
        globals()[name] = found = getattr(home, name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
