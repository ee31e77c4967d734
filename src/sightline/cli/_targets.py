"""`sightline explain`'s targets: which they are, and one folder of maps for each where there are several."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from torch import nn

from sightline.arrays import ImageBatch
from sightline.cli._console import say
from sightline.cli._images import SEVERAL, earlier_folders
from sightline.errors import SightlineError
from sightline.explaining import PICTURES, Explanation, split_targets
from sightline.models import ask, model_info, output_of

EACH = 8
"""Labels or values that are all explained where no target is named."""
_FILES = ("manifest.json", "maps.safetensors", PICTURES, "montage.png", "report.html")


def targets_of(network: nn.Module, batch: ImageBatch, given: Sequence[str] | None) -> list[str]:
    """The targets that were asked for; where none were, the predicted class, or each of a few labels or values.

    Raises:
        InputError: a target is empty, or `all` is asked of a model without scores for each image.
        RefusalError: likewise.
    """
    names = model_info(network).class_names or ()
    if given:
        wanted = any(text.strip() == "all" or "all" in text.split(",") for text in given)
        outputs = ask(network, batch.tensor[:1], 1).shape[1] if wanted else 0
        return list(dict.fromkeys(split_targets(given, names, outputs)))
    try:
        scores = ask(network, batch.tensor[:1], 1)
        output = output_of(network, batch.tensor, scores)
    except SightlineError:
        # What is wrong is said where the images are explained.
        return ["predicted"]
    count = scores.shape[1]
    if output.kind == "classes" or not 1 < count <= EACH:
        return ["predicted"]
    say("note", f"Each of the {count} {output.noun}s is explained, since no --target names one.")
    return split_targets(["all"], names, count)


def save_each(found: Sequence[Explanation], targets: Sequence[str], out: Path) -> list[Path]:
    """Save explanations of the same images: one into the folder itself, several into a folder each.

    What an earlier call left there is removed once these are written, so that a page does not show it beside them.

    Returns:
        The folders.

    Raises:
        InputError: a folder cannot be written.
    """
    before = earlier_folders(out)
    if len(found) == 1:
        folders = [found[0].save(out)]
    else:
        folders = [
            one.save(out / f"{SEVERAL}{number} {_plain(target, one)}")
            for number, (target, one) in enumerate(zip(targets, found, strict=True), 1)
        ]
    for place in before:
        if place not in folders:
            for name in _FILES:
                (place / name).unlink(missing_ok=True)
            # A folder for which somebody has found another use stays.
            with suppress(OSError):
                place.rmdir()
    return folders


def _plain(target: str, found: Explanation) -> str:
    """A target as the name of a folder."""
    number = target.removeprefix("number:")
    if number.isdecimal() and int(number) < len(found.class_names):
        target = found.class_names[int(number)]
    return re.sub(r"[^\w.,-]+", "_", target.replace("number:", ""))[:60].strip("_.") or "target"
