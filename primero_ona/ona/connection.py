"""Open connections to ONA's database, translate psycopg's errors, and hold the locks that runs, commands and machines share.

A pooler such as PgBouncer may give each transaction another session, and that session to another client afterwards. So nothing
here outlives its transaction: settings are local to it, and statements are not prepared in the server. A lock ends with the
process that holds it, however that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import Params
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row

from primero_ona.errors import ConfigError, TransientError, database_error
from primero_ona.tls import database_protection

Kind = TypeVar("Kind")

#: Opens a connection to ONA's database, and closes it at the end.
Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]

#: Seconds for one statement. The largest one computes the figures, 5 seconds for 100,000 cases and 80 for a million; a server
#: that is ten times slower still passes, and a statement that hangs ends within the hour.
STATEMENT_TIMEOUT = 900
#: Seconds to wait for a lock. Loads of a backfill wait for each other, one takes seconds; half of it would fail runs
#: that only had to queue behind a slow one, double would hide a session that holds ONA's tables.
LOCK_TIMEOUT = 300
#: How long a step waits for another one that stores the same partition: not long, for a pull of a whole country takes hours.
_WAIT = "60s"

#: What makes a transaction independent of how ONA's server and role are set: dates are read and written alike.
_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    # A transaction that compares all of Primero with ONA waits for each of Primero's pages, and for up to 1,000 cases that are
    # asked for one by one; ONA's own limit, often a minute, would end it.
    "idle_in_transaction_session_timeout": "2h",
    "transaction_timeout": "0",
    # An error where rows would be hidden: a load that does not see a child takes it for gone, or for new.
    "row_security": "off",
    # PostgreSQL's 4 MB would send the joins of 300,000 services to disk; more than this brings nothing, and a server of 1 GB
    # bears it a few times over.
    "work_mem": "64MB",
    # Statements over a quarter take tenths of a second; compiling them first would take longer than that.
    "jit": "off",
    # Joins by keys need to know how many rows there are, and little else: a tenth of the usual sample says it.
    "default_statistics_target": "10",
}


def connect(
    url: str,
    *,
    connect_timeout: int = 10,
    statement_timeout: float = STATEMENT_TIMEOUT,
    lock_timeout: float = LOCK_TIMEOUT,
    insecure: bool = False,
) -> psycopg.Connection:
    """Connect to ONA's database: in autocommit, each transaction in UTC, all timeouts in seconds.

    Raises ConfigError for a malformed URL, and for one to another machine without `sslmode=verify-full` unless
    `insecure`; else what `database_error` makes of the refusal. No message holds the URL or a part of it.
    """
    database_protection(parameters_of(url), override=insecure)
    with translate_errors("connecting to ONA's database"):
        conn = OnaConnection.connect(
            url,
            autocommit=True,
            application_name="primero-ona",
            connect_timeout=connect_timeout,
            client_encoding="utf8",
            # Firewalls between here and ONA drop idle sessions after minutes, and a load is silent while its next frame is read.
            keepalives_idle=30,
            prepare_threshold=None,
        )
        conn.settings = _SETTINGS | {"statement_timeout": f"{statement_timeout}s", "lock_timeout": f"{lock_timeout}s"}
        return conn


class OnaConnection(psycopg.Connection[Any]):
    """A connection that sets up each transaction by itself, and has none but transactions: see `connect`."""

    settings: Mapping[str, str]

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Any]:
        """See psycopg; the outermost one begins with the settings."""
        begins = self.info.transaction_status == TransactionStatus.IDLE
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if begins:
                super().execute(_SET_LOCAL, ([*self.settings], [*self.settings.values()]))
            yield transaction

    def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.Cursor[Any]:  # noqa: ANN401
        """See psycopg; outside a transaction the statement gets one of its own."""
        if self.info.transaction_status != TransactionStatus.IDLE:
            return super().execute(query, params, **options)
        with self.transaction():
            return super().execute(query, params, **options)


#: Of the settings those that this version of PostgreSQL knows.
_SET_LOCAL = """
SELECT set_config(name, value, true)
  FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)
 WHERE name IN (SELECT name FROM pg_catalog.pg_settings)
"""


def parameters_of(url: str) -> dict[str, object]:
    """The libpq parameters in a URL; raises ConfigError where it is none."""
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.Error:
        raise ConfigError(
            "ONA_DATABASE_URL is not a database URL; write it like postgresql://user:password@host:5432/database "
            "(special characters of the password as %-codes)",
        ) from None


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Let an error of psycopg leave as a failure; `action` says what was tried, as in `loading 2024-Q1 into ONA`."""
    try:
        yield
    except psycopg.Error as error:
        raise database_error(error, action) from None


def scalar(conn: psycopg.Connection, query: LiteralString | sql.Composed, params: Params | None = None) -> Any:  # noqa: ANN401
    """The value that a statement returns; None where it returns no row."""
    row = conn.execute(query, params).fetchone()
    return row[0] if row else None


def read_as(
    conn: psycopg.Connection, kind: type[Kind], action: str, query: LiteralString, params: Params | None = None
) -> list[Kind]:
    """Read rows as objects of `kind`, whose fields are the columns; `action` as in `translate_errors`."""
    with translate_errors(action), conn.transaction(), conn.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query, params).fetchall()


def partition_lock(conn: psycopg.Connection, partition: str) -> AbstractContextManager[None]:
    """Hold the lock of a partition, under which its files may be written; `conn` is in no transaction and belongs to the lock.

    Raises TransientError where another step holds it, or where an erasure, a rotation or a purge is at work.
    """
    busy = f"another run or command is storing {partition}; nothing was changed, the next try may succeed"
    make = "INSERT INTO primero_sync.partitions (partition) VALUES (%(partition)s) ON CONFLICT DO NOTHING"
    hold = "SELECT FROM primero_sync.partitions WHERE partition = %(partition)s FOR UPDATE"
    return _lock(conn, "locking a stored partition", busy, make, hold, partition=partition)


def lock_of_all(conn: psycopg.Connection) -> AbstractContextManager[None]:
    """Hold the lock of all partitions: no run writes one meanwhile. Raises TransientError where a run is at work."""
    busy = "a run is storing a quarter; nothing was changed in the stored partitions, try again when it has ended"
    return _lock(conn, "locking the stored partitions", busy, "LOCK TABLE primero_sync.partitions IN EXCLUSIVE MODE")


@contextmanager
def _lock(
    conn: psycopg.Connection, action: str, busy: str, *statements: LiteralString, **params: str
) -> Iterator[None]:
    with translate_errors(action), conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = '{_WAIT}'")
        conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        try:
            for statement in statements:
                conn.execute(statement, params)
        except psycopg.errors.LockNotAvailable:
            raise TransientError(busy, see="two-pulls") from None
        yield


def require_held(conn: psycopg.Connection) -> None:
    """Make sure that the lock is still held, before what was written under it counts; raises as any statement does."""
    with translate_errors("keeping the lock of a stored partition"):
        conn.execute("SELECT 1")


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
        holder = scalar(conn, _FIND_HOLDER) or "its session has ended meanwhile"
        text = f"another sync is loading into ONA and did not end in time ({holder}); nothing was changed"
        raise TransientError(f"{text}, the next try may succeed", see="ona-busy") from None


# SHARE UPDATE EXCLUSIVE is the weakest mode that conflicts with itself. It needs UPDATE, DELETE or TRUNCATE on the table; what
# a login may take with SELECT or INSERT alone (ACCESS SHARE, ROW SHARE, ROW EXCLUSIVE) does not conflict with it.
_LOCK = "LOCK TABLE primero_sync.load_lock IN SHARE UPDATE EXCLUSIVE MODE"

# PostgreSQL says since when only to logins that may see the session.
_FIND_HOLDER = """
SELECT format('process %s of the server, %s, since %s', l.pid, COALESCE(NULLIF(a.application_name, ''), 'no application name'),
              COALESCE(to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), 'an unknown time'))
  FROM pg_catalog.pg_locks AS l
  LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
 WHERE l.relation = to_regclass('primero_sync.load_lock')
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
   AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
 LIMIT 1
"""
