"""What the commands print: results to standard output; notes, refusals and progress to standard error."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sightline._common.words import readable

console = Console()
_err = Console(stderr=True)
FIRST, LATER = 10.0, 60.0
"""Seconds until the first line of progress where there is no terminal, and between later ones."""


def print_any_name() -> None:
    """Let names that the terminal has no letters for be printed as escapes, not end the work."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(word: str, sentence: str) -> None:
    """A sentence about the work, under a word that says of which kind."""
    colour = "bold red" if word == "warning" else "bold"
    _err.print(f"[{colour}]{word}:[/{colour}] {escape(readable(sentence))}", soft_wrap=True, highlight=False)


def say_refused(refused: Mapping[str, str]) -> None:
    """Why methods have no map."""
    for name, reason in refused.items():
        say("refused", reason if reason.startswith(name) else f"{name}: {reason}")


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Say what is kept when a person stops the work.

    Args:
        kept: a sentence.
    """
    try:
        yield
    except KeyboardInterrupt:
        say("stopped", kept)
        raise


@contextmanager
def progress(words: str) -> Iterator[Callable[..., None]]:
    """A bar that goes when its work is done; where there is no terminal, a line now and then.

    Args:
        words: what is done; the bar's function takes the steps done, all steps, and other words when the work changes.
    """
    if not _err.is_terminal:
        yield _Lines(words)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True) as bar:
        task = bar.add_task(words, total=None)

        def advance(done: int, of: int, now: str = words) -> None:
            bar.update(task, description=now, completed=done, total=of)

        yield advance


class _Lines:
    """Progress as lines, for a log."""

    def __init__(self, words: str) -> None:
        self._words = words
        self._start = time.monotonic()
        self._due = self._start + FIRST

    def __call__(self, done: int, of: int, now: str | None = None) -> None:
        moment = time.monotonic()
        if moment < self._due:
            return
        self._due = moment + LATER
        passed = moment - self._start
        share = f" ({done / of:.0%})" if of else ""
        say("progress", f"{now or self._words}: {done} of {of}{share} after {passed:.0f} s")
