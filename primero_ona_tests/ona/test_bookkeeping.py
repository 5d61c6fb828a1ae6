"""What is remembered of a load: quarantine, unmapped codes, runs; and the status that is read from it."""

from __future__ import annotations

import pytest

from primero_ona.ona.bookkeeping import quarter_status
from primero_ona_tests.ona.rows import LATER, NOW, Q1, Q2, case, id_of, left, load, quarantine, read, service


def aside(number: int, reason: str = "case_id missing", table: str = "cases") -> dict:
    return {"table": table, "primero_id": id_of(number), "reason": reason}


def summary(*entries: dict, findings: tuple = ()) -> dict:
    return {"quarantine": list(entries), "findings": list(findings)}


def test_what_the_mapping_set_aside_is_remembered(ona_url, ona):
    """A child that is not in the dashboards must be on a list that somebody can work through."""
    services = summary(*[aside(2, "service malformed", "services")] * 3)
    load(ona, [case(1)], cases_summary=summary(aside(3)), services_summary=services)
    assert quarantine(ona_url) == [
        ("cases", id_of(3), "case_id missing", "2024-Q1"),
        ("services", id_of(2), "service malformed", "2024-Q1"),
    ]
    assert [row["entries"] for row in read(ona_url, "SELECT entries FROM primero_sync.quarantine ORDER BY 1")] == [1, 3]


def test_an_entry_that_is_not_seen_again_is_resolved(ona_url, ona):
    """A list that only grows is not worked through."""
    load(ona, [], cases_summary=summary(aside(3)))
    load(ona, [], cases_summary=summary(), now=LATER)
    rows = read(ona_url, "SELECT first_seen, last_seen, resolved_at FROM primero_sync.quarantine")
    assert rows == [{"first_seen": NOW, "last_seen": NOW, "resolved_at": LATER}]


def test_an_entry_that_comes_again_keeps_its_beginning(ona_url, ona):
    """How long a child has been waiting is what people ask."""
    for now in (NOW, LATER):
        load(ona, [], cases_summary=summary(aside(3)), now=now)
    rows = read(ona_url, "SELECT first_seen, last_seen, resolved_at FROM primero_sync.quarantine")
    assert rows == [{"first_seen": NOW, "last_seen": LATER, "resolved_at": None}]


def test_an_entry_that_had_been_resolved_opens_again(ona_url, ona):
    """The same clash may come back."""
    for entries in ((aside(3),), (), (aside(3),)):
        load(ona, [], cases_summary=summary(*entries))
    assert len(quarantine(ona_url)) == 1


def test_another_quarters_entries_stay(ona_url, ona):
    """A sync of one quarter knows nothing of the others."""
    load(ona, [], cases_summary=summary(aside(3)), quarter=Q1)
    load(ona, [case(1)], quarter=Q2)
    assert len(quarantine(ona_url)) == 1


def test_a_child_that_arrives_with_another_quarter_resolves_its_old_entry(ona_url, ona):
    """Its case was mended in Primero, so it lies in a later quarter now; the old one may never be synced again."""
    load(ona, [], cases_summary=summary(aside(1), aside(2)), quarter=Q1)
    load(ona, [case(1)], [], [left(2)], quarter=Q2)
    assert quarantine(ona_url) == []


def test_unmapped_codes_are_those_of_the_last_sync(ona_url, ona):
    """A code that a new label table knows must vanish from the report."""
    old = summary(findings=({"field": "sex", "code": "x", "count": 2}, {"field": "age", "code": None, "count": 1}))
    new = summary(findings=({"field": "sex", "code": "x", "count": 3},))
    load(ona, [], cases_summary=old)
    load(ona, [], cases_summary=new, services_summary=new, run_id="run-2")
    rows = read(ona_url, "SELECT quarter, field, code, count, run_id FROM primero_sync.unmapped")
    assert [tuple(row.values()) for row in rows] == [("2024-Q1", "sex", "x", 6, "run-2")]


def test_the_status_tells_the_last_load_of_every_quarter(ona):
    """Two weeks later somebody asks since when the figures are what they are."""
    load(ona, [case(1)], quarter=Q2, run_id="a", cases_summary={"mapping_version": "v1"})
    load(ona, [case(1)], quarter=Q2, run_id="b", now=LATER)
    finding = {"field": "sex", "code": "x", "count": 2}
    load(
        ona,
        [case(1, primero_updated_at=NOW.replace(year=2023))],
        quarter=Q1,
        cases_summary=summary(aside(3), findings=(finding,)),
    )
    first, second = quarter_status(ona)
    assert (first.quarter, first.loads, first.stale, first.quarantined, first.unmapped) == ("2024-Q1", 1, 1, 1, 2)
    assert first.changed_at is None
    assert (second.quarter, second.loads, second.run_id, second.mapping_version) == ("2024-Q2", 2, "b", None)
    assert second.counts["cases"]["unchanged"] == 1
    assert second.changed_at
    assert second.changed_at < second.finished_at


@pytest.mark.proves("history")
def test_a_run_that_loads_again_adds_a_row_and_changes_none(ona_url, ona):
    """History that can be rewritten proves nothing; the last load of a quarter is still the one that counts."""
    load(ona, [case(1)], run_id="a", cases_summary={"mapping_version": "v1"})
    first = read(ona_url, "SELECT xmin::text, * FROM primero_sync.runs")
    load(ona, [case(1)], run_id="a", cases_summary={"mapping_version": "v2"})
    rows = read(ona_url, "SELECT xmin::text, * FROM primero_sync.runs ORDER BY finished_at")
    assert (rows[:1], len(rows)) == (first, 2)
    (status,) = quarter_status(ona)
    assert (status.loads, status.run_id, status.mapping_version) == (2, "a", "v2")


def test_nothing_loaded_is_an_empty_status(ona):
    """A new installation has to be able to ask, too."""
    assert quarter_status(ona) == []


def test_no_value_of_a_child_is_in_the_bookkeeping(ona_url, ona):
    """Many may read the bookkeeping; it knows ids and counts alone."""
    load(ona, [case(1, sex="canary")], [service(1, 1, service_type="canary")], [left(2)])
    for table in ("runs", "quarantine", "unmapped", "exits"):
        assert "canary" not in str(read(ona_url, f"SELECT * FROM primero_sync.{table}"))
