"""Loads that cannot be: all or nothing, and a message that tells what to do and quotes no row, on a real PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

import pandas as pd
import pytest

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import DataError, TransientError
from primero_ona.ona.connection import connect, lock_loads
from primero_ona.ona.erasure import erase
from primero_ona.ona.load import load_quarter
from primero_ona.ona.merge import remove_services
from primero_ona.primero.raw import EXIT_SCHEMA
from primero_ona.storage.frames import Frames
from primero_ona_tests.ona.rows import (
    NOW,
    Q1,
    at,
    case,
    case_ids,
    frame,
    frames,
    id_of,
    left,
    load,
    make_tables,
    read,
    service,
)


class BrokenError(Exception):
    """What a reader of partitions might raise in the middle."""


def breaking_services() -> Frames:
    def read_and_break(_columns: object) -> Iterator[pd.DataFrame]:
        yield frame([service(1, 1)], SERVICES.arrow_schema())
        raise BrokenError

    return Frames(read_and_break)


@pytest.mark.proves("one-transaction")
def test_a_failure_among_the_services_leaves_nothing_of_the_cases(ona_url, ona):
    """Half a quarter in ONA is a wrong figure that nobody sees."""
    load(ona, [case(9)])
    arguments = {"quarter": Q1, "run_id": "run-2", "now": NOW, "exits": Frames.of(frame([left(9, 5)], EXIT_SCHEMA))}
    with pytest.raises(BrokenError):
        load_quarter(ona, cases=frames(CASES, [case(1)]), services=breaking_services(), **arguments)
    assert list(case_ids(ona_url)) == ["case-9"]
    assert [row["run_id"] for row in read(ona_url, "SELECT run_id FROM primero_sync.runs")] == ["run-1"]


@pytest.mark.proves("one-transaction")
def test_a_failure_while_writing_services_leaves_nothing_of_the_cases(ona_url, ona):
    """The cases are written by then; only the transaction keeps them out."""
    ona.execute("ALTER TABLE services ADD CHECK (service_type <> 'Other')")
    with pytest.raises(DataError) as caught:
        load(ona, [case(1)], [service(1, 1, service_type="Other")])
    assert "services_service_type_check" in str(caught.value)
    assert "service-1" not in str(caught.value)
    assert case_ids(ona_url) == {}
    assert load(ona, [case(1)], [service(1, 1)]).cases.inserted == 1


def test_a_value_too_long_is_told_by_its_column_and_not_by_its_text(ona_url, empty_ona):
    """ONA's columns may be short; the message must help without saying what is recorded about a child."""
    empty_ona.execute("CREATE TABLE cases (case_id text PRIMARY KEY, sex varchar(6))")
    make_tables(empty_ona, "none")
    with pytest.raises(DataError) as caught:
        load(empty_ona, [case(1, sex="secret of a child")])
    assert "column sex" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert case_ids(ona_url) == {}


@pytest.mark.parametrize(
    ("cases", "services"),
    [
        ([case(1), case(1, case_id="other")], []),
        ([case(1)], [service(1, 1), service(1, 1)]),
        ([case(1, case_id=None)], []),
        ([case(1, primero_id=None)], []),
        ([case(1, primero_updated_at=None)], []),
        ([case(1)], [service(1, 1, unique_id=None)]),
        ([case(1)], [service(1, 2)]),
        ([case(1)], [service(1, 1, case_id="other")]),
        ([case(1)], [service(1, 1, primero_case_id=None)]),
        ([case(1)], [service(1, 1, place=None)]),
    ],
    ids=[
        "case twice",
        "service twice",
        "no case_id",
        "no Primero id",
        "no stamp",
        "no unique_id",
        "service without case",
        "service with another case_id",
        "service without Primero id",
        "service without place",
    ],
)
def test_rows_that_no_load_could_take_are_refused_by_count(ona_url, ona, cases, services):
    """The blocking checks should have caught them; if one is switched off, ONA must still stay clean."""
    with pytest.raises(DataError, match="map the quarter again") as caught:
        load(ona, cases, services)
    assert "case-1" not in str(caught.value)
    assert case_ids(ona_url) == {}


def test_a_frame_that_does_not_fit_the_contract_is_refused(ona_url, ona):
    """A partition stored by another version may lack a column; the message must not quote a row."""
    wrong = Frames.of(pd.DataFrame({"case_id": ["case-1"]}))
    with pytest.raises(DataError, match="table contract"):
        load_quarter(
            ona, quarter=Q1, run_id="r", cases=wrong, services=frames(SERVICES, []), exits=Frames.of(), now=NOW
        )


@pytest.mark.parametrize(
    "waits",
    [lambda conn: load(conn, [case(1)]), lambda conn: erase(conn, [id_of(1)], NOW)],
    ids=["a load", "an erasure"],
)
@pytest.mark.proves("loads-in-turn")
def test_a_second_sync_that_waits_too_long_says_who_is_in_the_way(ona_url, ona, waits):
    """Two loads at once would decide on rows that the other is about to change; whom to call is then the question."""
    with connect(ona_url, lock_timeout=0.1) as waiting:
        with ona.transaction():
            lock_loads(ona)
            with pytest.raises(TransientError, match="another sync is loading") as caught:
                waits(waiting)
            holder = rf"\(process {ona.info.backend_pid} of the server, primero-ona, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"
            assert re.search(holder, str(caught.value))
            assert case_ids(ona_url) == {}
        waits(waiting)


@pytest.mark.proves("lock-needs-right")
def test_readers_and_upkeep_of_the_lock_s_table_hold_no_load_up(ona_url, ona):
    """A backup reads every table, and what only reads or is granted INSERT may lock a table, too."""
    for mode in ("ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE"):
        with connect(ona_url) as other, other.transaction():
            other.execute(f"LOCK TABLE primero_sync.load_lock IN {mode} MODE".encode())
            assert load(ona, [case(1)]).cases.received == 1


def test_rows_that_do_not_arrive_are_noticed(ona_url, ona):
    """A trigger, or somebody else's row written a moment ago, may swallow a row; the counts would tell a lie."""
    ona.execute("""
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER swallow BEFORE INSERT ON services FOR EACH ROW EXECUTE FUNCTION swallow();
    """)
    with pytest.raises(TransientError, match="0 rows of services were written where 1 should"):
        load(ona, [case(1)], [service(1, 1)])
    assert case_ids(ona_url) == {}


@pytest.mark.parametrize(
    ("table", "written"),
    [
        ("cases", "cases (case_id, primero_id) VALUES ('case-1', %s)"),
        ("services", "services (unique_id, case_id, primero_case_id) VALUES ('service-1', 'case-2', %s)"),
    ],
)
def test_a_row_that_appears_after_the_decision_never_becomes_another_childs(ona_url, ona, monkeypatch, table, written):
    """ONA has other writers, whom our lock does not stop; the last guard is in the statement itself."""

    def somebody_writes_first(*arguments):
        with connect(ona_url) as other:
            other.execute(f"INSERT INTO {written}".encode(), (id_of(2),))
        return remove_services(*arguments)

    monkeypatch.setattr("primero_ona.ona.load.remove_services", somebody_writes_first)
    with pytest.raises(TransientError, match=f"0 rows of {table} were written where 1 should"):
        load(ona, [case(1)], [service(1, 1)])
    found = read(ona_url, "SELECT primero_id::text AS id FROM cases UNION SELECT primero_case_id::text FROM services")
    assert found == [{"id": id_of(2)}]


def test_tables_are_found_by_the_search_path(ona_url, empty_ona):
    """ONA's tables need not be in public; a load into a second pair of tables would never reach the dashboards."""
    empty_ona.execute("CREATE SCHEMA dashboards")
    empty_ona.execute("SET search_path = dashboards")
    make_tables(empty_ona, "old")
    empty_ona.execute("SET search_path = public, dashboards")
    load(empty_ona, [case(1)])
    assert read(ona_url, "SELECT count(*) AS n FROM dashboards.cases") == [{"n": 1}]


def test_without_schema_apply_the_load_says_what_to_run(empty_ona):
    """The first load on a new machine is usually tried before the schema was prepared."""
    with pytest.raises(DataError, match="primero-ona schema apply"):
        load(empty_ona, [case(1)])


def test_dates_arrive_as_dates(ona_url, ona):
    """The dashboards cut quarters by these columns."""
    load(ona, [case(1, care_date=date(2024, 3, 31))], [service(1, 1)])
    assert read(ona_url, "SELECT care_date FROM cases") == [{"care_date": date(2024, 3, 31)}]
    assert read(ona_url, "SELECT primero_updated_at AS t FROM cases") == [{"t": at(0)}]
