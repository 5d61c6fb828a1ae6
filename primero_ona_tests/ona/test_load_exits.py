"""Rows that leave ONA with a load, rows that come back, and rows of the old pipeline, on a real PostgreSQL."""

from __future__ import annotations

import pytest

from primero_ona_tests.ona.rows import (
    Q1,
    Q2,
    SHAPES,
    at,
    case,
    case_ids,
    counts,
    id_of,
    left,
    load,
    make_tables,
    old_row,
    read,
    service,
    service_ids,
)


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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.proves("only-adds")
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
