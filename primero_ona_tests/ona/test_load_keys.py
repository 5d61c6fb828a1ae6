"""Keys that change, and keys that two children or two cases want, in a load on a real PostgreSQL."""

from __future__ import annotations

from primero_ona_tests.ona.rows import (
    LATER,
    Q1,
    Q2,
    case,
    case_ids,
    counts,
    id_of,
    left,
    load,
    old_row,
    quarantine,
    service,
    service_ids,
)


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
