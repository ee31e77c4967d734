"""For a paper: whom to cite, and tables in LaTeX."""

import re
from collections.abc import Callable, Iterable
from enum import Enum
from functools import cache
from pathlib import Path

import pandas as pd

from sightline.methods import Method, catalogue, settings
from sightline.propagation import Propagation
from sightline.sampling import Sampling

GAD = "2401.14434"
"""What is cited beside methods: Gradient Artificial Distancing."""
_PLACE = re.compile(r"(?:arXiv|doi) (\d\S*?)(?=,?(?:\s|$))")
_ESCAPES = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$",
}  # fmt: skip
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
    """Where a method, and one that multiplies it, was published: identifiers on arXiv or DOIs.

    For a method of a user's own, those of the methods that its parts come from.
    """
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
    if not found:
        found = [place for row in _parts(method) for place in _PLACE.findall(row.source)]
    return found + (sources(method.times) if method.times is not None else [])


def _parts(method: Method) -> list[Method]:
    """For each choice of a method that is not the plain one, the first method of the catalogue that makes it."""
    rows = [row for row in catalogue().values() if row.times is None and _PLACE.search(row.source)]

    def like(wanted: object, chosen: Callable[[Method], object]) -> list[Method]:
        """The first with this very choice or, with other settings, of this kind."""
        same = [row for row in rows if _choice(chosen(row)) == _choice(wanted)]
        return (same or [row for row in rows if _kind(chosen(row)) == _kind(wanted)])[:1]

    found = []
    if not method.sampling.at_images:
        found += like(method.sampling, lambda row: row.sampling)
    if not method.propagation.derivative:
        found += like(method.propagation, lambda row: row.propagation)
    if not method.aggregation.whole_signal or not found:
        found += like(method.aggregation, lambda row: row.aggregation)
    return found


def _kind(choice: object) -> str:
    """A sampling or a propagation by its family, an aggregation by its class."""
    return choice.family if isinstance(choice, Sampling | Propagation) else type(choice).__name__


def _choice(choice: object) -> tuple[object, ...]:
    if isinstance(choice, Propagation):
        return (choice.name,)
    # Which layer is read, and how often a network is asked, is no matter of who invented it.
    given = {key: value for key, value in settings(choice).items() if isinstance(value, Enum | bool)}
    reduction = getattr(choice, "reduction", None)
    return (type(choice).__name__, reduction, *sorted(given.items(), key=lambda item: item[0]))


def latex(table: pd.DataFrame, caption: str = "", label: str = "") -> str:
    r"""A table in LaTeX, with the rules of `booktabs` and numbers to three digits; text is escaped.

    Args:
        table: what is printed.
        caption: its caption, as plain text.
        label: what `\ref` calls it; `tab:` comes before it.
    """
    # Rows that only have a number need no name.
    styled = table.style.format(precision=3, na_rep="--", escape="latex")
    if isinstance(table.index, pd.RangeIndex):
        styled = styled.hide(axis="index")
    for axis in (0, 1):
        styled = styled.format_index(escape="latex", axis=axis)
    return str(
        styled.to_latex(
            hrules=True,
            caption=escaped(caption) or None,
            label=f"tab:{label}" if label else None,
            position_float="centering" if caption else None,
        )
    )


def escaped(text: str) -> str:
    r"""Plain text for LaTeX.

    Example:
        >>> escaped("5 % of lrp_0")
        '5 \\% of lrp\\_0'
    """
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


@cache
def _entries() -> dict[str, str]:
    text = (Path(__file__).parent / "references.bib").read_text(encoding="utf-8")
    entries = [entry.strip() for entry in re.split(r"\n(?=@)", text)]
    return {_FIELD.findall(entry)[0]: entry for entry in entries}
