"""Children grow up, Primero raises their ages by itself, and the figures of the past stay as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from primero_ona.pipeline.stored import Scope
from primero_ona.quarters import Quarter, quarters_between
from primero_ona.sandbox.cases import Wish
from primero_ona_tests.harness import NOW, Q1, Graph, wired
from primero_ona_tests.reliability.oracle import differences
from primero_ona_tests.reliability.syncing import place_of, reconciled, repaired
from primero_ona_tests.reliability.test_order_and_keys import child, few, right, service, standing, sync

__all__ = ["few", "right"]  # fixtures

FIRST = Quarter(2024, 1)

#: All of ONA that figures of past periods are made of, without what growing up does change.
PAST = """
SELECT c.primero_id::text, c.registration_date, c.age_at_registration, c.age_at_placement, c.age_at_reintegration,
       v.unique_id, v.service_date, v.age_at_service
  FROM cases AS c LEFT JOIN services AS v ON v.primero_case_id = c.primero_id
 ORDER BY 1, 6
"""


@pytest.fixture
def country(postgres: Any) -> Iterator[Graph]:
    """Two quarters of a country, and 20 who are 17 by a typed age."""
    with wired(postgres, "reliability_growing_up", Wish(150, seed=11, now=NOW, quarters=2)) as graph:
        for number in range(20):
            case = graph.primero.create(services_section=[service(f"visit-{number}")])
            graph.primero.type_age(case, 17)
        yield graph


def sync_all(graph: Graph, *, fresh: bool = True, first: Quarter = FIRST) -> None:
    """Sync every quarter up to that of the sandbox's clock."""
    for quarter in quarters_between(first, Quarter.of(graph.clock.now)):
        sync(graph, quarter, fresh=fresh)


def audited(graph: Graph, *, fix: bool = False, first: Quarter = FIRST) -> tuple[int, int]:
    """The differences that an audit finds, and the cases that it compared; with `fix` it repairs them."""
    found = (repaired if fix else reconciled)(place_of(graph), Scope(first))
    return found.total.differences, found.total.primero


@pytest.mark.proves("growing-up")
def test_on_2_january_no_child_leaves_and_the_past_stays_as_it_was(country: Graph) -> None:
    """By the present age all 17-year-olds would leave in one night, days before the year's figures are taken."""
    sync_all(country)
    before = country.sql(PAST)
    assert differences(country.primero, country.sql) == []
    grown = 0
    for night in (1, 2):
        country.clock.now = datetime(2025, 1, night, 1, 1, tzinfo=UTC)
        grown += len(country.primero.recalculate_ages())
    assert grown > 50
    sync_all(country)
    assert country.sql(PAST) == before
    adults = "SELECT count(*) FROM cases WHERE age >= 18 AND type_of_case IS DISTINCT FROM 'children undergoing reintegration'"
    assert country.sql(adults)[0][0] >= 20
    assert differences(country.primero, country.sql) == []
    assert audited(country) == (0, len({row[0] for row in before}) + quarantined(country))
    sync_all(country, fresh=False)
    assert country.sql(PAST) == before, "and so from what is stored"


def quarantined(graph: Graph) -> int:
    query = "SELECT count(DISTINCT primero_id) FROM primero_sync.quarantine WHERE resolved_at IS NULL AND table_name = 'cases'"
    return int(graph.sql(query)[0][0])


@pytest.mark.proves("growing-up")
def test_a_backfill_of_2020_holds_all_who_were_children_when_they_were_registered(few: Graph) -> None:
    """By the present age it would lack everybody who was over eleven then."""
    registered, children, adults = date(2020, 3, 15), set(), set()
    for years in range(25):
        birth = date(registered.year - years, 3, 15 - years % 2)
        stamp = datetime(2020 + years % 4, 4 + 3 * (years % 3), 20, 5, tzinfo=UTC)  # some were never saved again
        age = stamp.year - birth.year - ((stamp.month, stamp.day) < (birth.month, birth.day))
        case = child(
            few, stamp, created_at=datetime(2020, 3, 16, tzinfo=UTC), age=age, date_of_birth=str(birth),
            registration_date=str(registered), services_section=[service(f"s-{years}")],
        )  # fmt: skip
        (children if years < 18 else adults).add(case)
    sync_all(few, first=Quarter(2020, 1))
    ours = children | adults
    assert standing(few) & ours == children
    past = few.sql(
        "SELECT count(*), min(age_at_registration), max(age_at_registration) FROM cases WHERE date_part('year', registration_date) = 2020"
    )
    assert past == [(18, 0, 17)]
    assert differences(few.primero, few.sql) == []


@pytest.mark.proves("growing-up")
def test_a_child_whom_an_older_version_took_out_for_its_age_comes_back(few: Graph, right: Callable[[], None]) -> None:
    """Its exit has the very stamp of the case, which no one has saved since."""
    stamp = datetime(2024, 1, 20, 5, 0, 0, 123_000, tzinfo=UTC)
    case = child(
        few, stamp, age=18, date_of_birth="2006-01-19", registration_date="2023-05-01", services_section=[service("a")]
    )
    few.sql(
        "INSERT INTO primero_sync.exits (primero_id, case_id, last_updated_at) VALUES (%s::uuid, 'x', %s)", case, stamp
    )
    sync(few, Q1)
    assert standing(few) == {case}
    assert few.sql("SELECT age_at_registration, age_at_service FROM cases JOIN services USING (case_id)") == [(17, 17)]
    assert few.sql("SELECT count(*) FROM primero_sync.exits") == [(0,)]
    right()


def test_a_repair_brings_a_grown_up_back_with_its_ages(few: Graph, right: Callable[[], None]) -> None:
    """`verify` and its repair go other ways than the syncs; by the present age they would undo what those did."""
    fields = {"age": 19, "date_of_birth": "2004-06-01", "registration_date": "2021-05-01", "care_date": "2022-06-01"}
    case = child(few, services_section=[service("a")], **fields)
    child(few, age=19, date_of_birth="2004-06-01", registration_date="2022-06-01")
    sync(few, Q1)
    assert audited(few) == (0, 1)
    few.sql("DELETE FROM services")
    few.sql("UPDATE cases SET age_at_registration = 15, age_at_placement = NULL")
    assert audited(few, fix=True) == (1, 1)
    ages = "SELECT c.primero_id::text, age_at_registration, age_at_placement, age_at_service FROM cases AS c JOIN services USING (case_id)"
    assert few.sql(ages) == [(case, 16, 18, 19)]
    assert audited(few) == (0, 1)
    right()


@pytest.mark.proves("unknown-birthday")
def test_where_the_role_may_not_read_birthdays_the_present_age_decides(few: Graph) -> None:
    """What the warning says it costs; nothing is guessed, and a role without the field still gets today's children."""
    grown = child(few, age=18, date_of_birth="2006-01-01", registration_date="2022-05-01")
    young = child(few, age=17, date_of_birth="2006-03-01", registration_date="2022-05-01")
    few.primero.role.withheld.add("date_of_birth")
    sync(few, Q1)
    assert few.sql("SELECT primero_id::text, age_at_registration FROM cases") == [(young, None)]
    few.primero.role.withheld.clear()
    sync(few, Q1)
    assert standing(few) == {grown, young}


def test_a_birthday_that_is_corrected_moves_the_case_in_and_out(few: Graph, right: Callable[[], None]) -> None:
    """A slip of the keyboard is mended in Primero, and ONA follows."""
    case = child(few, age=17, date_of_birth="2006-06-01", registration_date="2024-01-10")
    sync(few, Q1)
    assert standing(few) == {case}
    stamp = datetime(2024, 1, 25, tzinfo=UTC)
    for birth, stands in (("2003-06-01", set()), ("2010-06-01", {case})):
        few.primero.update(case, last_updated_at=stamp, date_of_birth=birth)
        sync(few, Q1)
        assert standing(few) == stands
        right()
        stamp += timedelta(days=1)
