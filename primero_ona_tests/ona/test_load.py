"""The load against a real PostgreSQL: which rows are written; what is committed is read through a second connection."""

from __future__ import annotations

import pytest

from primero_ona_tests.ona.rows import (
    LATER,
    Q1,
    Q2,
    SHAPES,
    at,
    case,
    counts,
    load,
    make_tables,
    old_row,
    read,
    service,
    service_ids,
    stamps,
)


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
@pytest.mark.proves("any-order")
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
    """It must neither vanish nor stay with the case that no longer has it."""
    load(ona, [case(1), case(2)], [service(1, 1)])
    result = load(ona, [case(1), case(2)], [service(1, 2)])
    assert result.services == counts(1, inserted=1, removed=1)
    assert service_ids(ona_url) == {"service-1": "case-2"}


def test_a_service_moves_away_from_a_case_whose_key_changes(ona_url, ona):
    """The case that had it is applied under its new key, so it does not keep the service."""
    load(ona, [case(1), case(2)], [service(1, 1)])
    result = load(ona, [case(1, case_id="new"), case(2)], [service(1, 2)])
    assert result.services == counts(1, inserted=1, removed=1)
    assert service_ids(ona_url) == {"service-1": "case-2"}


def test_a_service_moves_away_from_an_old_row_that_is_adopted(ona_url, ona):
    """The legacy pipeline had it with a case whose true services are known now."""
    old_row(ona, 1)
    result = load(ona, [case(1), case(2)], [service(1, 2, unique_id="old-1")])
    assert result.services.removed == 1
    assert service_ids(ona_url) == {"old-1": "case-2"}


def test_a_service_that_only_a_stale_case_claims_leaves_its_old_case(ona_url, ona):
    """A stale case brings nothing, so it cannot keep a service where it is not any more."""
    load(ona, [case(1)], [service(1, 1)])
    load(ona, [case(2, primero_updated_at=at(9))], quarter=Q2)
    result = load(ona, [case(1), case(2)], [service(1, 2)])
    assert result.services == counts(1, stale=1, removed=1)
    assert service_ids(ona_url) == {}
