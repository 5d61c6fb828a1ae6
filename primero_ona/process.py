"""What every process of this project does about itself: no core dump, no word of what an exception saw, rare collections.

What belongs here: what holds for the command line and for Dagster's processes alike. `UMask` and the like of a service are
in `deploy/`.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import resource
import sys
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).parent

#: Files that only pass exceptions on; the place before them is the one to tell.
_PASSING_ON = frozenset({str(_PACKAGE / "steps.py"), str(_PACKAGE / "cli.py")})


#: Of Linux' prctl(2): whether a process may be dumped, and its memory be read by others of the same user.
_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Never leave this process's memory on disk when it crashes, nor to a debugger: it may hold rows of children.

    The limit alone does not hold where the kernel hands a dump to a program (systemd-coredump, apport), nor against other
    processes of the same user. Programs that this process starts begin without either.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def prepare_process() -> None:
    """To be called first in each process, in the command line's and in those that load the graph."""
    forbid_core_dumps()
    # Where Dagster masks an exception in its event log, it gives the whole of it to this logger, which writes to stderr.
    # A filter, since Dagster sets its loggers up again in each process, and forgets everything else about this one.
    logging.getLogger("dagster.redacted_errors").addFilter(_drop)
    # Python looks for garbage after each 700 new objects, as a small program needs. A page of Primero is 20,000 objects and
    # leaves no cycles behind; the libraries are half a million that never go. So it looks seldom: 10 % of a sync's time.
    gc.set_threshold(50_000, 20, 100)


def _drop(_record: logging.LogRecord) -> bool:
    return False


def unexpected(error: BaseException) -> str:
    """What may be said of an exception that nobody foresaw: its type and place, never its text."""
    return (
        f"unexpected {type(error).__name__} at {_place(error)}; please report this line "
        "(its text is withheld: it may quote data)"
    )


def _place(error: BaseException) -> str:
    """File and line, inside this package, where the exception passed last."""
    passed = traceback.extract_tb(error.__traceback__)
    frames = [
        frame for frame in passed if Path(frame.filename).is_relative_to(_PACKAGE) and frame.filename not in _PASSING_ON
    ]
    return f"{Path(frames[-1].filename).relative_to(_PACKAGE)}:{frames[-1].lineno}" if frames else "an unknown place"
