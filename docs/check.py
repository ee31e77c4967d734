"""Check that the docs agree with the code: the generated table is current, links lead somewhere, names have docstrings.

`python docs/check.py --write` writes the generated pages.
"""

import re
import sys
from pathlib import Path

from command_line import command_line_page

import sightline
from sightline.methods import settings
from sightline.operations import KINDS, Operation, Treatment
from sightline.propagation import _lrp as lrp

ROOT = Path(__file__).parent.parent
METHODS = ROOT / "docs" / "methods.md"
COMMANDS = ROOT / "docs" / "command-line.md"


def methods_page() -> str:
    """The table of methods, from the catalogue."""
    lines = [
        "# Methods",
        "",
        "Written by `docs/check.py --write` from `src/sightline/methods/rows/`. z is the explained value, x the input,",
        "G the signal arriving at a rectifier, h its input, A^k the k-th channel of a layer.",
        "",
        "Cost: matrix work in forward passes, counted on ResNet-18 at 224 px. `sightline methods NAME` prints a card.",
        "",
        "| name | sampling | propagation | aggregation | cost | formula | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in sightline.catalogue().items():
        aggregation = _described(row.aggregation) + ("" if row.times is None else f", times `{row.times.name}`")
        choices = (_described(row.sampling), row.propagation.name, aggregation)
        cost = "" if row.cost is None else f"{row.cost:g}"
        cells = (f"`{name}`", *choices, cost, f"`{row.formula}`".replace("|", "\\|"), row.source)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines + coincidences() + treatments()) + "\n"


def _described(choice: object) -> str:
    """A sampling or an aggregation, with its settings."""
    given = [f"{name}={value}" for name, value in settings(choice).items() if name != "layer"]
    return f"{type(choice).__name__}({', '.join(given)})"


def coincidences() -> list[str]:
    """Where two names give the same numbers."""
    lines = ["", "## Where two names give the same numbers", "", "| method | gives the same as | |", "|---|---|---|"]
    for name, row in sightline.catalogue().items():
        lines += [f"| `{name}` | `{other}` | {when} |" for other, when in row.coincides]
    return lines


def treatments() -> list[str]:
    """What each propagation does with each kind of operation."""
    groups: dict[tuple[Treatment, ...], list[str]] = {}
    for name, row in sightline.catalogue().items():
        column = tuple(row.propagation.treatment(Operation(kind, "", "", 0, ())) for kind in KINDS)
        groups.setdefault(column, []).append(name)
    heads = [", ".join(f"`{name}`" for name in names) for names in groups.values()]
    words = {Treatment.RULED: "rule", Treatment.PASSED: "gradient", Treatment.NOT_COVERED: "refused"}
    lines = [
        "",
        "## What happens at each operation",
        "",
        "*rule*: as the method defines; *gradient*: the ordinary derivative, by definition of the method; *refused*:",
        "the method has no meaning there, and says so. A call is read with its arguments: `x @ W` with a constant W is",
        "a weighted layer, `clamp(min=0)` a rectifier, `clamp(-1, 1)` an activation that keeps zero, `x * sigmoid(y)`",
        "(and `glu`) a multiplication by a gate, an instance norm by running statistics a batch norm.",
        "",
        *(lrp.__doc__ or "").split("\n\n", 1)[1].strip().split("\n"),
        "",
        f"| operation | spellings | {' | '.join(heads)} |",
        f"|---|---|{'---|' * len(groups)}",
    ]
    for number, kind in enumerate(KINDS):
        cells = [words[column[number]] for column in groups]
        lines.append(f"| {kind} | {kind.spellings} | {' | '.join(cells)} |")
    return lines


def problems() -> list[str]:
    """Everything that disagrees, as sentences."""
    found = []
    if not METHODS.is_file() or METHODS.read_text(encoding="utf-8") != methods_page():
        found.append("docs/methods.md is not what the catalogue gives; run: .venv/bin/python docs/check.py --write")
    if not COMMANDS.is_file() or COMMANDS.read_text(encoding="utf-8") != command_line_page():
        found.append("docs/command-line.md is not what the commands say; run: .venv/bin/python docs/check.py --write")
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in link and not (page.parent / link).exists():
                found += [f"{page.relative_to(ROOT)} links to {link}, which does not exist"]
    found += [
        f"sightline.{name} has no docstring" for name in sightline.__all__ if not getattr(sightline, name).__doc__
    ]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found += [
        f"README.md does not name the method {name}" for name in sightline.catalogue() if f"`{name}`" not in readme
    ]
    return found


if __name__ == "__main__":
    if "--write" in sys.argv:
        METHODS.write_text(methods_page(), encoding="utf-8")
        COMMANDS.write_text(command_line_page(), encoding="utf-8")
    sys.exit("\n".join(problems()) or 0)
