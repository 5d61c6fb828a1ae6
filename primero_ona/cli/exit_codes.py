"""Exit codes of the command line, by the kind of the error that ended a command or a run."""

from __future__ import annotations

#: 1: the data or a check; 2: a setting or the usage; 3: unreachable, refused or transient. Any other error counts as 1.
CODES = {
    "SyncError": 1,
    "PermanentError": 1,
    "DataError": 1,
    "CheckError": 1,
    "ConfigError": 2,
    "UsageError": 2,
    "RefusedError": 3,
    "TransientError": 3,
}


def exit_code(kind: str | None) -> int:
    """Return the exit code for the kind of an error; 0 where there was none."""
    return 0 if kind is None else CODES.get(kind, 1)
