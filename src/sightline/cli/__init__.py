"""The command `sightline`: parses, calls, prints; no arithmetic."""

from sightline.cli._main import main

__all__ = ["main"]
