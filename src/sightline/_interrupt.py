"""Ctrl-C while libraries are imported, which takes seconds, ends the command in a sentence and not in a traceback.

It is imported before them.
"""

import sys
from pathlib import Path
from types import TracebackType


def _end_in_a_sentence() -> None:
    # Only where the command is started: what another program does with an interrupted import is its own affair.
    script = Path(sys.argv[0]).stem == "sightline"
    module = sys.argv[0] == "-m" and "sightline" in sys.orig_argv
    if not (script or module):
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("stopped: nothing was done yet.\n")
        else:
            before(kind, error, trace)

    sys.excepthook = hook


_end_in_a_sentence()
