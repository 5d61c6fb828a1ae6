"""Proving a load: each check must find the very damage it is there for."""

from __future__ import annotations

import pytest

from primero_ona.ona.checks import Comparison, KeyCounts, check_keys, count_orphan_services
from primero_ona_tests.ona.rows import (
    Q2,
    SHAPES,
    at,
    case,
    left,
    load,
    make_tables,
    service,
)


def spoil(conn, statement):
    """Let ONA do this to itself at the commit of each load, after all that the load itself does."""
    conn.execute(
        f"CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {statement}; RETURN NULL; END$$;"
        "CREATE CONSTRAINT TRIGGER spoil AFTER INSERT ON cases DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION spoil()"
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_loaded_is_equal(empty_ona, shape):
    """A comparison that sees differences between types would never be believed again."""
    make_tables(empty_ona, shape)
    rows = [case(1), case(2, age=None, protection_concerns="")], [service(1, 1)]
    for _ in range(2):
        found = load(empty_ona, *rows).compared
        assert found == {"cases": Comparison(rows=2, equal=2), "services": Comparison(rows=1, equal=1)}


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE cases SET sex = 'Male'", Comparison(rows=1, different=1)),
        ("UPDATE cases SET protection_concerns = NULL", Comparison(rows=1, different=1)),
        (
            "UPDATE cases SET primero_updated_at = primero_updated_at + interval '1 day'",
            Comparison(rows=1, different=1),
        ),
        ("DELETE FROM cases", Comparison(rows=1, missing=1)),
        ("UPDATE cases SET primero_id = NULL", Comparison(rows=1, missing=1)),
    ],
    ids=["other content", "null for an empty text", "another stamp", "row gone", "id gone"],
)
def test_damage_to_a_case_is_found(ona, damage, expected):
    """Without it a load that wrote half of the truth would be reported as good."""
    spoil(ona, damage)
    assert load(ona, [case(1)]).compared["cases"] == expected


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
    spoil(ona, damage)
    assert load(ona, [case(1)], [service(1, 1)]).compared["services"] == expected


def test_stale_rows_and_rows_under_keys_of_their_own_are_accounted_for(ona):
    """They are as they must be; a check that calls them missing would stop every sync."""
    load(ona, [case(1, primero_updated_at=at(9))], [service(1, 1)], [left(4, 9)], quarter=Q2)
    shared = (
        [case(2, case_id="case-1"), case(3)],
        [service(2, 2, case_id="case-1"), service(1, 3), service(1, 3, place=2)],
    )
    loaded = load(ona, *shared)
    assert loaded.compared == {"cases": Comparison(rows=2, equal=2), "services": Comparison(rows=3, equal=3)}
    assert (loaded.cases.own_keys, loaded.services.own_keys) == (1, 2)
    found = load(ona, [case(1), case(4)], [service(1, 1), service(4, 4)]).compared
    assert found == {"cases": Comparison(rows=2, stale=2), "services": Comparison(rows=2, stale=2)}


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
