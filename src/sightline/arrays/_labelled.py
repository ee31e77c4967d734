"""Labelled pictures in the layouts that data sets come in: class folders, flat names, and CUB-200-2011's own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sightline._common.words import readable
from sightline.arrays._files import find_images
from sightline.arrays._readers import by_name
from sightline.errors import InputError

_FLAT = re.compile(r"(?P<label>[^.]+)\.\d+\.[^.]+")
_CUB = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")
_SPLITS = {"train": True, "training": True, "val": False, "valid": False, "validation": False, "test": False}


@dataclass(frozen=True)
class Labelled:
    """Picture files with a label each.

    Attributes:
        paths: the files.
        labels: the label of each.
        training: for each file, whether the data set itself says it is for training; None where it says nothing.
        layout: how the labels were told, in words.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    training: tuple[bool | None, ...]
    layout: str

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Sequence[int]) -> "Labelled":
        return replace(
            self,
            paths=tuple(self.paths[i] for i in rows),
            labels=tuple(self.labels[i] for i in rows),
            training=tuple(self.training[i] for i in rows),
        )

    def of(self, labels: Sequence[str]) -> "Labelled":
        """Those of some labels.

        Raises:
            InputError: a label has no picture.
        """
        for label in labels:
            if label not in self.labels:
                known = ", ".join(sorted(set(self.labels))[:12])
                raise InputError(f"No picture is labelled {label!r}; there are: {known}.")
        return self[[i for i, label in enumerate(self.labels) if label in labels]]


def labelled_pictures(folder: str | Path, *, species: int | None = None) -> Labelled:
    """Find labelled pictures.

    Three layouts are told by what lies in the folder: CUB-200-2011 (`images.txt` and its companions), whose species are
    grouped into `sparrow` and `warbler` by their names; flat names such as `cat.0.jpg`, in the folder or in one called
    `train`; else a folder for each class, also within `train` and `val` (or `test`).

    Args:
        folder: the data set.
        species: of CUB, how many species of each group, in the order of their numbers; by default all.

    Raises:
        InputError: the folder is missing, a file that the layout needs is missing, or no picture is there.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder. Name the folder that holds the pictures.")
    if any((root / name).exists() for name in _CUB):
        return _cub(root, species)
    for place in (root, root / "train"):
        flat = sorted(p for p in place.iterdir() if _is_flat(p)) if place.is_dir() else []
        if flat:
            labels = tuple(readable(_FLAT.fullmatch(p.name)["label"]) for p in flat)  # type: ignore[index]
            return Labelled(tuple(flat), labels, (None,) * len(flat), "labels in file names, as in cat.0.jpg")
    return _in_folders(root)


def _is_flat(path: Path) -> bool:
    return _FLAT.fullmatch(path.name) is not None and by_name(path.name) is not None and path.is_file()


def _in_folders(root: Path) -> Labelled:
    # Where every folder is a split, the classes lie one deeper.
    tops = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    split = bool(tops) and all(p.name.lower() in _SPLITS for p in tops)
    paths: list[Path] = []
    labels: list[str] = []
    training: list[bool | None] = []
    for top in tops if split else [root]:
        found = find_images([top]).found
        stray = next((item.path for item in found if item.path.parent == top), None)
        for item in found:
            if item.label is None:
                raise InputError(
                    f"{stray} lies beside the class folders, so its class cannot be told. Put each picture into "
                    "the folder of its class, or name files as in cat.0.jpg."
                )
            paths.append(item.path)
            labels.append(item.label)
            training.append(_SPLITS[top.name.lower()] if split else None)
    if not paths:
        raise InputError(
            f"{root} holds no labelled pictures. Expected a folder for each class, names such as cat.0.jpg, or "
            "CUB-200-2011 as it is published."
        )
    return Labelled(tuple(paths), tuple(labels), tuple(training), "a folder for each class")


def _cub(root: Path, species: int | None) -> Labelled:
    tables = {}
    for name in _CUB:
        file = root / name
        if not file.is_file():
            raise InputError(f"CUB-200-2011 needs {file}, which is missing. Unpack the whole data set.")
        lines = file.read_text(encoding="utf-8").splitlines()
        tables[name] = dict(line.split(maxsplit=1) for line in lines if line.strip())
    groups: dict[str, str] = {}
    for group in ("sparrow", "warbler"):
        # Names read as in 118.House_Sparrow.
        named = [n for n, title in tables["classes.txt"].items() if title.strip().lower().endswith(f"_{group}")]
        groups |= dict.fromkeys(sorted(named, key=int)[:species], group)
    chosen = [i for i, number in tables["image_class_labels.txt"].items() if number in groups]
    paths = tuple(root / "images" / tables["images.txt"][i].strip() for i in chosen)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} picture(s) that images.txt lists are missing, first {missing[0]}. Unpack the whole data "
            "set."
        )
    if not paths:
        raise InputError(f"{root / 'classes.txt'} names no sparrows and no warblers.")
    return Labelled(
        paths,
        tuple(groups[tables["image_class_labels.txt"][i]] for i in chosen),
        tuple(tables["train_test_split.txt"].get(i, "0") == "1" for i in chosen),
        "CUB-200-2011, species grouped by name",
    )


def first_of_each(labels: Sequence[str | None], names: Sequence[str], count: int) -> list[int]:
    """The numbers of the first pictures of each class, so many of each."""
    return [row for name in names for row in [i for i, label in enumerate(labels) if label == name][:count]]
