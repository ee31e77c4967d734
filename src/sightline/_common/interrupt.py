"""Ctrl-C while libraries are imported, which takes seconds, ends the command in a sentence and not in a traceback.

It is imported before them. An exception will not do: raised within the import of a library in C++, it aborts the
process.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

INTERRUPTED = 130


def _stop(*_: object) -> NoReturn:
    sys.stderr.write("stopped: nothing was done yet.\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def _is_command() -> bool:
    """Whether the command is started: what another program does with an interrupted import is its own affair."""
    return Path(sys.argv[0]).stem == "sightline" or (sys.argv[0] == "-m" and "sightline" in sys.orig_argv)


def imported() -> None:
    """From now on Ctrl-C is Python's own KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if (
    _is_command()
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _stop)
