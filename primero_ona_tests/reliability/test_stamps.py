"""Stamps that lie, from Primero to ONA: a case stamped years ahead, and one whose stamp fell before the first quarter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from primero_ona.cli.output import show_reconciliation
from primero_ona.quarters import Quarter, current_quarter
from primero_ona_tests.harness import Graph
from primero_ona_tests.reliability.syncing import place_of, sync_rooms
from primero_ona_tests.reliability.test_verify import SCOPE, look, repair

AHEAD = datetime(2031, 5, 5, tzinfo=UTC)


@pytest.fixture
def today(graph: Graph) -> Graph:
    """A Primero whose clock is right, so that there is an open quarter."""
    graph.clock.now = datetime.now(UTC)
    return graph


def sync(graph: Graph, quarter: Quarter | None = None) -> None:
    assert sync_rooms(place_of(graph), quarter or current_quarter()) == 0


def child(graph: Graph, **fields: Any) -> str:
    return graph.primero.create(age=9, type_of_case="other", sex="male", services_section=[], **fields)


def row(graph: Graph, case: str) -> list[tuple[Any, ...]]:
    return graph.sql("SELECT sex, primero_updated_at, xmin::text FROM cases WHERE primero_id::text = %s", case)


@pytest.mark.proves("stamped-ahead")
def test_a_case_stamped_ahead_is_loaded_with_the_open_quarter_and_written_once(today):
    """It was in no quarter for five years, and pending in `verify` for as long."""
    case = child(today, last_updated_at=AHEAD)
    sync(today)
    first = row(today, case)
    assert [entry[:2] for entry in first] == [("Male", current_quarter().start)]
    sync(today)
    assert row(today, case) == first, "an unchanged case was written again"
    found = look(today)
    assert found.inventory.ahead == [case]
    assert (found.total.missing > 0, found.total.pending) == (True, 0)
    (quarter,) = [q for q in found.quarters if q.quarter == current_quarter().name]
    assert (quarter.primero, quarter.equal, quarter.differences) == (1, 1, 0)


@pytest.mark.proves("stamped-ahead")
def test_a_state_with_a_stamp_that_can_be_follows_one_that_was_stamped_ahead(today):
    """A clock that was set right again must not leave the case as it was for five years."""
    case = child(today, last_updated_at=AHEAD)
    sync(today)
    today.primero.update(case, sex="female")
    sync(today)
    assert [entry[0] for entry in row(today, case)] == ["Female"]
    assert look(today).inventory.ahead == []


def test_an_edit_that_is_stamped_ahead_follows_a_state_of_the_same_quarter(today):
    """Its stamp in ONA, the quarter's start, is older than that of the state which it replaces."""
    case = child(today)
    sync(today)
    today.primero.update(case, sex="female", last_updated_at=AHEAD)
    sync(today)
    assert [entry[0] for entry in row(today, case)] == ["Female"]


@pytest.mark.proves("stamped-ahead")
def test_a_repair_brings_a_case_stamped_ahead_into_the_open_quarter(today):
    """Else `verify` would find it missing for ever."""
    case = child(today, last_updated_at=AHEAD)
    assert repair(today).total.differences == 0
    assert [entry[:2] for entry in row(today, case)] == [("Male", current_quarter().start)]


def test_a_closed_quarter_does_not_take_a_case_stamped_ahead(today):
    """It would stand in two quarters, each with a state of its own."""
    case = child(today, last_updated_at=AHEAD)
    sync(today, current_quarter().previous())
    assert row(today, case) == []


def test_an_erased_case_that_is_stamped_ahead_is_not_named(today):
    """Nothing is said of a case that was erased, not even that it is still in Primero."""
    case = child(today, last_updated_at=AHEAD)
    today.sql(
        "INSERT INTO primero_sync.erasures (subject, erased_at, cases, services, bookkeeping)"
        " VALUES (encode(sha256(convert_to(%s, 'UTF8')), 'hex'), now(), 1, 0, 0)",
        case,
    )
    assert look(today).inventory.ahead == []
    run = today.sync(current_quarter())
    assert run.failure is None
    assert case not in today.events(run.run_id)


@pytest.mark.proves("stamped-ahead")
def test_a_pull_names_and_counts_the_cases_stamped_ahead(today):
    """People have to look at the server's clock, and to know where to begin."""
    cases = [child(today, last_updated_at=AHEAD + timedelta(days=day)) for day in range(7)]
    run = today.sync(current_quarter())
    assert run.failure is None
    said = [
        entry.user_message for entry in today.instance.all_logs(run.run_id) if "stamped more than" in entry.user_message
    ]
    assert len(said) == 1
    assert said[0].startswith("7 cases are stamped more than an hour ahead")
    assert sum(case in said[0] for case in cases) == 5


@pytest.mark.proves("before-start")
def test_a_case_whose_stamp_fell_before_the_first_quarter_is_a_difference_with_the_start_to_set(today, capsys):
    """No sync brings it, and `verify` said Complete while ONA's row differed."""
    case = child(today, last_updated_at=SCOPE.first.start + timedelta(days=1))
    assert repair(today).total.differences == 0
    today.primero.update(case, sex="female", last_updated_at=datetime(2019, 8, 1, tzinfo=UTC))
    found = look(today)
    assert (found.total.differences, found.total.early, found.total.extra) == (1, 1, 1)
    show_reconciliation(found)
    said = " ".join(capsys.readouterr().out.split())
    assert "set PRIMERO_ONA_START=2019-Q3, then `primero-ona backfill --from 2019-Q3`" in said
    assert case in said
    assert "--repair" not in said
    assert "Complete" not in said
    repair(today)
    assert look(today).total.early == 1, "only another start lets the syncs have it"


@pytest.mark.proves("before-start")
def test_a_case_before_the_first_quarter_that_is_equal_in_ona_is_no_difference(today):
    """Where the start was set later after years of syncs, ONA keeps what it has."""
    case = child(today, last_updated_at=datetime(2019, 8, 1, tzinfo=UTC))
    sync(today, Quarter(2019, 3))
    assert len(row(today, case)) == 1
    repair(today)
    assert look(today).total.differences == 0
