"""Verdicts as a table for the console."""

from rich.markup import escape
from rich.table import Table

from sightline.auditing._found import Audit

_COLOURS = {"pass": "green", "fail": "red", "undecided": "dim", "reported": "dim"}


def verdict_table(found: Audit) -> Table:
    """A row for each method and control, a column for each test that judges any of them, and one for all tests.

    Beside them stands over how many images and random networks that is.
    """
    verdicts, counts = found.judged, found.counts
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("method", no_wrap=True)
    for test in verdicts.columns:
        table.add_column(str(test).replace("_", " "))
    for name in counts.columns:
        table.add_column(str(name), justify="right")
    for method, row in verdicts.iterrows():
        words = (f"[{_COLOURS[word]}]{word}[/]" for word in row)
        table.add_row(escape(str(method)), *words, *counts.loc[str(method)])
    return table
