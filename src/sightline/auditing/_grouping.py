"""Which images of a batch belong together, by their folders or by a table."""

import csv
from pathlib import Path

from sightline._common.words import counted
from sightline.arrays import ImageBatch
from sightline.errors import InputError

FOLDER = "folder"


def groups_of(batch: ImageBatch, given: str) -> list[str]:
    """The group of each image.

    Args:
        batch: the images.
        given: `folder`, for the folder that each image lies in; or the path of a CSV file with the columns `image`, the
            file name of an image or the end of its path, and `group`.

    Raises:
        InputError: the table cannot be read, lacks an image, or names one twice with different groups.
    """
    places = [Path(str(path or name)) for path, name in zip(batch.paths, batch.names, strict=True)]
    if given == FOLDER:
        return [str(place.parent) for place in places]
    table: dict[str, str] = {}
    try:
        with Path(given).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"image", "group"} <= set(rows.fieldnames or ()):
                raise InputError(
                    f"{given} must have the columns image and group; got {', '.join(rows.fieldnames or ['none'])}. "
                    f"Write {FOLDER} instead of a file where images of one folder belong together."
                )
            for row in rows:
                name, group = (row["image"] or "").strip(), (row["group"] or "").strip()
                if table.setdefault(name, group) != group:
                    raise InputError(f"{given} names {name} twice, in group {table[name]} and in group {group}.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"--groups {given} cannot be read as a CSV file ({error}). Give {FOLDER}, or a file with columns image "
            "and group."
        ) from error
    found = []
    missing = []
    for place in places:
        # The longest end of the path that the table names, so that files of one name in several folders can be told.
        ends = ["/".join(place.parts[start:]) for start in range(len(place.parts))]
        named = next((end for end in ends if table.get(end)), None)
        if named is None:
            missing.append(place.name)
        found.append("" if named is None else table[named])
    if missing:
        raise InputError(
            f"{given} gives no group for {counted(len(missing), 'image')} of {len(places)}, first {missing[0]}."
        )
    return found
