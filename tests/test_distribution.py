"""The name that pip is given: `sightline` on PyPI belongs to another project, so no message may send anyone there."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import sightline as sl
from sightline.errors import DISTRIBUTION, install

ROOT = Path(__file__).parent.parent
OTHER = re.compile(r"""pip3? install[^\n`]*[ '"]sightline(?![-\w/.])|['"]sightline\[""")
"""What would fetch the other project, in a message or as a requirement."""


def texts() -> list[Path]:
    places = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", ROOT / "pyproject.toml"]
    for folder in ("src", "docs", "benchmarks", ".ci"):
        places += [path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md", ".toml", ".html", ""}]
    return [path for path in places if path.is_file() and "__pycache__" not in path.parts]


def test_no_text_sends_to_the_other_project() -> None:
    wrong = [f"{path.relative_to(ROOT)}: {found[0]}" for path in texts() for found in OTHER.finditer(path.read_text())]
    assert not wrong


@pytest.mark.parametrize(
    "text", ["pip install 'sightline[app]'", 'pip install "sightline"', "pip install -U sightline\n"]
)
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert OTHER.search(text)
    assert not OTHER.search(text.replace("sightline", DISTRIBUTION))


def test_every_extra_that_a_message_names_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION == "sightline-saliency"
    assert project["scripts"] == {"sightline": "sightline.cli:main"}
    named = {
        extra
        for path in (ROOT / "src").rglob("*.py")
        for extra in re.findall(r"""install\(["'](\w+)["']\)""", path.read_text())
    }
    assert {"app", "datasets", "ray", "runs"} <= named
    assert named <= set(project["optional-dependencies"])
    for extra in named:
        assert install(extra) == f"pip install '{DISTRIBUTION}[{extra}]', or in a checkout: pip install '.[{extra}]'"
    # An extra that needs another asks for it by the same name.
    own = [
        need for extra in project["optional-dependencies"].values() for need in extra if need.startswith("sightline")
    ]
    assert own
    assert all(need.startswith(f"{DISTRIBUTION}[") for need in own)


def test_the_version_needs_no_installed_distribution() -> None:
    """It stands in the source, from which the build takes it too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    path = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{sl.__version__}"' in path.read_text()
    tracked = subprocess.run(["git", "-C", ROOT, "grep", "-lE", "metadata.*version", "--", "src"], capture_output=True)
    assert tracked.stdout == b""
