"""From a text of the command line to the value of an option."""

from typing import Literal

from sightline.errors import InputError


def listed(text: str, flag: str = "") -> tuple[str, ...]:
    """Words with commas."""
    del flag
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(text: str, flag: str) -> float | tuple[float, ...]:
    """Numbers with commas; a single one as itself, unless a comma follows it.

    Raises:
        InputError: they are not numbers.
    """
    try:
        found = tuple(float(part) for part in text.strip().removesuffix(",").split(","))
    except ValueError:
        raise InputError(f"{flag} takes numbers with commas, as in 0.485,0.456,0.406; got {text!r}.") from None
    return found[0] if len(found) == 1 and "," not in text else found


def rising(text: str, flag: str) -> tuple[float, float]:
    """Two numbers with a comma, the second above the first.

    Raises:
        InputError: they are not.
    """
    found = numbers(text, flag)
    if isinstance(found, float) or len(found) != 2 or not found[0] < found[1]:
        example = "0,4095" if flag == "--values" else "0,1 or -1,1 or 0,255"
        raise InputError(f"{flag} takes two rising numbers, as in {example}; got {text!r}.")
    return found[0], found[1]


def resizing(text: str, flag: str) -> int | Literal["stretch", "none"]:
    """A number of pixels, `stretch` or `none`.

    Raises:
        InputError: it is neither.
    """
    if text == "stretch":
        return "stretch"
    if text == "none":
        return "none"
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{flag} takes a number of pixels, `stretch` or `none`; got {text!r}.")
    return int(text)


def distances(text: str, flag: str) -> tuple[float | tuple[float, float], ...]:
    """Distances with commas, each a number or two numbers with a colon.

    Raises:
        InputError: they are not numbers.
    """
    try:
        parts = [tuple(float(number) for number in part.split(":")) for part in listed(text)]
        return tuple((first, second) for first, second in (part * 2 if len(part) == 1 else part for part in parts))
    except ValueError:
        raise InputError(f"{flag} takes rising numbers with commas, as in 2,4,6,8 or 2:1,4:2; got {text!r}.") from None
