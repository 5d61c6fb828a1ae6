"""Random scenarios against the oracle: edits, faults, kills, re-runs in any order, and at the end nothing may differ.

    python -m primero_ona_tests.reliability.soak --scenarios 500 --seed 1

Each scenario is made by its own seed, which is printed when it fails; `--only SEED` repeats it. How far a killed process
had got depends on the machine, so a seed repeats what is done, not the very instant. After its steps, a scenario lets the
system heal the way it does in production (each quarter synced again, what verify finds repaired).
Then ONA is compared with the sandbox's own store by the oracle, which shares no code with the pipeline; and `audit` must
find nothing either.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from cryptography.fernet import Fernet

from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.reconcile import remove_gone
from primero_ona.pipeline.reconcile import Reconciliation, reconcile
from primero_ona.pipeline.reference import scope_in_use
from primero_ona.pipeline.stored import Scope, forget
from primero_ona.primero import inventory
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import PullPolicy
from primero_ona.quarters import Quarter, current_quarter, quarters_between
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.columns import ABSENT
from primero_ona.sandbox.postgres import postgres_library
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.harness import Clock, home_with_settings
from primero_ona_tests.reliability.oracle import TYPE, differences
from primero_ona_tests.reliability.syncing import (
    UNEXPECTED,
    Place,
    finish,
    kill,
    pull,
    start,
    stored_content,
    sync_rooms,
)

FIRST = Quarter(2024, 1)

#: When a scenario begins.
START = datetime(2024, 5, 15, 3, 0, tzinfo=UTC)

#: One scenario in so many runs as real Dagster runs; the others call the same rooms in the same order, in a tenth of the time.
DAGSTER_EVERY = 25

#: Seconds within which most syncs of these small quarters end, so that kills fall before, into and after the load.
BUSY = {False: 0.5, True: 3.0}

FAULTS = (
    ("status", {"status": 500}), ("status", {"status": 502}), ("html", {"status": 503}), ("too many", {}),
    ("unavailable", {"seconds": 1}), ("reset", {}), ("cut", {}), ("truncated", {}), ("broken gzip", {}),
    ("swallow", {}), ("short page", {"by": 3}), ("wrong total", {"by": 2}),
)  # fmt: skip


class _Open(threading.local):
    """The quarter that is open by the clock of the scenario that a thread plays; None while nothing is compared."""

    quarter: Quarter | None = None


_open = _Open()
inventory.current_quarter = lambda: _open.quarter or current_quarter()


@dataclass
class Scenario:
    """One scenario; `told` is what was done, for the report of a failure. `erased`: cases (Primero ids) that were.

    `set_back`: whether edits are made whose stamp is an older one; which the open quarter sees when it is next walked whole.
    """

    seed: int
    place: Place
    primero: SandboxPrimero
    clock: Clock
    dagster: bool
    told: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    erased: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.set_back = self.random.random() < 0.5
        self.ids = [case["id"] for case in self.primero.cases.records()]

    def run(self) -> list[str]:
        """Do the steps, heal, and return every difference."""
        steps = (
            self.edit, self.edit, self.sync, self.sync, self.faulty, self.killed, self.twins, self.cut_off, self.again,
            self.night,
            self.erase, self.rules, self.late,
        )  # fmt: skip
        for _ in range(self.random.randint(3, 6)):
            step = self.random.choice(steps)
            self.told.append(step.__name__)
            step()
        self.heal()
        with psycopg.connect(self.place.ona_url, autocommit=True) as conn:
            found = differences(self.primero, lambda query: conn.execute(query.encode()).fetchall(), erased=self.erased)
        return self.broken + found + self._reconciled()

    def heal(self) -> None:
        """What production does by itself: every quarter is synced again, whoever left without a trace is found by verify."""
        self.primero.faults.clear()
        self.told.append("heal")
        self.place = replace(self.place, policy=PullPolicy())
        for quarter in self.random.sample(self.quarters, len(self.quarters)):
            self._expect([0], self._whole(quarter))
        if not self.dagster and not self.set_back:
            self.broken += self._carried_wrong()
        with self.place.client() as client, connect(self.place.ona_url) as conn:
            found = self._reconcile(client, conn)
            if found.total.differences:
                self.told.append(f"repaired {found.total}")
                for quarter in found.to_sync:
                    self._expect([0], self._whole(quarter, whole=True))
                remove_gone(conn, found.total, found.removable)

    def _carried_wrong(self) -> list[str]:
        """In what the open quarter, as stored, differs from a walk of all of it."""
        beside, quarter = replace(self.place, storage=f"{self.place.storage}-whole"), self.quarters[-1]
        pull(beside, quarter, whole=True)
        wanted, found = stored_content(beside, quarter), stored_content(self.place, quarter)
        return [f"stored {what} is not that of a whole walk" for what in wanted if wanted[what] != found[what]]

    def _reconciled(self) -> list[str]:
        with self.place.client() as client, connect(self.place.ona_url) as conn:
            found = self._reconcile(client, conn)
        return [f"verify finds {found.total}"] if found.total.differences else []

    def _reconcile(self, client: PrimeroClient, conn: psycopg.Connection) -> Reconciliation:
        """Compare all, by Primero's clock."""
        _open.quarter = Quarter.of(self.clock.now)
        try:
            return reconcile(client, conn, scope_in_use(Scope(FIRST), self.place.stored))
        finally:
            _open.quarter = None

    @property
    def quarters(self) -> list[Quarter]:
        return quarters_between(FIRST, Quarter.of(self.clock.now))

    def quarter(self) -> Quarter:
        """One of the quarters, most often the open one, of which the changes are pulled."""
        return self.quarters[-1] if self.random.random() < 0.5 else self.random.choice(self.quarters)

    def _start(self, quarter: Quarter, *, fresh: bool = True) -> Any:
        return start(self.place, quarter, dagster=self.dagster, fresh=fresh)

    def _whole(self, quarter: Quarter, *, fresh: bool = True, whole: bool = False) -> list[int]:
        """A sync that nobody kills; as it needs no process of its own, it gets none, unless it is a real run."""
        if self.dagster:
            return finish([self._start(quarter)])
        return [sync_rooms(self.place, quarter, fresh=fresh, whole=whole)]

    def _expect(self, allowed: list[int], codes: list[int]) -> None:
        """Note exit codes that a sync may not end with here."""
        self.broken += [f"a sync ended with {code} in {self.told[-1]}" for code in codes if code not in allowed]

    def sync(self) -> None:
        """A plain sync; now and then one that demands all of the quarter."""
        self._expect([0], self._whole(self.quarter(), whole=self.random.random() < 0.1))

    def erase(self) -> None:
        """A case is forgotten, and stays in Primero."""
        case = self.random.choice(self.ids)
        forget(self.place.stored, self.place.connect, [case], self.clock.now)
        self.erased.add(case)

    def rules(self) -> None:
        """Another consent policy, until the next one or the end."""
        if not self.dagster:
            policy = PullPolicy(consent=self.random.choice(("include", "exclude_refused", "given_only")))
            self.place = replace(self.place, policy=policy)
            self._expect([0], self._whole(self.quarter()))

    def late(self) -> None:
        """A case is committed long after it was stamped."""
        moment = max(self.clock.now - timedelta(hours=self.random.randint(0, 40)), self.quarters[-1].start)
        self.ids.append(self.primero.create(age=self.random.randint(0, 30), created_at=moment, last_updated_at=moment))

    def again(self) -> None:
        """A quarter loaded again from stored raw data, whatever has happened since."""
        if not self.dagster:
            self._expect([0, 1], self._whole(self.quarter(), fresh=False))

    def faulty(self) -> None:
        """A sync while Primero fails once or twice; edits between two of its requests."""
        for _ in range(self.random.randint(1, 2)):
            kind, details = self.random.choice(FAULTS)
            times = self.random.choice((1, 1, 2))
            self.primero.fail(kind, after=self.random.randint(0, 6), times=times, **details)
        if self.random.random() < 0.5:
            self.primero.after(self.random.randint(1, 6), lambda _: self.edit())
        self._expect([0, 1, 3], self._whole(self.quarter()))
        self.primero.faults.clear()

    def killed(self) -> None:
        """A sync that is killed with -9 at a random moment."""
        kill(self._start(self.quarter()), self.random.uniform(0, BUSY[self.dagster]))

    def twins(self) -> None:
        """Two syncs at once, of one quarter or of two; sometimes one of them is killed."""
        one = self.quarter()
        pair = [self._start(one), self._start(one if self.random.random() < 0.5 else self.quarter())]
        if self.random.random() < 0.3:
            kill(pair.pop(), self.random.uniform(0, BUSY[self.dagster]))
        self._expect([0, 1, 3], finish(pair))

    def cut_off(self) -> None:
        """A sync whose connections to ONA are cut at a random moment."""
        child = self._start(self.quarter())
        time.sleep(self.random.uniform(0, BUSY[self.dagster]))
        with psycopg.connect(self.place.ona_url, autocommit=True) as conn:
            conn.execute(_CUT)
        self._expect([0, 3], finish([child]))

    def edit(self) -> None:
        """Some edits, and time that passes."""
        for _ in range(self.random.randint(1, 8)):
            self._edit_one(self.random.choice(self.ids))
            self.clock.move(seconds=self.random.choice((0, 0.2, 30, 86_400)))
        if self.random.random() < 0.2:
            self.clock.move(days=self.random.randint(5, 30))

    def night(self) -> None:
        """A night in which children grow older; once a year it is that of 2 January, in which most of them do."""
        january = self.clock.now.replace(year=self.clock.now.year + 1, month=1, day=2, hour=1)
        if january.year == START.year + 1 and self.random.random() < 0.5:
            self.clock.now = january
        else:
            self.clock.move(days=1)
        self.primero.recalculate_ages()

    def _edit_one(self, case: str) -> None:
        pick = self.random
        chance = pick.random()
        if self.primero.cases.row_of(case) is None:
            return
        if chance < 0.1:
            made = self.primero.create(services_section=self._services(case))
            self.primero.type_age(made, pick.randint(0, 30))
            self.ids.append(made)
        elif chance < 0.14:
            self.primero.delete(case)
        elif chance < 0.3:
            self.primero.update(case, record_state=pick.random() < 0.5)
        elif chance < 0.4:
            other = self.primero.cases.record(self.primero.cases.row_of(pick.choice(self.ids)) or 0)
            self.primero.update(case, case_id_display=other.get("case_id_display", ABSENT))
        elif chance < 0.65:
            self.primero.update(case, services_section=self._services(pick.choice(self.ids)))
        elif chance < 0.72 and self.set_back:
            # A backup was restored, or a clock was ahead: another state with an older stamp.
            moment = FIRST.start + (self.clock.now - FIRST.start) * pick.random()
            self.primero.update(case, last_updated_at=moment, **pick.choice(_changes(pick)))
        elif chance < 0.76 and not self.dagster:
            # A clock that is ahead: as real runs go by this machine's clock, they do not see which quarter is open here.
            moment = self.clock.now + timedelta(hours=2, days=pick.choice((0, 10, 2_000)))
            self.primero.update(case, last_updated_at=moment, **pick.choice(_changes(pick)))
        else:
            self.primero.update(case, **pick.choice(_changes(pick)))

    def _services(self, other: str) -> Any:
        """A section of some shape; now and then with a service that another case has, too."""
        pick = self.random
        shape = pick.random()
        if shape < 0.2:
            return pick.choice((None, [], ABSENT, "none", {}, [None], [1, "x"]))
        row = self.primero.cases.row_of(other)
        theirs = self.primero.cases.record(row).get("services_section") if row is not None and shape < 0.4 else None
        made = [self._service() for _ in range(pick.randint(0, 4))]
        again = [dict(pick.choice(made)) for _ in range(pick.randint(0, 2))] if made and pick.random() < 0.3 else []
        for service in again:
            service.update(pick.choice(({}, {"service_type": "other"}, {"service_implemented_day_time": "2024-04-02"})))
        return made + again + (theirs[:1] if isinstance(theirs, list) else [])

    def _service(self) -> dict[str, Any]:
        pick = self.random
        return {
            "unique_id": pick.choice((f"s-{pick.randint(0, 60)}", f"s-{pick.getrandbits(40)}", None, "  ")),
            "service_type": pick.choice(("counselling", "other", "Other", "legal_support", "no_such_code", None)),
            "service_implemented_day_time": pick.choice(
                ("2024-03-31T20:00:00.000Z", "2024-02-10", None, "not implemented", "rubbish", "2024-13-41T00:00:00Z")
            ),
            "note": "CANARY",
        } | ({"_destroy": pick.choice((True, False, "true"))} if pick.random() < 0.1 else {})


def _changes(pick: Random) -> list[dict[str, Any]]:
    return [
        {"age": pick.choice((pick.randint(0, 25), "12", "12.0", None, ABSENT, -3, 12.5, "old", 2**70, [3], {}))},
        {
            "date_of_birth": pick.choice(
                (f"{pick.randint(1990, 2024)}-01-01", f"{pick.randint(2004, 2009)}-05-16", *_BIRTHS)
            )
        },
        {"registration_date": pick.choice(("2024-05-16", "2021-12-31", "2999-01-01", "1999-01-01", None, "rubbish"))},
        {
            pick.choice(("care_date", "date_of_reintegration")): pick.choice(
                ("2024-03-01", "2022-05-16", "1950-01-01", None)
            )
        },
        {"sex": pick.choice(("male", "female", "other", "unknown", None, ABSENT, " male "))},
        {"type_of_case": pick.choice((TYPE, [TYPE, "x"], None, ABSENT, "other_1", [], {}))},
        {"status": pick.choice(("open", "closed", None, "transferred"))},
        {"case_id_display": pick.choice((f"new-{pick.getrandbits(30)}", None, "  ", 12345))},
        {"protection_concerns": pick.choice(([], None, ["refugee"], "refugee", ["no_such"], {"a": 1}))},
        {"location_current": pick.choice(("10060802", 10060802, "KHM", "", None, 99, "\0"))},
        {"consent_reporting": pick.choice((True, "false", None, "maybe", [], 1))},
    ]


#: Dates of birth that are none, beyond belief, or written as a time.
_BIRTHS = (
    None, ABSENT, "", "2012-02-30", "1850-01-01", "2090-01-01", "2007-03-31T20:00:00.000Z", 20070101, ["2007-01-01"],
)  # fmt: skip

_CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'primero-ona'
"""

_EMPTY = """
TRUNCATE cases, services, primero_sync.runs, primero_sync.quarantine, primero_sync.unmapped, primero_sync.exits,
         primero_sync.fields, primero_sync.visible_cases, primero_sync.erasures, primero_sync.refused_logins
"""


@contextmanager
def servers(workers: int) -> Iterator[list[str]]:
    """One PostgreSQL with a database for each worker; their URLs."""
    folder = Path(tempfile.mkdtemp(prefix="primero-ona-tests-", dir="/tmp"))
    server = postgres_library().get_server(folder, cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET fsync = off")
            conn.execute("SELECT pg_reload_conf()")
            for number in range(workers):
                conn.execute(f"CREATE DATABASE soak_{number}".encode())
        urls = [server.get_uri(database=f"soak_{number}") for number in range(workers)]
        for url in urls:
            with connect(url) as conn:
                apply(conn, plan(conn))
        yield urls
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def play(seed: int, ona_url: str) -> tuple[list[str], list[str], Counter[str]]:
    """One scenario on an emptied ONA; its differences, what was done, and how many loads were of a whole walk and of changes."""
    random = Random(-seed)
    with psycopg.connect(ona_url, autocommit=True) as conn:
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                     " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
        conn.execute(_EMPTY)
    clock = Clock(START)
    shared = random.random() < 0.3
    wish = Wish(random.randint(12, 70), seed=seed, now=clock.now, quarters=2, shared_ids=shared)
    with (
        tempfile.TemporaryDirectory(prefix="primero-ona-soak-") as folder,
        SandboxPrimero(wish, clock=clock).serve() as primero,
    ):
        primero.switches.version = random.choice(("2.11.0", "2.13.0", "2.15.2.1"))
        primero.switches.per_cap = random.choice((1_000, 7, 20))
        dagster = seed % DAGSTER_EVERY == 0
        home = home_with_settings(Path(folder) / "home") if dagster else None
        place = Place(primero.url, primero.username, primero.password, ona_url, f"{folder}/parts",
                      Fernet.generate_key().decode(), home)  # fmt: skip
        scenario = Scenario(seed, place, primero, clock, dagster)
        found = scenario.run()
        with psycopg.connect(ona_url) as conn:
            walks = conn.execute(
                "SELECT CASE WHEN walk ->> 'since' IS NULL THEN 'whole' ELSE 'changes' END FROM primero_sync.runs"
            )
            return found, scenario.told, Counter(kind for (kind,) in walks)


def soak(seeds: list[int], workers: int, until: float) -> tuple[Counter[str], dict[int, list[str]]]:
    """Play the seeds, in several threads; how many were played until the time was up, their loads, and differences by seed."""
    waiting, failed, done = list(reversed(seeds)), {}, Counter[str]()

    def work(url: str) -> None:
        while waiting and time.monotonic() < until:
            seed = waiting.pop()
            try:
                found, told, walks = play(seed, url)
                done.update(walks)
            except Exception as error:  # noqa: BLE001 a scenario that breaks is a difference, too
                found, told = [f"{type(error).__name__}: {error}"], []
            done["scenarios"] += 1
            if found:
                failed[seed] = found
                print(f"seed {seed}: {len(found)} differences after {told}: {found[:3]}", flush=True)  # noqa: T201
            elif done["scenarios"] % 50 == 0:
                print(f"{done['scenarios']} scenarios, {len(failed)} with differences", flush=True)  # noqa: T201

    with servers(workers) as urls:
        threads = [threading.Thread(target=work, args=(url,)) for url in urls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return done, failed


def main() -> None:
    """Read the arguments, play, and tell the figures; exit code 1 where anything differed."""
    parser = argparse.ArgumentParser(prog="python -m primero_ona_tests.reliability.soak")
    parser.add_argument("--scenarios", type=int, default=500)
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the first scenario; the next have the next numbers"
    )
    parser.add_argument("--only", type=int, help="repeat the scenario of this seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=600)
    chosen = parser.parse_args()
    seeds = [chosen.only] if chosen.only else list(range(chosen.seed, chosen.seed + chosen.scenarios))
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    done, failed = soak(seeds, min(chosen.workers, len(seeds)), began + chosen.minutes * 60)
    took = (time.monotonic() - began) / 60
    played = done["scenarios"]
    print(f"{done['changes']} loads of pulls by changes, {done['whole']} of whole walks")  # noqa: T201
    print(f"{played} scenarios in {took:.1f} minutes, {len(failed)} with differences: {sorted(failed)}")  # noqa: T201
    print(f"repeat one with: python -m primero_ona_tests.reliability.soak --only SEED (codes {UNEXPECTED} are bugs)")  # noqa: T201
    sys.exit(1 if failed or played < len(seeds) else 0)


if __name__ == "__main__":
    main()
