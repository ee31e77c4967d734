"""The paper's Tables 1 and 2 in its own layout, from the folders of finished evaluations.

Mazini Rodrigues et al. 2024, arXiv 2401.14434.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sightline._common.words import readable
from sightline._common.written import whole_files
from sightline.errors import InputError
from sightline.gad import OWN, PAPER_LIKE, PAPER_METHODS
from sightline.rendering._paper import latex

HEADINGS = dict(zip(PAPER_METHODS, ("S", "D", "GxI", "GB", "IG"), strict=True))
_TITLES = {"cats_dogs": "Cat x Dog", "cub": "Birds", "vgg16": "VGG", "resnet18": "ResNet"}


class Finished(NamedTuple):
    """A finished evaluation.

    Attributes:
        dataset: what was evaluated, as the table names it.
        network: likewise.
        complexity: its table of hulls.
        sensitivity: its table of RS.
    """

    dataset: str
    network: str
    complexity: pd.DataFrame
    sensitivity: pd.DataFrame


def finished(place: str) -> Finished:
    """Read a folder that `gad evaluate` or `gad reproduce` wrote.

    Args:
        place: the folder, or DATASET:NETWORK=FOLDER. Without names those of `reproduction.json` are taken, or else
            those of the folder and of the one that it is in.

    Raises:
        InputError: there is no evaluation, or its tables cannot be read.
    """
    named, _, rest = place.rpartition("=")
    folder = Path(rest)
    if not folder.is_dir() and Path(place).is_dir():
        named, folder = "", Path(place)
    if named and ":" not in named:
        raise InputError(f"An evaluation is named as in Birds:ResNet=FOLDER; got {place}.")
    try:
        tables = [pd.read_csv(folder / f"{name}.csv") for name in ("complexity", "sensitivity")]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{readable(folder)} holds no finished evaluation ({error}). Name a folder that `sightline gad evaluate` "
            "or `sightline gad reproduce` wrote."
        ) from error
    for table in tables:
        if missing := [name for name in ("reading", "method", "class", "arm", "matched") if name not in table]:
            raise InputError(f"The tables in {readable(folder)} lack the columns {', '.join(missing)}. Evaluate again.")
    if named:
        dataset, network = named.split(":", 1)
        return Finished(dataset, network, *tables)
    dataset, network = folder.resolve().parent.name, folder.resolve().name
    record = folder / "reproduction.json"
    if record.is_file():
        try:
            about = json.loads(record.read_text(encoding="utf-8"))
            dataset, network = str(about["dataset"]), str(about["architecture"]).removeprefix("torchvision:")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{readable(record)} cannot be read ({type(error).__name__}: {error}).") from error
    return Finished(_TITLES.get(dataset, dataset), _TITLES.get(network, network), *tables)


def table_1(evaluations: Sequence[Finished], reading: str = PAPER_LIKE.name) -> pd.DataFrame:
    """On how many images the original's hull is the smaller one, and GAD's; below, the original clipped at zero.

    As in the paper equal hulls (RC = 1) count for the original. How many are equal, and how many are undefined because
    a hull is degenerate and count for neither, stands in rows of their own where there are any.

    Args:
        evaluations: the sub-tables, in order.
        reading: the reading of each evaluation that is shown.
    """
    rows = []
    for one in evaluations:
        for c, cells in _classes(one.complexity, one, reading):
            gad, clipped = ([cell[arm] for cell in cells.values()] for arm in ("gad", "clipped"))
            few = {
                f"  equal {c}": [row["ties"] for row in gad],
                f"  undefined {c}": [row["degenerate"] for row in gad],
            }
            lines = {
                f"Orig. {c}": [row["loses"] + row["ties"] for row in gad],
                f"GAD {c}": [row["wins"] for row in gad],
                **{name: counts for name, counts in few.items() if any(counts)},
                f"clipped {c}": [row["wins"] for row in clipped],
            }
            rows += [
                {"data set": one.dataset, "network": one.network, "": name}
                | {heading: int(count) for heading, count in zip(cells, counts, strict=True)}
                for name, counts in lines.items()
            ]
    return pd.DataFrame(rows).convert_dtypes()


def table_2(evaluations: Sequence[Finished], reading: str = PAPER_LIKE.name) -> pd.DataFrame:
    """Mean RS x 100 of the supplementary region and of GAD's; below, of the original clipped at zero.

    Args:
        evaluations: the sub-tables, in order.
        reading: the reading of each evaluation that is shown.
    """
    rows = []
    for one in evaluations:
        for c, cells in _classes(one.sensitivity, one, reading):
            for name, arm in ((f"Sup. {c}", "supplementary"), (f"GAD {c}", "gad"), (f"clipped {c}", "clipped")):
                about = {"data set": one.dataset, "network": one.network, "": name}
                values = {heading: cell.get(arm, {}).get("RS x 100", float("nan")) for heading, cell in cells.items()}
                rows.append(about | {heading: float(value) for heading, value in values.items()})
    return pd.DataFrame(rows)


def write_tables(places: Sequence[str], out: Path, reading: str = PAPER_LIKE.name) -> str:
    """Write both tables as `tables.md`, `tables.tex`, `table1.csv` and `table2.csv`.

    Args:
        places: see `finished`.
        out: the folder to write to.
        reading: the reading that is shown.

    Returns:
        The text of `tables.md`.

    Raises:
        InputError: an evaluation cannot be read or lacks the reading, or the folder cannot be written.
    """
    evaluations = [finished(place) for place in places]
    made = {
        "Table 1: images on which a hull is the smaller one": table_1(evaluations, reading),
        "Table 2: mean RS x 100": table_2(evaluations, reading),
    }
    about = (
        f"Reading {reading}. As in the paper equal hulls count for Orig.; clipped is the original map clipped at zero, "
        "without any distancing."
    )
    text = "\n\n".join([about, *(f"## {title}\n\n{_markdown(table)}" for title, table in made.items())]) + "\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with whole_files() as part:
            part(out / "tables.md").write_text(text, encoding="utf-8")
            parts = [latex(table, title, f"gad-table-{n}") for n, (title, table) in enumerate(made.items(), 1)]
            part(out / "tables.tex").write_text("\n".join(parts), encoding="utf-8")
            for number, table in enumerate(made.values(), 1):
                table.to_csv(part(out / f"table{number}.csv"), index=False, float_format="%.5g")
    except OSError as error:
        raise InputError(f"The folder {readable(out)} cannot be written: {error.strerror or error}.") from error
    return text


Cells = dict[str, dict[str, dict[str, Any]]]
"""By a method's heading and an arm: the row of a table."""


def _classes(table: pd.DataFrame, one: Finished, reading: str) -> list[tuple[int, Cells]]:
    """For each class, the rows of its arms that are as large as they are; with several fills, of the first."""
    rows = table[table["reading"] == reading]
    if rows.empty:
        there = ", ".join(map(str, table["reading"].unique()))
        raise InputError(f"The evaluation {one.dataset}:{one.network} has no reading {reading!r}; it has {there}.")
    if "fill" in rows:
        rows = rows[rows["fill"] == rows["fill"].iloc[0]]
    found: list[tuple[int, Cells]] = []
    for c, group in rows[rows["matched"] == OWN].groupby("class"):
        known = list(dict.fromkeys(map(str, group["method"])))
        cells: Cells = {}
        for name in [*(m for m in PAPER_METHODS if m in known), *(m for m in known if m not in HEADINGS)]:
            own = group[group["method"] == name].to_dict("records")
            cells[HEADINGS.get(name, name)] = {str(row["arm"]): {str(k): v for k, v in row.items()} for row in own}
        found.append((int(str(c)), cells))
    return found


def _markdown(table: pd.DataFrame) -> str:
    def cell(value: object) -> str:
        if value is pd.NA or value != value:
            return ""
        return f"{value:.4f}" if isinstance(value, float) else str(value).strip()

    lines = [f"| {' | '.join(map(str, table.columns))} |", "|" + "---|" * len(table.columns)]
    before: tuple[str, ...] = ()
    for row in table.itertuples(index=False):
        # Data set and network are named once, as in print.
        own = tuple(map(str, row[:2]))
        shown = ("", "") if own == before else own
        lines.append(f"| {' | '.join([*shown, *map(cell, row[2:])])} |")
        before = own
    return "\n".join(lines)
