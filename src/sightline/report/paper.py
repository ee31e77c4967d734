"""For a paper: whom to cite, and tables in LaTeX."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pandas as pd

from sightline.catalogue import catalogue
from sightline.method import Method

GAD, SANITY, CONVERGENCE = "2401.14434", "1810.03292", "1912.09818"
"""What is cited beside methods: Gradient Artificial Distancing, parameter randomisation, convergence."""
_PLACE = re.compile(r"(?:arXiv|doi) (\d\S*?)(?=,?(?:\s|$))")
_FIELD = re.compile(r"(?:eprint|doi) = \{([^}]+)\}")


def bibliography(methods: Iterable[Method], *further: str) -> str:
    """Entries in BibTeX for the sources of some methods, each once, in their order.

    Args:
        methods: the methods; one without a published source of its own is skipped.
        further: identifiers of other papers, on arXiv or by DOI.
    """
    places = [place for method in methods for place in sources(method)] + list(further)
    return "\n\n".join(_entries()[place] for place in dict.fromkeys(places) if place in _entries())


def sources(method: Method) -> list[str]:
    """Where a method, and one that multiplies it, was published: identifiers on arXiv or DOIs."""
    found = _PLACE.findall(method.source)
    if not found:
        # "The authors' code of full_grad" sends to another method's source.
        known = catalogue()
        found = [
            place
            for name in re.findall(r"\w+", method.source)
            if name in known and name != method.name
            for place in _PLACE.findall(known[name].source)
        ]
    return found + (sources(method.times) if method.times is not None else [])


def latex(table: pd.DataFrame, caption: str = "") -> str:
    """A table in LaTeX, with the rules of `booktabs` and numbers to three digits; text is escaped."""
    # Rows that only have a number need no name.
    styled = table.style.format(precision=3, na_rep="--", escape="latex")
    if isinstance(table.index, pd.RangeIndex):
        styled = styled.hide(axis="index")
    for axis in (0, 1):
        styled = styled.format_index(escape="latex", axis=axis)
    return str(styled.to_latex(hrules=True, caption=caption or None, position_float="centering" if caption else None))


@cache
def _entries() -> dict[str, str]:
    text = (Path(__file__).parent / "references.bib").read_text(encoding="utf-8")
    entries = [entry.strip() for entry in re.split(r"\n(?=@)", text)]
    return {_FIELD.findall(entry)[0]: entry for entry in entries}
