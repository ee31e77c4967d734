"""The model of a command, and the checks of the folders that it names."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from sightline.errors import InputError
from sightline.models import as_kind, device_named, load_model
from sightline.options import ModelOptions


def loaded(options: ModelOptions) -> nn.Module:
    """The model that options name.

    Raises:
        InputError: see `load_model`.
    """
    as_kind(options.output, "--output")
    return load_model(**options.settings(), device=device_named(options.device))


def check_places(images: Sequence[str], out: Path) -> None:
    """Refuse a folder of results that lies among the images.

    Raises:
        InputError: it does, or a path is empty.
    """
    if not all(images) or str(out) == "" or out == Path():
        raise InputError(
            "A path is empty, or --out is the current folder itself. Name the images, and a folder of its own."
        )
    inside = [
        folder for folder in images if Path(folder).is_dir() and out.resolve().is_relative_to(Path(folder).resolve())
    ]
    if inside:
        raise InputError(
            f"--out {out} lies inside the image folder {inside[0]}, where the next run would take its montage for a "
            "photograph. Name a folder elsewhere."
        )
