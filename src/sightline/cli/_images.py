"""What several commands do with image files: read them, say what is not used, and stop where that is not allowed."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from sightline._common.words import readable
from sightline.arrays import ImageBatch, ignored_files, load_images
from sightline.cli._console import say
from sightline.errors import InputError
from sightline.options import ImageOptions

SEVERAL = "target "
"""How the name of a folder begins that holds one of several targets."""
_SHOWN = 10


def read_images(
    network: nn.Module,
    asked: ImageOptions,
    references: Sequence[str] | None = None,
) -> tuple[ImageBatch, ImageBatch | None]:
    """Read the images of a command, and those to compare with; what is not used, and what must be known, is printed.

    Raises:
        InputError: nothing can be read; or, where it is strict, not all.
    """
    batch = load_images(list(asked.images), network, max_pixels=asked.max_pixels)
    compared = load_images(list(references), network, max_pixels=asked.max_pixels) if references else None
    both = [batch] if compared is None else [batch, compared]
    for one in both:
        say_read(one)
    failed = sum(len(one.failures) for one in both)
    if asked.strict and failed:
        raise InputError(
            f"Of what was named, {failed} cannot be used, as said above, and --strict was given. Nothing was done."
        )
    return batch, compared


def say_read(batch: ImageBatch) -> None:
    """Say what was not read, and what must be known of what was."""
    say_skipped([reason for _, reason in batch.failures])
    if ignored := ignored_files(batch.ignored):
        say("ignored", ignored)
    for sentence in batch.warnings:
        say("warning", sentence)


def say_skipped(reasons: Sequence[str]) -> None:
    """Say why files were not used, of many of them the first."""
    for reason in reasons[:_SHOWN]:
        say("skipped", reason)
    if len(reasons) > _SHOWN:
        say("skipped", f"and {len(reasons) - _SHOWN} more.")


def say_replaced(folder: Path) -> None:
    """Say that a folder holds earlier results, which new ones will replace."""
    if earlier_folders(folder):
        say("note", f"{readable(folder)} holds earlier results, which are replaced when the new ones are made.")


def earlier_folders(folder: Path) -> list[Path]:
    """Where in a folder `sightline explain` has left results: itself, or a folder for each of several targets."""
    return [
        place for place in (folder, *sorted(folder.glob(f"{SEVERAL}[0-9]*"))) if (place / "manifest.json").is_file()
    ]
