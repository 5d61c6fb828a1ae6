"""The two kinds of failure, and the one place where a library's exception becomes a message that is safe to show.

What belongs here: exception classes, and functions that turn an exception of requests, psycopg or pyarrow into one of
them. The message says what was tried, what is so and what to do; it never holds a value of a case, a URL with its query,
a response body or SQL parameters. Callers write `raise …_failure(error, …) from None`, so that the original, whose text
may quote rows, does not travel along. What does not belong here: faults of this machine (see `machine.py`), Dagster (see
`steps.py`), retrying, logging.

    SyncFailure                exit code
    ├── PermanentFailure         1       trying again cannot help
    │   ├── DataFailure          1       what came or what stands is not as it must be
    │   ├── SettingsFailure      2       a setting is missing or malformed, names what may not be used, or wrong usage
    │   └── RefusedFailure       3       Primero or ONA refuses us: login, permission, field, privilege, address
    └── TransientFailure         3       could not be reached, or broke off, or this machine lacks something for now:
                                         Dagster's run retry tries again
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import psycopg


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


# PostgreSQL. Only SQLSTATE and names of tables and columns are taken from an error: its text and detail can quote rows.

_ASK_ADMIT = (
    "ONA's administrators admit listed addresses only: ask them to admit this machine's address, "
    "and to let the login use this database"
)
_ASK_GRANT = "ask ONA's administrators to grant it"
_APPLY = "run `primero-ona schema apply`"
_LATER = "nothing was changed; the next try may succeed"

#: What an SQLSTATE means, by its first characters; the first entry that fits decides.
_BY_SQLSTATE: tuple[tuple[str, type[SyncFailure], str], ...] = (
    ("28", RefusedFailure, "ONA's database refuses the login; check user and password in ONA_DATABASE_URL"),
    ("42501", RefusedFailure, f"the login lacks a privilege in ONA's database; {_ASK_GRANT}"),
    (
        "25006",
        RefusedFailure,
        "ONA's database is read-only here (a replica?); let ONA_DATABASE_URL name the main server",
    ),
    ("3D000", RefusedFailure, "ONA's server has no such database; check the database name in ONA_DATABASE_URL"),
    ("42P01", DataFailure, f"a table is missing in ONA; {_APPLY}"),
    ("42703", DataFailure, f"a column is missing in ONA; {_APPLY}"),
    ("3F000", DataFailure, f"a schema is missing in ONA; {_APPLY}"),
    ("42P10", DataFailure, f"a unique index is missing in ONA; {_APPLY}"),
    ("22001", DataFailure, "a value is longer than its column in ONA allows; ask ONA's administrators to widen it"),
    ("22", DataFailure, "a value does not fit the type of its column in ONA; ask ONA's administrators about the type"),
    ("23505", DataFailure, "a key would occur twice in ONA; run `primero-ona verify`"),
    ("23502", DataFailure, "a column in ONA must not be empty, but would be; ask ONA's administrators to allow it"),
    ("23", DataFailure, "a rule of ONA's tables is violated; ask ONA's administrators about the constraint"),
    ("55P03", TransientFailure, f"another session kept a lock for too long; {_LATER}"),
    ("57014", TransientFailure, f"the statement took too long or was cancelled; {_LATER}"),
    ("40", TransientFailure, f"another session was in the way; {_LATER}"),
    ("08", TransientFailure, f"the connection to ONA's database broke; {_LATER}"),
    ("57P", TransientFailure, f"ONA's database is stopping or starting; {_LATER}"),
    ("53", TransientFailure, "ONA's server lacks disk, memory or connections; tell ONA's administrators if it lasts"),
    ("58", TransientFailure, "ONA's server has trouble with its own files; tell ONA's administrators if it lasts"),
)

#: While connecting there is no SQLSTATE, only libpq's text; what a refusal says comes before what silence says, since
#: one error can tell of several addresses.
_BY_CONNECT_TEXT: tuple[tuple[str, type[SyncFailure], str], ...] = (
    ("pg_hba", RefusedFailure, f"ONA's database does not admit us; {_ASK_ADMIT}"),
    ("authentication failed|no password supplied|role .* does not exist|not permitted to log in", *_BY_SQLSTATE[0][1:]),
    ("permission denied", *_BY_SQLSTATE[1][1:]),
    ("database .* does not exist", *_BY_SQLSTATE[3][1:]),
    (
        "certificate|does not support SSL|SSL error",
        RefusedFailure,
        "no secure connection to ONA's database; check sslmode and sslrootcert in ONA_DATABASE_URL",
    ),
    (
        "invalid port|invalid .* value|unexpected spaces",
        SettingsFailure,
        "ONA_DATABASE_URL is malformed; check its port and options",
    ),
    (
        "resolve host|translate host name",
        TransientFailure,
        "the host name in ONA_DATABASE_URL is not known; check it, and this machine's network",
    ),
    (
        "refused|No such file",
        TransientFailure,
        "ONA's server is not listening there; check host and port in ONA_DATABASE_URL, or try later",
    ),
    (
        "time-?out|timed out",
        TransientFailure,
        f"ONA's server does not answer; try later. If it never does: {_ASK_ADMIT}",
    ),
)

_UNREACHED = (TransientFailure, "ONA's database could not be reached, or the connection broke; try later")
_UNKNOWN = (DataFailure, "ONA's database rejects what primero-ona asks; report this with the version of primero-ona")

#: Where COPY says which column it was reading: names only, the value stands behind them.
_COPY_COLUMN = re.compile(r"COPY (\w+), line \d+, column (\w+)")


def database_failure(error: psycopg.Error, doing: str) -> SyncFailure:
    """The failure that an error of psycopg stands for; `doing` says what was tried, as in `loading 2024-Q1 into ONA`.

    The message names the SQLSTATE and, where the server tells it, table and column; never a value.
    """
    kind, text = _judge(error)
    facts = ", ".join(filter(None, [f"SQLSTATE {error.sqlstate}" if error.sqlstate else "", _place(error)]))
    return kind(f"{doing} failed: {text}" + (f" ({facts})" if facts else ""))


def _judge(error: psycopg.Error) -> tuple[type[SyncFailure], str]:
    from psycopg import InterfaceError, OperationalError  # noqa: PLC0415 - importing failures stays cheap

    if state := error.sqlstate:
        return next(((kind, text) for start, kind, text in _BY_SQLSTATE if state.startswith(start)), _UNKNOWN)
    if isinstance(error, (OperationalError, InterfaceError)):
        said = str(error)
        return next(
            ((kind, text) for words, kind, text in _BY_CONNECT_TEXT if re.search(words, said, re.IGNORECASE)),
            _UNREACHED,
        )
    return _UNKNOWN


def _place(error: psycopg.Error) -> str:
    """Table and column of the error, as far as the server names them; of COPY they stand in the context alone."""
    table, column = error.diag.table_name, error.diag.column_name
    if copied := _COPY_COLUMN.match(error.diag.context or ""):
        table, column = copied.groups()
    names = {"table": table, "column": column, "constraint": error.diag.constraint_name}
    return ", ".join(f"{kind} {name}" for kind, name in names.items() if name)
