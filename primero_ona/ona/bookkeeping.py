"""Record loads in the schema `primero_sync`: runs, quarantine, unmapped codes; only counts, codes and Primero's ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from primero_ona.ona.connection import read_as, scalar, translate_errors
from primero_ona.quarters import Quarter

Summary = Mapping[str, Any]

#: Under this name the summary of a stored quarter has the number of the pull that brought it.
PULL_NUMBER = "pull_number"

#: Under this name it has which pulls received its rows; see `Span`.
RECEIVED = "received"


def update_quarantine(
    conn: psycopg.Connection, quarter: Quarter, run_id: str, now: datetime, summaries: Iterable[Summary]
) -> None:
    """Bring the quarter's quarantine up to date with what the mapping put there.

    An entry that is not seen again is resolved, and so is one of any other quarter whose case has now come with this one.
    """
    entries = Counter(
        (entry["table"], entry["primero_id"] or "", entry["reason"])
        for summary in summaries
        for entry in summary.get("quarantine", ())
    )
    columns = "table_name text, primero_id text, reason text, entries integer"
    conn.execute(f"CREATE TEMPORARY TABLE seen_quarantine ({columns}) ON COMMIT DROP")
    with conn.cursor() as cursor, cursor.copy("COPY seen_quarantine FROM STDIN") as copy:
        for entry, count in entries.items():
            copy.write_row((*entry, count))
    known = {"quarter": quarter.name, "run_id": run_id, "now": now}
    conn.execute(_KEEP_ENTRIES, known)
    conn.execute(_RESOLVE_UNSEEN, known)
    conn.execute(_RESOLVE_ARRIVED, known)


def replace_unmapped(conn: psycopg.Connection, quarter: Quarter, run_id: str, summaries: Iterable[Summary]) -> None:
    """Replace the quarter's unmapped codes by those of this sync."""
    counts: Counter[tuple[str, str | None]] = Counter()
    for summary in summaries:
        for finding in summary.get("findings", ()):
            counts[finding["field"], finding["code"]] += int(finding["count"])
    conn.execute("DELETE FROM primero_sync.unmapped WHERE quarter = %s", (quarter.name,))
    statement = "COPY primero_sync.unmapped (quarter, field, code, count, run_id) FROM STDIN"
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for (field, code), count in counts.items():
            copy.write_row((quarter.name, field, code, count, run_id))


def record_run(
    conn: psycopg.Connection,
    quarter: Quarter,
    run_id: str,
    started: datetime,
    pulled: Summary,
    mapped: Summary,
    counts: Mapping[str, Mapping[str, int]],
) -> None:
    """Record a load; a run that loads a quarter again adds a row, and the last one counts.

    `pulled` and `mapped` are the summaries of what was loaded: the number of the pull, the versions of the pull and of the
    mapping, and how the pull walked its quarter.
    """
    versions = (pulled.get(PULL_NUMBER), pulled.get("stored_version"), mapped.get("mapping_version"))
    walk = _walk_of(pulled.get("pull"))
    conn.execute(_KEEP_RUN, (run_id, quarter.name, started, *versions, Jsonb(counts), walk and Jsonb(walk)))


def _walk_of(pull: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is remembered of how a pull walked its quarter, from the report in its summary; None where an older version pulled.

    `since`: only changes since then were walked, None where the whole quarter was; how many cases `came`, and how many were
    `carried` over; `whole_at`: the last walk of the whole quarter. Times are ISO 8601 in UTC.
    """
    if not pull or "whole_at" not in pull:
        return None
    came = pull["kept"] + pull["other_modules"]
    return {"since": pull["since"], "came": came, "carried": pull["carried"], "whole_at": pull["whole_at"]}


def next_pull(conn: psycopg.Connection) -> int:
    """Take the number of a pull, before anything is asked of Primero: a pull that asks later has a higher one."""
    with translate_errors("numbering a pull in ONA"):
        return int(scalar(conn, "SELECT nextval('primero_sync.pulls')"))


def was_loaded(conn: psycopg.Connection, quarter: Quarter, pull: int) -> bool:
    """Whether the quarter was loaded from this pull before: then its rows are stored, and not received just now."""
    query = "SELECT EXISTS (SELECT FROM primero_sync.runs WHERE quarter = %s AND pull = %s)"
    return bool(scalar(conn, query, (quarter.name, pull)))


def last_pull(conn: psycopg.Connection, quarter: Quarter) -> int | None:
    """The number of the latest pull of which anything was ever loaded into the quarter; None where nothing was."""
    with translate_errors("reading the sync's bookkeeping in ONA"):
        found: int | None = scalar(conn, "SELECT max(pull) FROM primero_sync.runs WHERE quarter = %s", (quarter.name,))
    return found


_KEEP_ENTRIES = """
INSERT INTO primero_sync.quarantine AS q
       (quarter, table_name, primero_id, reason, entries, run_id, first_seen, last_seen)
SELECT %(quarter)s, table_name, primero_id, reason, entries, %(run_id)s, %(now)s, %(now)s FROM seen_quarantine
ON CONFLICT (primero_id, quarter, table_name, reason, (COALESCE(other_id, ''))) DO UPDATE
   SET entries = excluded.entries, run_id = excluded.run_id, last_seen = excluded.last_seen, resolved_at = NULL
"""

_RESOLVE_UNSEEN = """
UPDATE primero_sync.quarantine AS q
   SET resolved_at = %(now)s
 WHERE q.quarter = %(quarter)s AND q.resolved_at IS NULL
   AND NOT EXISTS (
    SELECT FROM seen_quarantine AS s
     WHERE (s.table_name, s.primero_id, s.reason) = (q.table_name, q.primero_id, q.reason))
"""

# A case lies in one quarter only, that of its last change: what another quarter's sync said of it is over.
_RESOLVE_ARRIVED = """
UPDATE primero_sync.quarantine AS q
   SET resolved_at = %(now)s
 WHERE q.quarter <> %(quarter)s AND q.resolved_at IS NULL
   AND q.primero_id IN (
    SELECT primero_id::text FROM staged_cases
    UNION SELECT primero_id::text FROM staged_exits
    UNION SELECT primero_id FROM seen_quarantine WHERE table_name = 'cases' AND primero_id <> '')
"""

# The time of the end is the server's: the loader may not name one.
_KEEP_RUN = """
INSERT INTO primero_sync.runs (run_id, quarter, started_at, pull, pull_version, mapping_version, counts, walk)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True)
class Entry:
    """One entry: so many alike rows of `table_name` of one case. Ids are Primero's; times are aware, in UTC.

    `run_id`: the run that saw it last.
    """

    quarter: str
    table_name: str
    primero_id: str
    reason: str
    entries: int
    run_id: str
    first_seen: datetime
    last_seen: datetime
    resolved_at: datetime | None


def list_entries(conn: psycopg.Connection, *, quarter: str | None = None, resolved: bool = False) -> list[Entry]:
    """The open entries, or all with `resolved`; of one quarter (`2024-Q1`) or of all, oldest quarter first."""
    return read_as(conn, Entry, "reading the quarantine in ONA", _LIST, {"quarter": quarter, "resolved": resolved})


_LIST = """
SELECT quarter, table_name, primero_id, reason, entries, run_id, first_seen, last_seen, resolved_at
  FROM primero_sync.quarantine
 WHERE (%(quarter)s::text IS NULL OR quarter = %(quarter)s)
   AND (%(resolved)s OR resolved_at IS NULL)
 ORDER BY quarter, table_name, reason, primero_id
"""


@dataclass(frozen=True)
class QuarterStatus:
    """The last load of one quarter. Times are aware, in UTC; `counts` are those of the load, per table.

    `loads`: how often the quarter was loaded. `changed_at`: the last load that wrote or removed a row, if any did.
    `walk`: how its pull walked the quarter; see `_walk_of`. `stale`: rows of the last load that were older than ONA's.
    `quarantined` and `unmapped`: what is open now.
    """

    quarter: str
    loads: int
    run_id: str
    started_at: datetime
    finished_at: datetime
    changed_at: datetime | None
    pull_version: str | None
    mapping_version: str | None
    counts: dict[str, dict[str, int]]
    walk: dict[str, Any] | None
    stale: int
    quarantined: int
    unmapped: int


def quarter_status(conn: psycopg.Connection) -> list[QuarterStatus]:
    """The status of every quarter that was ever loaded, oldest quarter first."""
    return read_as(conn, QuarterStatus, "reading the sync's bookkeeping in ONA", _STATUS)


@dataclass(frozen=True)
class LastLoad:
    """The last load of a quarter, and the number of the latest pull of which anything was ever loaded into it."""

    run_id: str
    pull: int | None
    pull_version: str | None
    mapping_version: str | None


def last_loads(conn: psycopg.Connection) -> dict[Quarter, LastLoad]:
    """The last load of every quarter that was ever loaded, oldest quarter first."""
    with translate_errors("reading the sync's bookkeeping in ONA"):
        rows = conn.execute(_LAST_LOADS).fetchall()
    return {Quarter.parse(quarter): LastLoad(*load) for quarter, *load in rows}


_LAST_LOADS = """
SELECT DISTINCT ON (quarter)
       quarter, run_id, max(pull) OVER (PARTITION BY quarter), pull_version, mapping_version
  FROM primero_sync.runs
 ORDER BY quarter, finished_at DESC
"""

_STATUS = """
WITH loads AS (
    SELECT r.*, done.changed, done.stale
      FROM primero_sync.runs AS r, LATERAL (
        SELECT sum(n.value::bigint) FILTER (WHERE n.key IN ('inserted', 'updated', 'removed')) > 0 AS changed,
               sum(n.value::bigint) FILTER (WHERE n.key = 'stale') AS stale
          FROM jsonb_each(r.counts) AS t, jsonb_each_text(t.value) AS n) AS done
),
last AS (
    SELECT DISTINCT ON (quarter) *, count(*) OVER of_quarter AS loads,
           max(finished_at) FILTER (WHERE changed) OVER of_quarter AS changed_at
      FROM loads
    WINDOW of_quarter AS (PARTITION BY quarter)
     ORDER BY quarter, finished_at DESC
)
SELECT last.quarter, last.loads, last.run_id, last.started_at, last.finished_at, last.changed_at, last.pull_version,
       last.mapping_version, last.counts, last.walk, last.stale::bigint AS stale,
       (SELECT count(*) FROM primero_sync.quarantine AS q
         WHERE q.quarter = last.quarter AND q.resolved_at IS NULL) AS quarantined,
       (SELECT COALESCE(sum(u.count), 0)::bigint FROM primero_sync.unmapped AS u WHERE u.quarter = last.quarter) AS unmapped
  FROM last
 ORDER BY last.quarter
"""
