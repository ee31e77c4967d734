"""What the commands print: results to standard output; notes, refusals and progress to standard error."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console()
_err = Console(stderr=True)


def say(word: str, sentence: str) -> None:
    """A sentence about the work, under a word that says of which kind."""
    _err.print(f"[bold]{word}:[/bold] {escape(sentence)}", soft_wrap=True, highlight=False)


def say_refused(refused: Mapping[str, str]) -> None:
    """Why methods have no map."""
    for name, reason in refused.items():
        say("refused", reason if reason.startswith(name) else f"{name}: {reason}")


@contextmanager
def progress(words: str) -> Iterator[Callable[..., None]]:
    """A bar that goes when its work is done.

    Args:
        words: what is done; the bar's function takes the steps done, all steps, and other words when the work changes.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as bar:
        task = bar.add_task(words, total=None)

        def advance(done: int, of: int, now: str = words) -> None:
            bar.update(task, description=now, completed=done, total=of)

        yield advance
