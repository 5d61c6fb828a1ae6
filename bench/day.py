"""A simulated day: case workers edit for hours, the sensor looks every 15 minutes; what Primero sees, by whole walks and by changes.

The clock is Primero's and virtual, so that a day takes minutes. A tick is the sensor's look, and where it finds changes, the
pull of the quarter that it asks for; mapping and load ask Primero nothing.

    python bench/day.py --cases 20000
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

import psycopg
from cryptography.fernet import Fernet
from places import Postgres

from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.pipeline.extract import pull_quarter
from primero_ona.pipeline.stored import EXITS, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.primero.changes import Changes, changes_since
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import PullPolicy
from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.storage.partitions import PartitionStore

#: A working day in Phnom Penh begins, in the middle of a quarter.
MORNING = datetime(2024, 5, 15, 1, 0, tzinfo=UTC)
OPEN = Quarter.of(MORNING)


@dataclass
class Clock:
    """Primero's clock, which stands until it is moved."""

    now: datetime = MORNING

    def __call__(self) -> datetime:
        """The time."""
        return self.now


@dataclass
class Day:
    """One day on a sandbox of its own; `seen`: requests and bytes on the wire, of ticks and of pulls."""

    primero: SandboxPrimero
    clock: Clock
    stored: StoredAssets
    connect: Callable[[], psycopg.Connection]
    whole: bool
    look: Changes | None = None

    def __post_init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def pull(self, *, whole: bool) -> None:
        """Pull the open quarter; by its changes where `whole` is not demanded."""
        with self._client() as client:
            pulled = pull_quarter(
                client, self.connect, self.stored, OPEN, PullPolicy(), whole=whole, now=self.clock.now
            )
        self.seen["whole walks" if pulled.report.since is None else "pulls of changes"] += 1

    def tick(self) -> None:
        """Look, and pull where something has changed."""
        with self._client() as client:
            self.look = changes_since(client, self.look)
        self._count("looks")
        self.seen["ticks"] += 1
        if OPEN in self.look.quarters:
            self.pull(whole=self.whole)
            self._count("pulls")

    def content(self) -> list[list[dict[str, object]]]:
        """What is stored, in the order of the ids."""
        files = [self.stored.open_file(asset, OPEN) for asset in (REINTEGRATION, UNDER18, EXITS)]
        return [
            sorted((row for table in file.tables() for row in table.to_pylist()), key=lambda row: str(row["id"]))
            for file in files
        ]

    def forget_requests(self) -> None:
        """Count from here on."""
        self.primero.log.clear()
        self.seen.clear()

    def _client(self) -> PrimeroClient:
        return PrimeroClient(self.primero.url, self.primero.username, self.primero.password, pause=0)

    def _count(self, what: str) -> None:
        log = self.primero.log
        self.seen[f"requests of {what}"] += len(log)
        self.seen[f"bytes of {what}"] += sum(entry.bytes for entry in log)
        log.clear()


def live(chosen: argparse.Namespace, url: str, folder: Path, *, whole: bool) -> Counter[str]:
    """Live the day; what Primero saw."""
    clock, pick = Clock(), Random(chosen.seed)  # noqa: S311  no secret
    store = PartitionStore(folder, Fernet.generate_key().decode())
    wish = Wish(chosen.cases, seed=chosen.seed, now=MORNING, quarter=OPEN)
    with SandboxPrimero(wish, clock=clock).serve() as primero:
        ids = [case["id"] for case in primero.cases.records()]
        day = Day(primero, clock, StoredAssets(lambda: store, ""), partial(connect, url), whole)
        day.pull(whole=True)
        day.tick()
        day.forget_requests()
        for minute in range(1, chosen.hours * 60 + 1):
            clock.now = MORNING + timedelta(minutes=minute)
            if minute % chosen.edit_every == 0:
                primero.update(pick.choice(ids), status=pick.choice(("open", "closed")))
            if minute % 15 == 0:
                day.tick()
        seen, found = Counter(day.seen), day.content()
        day.pull(whole=True)
        if found != day.content():
            raise SystemExit("what is stored is not what a walk of the whole quarter stores")
    return seen


def main() -> None:
    """Live the day twice and show the two side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--hours", type=int, default=8)
    parser.add_argument("--edit-every", type=int, default=2, help="minutes")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="primero-ona-day-"))
    folder.chmod(0o755)
    days = {}
    try:
        with Postgres(folder) as postgres:
            for name, whole in (("whole walks", True), ("changes", False)):
                url = postgres.url("day")
                with connect(url) as conn:
                    apply(conn, plan(conn))
                days[name] = live(chosen, url, folder / name.replace(" ", "-"), whole=whole)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{chosen.cases:,} cases, an edit every {chosen.edit_every} minutes for {chosen.hours} hours\n")
    print("| what Primero sees | " + " | ".join(days) + " |\n| --- | " + " | ".join("---" for _ in days) + " |")
    for row in dict.fromkeys(row for seen in days.values() for row in seen):
        print(f"| {row} | " + " | ".join(f"{seen[row]:,}" for seen in days.values()) + " |")


if __name__ == "__main__":
    main()
