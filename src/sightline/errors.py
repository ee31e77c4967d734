"""The two ways Sightline says no: the input is wrong, or the answer would be."""

from collections.abc import Sequence
from difflib import get_close_matches

DISTRIBUTION = "sightline-saliency"
"""What pip calls this package. The name `sightline` on PyPI belongs to another project, so no message may send
anyone there."""


def install(extra: str) -> str:
    """How to install an optional part of Sightline, for the end of a message.

    Example:
        >>> install("app")
        "pip install 'sightline-saliency[app]', or in a checkout: pip install '.[app]'"
    """
    return f"pip install '{DISTRIBUTION}[{extra}]', or in a checkout: pip install '.[{extra}]'"


class SightlineError(Exception):
    """Base of every error Sightline raises on purpose; its text is a sentence for the user."""


class InputError(SightlineError, ValueError):
    """What was given cannot be used: the text says what was expected, what came, and what to do."""


class RefusalError(SightlineError, RuntimeError):
    """The request is understood, but its answer would be wrong or undefined, so none is given."""


def alternatives(name: str, known: Sequence[str], shown: int = 8) -> str:
    """A sentence for a name that is not known: those that come close, or some of those there are."""
    within = [one for one in known if len(name) > 3 and name.lower() in one.lower()]
    close = get_close_matches(name, known, n=4, cutoff=0.65) or within[:4]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return (
        f"There are: {', '.join(known[:shown])}{', ...' if len(known) > shown else ''}." if known else "There are none."
    )
