"""Pulls of an open quarter by its changes: what they store is what a walk of the whole quarter stores, or they walk it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.fernet import Fernet

from primero_ona.errors import TransientError
from primero_ona.mapping.dates import with_ages
from primero_ona.mapping.labels import version_of
from primero_ona.mapping.membership import membership
from primero_ona.ona.bookkeeping import PULL_NUMBER, next_pull
from primero_ona.ona.connection import connect
from primero_ona.ona.erasure import erase
from primero_ona.ona.locks import partition_lock
from primero_ona.ona.migrations import apply, plan
from primero_ona.pipeline.carry import rule_sources, rules_version
from primero_ona.pipeline.extract import Pulled
from primero_ona.pipeline.scope import sort_cases
from primero_ona.pipeline.stored import EXITS, UNDER18
from primero_ona.pipeline.upkeep import forget
from primero_ona.primero.client import PAGE_ROWS, PrimeroClient
from primero_ona.primero.fields import json_text
from primero_ona.primero.policy import PullPolicy, cut_location
from primero_ona.primero.pull import ROUNDS
from primero_ona.primero.raw import raw_columns
from primero_ona.primero.walk import believed
from primero_ona.quarters import Quarter, local_today
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.storage.partitions import PartitionWriter
from primero_ona.texts import case_id_of
from primero_ona_tests.conftest import ALL
from primero_ona_tests.harness import Clock, database
from primero_ona_tests.reliability.oracle import differences
from primero_ona_tests.reliability.syncing import Place, kill, load, pull, start, stored_content, sync_rooms

OPEN = Quarter(2024, 2)
NOW = datetime(2024, 5, 15, 3, 0, tzinfo=UTC)

TYPE = "children_undergoing_reintegration_55427"


@dataclass
class World:
    """A Primero with an open quarter and a place into which it is pulled."""

    primero: SandboxPrimero
    clock: Clock
    place: Place
    beside: Path

    def pull(self, **how: Any) -> Pulled:
        return pull(self.place, OPEN, **how)

    def whole(self) -> Place:
        """Another place into which the whole quarter is walked now."""
        other = replace(self.place, storage=str(self.beside))
        pull(other, OPEN, whole=True)
        return other

    def open_ids(self) -> list[str]:
        stamps = {case["id"]: datetime.fromisoformat(case["last_updated_at"]) for case in self.primero.cases.records()}
        return sorted(case for case, stamp in stamps.items() if OPEN.start <= stamp < OPEN.end)


@pytest.fixture(scope="module")
def migrated(postgres: Any) -> Iterator[str]:
    with database(postgres, "carry") as url:
        with connect(url) as conn:
            apply(conn, plan(conn))
        yield url


@pytest.fixture
def world(migrated: str, tmp_path: Path) -> Iterator[World]:
    clock, ona_url = Clock(NOW), migrated
    with connect(ona_url) as conn:
        conn.execute("TRUNCATE cases, services, primero_sync.runs, primero_sync.exits")
        conn.execute("TRUNCATE primero_sync.erasures, primero_sync.fields, primero_sync.visible_cases")
    with SandboxPrimero(Wish(60, seed=11, now=NOW, quarters=2), clock=clock).serve() as primero:
        key = Fernet.generate_key().decode()
        place = Place(primero.url, primero.username, primero.password, ona_url, str(tmp_path / "parts"), key)
        yield World(primero, clock, place, tmp_path / "whole")


def content(place: Place) -> dict[str, Any]:
    return stored_content(place, OPEN)


CP = PullPolicy(modules=("primeromodule-cp",))
POLICIES = PullPolicy(), PullPolicy(consent="exclude_refused"), CP


def edits(world: World) -> dict[str, Callable[[], Any]]:
    """What may happen to cases between two pulls, each within what the next pull asks for."""
    primero, own = world.primero, world.open_ids()
    elsewhere = sorted({case["id"] for case in primero.cases.records()} - set(own))
    young = next((case for case in own if _is_young(primero, case)), own[0])
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


def _is_young(primero: SandboxPrimero, case: str) -> bool:
    record = primero.cases.record(primero.cases.row_of(case) or 0)
    return record.get("record_state") is True and str(record.get("date_of_birth"))[:4] in {
        "2012",
        "2013",
        "2014",
        "2015",
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
    monkeypatch.setattr("primero_ona.pipeline.extract.local_today", lambda: day)


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
    own = [case for case in world.open_ids() if _is_young(world.primero, case)]
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
