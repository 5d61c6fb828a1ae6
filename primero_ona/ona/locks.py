"""The locks that runs, commands and machines share: one for all loads, and one for each stored partition.

Each is held in an open transaction, so it ends with the process that holds it, however that ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from primero_ona.errors import TransientError
from primero_ona.ona.connection import translate_errors

#: How long a step waits for another one that stores the same partition.
_WAIT = "60s"


@contextmanager
def partition_lock(conn: psycopg.Connection, partition: str) -> Iterator[None]:
    """Hold the lock of a partition, under which its files may be written; `conn` is in no transaction and belongs to the lock.

    Raises TransientError where another step holds it, or where an erasure, a rotation or a purge is at work.
    """
    with translate_errors("locking a stored partition"), conn.transaction():
        _wait_no_longer(conn)
        try:
            conn.execute(_MAKE_ROW, (partition,))
            conn.execute(_LOCK_ROW, (partition,))
        except psycopg.errors.LockNotAvailable:
            raise TransientError(
                f"another run or command is storing {partition}; nothing was changed, the next try may succeed",
                see="two-pulls",
            ) from None
        yield


@contextmanager
def lock_of_all(conn: psycopg.Connection) -> Iterator[None]:
    """Hold the lock of all partitions: no run writes one meanwhile. Raises TransientError where a run is at work."""
    with translate_errors("locking the stored partitions"), conn.transaction():
        _wait_no_longer(conn)
        try:
            conn.execute("LOCK TABLE primero_sync.partitions IN EXCLUSIVE MODE")
        except psycopg.errors.LockNotAvailable:
            raise TransientError(
                "a run is storing a quarter; nothing was changed in the stored partitions, try again when it has ended",
                see="two-pulls",
            ) from None
        yield


def require_held(conn: psycopg.Connection) -> None:
    """Make sure that the lock is still held, before what was written under it counts; raises as any statement does."""
    with translate_errors("keeping the lock of a stored partition"):
        conn.execute("SELECT 1")


def _wait_no_longer(conn: psycopg.Connection) -> None:
    # A pull holds its lock as long as it lasts, which may be hours for a whole country.
    conn.execute(f"SET LOCAL lock_timeout = '{_WAIT}'")
    conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


_MAKE_ROW = "INSERT INTO primero_sync.partitions (partition) VALUES (%s) ON CONFLICT DO NOTHING"
_LOCK_ROW = "SELECT FROM primero_sync.partitions WHERE partition = %s FOR UPDATE"


def lock_loads(conn: psycopg.Connection) -> None:
    """Let one load after the other into ONA: two at once would decide on rows that the other is about to change.

    `conn` is in a transaction, which holds the lock until it ends. The lock is on a table: an advisory lock may be taken by
    any login that may connect. Raises TransientError, which names the holder, where it is not free in time.
    """
    try:
        # In a savepoint, so that the transaction can still ask for the holder after a failure.
        with conn.transaction():
            conn.execute(_LOCK)
    except psycopg.errors.LockNotAvailable:
        raise TransientError(
            f"another sync is loading into ONA and did not end in time ({_holder(conn)}); nothing was changed, "
            "the next try may succeed",
            see="ona-busy",
        ) from None


def _holder(conn: psycopg.Connection) -> str:
    """Say which session holds the lock of the loads; PostgreSQL says since when only to logins that may see the session."""
    row = conn.execute(_FIND_HOLDER).fetchone()
    if row is None:
        return "its session has ended meanwhile"
    pid, application, since = row
    return f"process {pid} of the server, {application or 'no application name'}, since {since or 'an unknown time'}"


# SHARE UPDATE EXCLUSIVE is the weakest mode that conflicts with itself. It needs UPDATE, DELETE or TRUNCATE on the table; what
# a login may take with SELECT or INSERT alone (ACCESS SHARE, ROW SHARE, ROW EXCLUSIVE) does not conflict with it.
_LOCK = "LOCK TABLE primero_sync.load_lock IN SHARE UPDATE EXCLUSIVE MODE"

_FIND_HOLDER = """
SELECT l.pid, a.application_name, to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
  FROM pg_catalog.pg_locks AS l
  LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
 WHERE l.relation = to_regclass('primero_sync.load_lock')
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
   AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
 LIMIT 1
"""
