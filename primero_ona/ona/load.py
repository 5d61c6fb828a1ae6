"""The load: one transaction that brings ONA's `cases` and `services` to what a quarter says, or leaves them as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import psycopg

from primero_ona.errors import TransientError
from primero_ona.ona.bookkeeping import (
    PULL_NUMBER,
    RECEIVED,
    last_pull,
    record_run,
    replace_unmapped,
    update_quarantine,
    was_loaded,
)
from primero_ona.ona.checks import Comparison, compare_staged
from primero_ona.ona.connection import lock_loads, translate_errors
from primero_ona.ona.keys import settle_keys
from primero_ona.ona.merge import (
    Received,
    decide_cases,
    decide_services,
    find_stale,
    remove_exits,
    remove_services,
    write_cases,
    write_services,
)
from primero_ona.ona.staging import refuse_unusable, stage_exits, stage_rows
from primero_ona.ona.target import Target
from primero_ona.quarters import Quarter
from primero_ona.storage.frames import Frames


@dataclass(frozen=True)
class TableCounts:
    """What became of the rows of one table.

    received = inserted + updated + unchanged + stale. `removed` are rows of exits, and services that their case has no
    more. `own_keys` of the received rows bear a key of their own, since another row has the plain one.
    """

    received: int
    inserted: int
    updated: int
    unchanged: int
    stale: int
    removed: int
    own_keys: int

    @property
    def written(self) -> int:
        """Rows inserted, updated or removed."""
        return self.inserted + self.updated + self.removed


@dataclass(frozen=True)
class LoadResult:
    """What a load did, by table; and how the rows then stood in ONA (`compared`)."""

    cases: TableCounts
    services: TableCounts
    compared: Mapping[str, Comparison]


def load_quarter(
    conn: psycopg.Connection,
    *,
    quarter: Quarter,
    run_id: str,
    cases: Frames,
    services: Frames,
    exits: Frames,
    now: datetime,
) -> LoadResult:
    """Load a quarter's mapped cases, mapped services and exits in one transaction; all of it or nothing.

    `conn` comes from `connect` and is in no transaction; `now` is aware, and stamps the rows that are written. Raises
    DataError where the rows cannot be loaded or ONA lacks something, TransientError where another sync holds the lock, else
    what `database_error` says.
    """
    with translate_errors(f"loading {quarter.name} into ONA"), conn.transaction():
        lock_loads(conn)
        target = Target.find(conn)
        number = _number_of(cases, services, exits)
        received_by = _received(conn, quarter, number, exits)
        received = stage_rows(conn, target, cases, services)
        refuse_unusable(conn)
        stage_exits(conn, exits)
        removed = remove_exits(conn, target, received_by)
        find_stale(conn, target, received_by)
        own_keys = settle_keys(conn, target)
        decided = {"cases": decide_cases(conn, target), "services": decide_services(conn, target)}
        removed["services"] += remove_services(conn, target)
        counts = {table: _count(received[table], decided[table], removed[table], own_keys[table]) for table in received}
        write_cases(conn, target, now, counts["cases"].inserted + counts["cases"].updated)
        write_services(conn, target, counts["services"].inserted + counts["services"].updated)
        summaries = (cases.summary, services.summary)
        update_quarantine(conn, quarter, run_id, now, summaries)
        replace_unmapped(conn, quarter, run_id, summaries)
        done = {table: asdict(counted) for table, counted in counts.items()}
        record_run(conn, quarter, run_id, now, exits.summary, cases.summary, done)
        compared = compare_staged(conn, target)
    return LoadResult(counts["cases"], counts["services"], compared)


def _number_of(*parts: Frames) -> int | None:
    """The number of the pull that all parts of a quarter come from; None where none of them knows it.

    Raises TransientError where they come from several: what left can then not be distinguished from what came.
    """
    numbers = {part.summary.get(PULL_NUMBER) for part in parts}
    if len(numbers) > 1:
        raise TransientError(
            "the mapped rows and the exits of this quarter come from different pulls: another run stores it, or one was killed; "
            "nothing was loaded, sync the quarter again",
            see="two-pulls",
        )
    return numbers.pop()


def _received(conn: psycopg.Connection, quarter: Quarter, number: int | None, exits: Frames) -> Received:
    """Which pulls received the rows of a quarter; what was loaded before is stored, and not received just now."""
    if number is None or was_loaded(conn, quarter, number):
        return Received()
    known = exits.summary.get(RECEIVED) or {"spans": [(number, None)], "ahead": ()}
    newest, *earlier = [(pull, since and datetime.fromisoformat(since)) for pull, since in known["spans"]]
    last = last_pull(conn, quarter) or 0
    return Received([newest, *(span for span in earlier if span[0] > last)], known["ahead"])


def _count(received: int, decided: dict[str, int], removed: int, own_keys: int) -> TableCounts:
    """Unchanged are those of which nothing else was decided: unchanged services are not listed."""
    listed = {name: decided.get(name, 0) for name in ("inserted", "updated", "stale")}
    return TableCounts(
        received=received, unchanged=received - sum(listed.values()), removed=removed, own_keys=own_keys, **listed
    )
