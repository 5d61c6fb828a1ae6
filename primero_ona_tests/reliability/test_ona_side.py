"""ONA's side: whatever its database does in the middle of a load, all of it is there or nothing, and the message helps."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from primero_ona.failures import DataFailure, RefusedFailure, SyncFailure, TransientFailure
from primero_ona.frames import Frames
from primero_ona.ona.connection import connect
from primero_ona.ona.load import load_quarter
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.schema import CASES, SERVICES
from primero_ona.primero.fields import EXIT_SCHEMA
from primero_ona_tests.ona.rows import LATER, NOW, Q1, case, frame, frames, load, make_tables, read, service

EVERYTHING = (
    "SELECT xmin::text, c::text FROM cases AS c UNION ALL SELECT xmin::text, s::text FROM services AS s ORDER BY 2"
)
BOOKKEEPING = "SELECT run_id FROM primero_sync.runs UNION ALL SELECT reason FROM primero_sync.quarantine ORDER BY 1"

#: A quarter that replaces a loaded one: a changed case, a new one, a changed service, a removed one.
NEXT = [case(1, sex="Male"), case(2), case(3)], [service(1, 1, service_type="Other"), service(3, 3)]


@pytest.fixture
def loaded(ona_url: str, ona: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """An ONA that holds a quarter; at the end it must hold that quarter still, to the row version, and then load well."""
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 2)])
    before = read(ona_url, EVERYTHING), read(ona_url, BOOKKEEPING)
    yield ona
    assert (read(ona_url, EVERYTHING), read(ona_url, BOOKKEEPING)) == before


def failing(conn: psycopg.Connection, kind: type[SyncFailure], *words: str) -> None:
    """Load the next quarter, which must fail with a message that has these words and nothing of a child."""
    with pytest.raises(SyncFailure) as raised:
        load(conn, *NEXT, now=LATER, run_id="broken")
    assert type(raised.value) is kind
    for word in words:
        assert word in str(raised.value)
    assert not re.search(r"case-\d|service-\d|Male|Other", str(raised.value))


def test_a_connection_refused_is_transient_and_names_what_to_check():
    """A server that restarts is back in a minute."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://u:p@127.0.0.1:{closed.getsockname()[1]}/x"
        with pytest.raises(TransientFailure, match="check host and port in ONA_DATABASE_URL, or try later"):
            connect(url)


def cutting(conn: psycopg.Connection, at: int, ona_url: str) -> Frames:
    """Services in single frames; before the one with the number `at` the session is cut by somebody else."""

    def frames_of(_columns: object) -> Iterator[Any]:
        for number in range(1, 4):
            if number == at:
                with psycopg.connect(ona_url, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 5000)", (conn.info.backend_pid,))
            yield frame([service(number, number)], SERVICES.arrow_schema())

    return Frames(frames_of)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_connection_dropped_in_mid_copy_changes_nothing(ona_url, loaded, at):
    """Half a quarter in ONA is a wrong figure that nobody sees."""
    with connect(ona_url) as conn, pytest.raises(TransientFailure, match=r"try later|next try"):
        load_quarter(
            conn,
            quarter=Q1,
            run_id="broken",
            cases=frames(CASES, [case(number) for number in (1, 2, 3)]),
            services=cutting(conn, at, ona_url),
            exits=Frames.of(frame([], EXIT_SCHEMA)),
            now=NOW,
        )


def suicide(conn: psycopg.Connection, when: str, table: str, kind: str = "TRIGGER") -> None:
    """Let a trigger end the session that fires it."""
    conn.execute("""
        CREATE OR REPLACE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); RETURN NEW; END $$
    """)
    conn.execute(f"CREATE {kind} cut {when} ON {table} FOR EACH ROW EXECUTE FUNCTION cut()".encode())


@pytest.mark.parametrize(
    ("when", "table"),
    [
        ("AFTER UPDATE", "cases"),
        ("AFTER INSERT", "cases"),
        ("BEFORE DELETE", "services"),
        ("AFTER INSERT", "services"),
        ("AFTER INSERT", "primero_sync.runs"),
    ],
)
def test_a_connection_dropped_in_mid_merge_changes_nothing(ona_url, loaded, when, table):
    """Cases are written before services; only the transaction keeps them together."""
    suicide(loaded, when, table)
    with connect(ona_url) as conn:
        failing(conn, TransientFailure, "nothing was changed", "next try")


def test_a_connection_dropped_at_commit_changes_nothing(ona_url, loaded):
    """The last moment: everything is written, nothing is committed yet."""
    suicide(loaded, "AFTER INSERT OR UPDATE", "cases DEFERRABLE INITIALLY DEFERRED", "CONSTRAINT TRIGGER")
    with connect(ona_url) as conn:
        failing(conn, TransientFailure, "loading 2024-Q1 into ONA")


@contextmanager
def watching(ona_url: str, delay: float) -> Iterator[None]:
    """Cut the loads of this project from the outside after a while, like an administrator or a failover."""
    stop = threading.Event()

    def watch() -> None:
        stop.wait(delay)
        with psycopg.connect(ona_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'")

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.04, 0.06, 0.08])
def test_a_session_ended_at_any_moment_leaves_all_or_nothing(ona_url, ona, delay):
    """Which moment it is cannot be chosen from the outside, and must not matter."""
    load(ona, [case(1)], [service(1, 1)])
    old = read(ona_url, EVERYTHING)
    with suppress(TransientFailure), watching(ona_url, delay), connect(ona_url, application_name="victim") as conn:
        load(
            conn,
            [case(number, sex="Male") for number in range(1, 40)],
            [service(n, n) for n in range(1, 40)],
            now=LATER,
        )
    found = read(ona_url, "SELECT count(*) AS cases, (SELECT count(*) FROM services) AS services FROM cases")[0]
    assert read(ona_url, EVERYTHING) == old or found == {"cases": 39, "services": 39}
    load(ona, [case(number, sex="Male") for number in range(1, 40)], [service(n, n) for n in range(1, 40)], now=LATER)
    assert read(ona_url, "SELECT count(*) AS n FROM cases WHERE sex = 'Male'") == [{"n": 39}]


@pytest.mark.parametrize("table", ["cases", "services"])
def test_a_lock_held_by_somebody_else_is_waited_for_and_then_transient(ona_url, loaded, table):
    """Somebody vacuums or alters the table; the run must neither hang for ever nor write half."""
    with psycopg.connect(ona_url) as other, connect(ona_url, lock_timeout=0.2) as conn:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        failing(conn, TransientFailure, "another session kept a lock for too long", "nothing was changed", "55P03")


def test_a_row_locked_by_somebody_else_is_transient_too(ona_url, loaded):
    """A forgotten transaction in a database tool holds rows for days."""
    with psycopg.connect(ona_url) as other, connect(ona_url, lock_timeout=0.2) as conn:
        other.execute("SELECT FROM cases WHERE case_id = 'case-1' FOR UPDATE")
        failing(conn, TransientFailure, "another session kept a lock for too long")
        other.rollback()


def test_a_statement_that_takes_too_long_is_transient(ona_url, loaded):
    """A disk that hangs must end as a failed run, not as a run without an end."""
    loaded.execute("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE UPDATE ON cases FOR EACH ROW EXECUTE FUNCTION slow();
    """)
    with connect(ona_url, statement_timeout=0.3) as conn:
        failing(conn, TransientFailure, "took too long", "nothing was changed", "57014")


def test_a_read_only_database_is_refused_with_the_setting_to_change(ona_url, loaded):
    """After a failover the old address often leads to a replica."""
    with connect(ona_url) as conn:
        conn.execute("SET default_transaction_read_only = on")
        failing(conn, RefusedFailure, "read-only", "ONA_DATABASE_URL", "25006")


@pytest.mark.parametrize(
    "missing", ["UPDATE ON cases", "INSERT ON services", "DELETE ON services", "INSERT ON primero_sync.runs"]
)
def test_a_missing_privilege_is_refused_with_whom_to_ask(ona_url, loaded, missing):
    """Roles are granted by hand, and one grant is easily forgotten."""
    loaded.execute("DROP ROLE IF EXISTS loader_under_test")
    loaded.execute(
        f"""
        CREATE ROLE loader_under_test;
        GRANT USAGE ON SCHEMA public, primero_sync TO loader_under_test;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, primero_sync TO loader_under_test;
        REVOKE {missing} FROM loader_under_test;
    """.encode()
    )
    with connect(ona_url) as conn:
        conn.execute("SET ROLE loader_under_test")
        failing(conn, RefusedFailure, "lacks a privilege", "ask ONA's administrators to grant it", "42501")
    loaded.execute("DROP OWNED BY loader_under_test; DROP ROLE loader_under_test")


@pytest.mark.parametrize(
    ("column", "type_", "words"),
    [
        ("sex", "varchar(3)", ("longer than its column", "widen", "column sex")),
        ("protection_concerns", "boolean", ("does not fit the type", "column protection_concerns")),
        ("sex", "integer", ("does not fit the type", "column sex")),
        ("registration_date", "integer", ("does not fit the type", "column registration_date")),
        ("age", "date", ("does not fit the type", "column age")),
    ],
)
def test_a_column_that_a_value_does_not_fit_is_named_without_the_value(ona_url, empty_ona, column, type_, words):
    """The table belongs to ONA; the message must let its administrators find the column, and must not tell on a child."""
    empty_ona.execute(f"CREATE TABLE cases (case_id text PRIMARY KEY, {column} {type_})".encode())
    make_tables(empty_ona, "none")
    failing(empty_ona, DataFailure, *words, "ask ONA's administrators")
    assert read(ona_url, EVERYTHING) == []


def test_a_view_that_depends_on_the_table_is_in_nobodys_way(ona_url, empty_ona):
    """Dashboards read through views; neither the schema's additions nor a load may need them dropped."""
    empty_ona.execute("CREATE TABLE cases (case_id text PRIMARY KEY, sex text, age integer)")
    empty_ona.execute("CREATE VIEW dashboard AS SELECT case_id, sex, age FROM cases")
    empty_ona.execute("CREATE MATERIALIZED VIEW counted AS SELECT sex, count(*) FROM dashboard GROUP BY 1")
    apply(empty_ona, plan(empty_ona))
    load(empty_ona, [case(1), case(2)], [service(1, 1)])
    assert read(ona_url, "SELECT count(*) AS n FROM dashboard") == [{"n": 2}]


@pytest.mark.parametrize("table", ["cases", "services"])
def test_a_missing_unique_constraint_says_which_command_adds_it(ona_url, ona, table):
    """Somebody restored the table without its keys; an upsert is not possible then, and must not become an insert."""
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 2)])
    for name, *_ in ona.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype IN ('p', 'u')", (table,)
    ).fetchall():
        ona.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE".encode())
    before = read(ona_url, EVERYTHING)
    failing(ona, DataFailure, "unique index is missing", "primero-ona schema apply", "42P10")
    assert read(ona_url, EVERYTHING) == before
    apply(ona, plan(ona))
    assert load(ona, *NEXT, now=LATER).cases.inserted == 1


def test_two_loads_of_one_quarter_at_once_end_as_one(ona_url, ona):
    """The sensor and a person ask for the same quarter; the second must find nothing left to do."""
    results: list[Any] = []

    def once() -> None:
        with connect(ona_url) as conn:
            results.append(load(conn, *NEXT, run_id=f"run-{len(results)}"))

    threads = [threading.Thread(target=once) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.cases.inserted for result in results) == [0, 3]
    assert sorted(result.cases.unchanged for result in results) == [0, 3]


def test_a_load_neither_waits_for_a_dashboards_long_read_nor_disturbs_it(ona_url, loaded_freely):
    """A dashboard reads for minutes; it must see one state throughout, and the load must not wait for it."""
    with psycopg.connect(ona_url) as dashboard:
        dashboard.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        seen = dashboard.execute("SELECT count(*) FROM cases").fetchone()
        load(loaded_freely, *NEXT, now=LATER)
        assert dashboard.execute("SELECT count(*) FROM cases").fetchone() == seen == (2,)
        dashboard.rollback()
        assert dashboard.execute("SELECT count(*) FROM cases").fetchone() == (3,)


@pytest.fixture
def loaded_freely(ona: psycopg.Connection) -> psycopg.Connection:
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 2)])
    return ona


def test_an_administrator_who_stops_the_server_is_told_from_a_fault_of_ours(ona_url, loaded):
    """`57P01` means: come back later. A permanent failure would wait for somebody to notice."""
    with connect(ona_url) as conn:
        loaded.execute("SELECT pg_terminate_backend(%s, 5000)", (conn.info.backend_pid,))
        time.sleep(0.05)
        failing(conn, TransientFailure)
