"""Process-wide hardening: no core dumps, redacted exceptions, fewer garbage collections."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import re
import resource
import sys
import traceback
from pathlib import Path

from primero_ona.errors import PAGE, UNEXPECTED, ConfigError, SyncError, TransientError

_PACKAGE = Path(__file__).parent

#: Files that only pass exceptions on; the place before them is the one to tell.
_PASSING_ON = frozenset({str(_PACKAGE / "graph" / "steps.py"), str(_PACKAGE / "cli" / "app.py")})

#: Of Linux' prctl(2): whether a process may be dumped, and its memory be read by others of the same user.
_PR_SET_DUMPABLE = 4


def prepare_process() -> None:
    """To be called first in each process, in the command line's and in those that load the graph."""
    # This process's memory may hold rows of children: it is never left on disk by a crash, nor to a debugger. The limit alone
    # does not hold where the kernel hands a dump to a program (systemd-coredump, apport), nor against other processes of the
    # same user. Programs that this process starts begin without either.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Where Dagster masks an exception in its event log, it gives the whole of it to this logger, which writes to stderr.
    # A filter, since Dagster sets its loggers up again in each process, and forgets everything else about this one.
    logging.getLogger("dagster.redacted_errors").addFilter(lambda _record: False)
    # Python looks for garbage after each 700 new objects, as a small program needs. A page of Primero is 20,000 objects and
    # leaves no cycles behind; the libraries are half a million that never go. So it looks seldom: 10 % of a sync's time.
    gc.set_threshold(50_000, 20, 100)


def described(error: BaseException) -> tuple[str, str]:
    """Say in a sentence what an exception means that ends a command, a look or the loading of the graph; and its kind."""
    failure = error if isinstance(error, SyncError) else machine_error(error)
    return (failure.shown, failure.kind) if failure else (unexpected(error), UNEXPECTED)


def unexpected(error: BaseException) -> str:
    """Say of an unforeseen exception its type and place, never its text."""
    return (
        f"internal error {type(error).__name__} at {_place(error)}; please report this line "
        f"(details withheld because they may contain data; see {PAGE}#internal-error)"
    )


def _place(error: BaseException) -> str:
    """File and line, inside this package, where the exception passed last."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(_PACKAGE) and frame.filename not in _PASSING_ON:
            return f"{Path(frame.filename).relative_to(_PACKAGE)}:{frame.lineno}"
    return "an unknown place"


#: The kind of failure, what is so, and what to do.
_Verdict = tuple[type[SyncError], str, str]

_SPACE = "free some where stored partitions, DAGSTER_HOME and temporary files are"
_ALLOW = "let this account write there, or let PRIMERO_ONA_STORAGE_URL, DAGSTER_HOME or TMPDIR name another folder"
_DISK = "check that it is mounted and sound"
_HISTORY = "Dagster's history in DAGSTER_HOME"
_FULL = (TransientError, "this machine has no space left on a disk", _SPACE)
_DENIED = (ConfigError, "this machine does not let this account use a file or a folder", _ALLOW)
_BROKEN = (TransientError, "a disk of this machine fails", _DISK)
_MEMORY = (TransientError, "this machine has no memory, or no process, left for this", "end what else needs it")
_FILES = (TransientError, "too many files are open", "raise the limit (`ulimit -n`, LimitNOFILE)")
_IN_USE = (TransientError, f"{_HISTORY} is in use by another process", "wait for it")
_DAMAGED = (ConfigError, f"{_HISTORY} is damaged", "move that folder away; the next start makes a new one")
_UNOPENED = "let this account write there, and enough files be open (`ulimit -n`)"

#: What went wrong and what to do, by errno. What is not in it (as a file that is not there) may be a fault of ours.
_BY_ERRNO: dict[int, _Verdict] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: (TransientError, "this account's share of a disk is used up", _SPACE),
    errno.EFBIG: (TransientError, "a file would be larger than this machine allows", "raise the limit (`ulimit -f`)"),
    errno.EROFS: (ConfigError, "a disk of this machine is read-only", _ALLOW),
    errno.EBUSY: (TransientError, "a file of this machine is in use", "find out what uses it"),
    errno.ENOLCK: (TransientError, "this machine has no lock left", "end what else needs them"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP), _DENIED),
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE), _BROKEN),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), _MEMORY),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _FILES),
}

#: The same for Dagster's SQLite files: the beginning of SQLite's name of the error, and its text.
_OF_SQLITE: tuple[tuple[str, str, _Verdict], ...] = (
    ("SQLITE_FULL", "database or disk is full", _FULL),
    ("SQLITE_IOERR", "disk I/O error", (TransientError, f"{_HISTORY} cannot be read or written", f"{_SPACE}, and {_DISK}")),
    ("SQLITE_NOMEM", "out of memory", _MEMORY),
    ("SQLITE_BUSY", "database is locked", _IN_USE),
    ("SQLITE_LOCKED", "database table is locked", _IN_USE),
    ("SQLITE_CANTOPEN", "unable to open database file", (TransientError, f"{_HISTORY} cannot be opened", _UNOPENED)),
    ("SQLITE_READONLY", "attempt to write a readonly database", _DENIED),
    ("SQLITE_PERM", "access permission denied", _DENIED),
    ("SQLITE_CORRUPT", "database disk image is malformed", _DAMAGED),
    ("SQLITE_NOTADB", "file is not a database", _DAMAGED),
)  # fmt: skip

_POSTGRES = (
    TransientError,
    "Dagster's own database could not be reached, or rejects what Dagster asks",
    "check DAGSTER_POSTGRES_URL and that server",
)

#: How the text of a recorded exception begins.
_RECORDED = re.compile(r"[\w.]+: (?:\[Errno (?P<errno>\d+)\]|\(sqlite3\.\w+\) (?P<sqlite>[^\n]*)|\(psycopg2\.)")


def machine_error(error: BaseException) -> SyncError | None:
    """The failure where an exception, or what caused it, is a fault of this machine or of Dagster's own database.

    Every write is whole or not there, so that is said, too. None where the exception may as well be a fault of ours.
    """
    if found := _judge(error):
        return _failure(*found)
    return machine_error(error.__cause__) if error.__cause__ else None


def recorded_error(message: str) -> SyncError | None:
    """The same for an exception of which Dagster's event log holds no more than class and text, as of its own storage."""
    found = _RECORDED.match(message)
    if found is None:
        return None
    if found["errno"]:
        number = int(found["errno"])
        return _failure(_BY_ERRNO[number], errno.errorcode[number]) if number in _BY_ERRNO else None
    if found["sqlite"]:
        return next((_failure(verdict, name) for name, text, verdict in _OF_SQLITE if text == found["sqlite"]), None)
    return _failure(_POSTGRES, "SQLSTATE unknown")


def _failure(verdict: _Verdict, facts: str) -> SyncError:
    kind, text, todo = verdict
    return kind(
        f"{text} ({facts}); nothing is half-written: ONA and each stored partition hold all of the new state or what they held "
        f"before; {todo}, then run it again",
        see="dagster" if text.startswith("Dagster") else "machine",
    )


def _judge(error: BaseException) -> tuple[_Verdict, str] | None:
    """What an exception says of this machine, and the facts that may be shown: names of errors and of a folder."""
    if isinstance(error, MemoryError):
        return _MEMORY, "MemoryError"
    if isinstance(error, RuntimeError) and error.args == ("can't start new thread",):
        return _MEMORY, "no new thread"
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        folder = _folder(error.filename)
        return _BY_ERRNO[error.errno], errno.errorcode[error.errno] + (f", {folder}" if folder else "")
    if name := getattr(error, "sqlite_errorname", None):
        return next(((verdict, name) for start, _, verdict in _OF_SQLITE if name.startswith(start)), None)
    if type(error).__module__.startswith("psycopg2"):
        return _POSTGRES, f"SQLSTATE {getattr(error, 'pgcode', None) or 'unknown'}"
    return None


def _folder(name: object) -> str | None:
    """The folder nearest to a file that exists: its own name might hold anything, a folder's is that of a setting."""
    if not isinstance(name, (str, bytes, os.PathLike)):
        return None
    path = Path(os.fsdecode(name)).absolute()
    return next((str(folder) for folder in (path, *path.parents) if os.path.isdir(folder)), None)  # noqa: PTH112 never raises
