"""Proving a load: each check must find the very damage it is there for."""

from __future__ import annotations

import pytest

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.ona.checks import Comparison, KeyCounts, check_keys, compare_quarter, count_orphan_services
from primero_ona_tests.ona.rows import (
    Q2,
    SHAPES,
    at,
    case,
    case_ids,
    frames,
    left,
    load,
    make_tables,
    service,
)


def compare(conn, cases, services=()):
    return compare_quarter(conn, frames(CASES, cases), frames(SERVICES, list(services)))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_loaded_is_equal(ona_url, empty_ona, shape):
    """A comparison that sees differences between types would never be believed again."""
    make_tables(empty_ona, shape)
    rows = [case(1), case(2, age=None, protection_concerns="")], [service(1, 1)]
    load(empty_ona, *rows)
    found = compare(empty_ona, *rows)
    assert found == {"cases": Comparison(rows=2, equal=2), "services": Comparison(rows=1, equal=1)}


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE cases SET sex = 'Male'", Comparison(rows=1, different=1)),
        ("UPDATE cases SET protection_concerns = NULL", Comparison(rows=1, different=1)),
        ("DELETE FROM cases", Comparison(rows=1, missing=1)),
        ("UPDATE cases SET primero_id = NULL", Comparison(rows=1, missing=1)),
        ("UPDATE cases SET primero_updated_at = primero_updated_at + interval '1 day'", Comparison(rows=1, stale=1)),
    ],
    ids=["other content", "null for an empty text", "row gone", "id gone", "ONA is newer"],
)
def test_damage_to_a_case_is_found(ona, damage, expected):
    """Without it a load that wrote half of the truth would be reported as good."""
    load(ona, [case(1)])
    ona.execute(damage)
    found = compare(ona, [case(1)])["cases"]
    assert found == expected


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE services SET service_type = 'Other'", Comparison(rows=1, different=1)),
        ("DELETE FROM services", Comparison(rows=1, missing=1)),
    ],
    ids=["other content", "row gone"],
)
def test_damage_to_a_service_is_found(ona, damage, expected):
    """Services are the figure of indicator 4.11a."""
    load(ona, [case(1)], [service(1, 1)])
    ona.execute(damage)
    assert compare(ona, [case(1)], [service(1, 1)])["services"] == expected


def test_stale_rows_and_rows_under_keys_of_their_own_are_accounted_for(ona):
    """They are as they must be; a check that calls them missing would stop every sync."""
    load(ona, [case(1, primero_updated_at=at(9))], [service(1, 1)], [left(4, 9)], quarter=Q2)
    shared = (
        [case(2, case_id="case-1"), case(3)],
        [service(2, 2, case_id="case-1"), service(1, 3), service(1, 3, place=2)],
    )
    load(ona, *shared)
    found = compare(ona, *shared)
    assert found["cases"] == Comparison(rows=2, equal=2, own_keys=1)
    assert found["services"] == Comparison(rows=3, equal=3, own_keys=2)
    found = compare(ona, [case(1), case(4)], [service(1, 1), service(4, 4)])
    assert found["cases"] == Comparison(rows=2, stale=2)
    assert found["services"] == Comparison(rows=2, stale=2)


def test_a_comparison_leaves_no_trace(ona_url, ona):
    """It may be asked at any time, and twice in one session."""
    compare(ona, [case(1)])
    compare(ona, [case(1)])
    assert case_ids(ona_url) == {}


def test_sound_keys_are_sound(ona):
    """The check must be silent when all is well, rows of the old pipeline included."""
    load(ona, [case(1), case(2)], [service(1, 1)])
    ona.execute("INSERT INTO cases (case_id) VALUES ('old-1'), ('old-2')")
    found = check_keys(ona)
    assert found["cases.case_id"] == KeyCounts(rows=4, missing=0, repeated=0)
    assert not any(counts.missing or counts.repeated for counts in found.values())


def test_missing_and_repeated_keys_are_counted(empty_ona):
    """Constraints may be gone or not yet there; the check after the load does not rely on them."""
    empty_ona.execute(
        "CREATE TABLE cases (case_id text, primero_id text); CREATE TABLE services (unique_id text, case_id text)"
    )
    empty_ona.execute("INSERT INTO cases VALUES (NULL, 'a'), ('', 'a'), ('  ', 'b'), ('x', 'c'), ('x', NULL)")
    empty_ona.execute("INSERT INTO services VALUES (NULL, 'x'), ('s', 'x')")
    assert check_keys(empty_ona) == {
        "cases.case_id": KeyCounts(rows=5, missing=3, repeated=1),
        "cases.primero_id": KeyCounts(rows=5, missing=0, repeated=1),
        "services.unique_id": KeyCounts(rows=2, missing=1, repeated=0),
    }


def test_an_empty_database_has_sound_keys(ona):
    """Nothing is loaded before the first sync."""
    assert check_keys(ona)["cases.case_id"] == KeyCounts(0, 0, 0)
    assert count_orphan_services(ona) == 0


def test_services_without_their_case_are_counted(ona):
    """They are counted in the figure though no child is behind them."""
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 2)])
    assert count_orphan_services(ona) == 0
    ona.execute("DELETE FROM cases WHERE case_id = 'case-1'")
    ona.execute("UPDATE services SET primero_case_id = gen_random_uuid() WHERE unique_id = 'service-2'")
    assert count_orphan_services(ona) == 2
