"""ONA's side: whatever its database does in the middle of a load, all of it is there or nothing, and the message helps."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import SyncError, TransientError
from primero_ona.ona.connection import connect
from primero_ona.ona.load import load_quarter
from primero_ona.ona.migrations import apply, plan
from primero_ona.primero.raw import EXIT_SCHEMA
from primero_ona.storage.frames import Frames
from primero_ona_tests import quick
from primero_ona_tests.ona.rows import LATER, NOW, Q1, case, frame, frames, load, read, service
from primero_ona_tests.reliability.ona_faults import FAULTS

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
    assert load(ona, *NEXT, now=LATER).cases.inserted == 1


def failing(conn: psycopg.Connection, kind: type[SyncError], *words: str) -> None:
    """Load the next quarter, which must fail with a message that has these words and nothing of a child."""
    with told(kind, *words):
        load(conn, *NEXT, now=LATER, run_id="broken")


@contextmanager
def told(kind: type[SyncError], *words: str) -> Iterator[None]:
    """The block must end with a failure that has these words and nothing of a child."""
    with pytest.raises(SyncError) as raised:
        yield
    assert type(raised.value) is kind
    for word in words:
        assert word in str(raised.value)
    assert not re.search(r"case-\d|service-\d|Male|Other", str(raised.value))


#: One of each kind, where not all tests run.
KINDS = (
    "refused",
    "dropped in mid-COPY of services",
    "dropped at a new case",
    "dropped at commit",
    "cases locked",
    "too slow",
    "read-only",
    "sex too narrow",
    "date a number",
    "cases without keys",
    "cases a view",
    "a generated column",
    "row security hides",
    "a trigger that refuses",
    "a row that others refer to",
    "an added column that must not be empty",
    "disk full",
    "deadlock",
    "a rule of ONA's own",
)


@pytest.mark.parametrize("name", quick(FAULTS, *KINDS))
@pytest.mark.proves("one-transaction")
def test_each_fault_is_told_for_what_it_is_and_changes_nothing(ona_url, loaded, name):
    """Half a quarter in ONA is a wrong figure that nobody sees; what to do about it must stand in the message.

    A server that restarts is back in a minute; somebody vacuums the table, or holds its rows in a forgotten transaction of
    a database tool; after a failover the old address leads to a replica; one grant is easily forgotten; the tables belong to
    ONA, so the message must let its administrators find the column, and must not tell on a child.
    """
    fault = FAULTS[name]
    with fault.breaking(ona_url) as url, told(fault.kind, *fault.words), connect(url, **fault.limits) as conn:
        load(conn, *NEXT, now=LATER, run_id="broken")


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
@pytest.mark.proves("one-transaction")
def test_a_connection_dropped_in_mid_copy_changes_nothing(ona_url, loaded, at):
    """Half a quarter in ONA is a wrong figure that nobody sees."""
    with connect(ona_url) as conn, pytest.raises(TransientError, match=r"try later|next try"):
        load_quarter(
            conn,
            quarter=Q1,
            run_id="broken",
            cases=frames(CASES, [case(number) for number in (1, 2, 3)]),
            services=cutting(conn, at, ona_url),
            exits=Frames.of(frame([], EXIT_SCHEMA)),
            now=NOW,
        )


@contextmanager
def watching(ona_url: str, pid: int, delay: float) -> Iterator[None]:
    """Cut the loads of this project from the outside after a while, like an administrator or a failover."""
    stop = threading.Event()

    def watch() -> None:
        stop.wait(delay)
        with psycopg.connect(ona_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("delay", quick((0.0, 0.01, 0.02, 0.04, 0.06, 0.08), 0.0, 0.02))
@pytest.mark.proves("one-transaction")
def test_a_session_ended_at_any_moment_leaves_all_or_nothing(ona_url, ona, delay):
    """Which moment it is cannot be chosen from the outside, and must not matter."""
    load(ona, [case(1)], [service(1, 1)])
    old = read(ona_url, EVERYTHING)
    with suppress(TransientError), connect(ona_url) as conn, watching(ona_url, conn.info.backend_pid, delay):
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


@pytest.mark.proves("only-adds")
def test_a_view_that_depends_on_the_table_is_in_nobodys_way(ona_url, empty_ona):
    """Dashboards read through views; neither the schema's additions nor a load may need them dropped."""
    empty_ona.execute("CREATE TABLE cases (case_id text PRIMARY KEY, sex text, age integer)")
    empty_ona.execute("CREATE VIEW dashboard AS SELECT case_id, sex, age FROM cases")
    empty_ona.execute("CREATE MATERIALIZED VIEW counted AS SELECT sex, count(*) FROM dashboard GROUP BY 1")
    apply(empty_ona, plan(empty_ona))
    load(empty_ona, [case(1), case(2)], [service(1, 1)])
    assert read(ona_url, "SELECT count(*) AS n FROM dashboard") == [{"n": 2}]


@pytest.mark.proves("loads-in-turn")
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


@pytest.mark.proves("dashboard-reads")
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
        failing(conn, TransientError)
