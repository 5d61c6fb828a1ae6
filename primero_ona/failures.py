"""The two kinds of failure, and the one place where a library's exception becomes a message that is safe to show.

What belongs here: exception classes, and functions that turn an exception of requests, psycopg or pyarrow into one of
them. The message says what was tried, what is so and what to do; it never holds a value of a case, a URL with its query,
a response body or SQL parameters. Callers write `raise …_failure(error, …) from None`, so that the original, whose text
may quote rows, does not travel along. What does not belong here: Dagster (see `steps.py`), retrying, logging.

    SyncFailure                exit code
    ├── PermanentFailure         1       trying again cannot help
    │   ├── DataFailure          1       what came or what stands is not as it must be
    │   ├── SettingsFailure      2       a setting is missing or malformed, or the command was used wrongly
    │   └── RefusedFailure       3       Primero or ONA refuses us: login, permission, field, privilege, address
    └── TransientFailure         3       could not be reached, or broke off: Dagster's run retry tries again
"""

from __future__ import annotations

from typing import ClassVar


class SyncFailure(Exception):
    """Any failure of a sync; its text is safe to show to anybody who may open the UI."""

    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False


class PermanentFailure(SyncFailure):
    """Trying again cannot help; somebody has to do what the message says."""


class DataFailure(PermanentFailure):
    """Data that came, or that stands in ONA, is not as it must be."""


class SettingsFailure(PermanentFailure):
    """A setting is missing or malformed, or a command was used wrongly."""

    exit_code = 2


class RefusedFailure(PermanentFailure):
    """Primero or ONA was reached and refuses: login, permission, a field, a privilege, an address not admitted."""

    exit_code = 3


class TransientFailure(SyncFailure):
    """Primero or ONA could not be reached or broke off; the same run may succeed later."""

    exit_code = 3
    retry = True
