"""A figure that a journal takes: text stays text in its vectors."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_VECTORS = {"pdf", "ps", "eps", "svg", "svgz", "pgf"}


class PaperFigure(Figure):
    """A matplotlib figure whose PDF and PostScript hold TrueType fonts, where matplotlib's default is Type 3."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        FigureCanvasAgg(self)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the figure; see matplotlib. Pictures inside vectors have 300 dpi, unless `dpi` says otherwise."""
        kind = str(options.get("format") or Path(str(fname)).suffix.removeprefix(".")).lower()
        if kind in _VECTORS:
            options.setdefault("dpi", 300)
        with rc_context({"pdf.fonttype": 42, "ps.fonttype": 42}), any_script():
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """What a notebook shows, also where no plotting backend was chosen."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=90)
        return buffer.getvalue()


@contextmanager
def any_script() -> Iterator[None]:
    """Names may be in any script; a letter that the font lacks is a box, and no warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
