"""Targets in words: class names, and what the command line and recipes take."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch

from sightline._common.words import counted
from sightline.errors import InputError
from sightline.explaining._targets import Classes, Pair, Unit, has_names

GRAMMAR = (
    "predicted; top-2, the second likeliest; a class by number or name; a pair, cat-dog: why cat and not dog; "
    "unit:LAYER:CHANNEL; per-image:cat,dog, a class for each image; number:7 or name:7 where 7 would be unclear"
)
_RANK = re.compile(r"top-([1-9]\d{0,8})")
_SHOWN = 8
_MOST = 1 << 31


def class_number(word: str, names: Sequence[str]) -> int:
    """The number of a class that is given by its number or its name.

    Where no name is exactly alike, capitals, underscores and spaces do not count.

    Args:
        word: `7` or `cat`; `number:7` and `name:7` are unmistakable.
        names: the model's class names; empty where there are none.

    Raises:
        InputError: there is no such class, or more than one.

    Example:
        >>> class_number("Dog", ["cat", "dog"])
        1
    """
    word = word.strip()
    number = word.removeprefix("number:")
    if number != word:
        return _checked(number)
    bare = word.removeprefix("name:")
    found = [n for n, name in enumerate(names) if name == bare]
    found = found or [n for n, name in enumerate(names) if _plain(name) == _plain(bare)]
    if re.fullmatch(r"[+-]?\d+", word) and (not found or int(word) < len(names)):
        if found and found != [int(word)]:
            raise InputError(
                f"{word} is the number of class {names[int(word)]!r}, and the name of class {found[0]}. Say "
                f"number:{word} or name:{word}."
            )
        return _checked(word)
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ", ".join(map(str, found))
        raise InputError(f"{len(found)} classes are named {bare!r}, those of the numbers {numbers}; give the number.")
    raise InputError(f"There is no class named {bare!r}. {_remedy(bare, names)}")


def class_numbers(given: Any, names: Sequence[str]) -> Any:
    """One class or several, with names resolved to numbers; what is no name stays as it is.

    Raises:
        InputError: a name is not known or means several classes.
    """
    given = _listed(given)
    if isinstance(given, str):
        return class_number(given, names)
    return [class_numbers(one, names) for one in given] if isinstance(given, list | tuple) else given


def read_target(target: Any, count: int, names: Sequence[str]) -> Any:
    """A target with every name in it resolved to a number; one without names comes back as it is.

    Args:
        target: see `sightline.explain`; a text is read as on the command line.
        count: number of images.
        names: the model's class names.

    Raises:
        InputError: a name is not known or means several classes, or a text is no target.
    """
    target = _listed(target)
    if isinstance(target, str):
        return _read(target.strip(), count, names)
    if isinstance(target, Pair) and (has_names(target.first) or has_names(target.second)):
        return _by_name(Pair(class_numbers(target.first, names), class_numbers(target.second, names)), names)
    if has_names(target):
        if len(target) != count:
            raise InputError(
                f"A list of classes has one for each image: {counted(count, 'image')}, but "
                f"{counted(len(target), 'class', 'classes')}. To explain "
                "each of several classes for all images, use explain(..., targets=[...])."
            )
        return _by_name(Classes(torch.tensor(class_numbers(target, names)), count), names)
    return target


def split_targets(texts: Sequence[str], names: Sequence[str], outputs: int) -> list[str]:
    """The targets of one or several texts, cut at commas except within a class name; `all` is every output.

    Args:
        texts: what was given.
        names: the model's class names.
        outputs: how many outputs it has.

    Raises:
        InputError: a text is empty.
    """
    found: list[str] = []
    for text in map(str.strip, texts):
        found += [text] if text.startswith("per-image:") else _at_commas(text, names)
    if not found or not all(found):
        raise InputError(f"A target is empty. It is {GRAMMAR}.")
    # Where a class is named so, the word is refused as unclear when it is read.
    every = ["all"] if any(_plain(name) == "all" for name in names) else [f"number:{n}" for n in range(outputs)]
    return [one for text in found for one in (every if text == "all" else [text])]


def _read(text: str, count: int, names: Sequence[str]) -> Any:
    if not text:
        raise InputError(f"The target is empty. It is {GRAMMAR}.")
    rank = _RANK.fullmatch(text)
    if text in {"predicted", "all"} or rank:
        if any(_plain(name) == text for name in names):
            raise InputError(
                f"{text!r} is a word of its own here, and the name of a class; say name:{text} for the class."
            )
        if text == "all":
            raise InputError('An explanation has one target; explain(..., targets="all") explains each output.')
        return Classes(None, count, rank=int(rank[1]) if rank else 1)
    if text.startswith("unit:"):
        layer, _, channel = text.removeprefix("unit:").rpartition(":")
        if not layer or not channel.isdecimal():
            raise InputError(f"A hidden unit is unit:LAYER:CHANNEL, as in unit:head:1; got {text!r}.")
        return Unit(layer, int(channel))
    if text.startswith("per-image:"):
        return read_target(_at_commas(text.removeprefix("per-image:"), names), count, names)
    try:
        number = class_number(text, names)
    except InputError:
        if (pair := _pair(text, names)) is None:
            raise
        return pair
    one = Classes(torch.full((count,), number), count)
    return (
        one
        if text.removeprefix("number:").isdecimal() and int(text.removeprefix("number:")) == number
        else (_by_name(one, names))
    )


def _pair(text: str, names: Sequence[str]) -> Any:
    """Two classes joined by a hyphen, which names may hold too; None where no cut gives two classes."""
    found: dict[tuple[int, int], bool] = {}
    for cut in (match.start() for match in re.finditer("-", text)):
        sides = text[:cut].strip(), text[cut + 1 :].strip()
        try:
            first, second = (class_number(side, names) for side in sides)
        except InputError:
            continue
        found[first, second] = not all(side.isdecimal() for side in sides)
    if len(found) > 1:
        raise InputError(f"{text!r} can be read as several pairs of classes; give them by number, as in 281-207.")
    for (first, second), named in found.items():
        pair = Pair(first, second)
        return _by_name(pair, names) if named else pair
    return None


def _checked(number: str) -> int:
    if not number.isdecimal() or int(number) >= _MOST:
        raise InputError(f"Target classes are integers, 0 or above, and names; got {number}.")
    return int(number)


def _listed(given: Any) -> Any:
    """An array of texts as a list."""
    return given.tolist() if isinstance(given, np.ndarray) and given.dtype.kind in "UO" else given


def _by_name(target: Any, names: Sequence[str]) -> Any:
    """The same target, which knows that it holds only for a model with one output for each of these names."""
    # A pair is frozen, and this is no part of what it is compared by.
    object.__setattr__(target, "names", tuple(names))
    return target


def _at_commas(text: str, names: Sequence[str]) -> list[str]:
    """A text cut at commas, except at those of class names, also in a pair; the longest goes first."""
    words, known = text.split(","), {_plain(name) for name in names if "," in name}
    found, start = [], 0
    while start < len(words):
        joined = [(end, ",".join(words[start:end]).strip()) for end in range(len(words), start, -1)]
        whole = (one for one in joined if _plain(one[1].removeprefix("name:")) in known or _joins(one[1], known, names))
        end, word = next(whole, joined[-1])
        found.append(word)
        start = end
    return found


def _joins(text: str, known: set[str], names: Sequence[str]) -> bool:
    """Whether a text is a pair of classes, of which one has a comma in its name."""
    if not known or "," not in text:
        return False
    sides = [(text[: match.start()], text[match.end() :]) for match in re.finditer("-", text)]
    return any(known & {_plain(first), _plain(second)} for first, second in sides) and _pair(text, names) is not None


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace(",", ", ").split()).replace(" ,", ",").casefold()


def _remedy(word: str, names: Sequence[str]) -> str:
    if not names:
        return (
            "The model's class names are not known: give the class by number, or the names by load_model(..., "
            "classes=...), --class-names, or classes = [...] in a recipe."
        )
    plain = {_plain(name): name for name in names}
    if close := get_close_matches(_plain(word), list(plain), n=3, cutoff=0.6):
        return f"Did you mean {' or '.join(plain[one] for one in close)}?"
    return f"There are: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}."
