"""The commands `sightline report` and `methods`."""

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sightline._common.words import readable
from sightline.cli._console import console, say
from sightline.methods import as_method, card, catalogue, choices, unusable
from sightline.options import MethodsOptions, ReportOptions
from sightline.rendering import write_page


def report(asked: ReportOptions) -> None:
    """Write one HTML page of all that a folder holds."""
    page = write_page(asked.folder, asked.out, side=asked.page_side, images=asked.images)
    console.print(f"Wrote {escape(readable(page))}.", soft_wrap=True)


def methods(asked: MethodsOptions) -> None:
    """Print the table of methods, or the card of one."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0), show_header=asked.name is None)
    if asked.name is not None:
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for heading, text in card(as_method(asked.name)).rows:
            table.add_row(heading, Text(text))
    else:
        table.add_column("method", no_wrap=True)
        table.add_column("formula; sampling x propagation x aggregation; source")
        table.add_column("forward passes", justify="right")
        for title, row in catalogue().items():
            cost = "" if row.cost is None else f"{row.cost:g}"
            table.add_row(title, Text(f"{row.formula}\n{choices(row)}\n{row.source}"), cost)
    console.print(table)
    if asked.name is None:
        for title, reason in unusable().items():
            say("not usable", f"{title}: {reason}")
