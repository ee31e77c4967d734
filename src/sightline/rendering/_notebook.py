"""What a notebook shows of an object: HTML with its pictures in it."""

import base64
from collections.abc import Iterable

import pandas as pd
from markupsafe import escape

from sightline.rendering._figure import PaperFigure


def pictured(title: str, figure: PaperFigure, notes: Iterable[str] = ()) -> str:
    """A title, a figure as a picture, and notes."""
    picture = base64.b64encode(figure._repr_png_()).decode("ascii")
    words = "".join(f"<p>{escape(note)}</p>" for note in notes)
    head = escape(title)
    shown = f'<img alt="{head}" src="data:image/png;base64,{picture}">'
    return f"<figure><figcaption>{head}</figcaption>{shown}{words}</figure>"


def tabled(title: str, table: pd.DataFrame, notes: Iterable[str] = ()) -> str:
    """A title, a table of figures, and notes; all text escaped."""
    words = "".join(f"<p>{escape(note)}</p>" for note in notes)
    shown = table.to_html(index=False, border=0, float_format="{:.4g}".format)
    shown = shown if len(table) else "<p>Not fitted yet.</p>"
    return f"<p>{escape(title)}</p>{shown}{words}"
