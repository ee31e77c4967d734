"""The commands `sightline report`, `methods`, `app` and `demo`."""

import os

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sightline._common.words import readable
from sightline.cli._console import console, say
from sightline.methods import as_method, card, catalogue, choices, unusable
from sightline.options import AppOptions, DemoOptions, MethodsOptions, ModelOptions, ReportOptions
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


def app(model: ModelOptions, asked: AppOptions) -> None:
    """Serve an app in the browser."""
    from sightline.app import check_host, serve
    from sightline.cli._model import loaded
    from sightline.gad import GAD

    network = loaded(model)
    password = os.environ.get("SIGHTLINE_PASSWORD")
    check_host(asked.host, password)
    distanced = None if asked.support is None else GAD.load(asked.support, network)
    console.print(f"Open http://{asked.host}:{asked.port} in a browser; Ctrl-C stops it.", soft_wrap=True)
    serve(network, gad=distanced, host=asked.host, port=asked.port, password=password)


def demo(asked: DemoOptions) -> None:
    """The whole story on drawn images."""
    from sightline.demo import run_demo

    run_demo(asked.out, asked.seed, console)
