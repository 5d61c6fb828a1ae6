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
from primero_ona.ona.merge import Span, decide, remove_exits, remove_services, remove_stale, write
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
        received_by = _received(conn, quarter, cases, services, exits)
        received = stage_rows(conn, target, cases, services)
        refuse_unusable(conn)
        stage_exits(conn, exits)
        removed = remove_exits(conn, target, received_by)
        stale = remove_stale(conn, target, received_by)
        own_keys = settle_keys(conn, target)
        decided = decide(conn, target)
        removed["services"] += remove_services(conn, target)
        counts = {
            table: _count(received[table], decided[table], stale[table], removed[table], own_keys[table])
            for table in received
        }
        write(conn, target, now, {table: sum(decided[table].values()) for table in decided})
        summaries = (cases.summary, services.summary)
        update_quarantine(conn, quarter, run_id, now, summaries)
        replace_unmapped(conn, quarter, run_id, summaries)
        done = {table: asdict(counted) for table, counted in counts.items()}
        record_run(conn, quarter, run_id, now, exits.summary, cases.summary, done)
        compared = compare_staged(conn, target, stale)
    return LoadResult(counts["cases"], counts["services"], compared)


def _received(conn: psycopg.Connection, quarter: Quarter, cases: Frames, services: Frames, exits: Frames) -> list[Span]:
    """Which pulls received the rows of a quarter; what was loaded before is stored, and not received just now.

    Raises TransientError where its parts come from several pulls: what left can then not be distinguished from what came.
    """
    numbers = {part.summary.get(PULL_NUMBER) for part in (cases, services, exits)}
    if len(numbers) > 1:
        raise TransientError(
            "the mapped rows and the exits of this quarter come from different pulls: another run stores it, or one was killed; "
            "nothing was loaded, sync the quarter again",
            see="two-pulls",
        )
    number = numbers.pop()
    if number is None or was_loaded(conn, quarter, number):
        return []
    known = exits.summary.get(RECEIVED) or {"spans": [(number, None)], "ahead": ()}
    newest, *earlier = [Span(pull, since and datetime.fromisoformat(since)) for pull, since in known["spans"]]
    last = last_pull(conn, quarter) or 0
    return [newest._replace(ahead=known["ahead"]), *(span for span in earlier if span.pull > last)]


def _count(received: int, decided: dict[str, int], stale: int, removed: int, own_keys: int) -> TableCounts:
    """What no decision was made about is unchanged."""
    inserted, updated = decided.get("inserted", 0), decided.get("updated", 0)
    return TableCounts(received, inserted, updated, received - inserted - updated - stale, stale, removed, own_keys)
