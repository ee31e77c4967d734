"""Run the core's tests in bare environments: with the oldest dependencies that pyproject.toml claims, and the newest.

Bare: without any extra, so that what needs one must skip by itself. The test tools are those of constraints.txt, since
nothing is claimed of them. uv resolves the versions; the environments stay in .venv-oldest and .venv-newest.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOOLS = ("beartype", "hypothesis", "pytest", "pytest-xdist")
# What decides maps, with the golden file first; faces, reports and data sets are tested in the usual environment.
CORE = (
    "test_golden.py", "test_outcomes.py", "test_explain.py", "test_closed_forms.py", "aggregation", "operations",
    "propagation", "sampling", "audit/test_similarity.py", "audit/test_randomisation.py", "models/test_weights.py",
)  # fmt: skip


def run(name: str, resolution: str) -> bool:
    """Whether the tests pass with dependencies of this resolution."""
    environment = ROOT / f".venv-{name}"
    python = environment / "bin" / "python"
    pins = re.findall(rf"^(?:{'|'.join(TOOLS)})==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", python, "--resolution", resolution, "--editable", ROOT]
    subprocess.run([*install, *pins], check=True)
    print(f"\n{name} dependencies:", flush=True)  # noqa: T201
    subprocess.run([*uv, "pip", "list", "--quiet", "--python", python], check=True)
    # Old or new packages announce deprecations of their own, which are no errors here.
    tests = [python, "-m", "pytest", "-n", "2", "-m", "not slow and not study", "-o", "filterwarnings=default"]
    quiet = ["--disable-warnings", "-p", "no:cacheprovider"]
    return subprocess.run([*tests, *quiet, *CORE], cwd=ROOT / "tests", check=False).returncode == 0


if __name__ == "__main__":
    passed = [run("oldest", "lowest-direct"), run("newest", "highest")]
    sys.exit(not all(passed))
