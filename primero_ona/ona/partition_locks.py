"""The locks of stored partitions: rows in `primero_sync`, which every run, command and machine sees.

A lock is a row lock in an open transaction, so it ends with the process that holds it, however that ends.
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
                f"another run or command is storing {partition}; nothing was changed, the next try may succeed"
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
                "a run is storing a quarter; nothing was changed in the stored partitions, try again when it has ended"
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
