"""Connections to ONA's database: how a session is set up, and the translation of its errors.

What belongs here: opening a connection, and `translated`, through which every room of `ona/` lets psycopg's errors
become failures. What does not belong here: statements about ONA's tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict

from primero_ona.failures import SettingsFailure, database_failure
from primero_ona.transport import database_protection

#: Seconds for one statement. The largest one writes the services of a quarter, a few seconds for 300,000 rows; a disk
#: that is fifty times slower still passes, and a statement that hangs ends within the hour.
STATEMENT_TIMEOUT = 900
#: Seconds to wait for a lock. Loads of a backfill wait for each other, one takes seconds; half of it would fail runs
#: that only had to queue behind a slow one, double would hide a session that holds ONA's tables.
LOCK_TIMEOUT = 300
#: Seconds of silence before the network is probed: firewalls between here and ONA drop idle sessions after minutes, and
#: a load is silent while its next frame is read.
KEEPALIVE_IDLE = 30
#: Memory of one sort or hash. PostgreSQL's 4 MB would send the joins of 300,000 services to disk; more than this brings
#: nothing, and a server of 1 GB bears it a few times over.
WORK_MEMORY = "64MB"


def connect(
    url: str,
    *,
    application_name: str = "primero-ona",
    connect_timeout: int = 10,
    statement_timeout: float = STATEMENT_TIMEOUT,
    lock_timeout: float = LOCK_TIMEOUT,
    insecure: bool = False,
) -> psycopg.Connection:
    """Open a session in ONA's database: in autocommit, in UTC, all timeouts in seconds.

    Raises SettingsFailure for a malformed URL, and for one to another machine without `sslmode=verify-full` unless
    `insecure`; else what `database_failure` makes of the refusal. No message holds the URL or a part of it.
    """
    database_protection(parameters_of(url), override=insecure)
    with translated("connecting to ONA's database"):
        conn = psycopg.connect(
            url,
            autocommit=True,
            application_name=application_name,
            connect_timeout=connect_timeout,
            client_encoding="utf8",
            keepalives_idle=KEEPALIVE_IDLE,
        )
        try:
            _set_session(conn, statement_timeout, lock_timeout)
        except psycopg.Error:
            conn.close()
            raise
        return conn


def parameters_of(url: str) -> dict[str, object]:
    """The libpq parameters in a URL; raises SettingsFailure where it is none."""
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.Error:
        raise SettingsFailure(
            "ONA_DATABASE_URL is not a database URL; write it like postgresql://user:password@host:5432/database "
            "(special characters of the password as %-codes)",
        ) from None


def _set_session(conn: psycopg.Connection, statement_timeout: float, lock_timeout: float) -> None:
    """Make the session independent of how ONA's server and role are set: stamps and dates are read and written alike."""
    settings = {
        "TimeZone": "UTC",
        "DateStyle": "ISO, YMD",
        "statement_timeout": f"{round(statement_timeout * 1000)}ms",
        "lock_timeout": f"{round(lock_timeout * 1000)}ms",
        "work_mem": WORK_MEMORY,
        # Statements over a quarter take tenths of a second; compiling them first would take longer than that.
        "jit": "off",
        # Joins by keys need to know how many rows there are, and little else: a tenth of the usual sample tells it.
        "default_statistics_target": "10",
    }
    conn.execute(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS settings (name, value)",
        ([*settings], [*settings.values()]),
    )


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Let an error of psycopg leave as a failure; `doing` says what was tried, as in `loading 2024-Q1 into ONA`."""
    try:
        yield
    except psycopg.Error as error:
        raise database_failure(error, doing) from None
