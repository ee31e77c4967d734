"""The version of the package, and those of what its numbers depend on."""

import platform

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import torch

    return {"sightline": __version__, "torch": torch.__version__, "python": platform.python_version()}
