"""Pulls of an open quarter by its changes: what they store is what a walk of the whole quarter stores, or they walk it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from primero_ona.errors import TransientError
from primero_ona.mapping.dates import with_ages
from primero_ona.mapping.labels import version_of
from primero_ona.mapping.membership import membership, sort_cases
from primero_ona.ona.bookkeeping import PULL_NUMBER, next_pull
from primero_ona.ona.connection import connect, partition_lock
from primero_ona.ona.erasure import erase
from primero_ona.pipeline.stored import EXITS, UNDER18, forget, rule_sources, rules_version
from primero_ona.primero.fields import PullPolicy, cut_location
from primero_ona.primero.raw import raw_columns
from primero_ona.primero.walk import believed
from primero_ona.quarters import local_today
from primero_ona.storage.partitions import PartitionWriter
from primero_ona.texts import case_id_of, json_text
from primero_ona_tests.conftest import ALL
from primero_ona_tests.pipeline.carrying import CP, NOW, OPEN, World, content, is_young, migrated, world
from primero_ona_tests.reliability.oracle import differences
from primero_ona_tests.reliability.syncing import kill, pull, start, sync_rooms

__all__ = ["migrated", "world"]  # fixtures

TYPE = "children_undergoing_reintegration_55427"
POLICIES = PullPolicy(), PullPolicy(consent="exclude_refused"), CP


def edits(world: World) -> dict[str, Callable[[], Any]]:
    """What may happen to cases between two pulls, each within what the next pull asks for."""
    primero, own = world.primero, world.open_ids()
    elsewhere = sorted({case["id"] for case in primero.cases.records()} - set(own))
    young = next((case for case in own if is_young(primero, case)), own[0])
    return {
        "nothing": lambda: None,
        "edited": lambda: primero.update(own[0], status="closed", protection_concerns=["refugee"]),
        "disabled": lambda: primero.disable(young),
        "renamed": lambda: primero.update(own[2], case_id_display="another"),
        "retyped": lambda: primero.update(own[3], type_of_case=TYPE),
        "of neither set": lambda: primero.update(young, type_of_case="other", date_of_birth="1980-01-01", age=44),
        "services": lambda: primero.update(
            own[4], services_section=[{"unique_id": "s", "service_type": "counselling"}]
        ),
        "from another quarter": lambda: primero.update(elsewhere[0], status="closed"),
        "new": lambda: primero.create(age=7, date_of_birth="2017-01-01", type_of_case=TYPE),
        "of another module": lambda: primero.update(own[6], module_id="primeromodule-gbv"),
        "stamped ahead": lambda: primero.update(own[5], last_updated_at=world.clock.now + timedelta(days=3)),
    }


def test_whatever_happens_to_a_case_only_it_comes_and_the_rest_is_carried_over(world):
    """The stored quarter is then what a walk of all of it would have stored."""
    first = world.pull().report
    assert (first.since, first.whole_because) == (None, "it was not pulled before")
    for what, edit in edits(world).items():
        world.clock.move(hours=2)
        edit()
        world.clock.move(minutes=5)
        report = world.pull().report
        assert report.since is not None, (what, report.whole_because)
        assert report.kept < 8 < report.carried, what
        assert report.whole_at == first.whole_at
        assert content(world.place) == content(world.whole()), what


def move(**by: float) -> Callable[[World, pytest.MonkeyPatch], None]:
    return lambda world, _: world.clock.move(**by) and None


def forgotten(world: World, _: pytest.MonkeyPatch) -> None:
    forget(world.place.stored, world.place.connect, world.open_ids()[:1], NOW)


def registered_ahead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    day = local_today() + timedelta(days=2)
    world.primero.update(world.open_ids()[0], registration_date=day.isoformat(), date_of_birth="2010-01-01")
    assert world.pull().report.since
    for module in ("carry", "sink"):
        monkeypatch.setattr(f"primero_ona.pipeline.{module}.local_today", lambda: day)


def damaged(world: World, _: pytest.MonkeyPatch) -> None:
    path = world.place.stored.store.place.path(f"{UNDER18}/{OPEN.key}")
    content = bytearray(path.read_bytes())
    content[200:1200] = bytes(1000)
    path.write_bytes(content)


def mixed(world: World, _: pytest.MonkeyPatch) -> None:
    path = world.place.stored.store.place.path(f"{EXITS}/{OPEN.key}")
    before = path.read_bytes()
    world.pull()
    path.write_bytes(before)


def switch(name: str, value: Any) -> Callable[[World, pytest.MonkeyPatch], None]:
    return lambda world, _: setattr(world.primero.switches, name, value)


def other_policy(world: World, _: pytest.MonkeyPatch) -> None:
    world.place = replace(world.place, policy=PullPolicy(precision="district"))


def late(world: World, _: pytest.MonkeyPatch) -> None:
    """A case is committed whose stamp lies far behind what a pull asks for."""
    world.primero.create(age=7, last_updated_at=OPEN.start + timedelta(days=3))


WHOLE: dict[str, tuple[Callable[[World, pytest.MonkeyPatch], Any], str]] = {
    "a closed quarter": (move(days=60), "it is closed"),
    "a week": (move(days=8), "the last whole walk was too long ago"),
    "a setting": (lambda _, patch: patch.setenv("PRIMERO_ONA_WHOLE_WALK_DAYS", "0"), "the last whole walk was too long ago"),
    "an erasure": (forgotten, "cases were erased since the last pull"),
    "a registration": (registered_ahead, "a registration that lay in the future has come"),
    "another version": (switch("version", "2.13.0"), "Primero runs another version than before"),
    "another zone": (switch("server_offset", 7), "Primero keeps its stamps in another zone than before"),
    "a clock put back": (move(hours=-4), "Primero's clock was put back"),
    "other rules": (other_policy, "what is stored cannot be read, or was pulled by other rules"),
    "damage": (damaged, "what is stored is damaged"),
    "parts of two pulls": (mixed, "what is stored comes from several pulls"),
    "a newer version of primero-ona": (
        lambda _, patch: patch.setattr("primero_ona.pipeline.carry.rules_version", lambda: "newer"),
        "another version of primero-ona has pulled it",
    ),
    "a field withheld": (lambda w, _: w.primero.role.withheld.add("care_date"), "Primero shows other fields than before"),
    "a case deleted": (lambda w, _: w.primero.delete(w.open_ids()[0]), "are held, 3 times over"),
    "a late commit": (late, "are held, 3 times over"),
    "a case set back": (
        lambda w, _: w.primero.update(max(w.open_ids(), key=lambda c: stamp(w, c)), last_updated_at=OPEN.start),
        "1 cases that were stored do not come again, 3 times over",
    ),
}  # fmt: skip


def stamp(world: World, case: str) -> str:
    return str(world.primero.cases.record(world.primero.cases.row_of(case) or 0)["last_updated_at"])


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.proves("whole-walk")
def test_where_what_is_stored_will_not_do_the_whole_quarter_is_walked_and_says_why(world, monkeypatch, name):
    """Anything else would carry over what a walk of the whole quarter would not have stored."""
    world.primero.role.withheld = {"oscar_number"} if name == "a field withheld" else set()
    world.pull()
    world.clock.move(hours=3)
    happens, reason = WHOLE[name]
    happens(world, monkeypatch)
    if name == "a field withheld":  # … before, and granted now
        world.primero.role.withheld = set()
    report = world.pull().report
    assert report.since is None
    assert report.whole_because.endswith(reason)
    assert report.whole_at == report.settled
    assert content(world.place) == content(world.whole())


def test_each_module_that_decides_what_is_stored_is_part_of_the_version_of_the_rules():
    """Rows of an older membership or older ages would stand beside newer ones until the next whole walk."""
    rules = rule_sources()
    changed = [{**rules, name: code + b"\nADDED = 1\n"}.values() for name, code in rules.items()]
    assert len({rules_version(), *(version_of(b"", modules, "") for modules in changed)}) == len(rules) + 1
    deciding = (membership, with_ages, cut_location, json_text, believed, raw_columns, sort_cases, case_id_of)
    assert {f"{each.__module__}".removeprefix("primero_ona.").replace(".", "/") + ".py" for each in deciding} == set(
        rules
    )


def test_a_whole_walk_can_be_demanded(world):
    """By `sync --full`, by a repair and by the schedule that closes a quarter."""
    world.pull()
    assert world.pull(whole=True).report.whole_because == "it was asked for"


def test_a_quarter_of_which_all_has_just_changed_is_walked_whole(world):
    """In the first hour of a quarter there is nothing to carry over."""
    world.clock.now = OPEN.end + timedelta(minutes=1)
    quarter = OPEN.next()
    world.primero.create(age=7)
    world.clock.move(minutes=10)
    assert pull(world.place, quarter).report.whole_because == "it was not pulled before"
    assert pull(world.place, quarter).report.whole_because == "all of it has just changed"


def test_a_pull_that_fails_or_is_ended_while_it_stores_is_made_good_by_the_next(world, monkeypatch):
    """Whether one, two or none of the three partitions was replaced."""
    world.pull()
    whole = PartitionWriter.commit
    for stored in (0, 1, 2):
        world.clock.move(hours=3)
        world.primero.update(world.open_ids()[stored], status="closed")
        left = [stored]

        def ended(self: Any, summary: Any, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            whole(self, summary)

        monkeypatch.setattr(PartitionWriter, "commit", ended)
        with pytest.raises(KeyboardInterrupt):
            world.pull()
        monkeypatch.undo()
        report = world.pull().report
        assert bool(report.since) is (stored == 0)
        assert content(world.place) == content(world.whole())


@pytest.mark.ci
@pytest.mark.proves("changes-only")
def test_a_sync_that_is_killed_is_made_good_by_the_next(world):
    """With -9, at random moments of pulls by changes and of the loads after them."""
    assert sync_rooms(world.place, OPEN) == 0
    pick = Random(3)
    for _ in range(8 if ALL else 2):
        world.clock.move(hours=1)
        pick.choice(list(edits(world).values()))()
        world.clock.move(minutes=1)
        kill(start(world.place, OPEN), pick.uniform(0.05, 0.6))
    assert sync_rooms(world.place, OPEN) == 0
    assert content(world.place) == content(world.whole())
    with connect(world.place.ona_url) as conn:
        assert differences(world.primero, lambda query: conn.execute(query.encode()).fetchall(), since=OPEN.start) == []


def test_a_pull_that_waits_for_another_goes_by_what_is_so_when_its_turn_has_come(world, monkeypatch):
    """Otherwise its number is lower than that of the pull before it, or it fails, since a case was erased meanwhile."""
    numbers = list[int]()

    @contextmanager
    def late_lock(conn: Any, partition: str) -> Iterator[None]:
        with partition_lock(conn, partition), world.place.connect() as other:
            numbers.append(next_pull(other))
            erase(other, world.open_ids()[:1], NOW)
            yield

    world.pull()
    monkeypatch.setattr("primero_ona.pipeline.extract.partition_lock", late_lock)
    assert world.pull().report.whole_because == "cases were erased since the last pull"
    stored = world.place.stored.summary(UNDER18, OPEN)
    assert stored[PULL_NUMBER] > numbers[0]


def test_small_parts_do_not_pile_up(world):
    """Each pull adds a handful of rows; a part of its own for each would slow down all who read them."""
    for _ in range(4):
        world.pull()
        world.clock.move(hours=2)
        world.primero.update(world.open_ids()[0], status="closed")
    assert len(list(world.place.stored.open_file(UNDER18, OPEN).tables(["id"]))) == 1


@pytest.mark.parametrize("seed", range(12) if ALL else [1])
@pytest.mark.proves("changes-only")
def test_after_any_sequence_of_pulls_and_edits_what_is_stored_is_a_whole_walks(world, seed, monkeypatch):
    """Random edits, late commits, erasures, changes of the rules, failures and demands."""
    pick, pulls = Random(seed), 0
    world.primero.switches.server_offset = pick.choice((0, 7))
    world.place = replace(world.place, policy=pick.choice(POLICIES))
    for _ in range(20 if ALL else 7):
        for _ in range(pick.randint(0, 3)):
            pick.choice(list(edits(world).values()))()
            world.clock.move(minutes=pick.choice((0, 1, 50)))
        rare = pick.random()
        if rare < 0.08:
            forgotten(world, monkeypatch)
        elif rare < 0.16:
            late(world, monkeypatch)
        elif rare < 0.2:
            world.primero.delete(world.open_ids()[-1])
        elif rare < 0.26:
            world.place = replace(world.place, policy=pick.choice(POLICIES))
        elif rare < 0.32:
            world.primero.switches.version = pick.choice(("2.11.0", "2.15.2.1"))
        elif rare < 0.4:
            world.primero.fail("status", status=503, after=pick.randint(2, 5), times=None)
            with pytest.raises(TransientError):
                world.pull()
            world.primero.faults.clear()
        world.clock.move(minutes=pick.choice((1, 20, 90, 1_000)))
        pulls += world.pull(whole=pick.random() < 0.1).report.since is not None
        assert content(world.place) == content(world.whole())
    assert pulls
