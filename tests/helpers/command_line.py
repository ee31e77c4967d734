"""The command line, called as a user calls it: in this process, or with `process=True` in one of its own.

A process of its own spends seconds on imports, so that only tests of what is the process's (its exit code as the shell
sees it, signals) start one.
"""

import contextlib
import io
import subprocess
import sys
import traceback
from pathlib import Path
from unittest import mock

from sightline.cli._main import main

Done = subprocess.CompletedProcess[str]


def sightline(folder: Path, *words: str, process: bool = False) -> Done:
    """Run `sightline WORDS` in a folder."""
    if process:
        command = [sys.executable, "-m", "sightline", *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", ["sightline", *words]),
        mock.patch.object(sys, "path", [*sys.path]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:  # noqa: BLE001 - what Python itself would print
            traceback.print_exc()
            code = 1
    return Done(["sightline", *words], code, out.getvalue(), err.getvalue())
