"""What a notebook shows of an object: HTML with its pictures in it."""

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import escape

from sightline._common.words import counted
from sightline.rendering._figure import PaperFigure

if TYPE_CHECKING:
    from sightline.auditing._found import Audit

_COLOURS = {"pass": "#0b7a57", "fail": "#b54708", "undecided": "inherit", "reported": "inherit"}


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


def verdicts(found: "Audit") -> str:
    """The verdicts of an audit as a table, and its advice."""
    table = found.judged
    counts = found.counts
    head = "".join(f"<th>{escape(str(name).replace('_', ' '))}</th>" for name in (*table.columns, *counts.columns))
    rows = []
    for method, said in table.iterrows():
        cells = []
        for test, word in said.items():
            finding = found.findings.get((str(test), str(method)))
            figure = "" if finding is None else f" {found.shown(str(test), str(method)).split(' [')[0]}".rstrip()
            reason = escape(finding.reason) if finding is not None else ""
            cells.append(f'<td title="{reason}" style="color:{_COLOURS[word]}">{escape(word)}{figure}</td>')
        cells += [f"<td>{escape(text)}</td>" for text in counts.loc[str(method)]]
        rows.append(f"<tr><th>{escape(str(method))}</th>{''.join(cells)}</tr>")
    return (
        f"<p>Audit of {counted(len(found.names), 'image')}</p><table><thead><tr><th>method</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table><p>{escape(found.advice)}</p>"
    )
