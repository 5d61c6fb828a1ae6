"""Answers that cannot be believed while an open quarter is pulled by its changes: swallowed, out of the span, without a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from primero_ona.ona.connection import connect
from primero_ona.primero.client import PAGE_ROWS, PrimeroClient
from primero_ona.primero.pull import ROUNDS
from primero_ona_tests.pipeline.carrying import CP, OPEN, World, content, is_young, migrated, world
from primero_ona_tests.reliability.syncing import load

__all__ = ["migrated", "world"]  # fixtures


def undated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Primero's answers have no time, and this machine's clock is the world's."""

    class Ours(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return world.clock.now.astimezone(tz)

    world.primero.switches.dated = False
    for module in ("client", "pull"):
        monkeypatch.setattr(f"primero_ona.primero.{module}.datetime", Ours)


def test_where_a_whole_walk_is_wanted_always_it_is_one_though_primeros_time_stands_still(world, monkeypatch):
    """Without a time in its answers, Primero's newest stamp is its time."""
    monkeypatch.setenv("PRIMERO_ONA_WHOLE_WALK_DAYS", "0")
    undated(world, monkeypatch)
    for reason in ("it was not pulled before", "the last whole walk was too long ago"):
        assert world.pull().report.whole_because == reason
    monkeypatch.setenv("PRIMERO_ONA_WHOLE_WALK_DAYS", "7")
    assert world.pull().report.since
    world.clock.move(days=8)
    assert world.pull().report.whole_because == "the last whole walk was too long ago"


def test_a_stamp_that_lies_ahead_and_counts_as_primeros_time_hides_no_late_commit(world, monkeypatch):
    """Without a time in its answers, Primero's newest stamp is its time; changes are asked for from an hour before our own."""
    undated(world, monkeypatch)
    own = world.open_ids()
    world.clock.move(hours=2)
    world.primero.update(own[0], status="closed", last_updated_at=world.clock.now + timedelta(minutes=55))
    world.pull()
    world.clock.move(minutes=10)
    stamped = world.clock.now - timedelta(minutes=20)
    world.primero.update(own[1], status="closed", protection_concerns=["refugee"], last_updated_at=stamped)
    assert world.pull().report.since
    assert content(world.place) == content(world.whole())


@pytest.mark.parametrize(
    ("kind", "after"),
    [("swallow", 2), ("swallow", 3), ("swallow", 4), ("short page", 2), ("wrong total", 2), ("wrong total", 4)],
)
@pytest.mark.proves("lacking-changes")
def test_an_answer_that_lacks_changes_is_not_believed(world, kind, after):
    """A time-out in Primero's database looks like no change at all: then an edit would be lost until the next whole walk."""
    world.pull()
    world.clock.move(hours=3)
    for case in world.open_ids()[:4]:
        world.primero.update(case, status="closed")
    world.clock.move(minutes=1)
    world.primero.fail(kind, after=after, times=1, by=2)
    report = world.pull().report
    assert report.since
    assert content(world.place) == content(world.whole())


def wanted(world: World) -> list[str]:
    """Young cases of the module for child protection."""
    stored = {case["id"]: case for case in world.primero.cases.records()}
    own = [case for case in world.open_ids() if is_young(world.primero, case)]
    return [case for case in own if stored[case]["module_id"] == CP.modules[0]]


@pytest.mark.parametrize("walk", ["of the modules", "of all"])
@pytest.mark.proves("lacking-changes")
def test_where_modules_are_chosen_neither_of_the_two_walks_may_lack_changes(world, walk):
    """An edit would be lost, or a case that moved to another module would stay; the other walk shows it."""
    world.place = replace(world.place, policy=CP)
    other, case = wanted(world)[:2]
    gone = {"module_id": "primeromodule-gbv"}
    world.clock.move(hours=2)
    world.primero.update(other, **(gone if walk == "of the modules" else {"status": "closed"}))
    world.clock.move(minutes=5)
    world.pull()
    world.clock.move(hours=3)
    world.primero.update(
        case, **(gone if walk == "of all" else {"status": "closed", "protection_concerns": ["refugee"]})
    )
    world.clock.move(hours=2)
    world.primero.update(other, status="open")
    world.clock.move(minutes=5)
    world.primero.fail("swallow", after=2 if walk == "of the modules" else 4, times=2)
    report = world.pull().report
    assert (report.since is not None, report.walks) == (True, 2)
    assert content(world.place) == content(world.whole())


def test_a_case_that_moves_to_another_module_and_is_stamped_ahead_leaves_ona(world):
    """Its stamp counts for nothing, so that only its name among those ahead lets it leave."""
    world.place = replace(world.place, policy=CP)
    world.place.seed()
    case = wanted(world)[0]
    world.pull()
    load(world.place, OPEN, "before")
    world.clock.move(hours=2)
    ahead = world.clock.now + timedelta(days=3)
    world.primero.update(case, module_id="primeromodule-gbv", last_updated_at=ahead)
    world.clock.move(minutes=5)
    assert world.pull().ahead == [case]
    load(world.place, OPEN, "after")
    with connect(world.place.ona_url) as conn:
        assert conn.execute("SELECT FROM cases WHERE primero_id = %s", (case,)).fetchall() == []


#: Changes the answer to a question (its parameters).
Change = Callable[[Any, dict[str, Any]], None]


def answers(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Primero's answers arrive with this change."""
    real = PrimeroClient.page

    def page(self: PrimeroClient, path: str, asked: Any) -> Any:
        found = real(self, path, asked)
        change(found, asked)
        return found

    monkeypatch.setattr(PrimeroClient, "page", page)


def is_walk(asked: dict[str, Any]) -> bool:
    return "last_updated_at" in asked and asked.get("per") == PAGE_ROWS


@pytest.mark.proves("whole-walk")
def test_an_answer_about_changes_that_cannot_be_used_fails_no_pull_that_a_whole_walk_would_save(world, monkeypatch):
    """As a stamp that a process of the server in another zone has written: it lies in the quarter, though not in the span."""
    world.pull()
    world.clock.move(hours=3)
    case = world.open_ids()[0]
    world.primero.update(case, status="closed")
    true = (world.clock.now - timedelta(hours=7)).isoformat().replace("+00:00", ".000Z")

    def in_another_zone(found: Any, asked: dict[str, Any]) -> None:
        for row in found.rows:
            if is_walk(asked) and row["id"] == case:
                row["last_updated_at"] = true

    answers(monkeypatch, in_another_zone)
    report = world.pull().report
    assert (report.whole_because, report.walks) == ("Primero's answers about its changes cannot be used", 1)
    assert content(world.place) == content(world.whole())


@pytest.mark.parametrize(("edited", "walks"), [(1, ROUNDS + 1), (20, 2)])
@pytest.mark.proves("whole-walk")
def test_where_most_has_changed_a_case_that_arrives_meanwhile_leads_to_the_whole_walk_at_once(
    world, monkeypatch, edited, walks
):
    """In January each round is as dear as a walk of the whole quarter, which nothing that arrives can spoil."""
    world.pull()
    world.clock.move(hours=3)
    own, begun = world.open_ids(), list[str]()
    elsewhere = sorted({case["id"] for case in world.primero.cases.records()} - set(own))
    for case in own[:edited]:
        world.primero.update(case, status="closed")
    world.clock.move(minutes=1)

    def arrives(_: Any, asked: dict[str, Any]) -> None:
        if is_walk(asked):
            begun.append(asked["last_updated_at"])
            world.clock.move(seconds=3)
            world.primero.update(elsewhere.pop(), status="closed")

    answers(monkeypatch, arrives)
    assert len(own) < 2 * 20
    assert world.pull().report.whole_because
    assert len(begun) == walks


def test_a_field_that_no_stored_case_shows_does_not_make_each_pull_a_whole_walk(world, monkeypatch):
    """Only a disabled case has it, of which no fields are stored."""
    case, edited = world.open_ids()[:2]
    world.primero.disable(case)
    world.primero.update(case, care_date="2024-01-01")

    def rare(found: Any, asked: dict[str, Any]) -> None:
        for row in found.rows:
            if row["id"] != case or not is_walk(asked):
                row.pop("care_date", None)

    answers(monkeypatch, rare)
    world.pull()
    for _ in range(2):
        world.clock.move(hours=3)
        world.primero.update(edited, status="closed")
        world.clock.move(minutes=1)
        report = world.pull().report
        assert (report.whole_because, "care_date" in report.fields.shown) == ("", True)
