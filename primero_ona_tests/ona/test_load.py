"""The load against a real PostgreSQL; what is committed is read through a second connection."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

import pandas as pd
import psycopg
import pytest

from primero_ona.failures import DataFailure, TransientFailure
from primero_ona.frames import Frames
from primero_ona.ona.connection import connect
from primero_ona.ona.load import LOCK, TableCounts, load_quarter
from primero_ona.ona.merge import remove_services
from primero_ona.ona.schema import CASES, SERVICES
from primero_ona.primero.raw_schema import EXIT_SCHEMA
from primero_ona_tests.ona.rows import (
    LATER,
    NOW,
    Q1,
    Q2,
    SHAPES,
    at,
    case,
    case_ids,
    frame,
    frames,
    id_of,
    left,
    load,
    make_tables,
    quarantine,
    read,
    service,
    service_ids,
)


def counts(received: int = 0, **others: int) -> TableCounts:
    names = ("inserted", "updated", "unchanged", "stale", "removed", "quarantined")
    return TableCounts(received, **{name: others.get(name, 0) for name in names})


def stamps(url: str) -> dict[str, datetime]:
    return {
        row["case_id"]: row["last_updated_date"] for row in read(url, "SELECT case_id, last_updated_date FROM cases")
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_load_brings_every_row_whatever_the_column_types(ona_url, empty_ona, shape):
    """ONA's real column types are not known; a load that needs its own types would fail on the first day."""
    make_tables(empty_ona, shape)
    result = load(empty_ona, [case(1), case(2), case(3, age=None)], [service(1, 1), service(2, 1, service_date=None)])
    assert result.cases == counts(3, inserted=3)
    assert result.services == counts(2, inserted=2)
    rows = read(
        ona_url, "SELECT case_id, age::text, registration_date::text, last_updated_date::text FROM cases ORDER BY 1"
    )
    stamp = "2024-07-05 12:00:00"
    assert rows[0] == {"case_id": "case-1", "age": "9", "registration_date": "2024-01-15", "last_updated_date": stamp}
    assert rows[2]["age"] is None


@pytest.mark.parametrize("shape", SHAPES)
def test_loading_the_same_again_writes_nothing(ona_url, empty_ona, shape):
    """Rows rewritten for nothing move last_updated_date, so that the dashboards believe that everything changed."""
    make_tables(empty_ona, shape)
    rows = [case(1), case(2)], [service(1, 1), service(2, 2, service_type=None)]
    load(empty_ona, *rows)
    before = (
        read(ona_url, "SELECT xmin::text, ctid::text, * FROM cases"),
        read(ona_url, "SELECT xmin::text, * FROM services"),
    )
    result = load(empty_ona, *rows, now=LATER)
    assert (result.cases, result.services) == (counts(2, unchanged=2), counts(2, unchanged=2))
    assert before == (
        read(ona_url, "SELECT xmin::text, ctid::text, * FROM cases"),
        read(ona_url, "SELECT xmin::text, * FROM services"),
    )


def test_an_unchanged_row_is_not_locked(ona_url, ona):
    """ON CONFLICT DO UPDATE locks every row it meets and writes that to the log, even where its WHERE is false."""
    load(ona, [case(1)], [service(1, 1)])
    load(ona, [case(1)], [service(1, 1)], now=LATER)
    assert (
        read(ona_url, "SELECT xmax::text FROM cases UNION ALL SELECT xmax::text FROM services") == [{"xmax": "0"}] * 2
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_only_changed_rows_are_written_and_stamped(ona_url, empty_ona, shape):
    """last_updated_date tells when the row changed; a stamp on its neighbours would be untrue."""
    make_tables(empty_ona, shape)
    load(empty_ona, [case(1), case(2)], [service(1, 1), service(2, 1)])
    changed = service(2, 1, service_type="Other")
    result = load(
        empty_ona, [case(1, sex="Male", primero_updated_at=at(1)), case(2)], [service(1, 1), changed], now=LATER
    )
    assert (result.cases, result.services) == (counts(2, updated=1, unchanged=1), counts(2, updated=1, unchanged=1))
    found = {key: str(value) for key, value in stamps(ona_url).items()}
    assert found == {"case-1": "2024-07-05 13:00:00", "case-2": "2024-07-05 12:00:00"}
    assert read(ona_url, "SELECT sex FROM cases WHERE case_id = 'case-1'") == [{"sex": "Male"}]


def test_a_value_emptied_in_primero_becomes_empty_in_ona(ona_url, ona):
    """An upsert that skips nulls would keep a withdrawn value for ever."""
    load(ona, [case(1)], [service(1, 1)])
    result = load(ona, [case(1, sex=None, age=None)], [service(1, 1, service_date=None)])
    assert (result.cases.updated, result.services.updated) == (1, 1)
    assert read(ona_url, "SELECT sex, age FROM cases") == [{"sex": None, "age": None}]


def test_an_empty_text_and_null_stay_apart(ona_url, ona):
    """No protection concern is an empty text for the dashboards; null would drop the case from their filters."""
    load(ona, [case(1, protection_concerns=""), case(2, protection_concerns=None)])
    rows = read(ona_url, "SELECT protection_concerns FROM cases ORDER BY case_id")
    assert [row["protection_concerns"] for row in rows] == ["", None]
    assert load(ona, [case(1, protection_concerns=None), case(2, protection_concerns="")]).cases.updated == 2


def test_quotes_commas_line_ends_and_khmer_survive(ona_url, ona):
    """The rows travel as CSV; a text that breaks it would shift the columns of a child."""
    text = 'a "quoted", text\nwith \\N and \\. and ស្រី\r\n'
    load(ona, [case(1, sex=text), case(2, sex="\\.")])
    assert [row["sex"] for row in read(ona_url, "SELECT sex FROM cases ORDER BY case_id")] == [text, "\\."]


def test_older_data_never_overwrites_newer_whatever_quarter_it_comes_from(ona_url, ona):
    """Quarters are re-run in any order; an old partition must not bring back an old state, nor its services."""
    load(ona, [case(1, sex="Male", primero_updated_at=at(10))], [service(2, 1)], quarter=Q2)
    result = load(ona, [case(1, primero_updated_at=at(0))], [service(1, 1)], quarter=Q1, now=LATER)
    assert (result.cases, result.services) == (counts(1, stale=1), counts(1, stale=1))
    assert read(ona_url, "SELECT sex FROM cases") == [{"sex": "Male"}]
    assert list(service_ids(ona_url)) == ["service-2"]


def test_newer_data_overwrites_older(ona_url, ona):
    """The other order of the same two loads must end in the same state."""
    load(ona, [case(1)], [service(1, 1)], quarter=Q1)
    result = load(ona, [case(1, sex="Male", primero_updated_at=at(10))], [service(2, 1)], quarter=Q2)
    assert (result.cases, result.services) == (counts(1, updated=1), counts(1, inserted=1, removed=1))
    assert list(service_ids(ona_url)) == ["service-2"]


def test_the_same_stamp_with_other_content_is_applied(ona_url, ona):
    """A better mapping changes rows that nobody has touched in Primero."""
    load(ona, [case(1)])
    assert load(ona, [case(1, province_current="Kratié")]).cases == counts(1, updated=1)


def test_a_removed_service_leaves_though_its_case_is_unchanged(ona_url, ona):
    """A service deleted in Primero that stays in ONA is counted in the indicator for ever."""
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 1), service(3, 2)])
    result = load(ona, [case(1), case(2)], [service(2, 1), service(3, 2)])
    assert (result.cases, result.services) == (counts(2, unchanged=2), counts(2, unchanged=2, removed=1))
    assert list(service_ids(ona_url)) == ["service-2", "service-3"]


def test_a_service_moves_to_another_case_of_the_same_load(ona_url, ona):
    """Its unique_id is the key: it must neither vanish nor stay with the case that no longer has it."""
    load(ona, [case(1), case(2)], [service(1, 1)])
    result = load(ona, [case(1), case(2)], [service(1, 2)])
    assert result.services == counts(1, updated=1)
    assert service_ids(ona_url) == {"service-1": "case-2"}


def test_a_service_moves_away_from_a_case_whose_key_changes(ona_url, ona):
    """The case that had it is applied under its new key, so it does not keep the service."""
    load(ona, [case(1), case(2)], [service(1, 1)])
    result = load(ona, [case(1, case_id="new"), case(2)], [service(1, 2)])
    assert result.services == counts(1, updated=1)
    assert service_ids(ona_url) == {"service-1": "case-2"}


def test_a_service_moves_away_from_an_old_row_that_is_adopted(ona_url, ona):
    """The old pipeline had it with a case whose true services are known now."""
    old_row(ona, 1)
    result = load(ona, [case(1), case(2)], [service(1, 2, unique_id="old-1")])
    assert result.services == counts(1, updated=1)
    assert service_ids(ona_url) == {"old-1": "case-2"}


def test_a_service_that_only_a_stale_case_claims_leaves_its_old_case(ona_url, ona):
    """A stale case brings nothing, so it cannot keep a service where it is not any more."""
    load(ona, [case(1)], [service(1, 1)])
    load(ona, [case(2, primero_updated_at=at(9))], quarter=Q2)
    result = load(ona, [case(1), case(2)], [service(1, 2)])
    assert result.services == counts(1, stale=1, removed=1)
    assert service_ids(ona_url) == {}


def test_an_exit_removes_the_case_and_its_services(ona_url, ona):
    """A disabled case, or one that has left both sets, must leave the dashboards."""
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 2)])
    result = load(ona, [case(2)], [service(2, 2)], [left(1, 5)])
    assert (result.cases, result.services) == (counts(1, unchanged=1, removed=1), counts(1, unchanged=1, removed=1))
    assert list(case_ids(ona_url)) == ["case-2"]
    assert list(service_ids(ona_url)) == ["service-2"]


def test_an_exit_of_the_very_stamp_that_ona_has_removes_the_case(ona_url, ona):
    """A child turns 18 without an edit: the stamp stays, the membership ends."""
    load(ona, [case(1)])
    assert load(ona, [], [], [left(1, 0)]).cases.removed == 1


def test_data_from_before_an_exit_does_not_bring_the_case_back(ona_url, ona):
    """An old quarter that is re-run from store still holds the child's case from before it left."""
    load(ona, [], [], [left(1, 5)], quarter=Q2)
    result = load(ona, [case(1, primero_updated_at=at(4))], [service(1, 1)], quarter=Q1)
    assert (result.cases, result.services) == (counts(1, stale=1), counts(1, stale=1))
    assert case_ids(ona_url) == {}


def test_a_case_whose_exit_has_its_very_stamp_comes_back_with_the_newer_load(ona_url, ona):
    """A consent policy or a list of modules that is loosened again changes no case in Primero, and must let it come back."""
    load(ona, [], [], [left(1, 5)])
    assert load(ona, [case(1, primero_updated_at=at(5))], [service(1, 1)]).cases.inserted == 1
    assert read(ona_url, "SELECT * FROM primero_sync.exits") == []


def test_a_case_that_comes_back_is_taken_and_its_exit_forgotten(ona_url, ona):
    """A case disabled by mistake and enabled again belongs to the dashboards."""
    load(ona, [case(1)], [service(1, 1)])
    load(ona, [], [], [left(1, 5)])
    result = load(ona, [case(1, primero_updated_at=at(6))], [service(1, 1)])
    assert (result.cases.inserted, result.services.inserted) == (1, 1)
    assert read(ona_url, "SELECT * FROM primero_sync.exits") == []


def test_an_exit_older_than_onas_row_does_nothing(ona_url, ona):
    """The quarter of an exit may be re-run after the case has come back in a later one."""
    load(ona, [case(1, primero_updated_at=at(10))], [service(1, 1)], quarter=Q2)
    result = load(ona, [], [], [left(1, 5)], quarter=Q1)
    assert (result.cases.removed, result.services.removed) == (0, 0)
    assert read(ona_url, "SELECT * FROM primero_sync.exits") == []


def test_an_exit_keeps_its_newest_stamp(ona_url, ona):
    """A re-run of the older quarter would otherwise open the door again for what came between."""
    load(ona, [], [], [left(1, 5)], quarter=Q2)
    load(ona, [], [], [left(1, 2)], quarter=Q1)
    assert read(ona_url, "SELECT last_updated_at AS t FROM primero_sync.exits") == [{"t": at(5)}]


def test_exits_that_are_known_are_not_written_again(ona_url, ona):
    """Exits of a whole country are many; writing them every quarter of an hour would fill the log."""
    load(ona, [], [], [left(1, 5)])
    before = read(ona_url, "SELECT xmin::text, xmax::text FROM primero_sync.exits")
    load(ona, [], [], [left(1, 5)])
    assert read(ona_url, "SELECT xmin::text, xmax::text FROM primero_sync.exits") == before


def old_row(conn: psycopg.Connection, number: int) -> None:
    """A case and a service as the old pipeline left them: without Primero's ids."""
    conn.execute("INSERT INTO cases (case_id, sex) VALUES (%s, 'Male')", (f"case-{number}",))
    conn.execute("INSERT INTO services (unique_id, case_id) VALUES (%s, %s)", (f"old-{number}", f"case-{number}"))


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_the_old_pipeline_are_adopted_by_their_case_id(ona_url, empty_ona, shape):
    """The tables are full on the first day; a second row for the same child, or a refusal, would stop everything."""
    make_tables(empty_ona, shape)
    old_row(empty_ona, 1)
    result = load(empty_ona, [case(1)], [service(1, 1), service(2, 1, unique_id="old-1")])
    assert result.cases == counts(1, updated=1)
    assert result.services == counts(2, inserted=1, updated=1)
    assert case_ids(ona_url) == {"case-1": id_of(1)}


def test_an_adopted_case_loses_the_old_services_that_it_does_not_have(ona_url, ona):
    """The old pipeline never removed a service."""
    old_row(ona, 1)
    assert load(ona, [case(1)], [service(1, 1)]).services == counts(1, inserted=1, removed=1)
    assert list(service_ids(ona_url)) == ["service-1"]


def test_an_old_row_nobody_has_claimed_stays(ona_url, ona):
    """Its quarter may come later; only an exit says that a case is gone."""
    old_row(ona, 1)
    load(ona, [case(2)])
    assert case_ids(ona_url) == {"case-1": None, "case-2": id_of(2)}


def test_an_exit_removes_an_old_row_by_its_case_id(ona_url, ona):
    """Cases that left before this project came would stay for ever."""
    old_row(ona, 1)
    result = load(ona, [], [], [left(1)])
    assert (result.cases.removed, result.services.removed) == (1, 1)


def test_an_old_row_claimed_in_the_same_load_is_not_removed_by_an_exit(ona_url, ona):
    """Two children shared the display id; the one that is still there keeps the row."""
    old_row(ona, 1)
    result = load(ona, [case(2, case_id="case-1")], [], [left(1)])
    assert result.cases == counts(1, updated=1)
    assert case_ids(ona_url) == {"case-1": id_of(2)}


def test_a_case_with_a_new_case_id_leaves_no_old_row(ona_url, ona):
    """The child would be counted twice."""
    load(ona, [case(1)], [service(1, 1), service(2, 1)])
    result = load(ona, [case(1, case_id="new")], [service(1, 1, case_id="new")], now=LATER)
    assert result.cases == counts(1, updated=1)
    assert result.services == counts(1, updated=1, removed=1)
    assert case_ids(ona_url) == {"new": id_of(1)}
    assert service_ids(ona_url) == {"service-1": "new"}


def test_two_cases_that_swap_their_case_ids_both_get_the_new_one(ona_url, ona):
    """Neither is in the other's way: both leave the key that the other takes."""
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 2)])
    swapped = [case(1, case_id="case-2"), case(2, case_id="case-1")]
    result = load(ona, swapped, [service(1, 1, case_id="case-2"), service(2, 2, case_id="case-1")])
    assert (result.cases, result.services) == (counts(2, updated=2), counts(2, updated=2))
    assert case_ids(ona_url) == {"case-1": id_of(2), "case-2": id_of(1)}


def test_a_new_case_may_take_the_key_that_another_leaves(ona_url, ona):
    """It is a new child in the counts, not a change of the one that had the key before."""
    load(ona, [case(1)], [service(1, 1)])
    result = load(ona, [case(1, case_id="new"), case(2, case_id="case-1")], [service(1, 1, case_id="new")])
    assert result.cases == counts(2, inserted=1, updated=1)
    assert case_ids(ona_url) == {"case-1": id_of(2), "new": id_of(1)}


def test_a_case_id_held_by_another_child_is_quarantined_with_its_services(ona_url, ona):
    """Two children with one display id must never become one, nor share services."""
    load(ona, [case(1)], [service(1, 1)], quarter=Q1)
    clash = [case(2, case_id="case-1"), case(3)]
    result = load(ona, clash, [service(2, 2, case_id="case-1"), service(3, 3)], quarter=Q2)
    assert result.cases == counts(2, inserted=1, quarantined=1)
    assert result.services == counts(2, inserted=1, quarantined=1)
    assert case_ids(ona_url) == {"case-1": id_of(1), "case-3": id_of(3)}
    assert quarantine(ona_url) == [
        ("cases", id_of(2), id_of(1), "case_id of another case", "2024-Q2"),
        ("services", id_of(2), None, "case quarantined", "2024-Q2"),
    ]
    assert result.open_quarantine == 2


def test_a_quarantined_child_takes_the_key_once_its_holder_has_left(ona_url, ona):
    """The holder's exit and the child's retry may come with the same load."""
    load(ona, [case(1)], [service(1, 1)], quarter=Q1)
    waiting = [case(2, case_id="case-1")], [service(2, 2, case_id="case-1")]
    load(ona, *waiting, quarter=Q2)
    result = load(ona, *waiting, [left(1, 5)], quarter=Q2)
    assert (result.cases, result.services) == (counts(1, inserted=1, removed=1), counts(1, inserted=1, removed=1))
    assert case_ids(ona_url) == {"case-1": id_of(2)}
    assert quarantine(ona_url) == []
    assert result.open_quarantine == 0


def test_a_case_that_waits_for_the_key_of_a_quarantined_one_is_quarantined_too(ona_url, ona):
    """A quarantined case keeps what it holds, so the key behind it is not free."""
    load(ona, [case(1), case(2), case(3)])
    chain = [case(1, case_id="case-2"), case(2, case_id="case-3")]
    result = load(ona, chain, quarter=Q2)
    assert result.cases == counts(2, quarantined=2)
    assert case_ids(ona_url) == {f"case-{n}": id_of(n) for n in (1, 2, 3)}


def test_a_unique_id_held_by_another_case_that_stays_is_quarantined(ona_url, ona):
    """A service that hops to another child because their ids clash is a false record about both."""
    load(ona, [case(1)], [service(1, 1)], quarter=Q1)
    result = load(ona, [case(2)], [service(1, 2), service(2, 2)], quarter=Q2)
    assert result.services == counts(2, inserted=1, quarantined=1)
    assert service_ids(ona_url) == {"service-1": "case-1", "service-2": "case-2"}
    assert quarantine(ona_url) == [("services", id_of(2), id_of(1), "unique_id of another case", "2024-Q2")]


def test_a_unique_id_held_by_an_old_row_of_another_case_is_quarantined(ona_url, ona):
    """Rows of the old pipeline have no Primero id, but a case_id that tells whose they are."""
    old_row(ona, 1)
    result = load(ona, [case(2)], [service(1, 2, unique_id="old-1")])
    assert result.services == counts(1, quarantined=1)
    assert service_ids(ona_url) == {"old-1": "case-1"}


def test_a_service_without_any_case_in_ona_is_taken_over(ona_url, ona):
    """An orphan belongs to nobody; it must not keep a case from its service."""
    ona.execute("INSERT INTO services (unique_id, case_id) VALUES ('service-1', 'gone')")
    assert load(ona, [case(1)], [service(1, 1)]).services == counts(1, updated=1)
    assert service_ids(ona_url) == {"service-1": "case-1"}


def test_the_load_works_though_services_refer_to_cases_by_a_foreign_key(ona_url, ona):
    """ONA may have such a constraint; rows must come and go in an order that it allows."""
    ona.execute("ALTER TABLE services ADD FOREIGN KEY (case_id) REFERENCES cases (case_id)")
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 2)])
    load(ona, [case(1, case_id="new")], [service(1, 1, case_id="new")], [left(2, 1)])
    assert service_ids(ona_url) == {"service-1": "new"}


class Broken(Exception):
    """What a reader of partitions might raise in the middle."""


def breaking_services() -> Frames:
    def read_and_break(_columns: object) -> Iterator[pd.DataFrame]:
        yield frame([service(1, 1)], SERVICES.arrow_schema())
        raise Broken

    return Frames(read_and_break)


def test_a_failure_among_the_services_leaves_nothing_of_the_cases(ona_url, ona):
    """Half a quarter in ONA is a wrong figure that nobody sees."""
    load(ona, [case(9)])
    arguments = {"quarter": Q1, "run_id": "run-2", "now": NOW, "exits": Frames.of(frame([left(9, 5)], EXIT_SCHEMA))}
    with pytest.raises(Broken):
        load_quarter(ona, cases=frames(CASES, [case(1)]), services=breaking_services(), **arguments)
    assert list(case_ids(ona_url)) == ["case-9"]
    assert [row["run_id"] for row in read(ona_url, "SELECT run_id FROM primero_sync.runs")] == ["run-1"]


def test_a_failure_while_writing_services_leaves_nothing_of_the_cases(ona_url, ona):
    """The cases are written by then; only the transaction keeps them out."""
    ona.execute("ALTER TABLE services ADD CHECK (service_type <> 'Other')")
    with pytest.raises(DataFailure) as caught:
        load(ona, [case(1)], [service(1, 1, service_type="Other")])
    assert "services_service_type_check" in str(caught.value)
    assert "service-1" not in str(caught.value)
    assert case_ids(ona_url) == {}
    assert load(ona, [case(1)], [service(1, 1)]).cases.inserted == 1


def test_a_value_too_long_is_told_by_its_column_and_not_by_its_text(ona_url, empty_ona):
    """ONA's columns may be short; the message must help without saying what is recorded about a child."""
    empty_ona.execute("CREATE TABLE cases (case_id text PRIMARY KEY, sex varchar(6))")
    make_tables(empty_ona, "none")
    with pytest.raises(DataFailure) as caught:
        load(empty_ona, [case(1, sex="secret of a child")])
    assert "column sex" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert case_ids(ona_url) == {}


@pytest.mark.parametrize(
    ("cases", "services"),
    [
        ([case(1), case(2, case_id="case-1")], []),
        ([case(1), case(1, case_id="other")], []),
        ([case(1)], [service(1, 1), service(1, 1)]),
        ([case(1, case_id=None)], []),
        ([case(1, primero_id=None)], []),
        ([case(1, primero_updated_at=None)], []),
        ([case(1)], [service(1, 1, unique_id=None)]),
        ([case(1)], [service(1, 2)]),
        ([case(1)], [service(1, 1, case_id="other")]),
        ([case(1)], [service(1, 1, primero_case_id=None)]),
    ],
    ids=[
        "case_id twice",
        "case twice",
        "unique_id twice",
        "no case_id",
        "no Primero id",
        "no stamp",
        "no unique_id",
        "service without case",
        "service with another case_id",
        "service without Primero id",
    ],
)
def test_rows_that_no_load_could_take_are_refused_by_count(ona_url, ona, cases, services):
    """The blocking checks should have caught them; if one is switched off, ONA must still stay clean."""
    with pytest.raises(DataFailure, match="map the quarter again") as caught:
        load(ona, cases, services)
    assert "case-1" not in str(caught.value)
    assert case_ids(ona_url) == {}


def test_a_frame_that_does_not_fit_the_contract_is_refused(ona_url, ona):
    """A partition stored by another version may lack a column; the message must not quote a row."""
    wrong = Frames.of(pd.DataFrame({"case_id": ["case-1"]}))
    with pytest.raises(DataFailure, match="table contract"):
        load_quarter(
            ona, quarter=Q1, run_id="r", cases=wrong, services=frames(SERVICES, []), exits=Frames.of(), now=NOW
        )


def test_a_second_sync_that_waits_too_long_says_who_is_in_the_way(ona_url, ona):
    """Two loads at once would decide on rows that the other is about to change."""
    with connect(ona_url, lock_timeout=0.1) as waiting, ona.transaction():
        ona.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        with pytest.raises(TransientFailure, match="another sync is loading"):
            load(waiting, [case(1)])
        assert case_ids(ona_url) == {}


def test_rows_that_do_not_arrive_are_noticed(ona_url, ona):
    """A trigger, or somebody else's row written a moment ago, may swallow a row; the counts would tell a lie."""
    ona.execute("""
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER swallow BEFORE INSERT ON services FOR EACH ROW EXECUTE FUNCTION swallow();
    """)
    with pytest.raises(TransientFailure, match="0 rows of services were written where 1 should"):
        load(ona, [case(1)], [service(1, 1)])
    assert case_ids(ona_url) == {}


def test_a_row_that_appears_after_the_decision_never_becomes_another_childs(ona_url, ona, monkeypatch):
    """ONA has other writers, whom our lock does not stop; the last guard is in the statement itself."""

    def somebody_writes_first(*arguments):
        with connect(ona_url) as other:
            other.execute("INSERT INTO cases (case_id, primero_id) VALUES ('case-1', %s)", (id_of(2),))
        return remove_services(*arguments)

    monkeypatch.setattr("primero_ona.ona.load.remove_services", somebody_writes_first)
    with pytest.raises(TransientFailure, match="0 rows of cases were written where 1 should"):
        load(ona, [case(1)])
    assert case_ids(ona_url) == {"case-1": id_of(2)}


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
    with pytest.raises(DataFailure, match="primero-ona schema apply"):
        load(empty_ona, [case(1)])


def test_dates_arrive_as_dates(ona_url, ona):
    """The dashboards cut quarters by these columns."""
    load(ona, [case(1, care_date=date(2024, 3, 31))], [service(1, 1)])
    assert read(ona_url, "SELECT care_date FROM cases") == [{"care_date": date(2024, 3, 31)}]
    assert read(ona_url, "SELECT primero_updated_at AS t FROM cases") == [{"t": at(0)}]
